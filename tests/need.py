"""What a kernel lacks is skipped, with the reason; by behaviour, never by version."""

from __future__ import annotations

import errno
from typing import TypeVar

import pytest

from tests.afalg import Transform

_T = TypeVar("_T", bound=Transform)
_missing: set[tuple[str, str]] = set()


def need(kind: type[_T], name: str, *arguments: object, **options: object) -> _T:
    """Return ``kind(name, ...)`` (Hash, Skcipher, Aead, Rng), or skip the test when the kernel lacks it.

    Only two errors mean that: EAFNOSUPPORT of socket (no AF_ALG) and ENOENT of bind (no such algorithm, or
    no such type). Any other error is the test's. What was missing once is not asked for again: every bind
    of an unknown name runs modprobe several times.
    """
    if (kind.type_, name) in _missing:
        pytest.skip(f"kernel has no {kind.type_} {name}")
    try:
        return kind(name, *arguments, **options)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            pytest.skip("kernel has no AF_ALG")
        if error.errno == errno.ENOENT:
            _missing.add((kind.type_, name))
            pytest.skip(f"kernel has no {kind.type_} {name}")
        raise
