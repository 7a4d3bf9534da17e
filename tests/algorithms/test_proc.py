"""/proc/crypto tells the sizes of an algorithm: those that it has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.afalg import Aead, Hash, Skcipher, Transform
from tests.afalg.proc import Implementation, implementations
from tests.algorithms import catalogue
from tests.algorithms.cases import each_template
from tests.algorithms.catalogue import Row
from tests.need import need
from tests.oracle.names import parse

pytestmark = pytest.mark.usefixtures("everything_loaded")

KINDS: Mapping[str, type[Transform]] = {"hash": Hash, "skcipher": Skcipher, "aead": Aead}
INHERITS = ("cbc", "ctr", "cts", "ecb", "hmac", "lrw", "pcbc", "rfc3686", "rfc4106", "rfc4309", "rfc4543", "xts")
"""Templates over one part, which are as good as that is."""


def told(row: Row) -> dict[str, int]:
    """Return the fields that must be there, with their values."""
    if isinstance(row, catalogue.HashRow):
        return {"digestsize": row.digest}
    if isinstance(row, catalogue.SkcipherRow):
        return {"ivsize": row.iv, "chunksize": row.chunk}
    assert isinstance(row, catalogue.AeadRow)
    return {"ivsize": row.iv, "maxauthsize": row.tags[-1]}


@each_template([*catalogue.HASHES, *catalogue.SKCIPHERS, *catalogue.AEADS])
def test_sizes_in_proc_crypto(row: Row) -> None:
    """Of every driver: IV, chunk, digest and longest tag (crypto_skcipher_show, crypto_aead_show)."""
    type_ = next(type_ for type_, rows in catalogue.by_type().items() if row.name in rows)
    need(KINDS[type_], row.name).close()
    found = [entry for entry in implementations() if entry.name == row.name and entry.af_alg_type == type_]
    assert found
    for entry in found:
        has = {name: int(entry.fields[name]) for name in told(row) if name in entry.fields}
        assert has == told(row), entry.driver


def test_priority_is_that_of_the_part() -> None:
    """So that what is made of the better driver is the better one (xts_create and its like)."""
    names = ("xts(aes)", "cts(cbc(aes))", "rfc3686(ctr(aes))")
    for name in names:
        need(Skcipher, name).close()
    by_driver: dict[str, Implementation] = {entry.driver: entry for entry in implementations()}
    pairs = [(entry, by_driver.get(parse(entry.driver).parts[0].text)) for entry in by_driver.values() if made(entry)]
    # Of these alone: 7.3.4 gives hmac of a hash another priority than the hash has.
    pairs = [(entry, part) for entry, part in pairs if entry.name in names]
    known = [(entry, part) for entry, part in pairs if part is not None]
    assert known
    assert not [entry.driver for entry, part in known if entry.priority != part.priority]


def made(entry: Implementation) -> bool:
    name = parse(entry.driver)
    return name.head in INHERITS and len(name.parts) == 1 and not entry.internal
