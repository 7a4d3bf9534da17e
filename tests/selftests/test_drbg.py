"""The oracle of HMAC_DRBG gives NIST's own answer."""

from __future__ import annotations

from tests.errors import test_entropy as vector
from tests.oracle.drbg import HmacDrbg


def test_hmac_drbg_gives_the_published_answer() -> None:
    drbg = HmacDrbg("sha256", vector.ENTROPY + vector.NONCE)
    drbg.generate(128)
    assert drbg.generate(128) == vector.RETURNED
