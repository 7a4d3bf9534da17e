"""No algorithm goes untested: whatever the kernel registers has a row in the catalogue."""

from __future__ import annotations

import pytest

from tests.afalg.proc import implementations
from tests.algorithms import catalogue
from tests.oracle.names import Name, parse

pytestmark = pytest.mark.usefixtures("everything_loaded")


def test_every_registered_algorithm_has_a_row() -> None:
    """After loading every crypto module. A name nobody knows is a new algorithm: add a row.

    Source: /proc/crypto, crypto/proc.c.
    """
    unknown = {
        f"{entry.af_alg_type} {entry.name} ({entry.driver})"
        for entry in implementations()
        if entry.af_alg_type is not None and not known(entry.af_alg_type, entry.name)
    }
    assert not unknown, f"no row in tests/algorithms/catalogue for: {', '.join(sorted(unknown))}"


def known(type_: str, name: str) -> bool:
    """Tell whether a row covers a name: its own, or rows for the template and everything in it.

    Another test, or another program, may have put known parts together in a way no row has.
    """
    table = catalogue.by_type()
    if name in table[type_]:
        return True
    parsed = parse(name)
    templates = {parse(row).head for row in table[type_] if "(" in row}
    return bool(parsed.parts) and parsed.head in templates and all(_part_known(part) for part in parsed.parts)


def _part_known(part: Name) -> bool:
    return any(part.text in rows or known(type_, part.text) for type_, rows in catalogue.by_type().items()) or (
        part.text in _CIPHERS
    )


_CIPHERS = frozenset(catalogue.CIPHERS)
