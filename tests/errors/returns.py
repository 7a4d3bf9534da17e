"""Joining tests with rows of returns.toml, the table of every error return."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Test = TypeVar("_Test", bound=Callable[..., None])


def returns(*rows: str) -> Callable[[_Test], _Test]:
    """Say which rows of returns.toml the test proves. `make check` reads this from the source."""

    def mark(test: _Test) -> _Test:
        test.__dict__["returns"] = rows
        return test

    return mark
