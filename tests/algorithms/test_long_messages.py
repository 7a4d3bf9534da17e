"""Messages longer than 2^32 bits: the length that a hash puts into its last block is counted in 64 bits or more."""

from __future__ import annotations

import hashlib

import pytest

from tests.afalg import Hash
from tests.afalg.constants import MSG_MORE
from tests.need import need

pytestmark = pytest.mark.usefixtures("everything_loaded")

BLOCK = (bytes(range(251)) * 4178)[: 1 << 20]
COUNT, END = 512, b"end"
"""512 MiB are 2^32 bits."""

DIGESTS = {
    "md5": "a66730b0efb02886e2e1ce658513bfe7",
    "sha1": "01fe15debf58b7b2e752aa3c46bc0724e19c8d2d",
    "sha256": "e62a5cd52026614cd73e9d86f9cba93b0e04f413194d091ca8226f61b6d5f8a3",
    "sha512": "d55f44e1dff1ed80addfa8beaa721da6369fd445099a5006da2ea5d0f5438c9a"
    "31acabf5fe6b6d433aaacb9a3debf94eae5ed399ee9d433e1a11bc2139f8fd48",
    "sha3-512": "b2ec5b77624e7d64c829adb5712f18084993d6b4ae761ec2edc070c4f68c8c09"
    "e45d010a703fa6117bd3589dacdfd6bd7d3a26624868d281e05cba4e92f5b864",
    "blake2b-512": "bcaedd60ed3f9b83d79d0f46d983ac45ba5f45b793267186933e66aed836f208"
    "a68e52f58ccd11f91ed55b7b154c6c6cb2a4ab5b9ff0838fd62e75eb131e678d",
    "blake2s-256": "d2bcf03ad43a938dc723f198a07755ceea0895e9b192917ecc0ad1ba6cd43808",
    "sm3": "114d534ec54467d38621b6d2bcb6c30f8c3c31a4d4cada0c3490b0f9237f49f8",
    "rmd160": "4e5463b6d47045df203de0ec916e81b4a4565a81",
}
"""Computed once by Python's hashlib (OpenSSL 3): in an emulated guest it would take as long as the kernel does."""


def test_message_is_that_of_the_digests() -> None:
    """Its first block has this digest, of which FIPS 180-4 knows no more than hashlib; the kernel's agrees."""
    with need(Hash, "sha256") as h:
        assert h.digest(BLOCK) == hashlib.sha256(BLOCK).digest()


@pytest.mark.thorough
@pytest.mark.deadline(600)
@pytest.mark.parametrize("name", DIGESTS)
def test_digest_of_more_than_512_mib(name: str) -> None:
    """RFC 1321 3.2, FIPS 180-4 5.1: the length is a number of bits, of 64 or 128 of them."""
    with need(Hash, name) as h:
        for _ in range(COUNT):
            assert h.op.send(BLOCK, MSG_MORE) == len(BLOCK)
        h.op.send(END)
        assert h.op.recv(64).hex() == DIGESTS[name]
