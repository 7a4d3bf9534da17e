"""The discovery table: every algorithm AF_ALG may offer, as data.

A new algorithm is one row. A name in a kernel's /proc/crypto that no row knows is a failure of
tests/algorithms/test_completeness.py.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

from tests.algorithms.catalogue import aeads, hashes, rngs, skciphers
from tests.algorithms.catalogue.aeads import AeadRow
from tests.algorithms.catalogue.ciphers import CIPHERS
from tests.algorithms.catalogue.hashes import HashRow
from tests.algorithms.catalogue.rngs import RngRow
from tests.algorithms.catalogue.skciphers import SkcipherRow

Row: TypeAlias = HashRow | SkcipherRow | AeadRow | RngRow

HASHES = tuple(hashes.rows())
SKCIPHERS = tuple(skciphers.rows())
AEADS = tuple(aeads.rows())
RNGS = tuple(rngs.rows())


@functools.cache
def by_type() -> dict[str, dict[str, Row]]:
    """Return every row by AF_ALG's type and the algorithm's name."""
    tables: dict[str, tuple[Row, ...]] = {
        "hash": HASHES,
        "skcipher": SKCIPHERS,
        "aead": AEADS,
        "rng": RNGS,
    }
    return {type_: {row.name: row for row in rows} for type_, rows in tables.items()}


__all__ = ["AEADS", "CIPHERS", "HASHES", "RNGS", "SKCIPHERS", "AeadRow", "HashRow", "RngRow", "SkcipherRow", "by_type"]
