"""TOML files of the project."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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


def tables(path: Path, name: str, make: Callable[[dict[str, Any]], _Made], what: str, form: str) -> list[_Made]:
    """Return what is made of each table ``[[name]]`` of a file that the user may have written.

    Args:
        path: the file.
        name: of the tables; there may be none.
        make: raises for a table that is wrong.
        what: the file is, in words: ``the skip budget``.
        form: the module that says how it must look: ``vm/run/skips.py``.

    Raises:
        UsageError: the file cannot be read or a table is wrong, in one line.
    """
    try:
        return [make(table) for table in read(path).get(name, [])]
    except (OSError, ValueError, TypeError, KeyError, re.error) as error:
        raise UsageError(f"cannot use {what} {path}: {error}; see {form} for its form") from error
