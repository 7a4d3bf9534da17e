"""Every random number generator AF_ALG may offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class RngRow:
    """One rng, by the name that selects it: a driver's, except for ``stdrng`` and the deterministic ones.

    Attributes:
        seeds: lengths of seed (ALG_SET_KEY) that are exercised.
        refused: lengths of seed that must be EINVAL.
        needs_seed: reading before seeding is EINVAL.
        repeats: the same seed gives the same bytes.
    """

    name: str
    seeds: tuple[int, ...] = (0, 1, 48, 256)
    refused: tuple[int, ...] = ()
    needs_seed: bool = True
    repeats: bool = False


def rows() -> Iterator[RngRow]:
    """Yield every row."""
    # Which generator stdrng is, and so what it asks of a seed, is the kernel's choice; 48 bytes suit all.
    yield RngRow("stdrng", (48,))
    yield RngRow("jitterentropy_rng", needs_seed=False)
    yield RngRow("ansi_cprng", (32, 48, 64), (0, 16, 31), repeats=True)
    yield RngRow("fips(ansi_cprng)", (32, 48), (0, 31), repeats=True)
    for prediction in ("pr", "nopr"):
        for core in (*_CTR, *_HASH, *_HMAC):
            yield RngRow(f"drbg_{prediction}_{core}")


_CTR = ("ctr_aes128", "ctr_aes192", "ctr_aes256")
_HASH = ("sha1", "sha256", "sha384", "sha512")
_HMAC = ("hmac_sha1", "hmac_sha256", "hmac_sha384", "hmac_sha512")
