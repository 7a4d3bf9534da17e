"""TOML files of the project."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vm.base.decode import Mismatch, decode
from vm.base.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Made = TypeVar("_Made")


def read(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML.
    """
    said: dict[str, Any] = tomllib.loads(path.read_text())
    return said


def tables(
    path: Path, name: str, kind: type[_Made], what: str, form: str, check: Callable[[_Made], None] = lambda _made: None
) -> list[_Made]:
    """Return the tables ``[[name]]`` of a file that the user may have written.

    Args:
        path: the file.
        name: of the tables; there may be none.
        kind: dataclass that has their members (vm/base/decode.py).
        what: the file is, in words: ``the skip budget``.
        form: the module that says how it must look: ``vm/run/skips.py``.
        check: raises ValueError for one that is wrong though its members are of the right types.

    Raises:
        UsageError: the file cannot be read or a table is wrong, in one line.
    """
    try:
        made = [decode(kind, table, f"[[{name}]]", strict=True) for table in read(path).get(name, [])]
        for each in made:
            check(each)
        return made
    except (OSError, ValueError, Mismatch) as error:
        raise UsageError(f"cannot use {what} {path}: {error}; see {form} for its form") from error
