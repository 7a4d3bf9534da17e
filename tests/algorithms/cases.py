"""Which algorithms a test runs with: every one, or those that may behave in a way of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest

from tests.algorithms.catalogue import Row
from tests.oracle.names import Name, parse

_AnyRow = TypeVar("_AnyRow", bound=Row)

GENERIC_ONLY = frozenset(("anubis", "cipher_null", "des", "fcrypt", "khazad", "seed", "tea", "tnepres", "xeta", "xtea"))
"""Ciphers that no kernel has an implementation of any mode of: the templates' one code does the work."""

_AUTHENC_WITH_ALL = "hmac(sha1)", "cbc(aes)"


def every(rows: Iterable[_AnyRow]) -> pytest.MarkDecorator:
    """Parametrise over rows, with their names as ids."""
    return pytest.mark.parametrize("row", list(rows), ids=lambda row: row.name)


def each_way(rows: Iterable[_AnyRow]) -> pytest.MarkDecorator:
    """As ``every``; but what differs from another row only in its parts' names is left to a thorough run."""
    return chosen(rows, lambda row: not only_combines(parse(row.name)))


def chosen(rows: Iterable[_AnyRow], default: Callable[[_AnyRow], bool]) -> pytest.MarkDecorator:
    """As ``every``, with rows that ``default`` says no to in a thorough run only."""
    thorough = [pytest.mark.thorough]
    params = [pytest.param(row, id=row.name, marks=[] if default(row) else thorough) for row in rows]
    return pytest.mark.parametrize("row", params)


def each_template(rows: Iterable[_AnyRow]) -> pytest.MarkDecorator:
    """Parametrise over the first row of each template, or plain name; the others in a thorough run."""
    seen, params = set[str](), []
    for row in rows:
        head = parse(row.name).head
        marks = [pytest.mark.thorough] if head in seen else []
        params.append(pytest.param(row, id=row.name, marks=marks))
        seen.add(head)
    return pytest.mark.parametrize("row", params)


def only_combines(name: Name) -> bool:
    """Tell whether all that works here is a template's generic code, which other rows go through as well."""
    if name.head in ("authenc", "echainiv"):
        parts = name.parts if name.head == "authenc" else name.parts[0].parts
        return not any(part.text in _AUTHENC_WITH_ALL for part in parts)
    return bool(name.parts) and any(part.text in GENERIC_ONLY or only_combines(part) for part in name.parts)
