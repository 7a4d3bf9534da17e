"""Small things done to files in several places."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The project's directory."""
ROOT_PARTS = Path("/usr/share/af-alg-tests-root")
"""In a root that guests run from (vm/roots): the file names of what it is made of, one a line; versions are in them."""


def python_path() -> str:
    """Return a PYTHONPATH by which another Python finds the project, and what ours finds."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, given)]))


def shown(path: Path) -> str:
    """Return ``path`` as people want to read it: relative to the working directory when it is below that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def text_of(path: Path) -> str:
    """Return what a file holds, undecodable bytes replaced; nothing when it is not there or cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def json_of(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one when there is none, or a killed run left half of it."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def identity(path: Path) -> str:
    """Return words that differ when ``path`` is another file, or its content has been changed since.

    Size and time of modification alone do not tell: packages and reproducible builds set that time. Nobody sets the
    time of change (stat(2), st_ctime).

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


SKEW = 60.0
"""Seconds by which two clocks may differ, those of a file server and of its client."""


def age(then: float) -> float:
    """Return the seconds since ``then``, a time of the epoch.

    What is of the future was written by a clock that was ahead, nobody knows when: it is infinitely old, so that it is
    renewed and removed like anything old, and not kept until that time has come.
    """
    passed = time.time() - then
    return max(passed, 0.0) if passed >= -SKEW else math.inf


def first_existing(paths: Iterable[Path]) -> Path | None:
    """Return the first of ``paths`` that exists, None when none does."""
    return next((path for path in paths if path.exists()), None)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: under a temporary name in its directory, then renamed.

    Raises:
        OSError: it cannot be written; the file is as it was, and nothing else is left.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Make a directory whole or not at all: yield a temporary one beside it, which gets its name in the end.

    Args:
        target: it is not there, or empty.

    Raises:
        OSError: it cannot be made; nothing is left, and neither is after any error within.
    """
    target = target.resolve()
    above = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            new.chmod(0o755)
            yield new
            new.rename(target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    except BaseException:
        for parent in above:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
