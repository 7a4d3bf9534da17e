"""Counters that run over: from one word of the IV into the next, at every place of a driver's wide loop."""

from __future__ import annotations

import pytest

from tests.afalg import Skcipher
from tests.algorithms import catalogue
from tests.algorithms.cases import each_way
from tests.algorithms.catalogue import SkcipherRow
from tests.algorithms.data import cut, data, longest
from tests.algorithms.test_drivers import check_drivers
from tests.need import need
from tests.oracle import skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

COUNTING = [row for row in catalogue.SKCIPHERS if row.name.startswith(("ctr(", "lrw("))]
"""Their IV is one big-endian number that goes up by one a block (NIST SP 800-38A B.1; draft-irtf-lrw)."""

BEFORE = (1, 2, 3, 6, 11, 17, 33)
"""So many blocks before the carry a message begins: loops are of 2 to 32 blocks."""


def ivs(row: SkcipherRow) -> list[bytes]:
    """Return IVs whose lowest 8, 16, 32, 64, 96 or 128 bits are about to run over; fewer where the oracle is slow."""
    found, slow = [], longest(row.name) <= 700
    for bits in (8, 16, 31, 32, 63, 64, 96, 128):
        if bits <= 8 * row.iv:
            high = int.from_bytes(data(f"{bits} bits", row.iv), "big") >> bits << bits
            found += [
                (high | ((1 << bits) - before)).to_bytes(row.iv, "big") for before in BEFORE[slow :: 1 + 3 * slow]
            ]
    return found


@pytest.mark.deadline(30)
@each_way(COUNTING)
def test_counter_that_runs_over(row: SkcipherRow) -> None:
    """Every driver: 40 blocks and a bit, from an IV near 2^8 to 2^128; then the rest, from the IV that came back.

    Source: crypto_inc; NIST SP 800-38A B.1.
    """
    need(Skcipher, row.name).close()
    block = row.chunk
    size = min(40 * block + (5 if row.unit == 1 else 0), longest(row.name) // block * block)
    first = min(36, size // block - 1) * block
    key, message = data(f"{row.name} key", row.keys[-1]), cut(size)
    cases = [(iv, skciphers.crypt(row.name, key, iv, message)) for iv in ivs(row)]

    def check(driver: str) -> None:
        with Skcipher(driver, key) as cipher:
            for iv, expected in cases:
                assert cipher.encrypt(message, iv) == expected, f"IV {iv.hex()}"
                got = cipher.encrypt(message[:first], iv) + cipher.encrypt(message[first:])
                assert got == expected, f"IV {iv.hex()}, in two requests"

    check_drivers("skcipher", row.name, check)
