"""Random number generators: nothing they give can be foretold, so what can be checked is what must not be."""

from __future__ import annotations

import pytest

from tests.afalg import Rng
from tests.afalg.constants import RNG_MAX_READ
from tests.need import need

NAMES = ["jitterentropy_rng", "stdrng", "ansi_cprng"]
SEED = bytes(range(48))


@pytest.mark.parametrize("name", NAMES)
def test_two_reads_differ_and_neither_is_zero(name: str) -> None:
    with need(Rng, name, SEED) as rng:
        first, second = rng.read(32), rng.read(32)
    assert len(first) == len(second) == 32
    assert first != second
    assert bytes(32) not in (first, second)


@pytest.mark.parametrize("name", NAMES)
def test_one_read_gives_at_most_128_bytes(name: str) -> None:
    """A longer buffer is cut (MAXSIZE in crypto/algif_rng.c)."""
    with need(Rng, name, SEED) as rng:
        assert len(rng.read(RNG_MAX_READ)) == RNG_MAX_READ
        assert len(rng.read(RNG_MAX_READ + 1)) == RNG_MAX_READ
