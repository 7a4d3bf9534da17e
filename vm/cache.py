"""A directory of finished things: made once, complete or absent, safe for several runs at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vm.errors import UsageError

ENVIRONMENT_VARIABLE = "AFALG_CACHE"


def cache_dir() -> Path:
    """Return the directory that holds everything fetched or built, created when missing.

    It is ``$AFALG_CACHE``, else ``af-alg-tests`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        UsageError: the directory cannot be created.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        path = Path(named).absolute()
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        path = (Path(base) if base else Path.home() / ".cache") / "af-alg-tests"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create the cache directory {path}: {error.strerror}; "
            f"set {ENVIRONMENT_VARIABLE} to a directory you can write"
        ) from error
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of ``path`` (a file ``path.lock`` beside it) for the duration of the block.

    The lock belongs to the open file, so that it vanishes with the process whatever ends it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(path: Path, make: Callable[[Path], None]) -> Path:
    """Return ``path``, made by ``make(temporary)`` when it is not there yet.

    ``make`` fills a new, empty temporary directory beside ``path``, which is renamed to ``path`` only when
    ``make`` returns: an error, a full disk or a kill leaves no half-made entry. Callers that want the same
    entry at once wait for each other, and the second finds it finished. What a killed run left is removed
    by the next one that takes the lock.

    Raises:
        UsageError: the disk is full; whatever else ``make`` raises.
    """
    if path.is_dir():
        return path
    with locked(path):
        if path.is_dir():
            return path
        for stale in path.parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            make(temporary)
            temporary.chmod(0o755)
            temporary.rename(path)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UsageError(
                    f"no space left in {path.parent} (while making {path.name}); free some, "
                    f"or set {ENVIRONMENT_VARIABLE} to a directory on a larger disk"
                ) from error
            raise
    return path
