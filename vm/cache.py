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

# What the user can put right, as the cause of an OSError; anything else is a defect and keeps its traceback.
FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


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
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the exclusive lock of ``path`` (a file ``path.lock`` beside it) for the duration of the block.

    The lock belongs to the open file, so that it vanishes with the process whatever ends it: the wait for it
    has no deadline of its own, but what another run does while it holds it has.

    Args:
        path: what is locked; it need not exist.
        waiting: called once when another run holds the lock, before waiting for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def explained(place: Path, doing: str, variable: str = ENVIRONMENT_VARIABLE) -> Iterator[None]:
    """Turn a full disk and a directory that cannot be written into the one line that helps.

    Args:
        place: the directory that is being filled.
        doing: what for: ``making 6.12.94``.
        variable: the environment variable that names another place.

    Raises:
        UsageError: the block met one of the two.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise UsageError(
                f"no space left in {place} (while {doing}); free some, "
                f"or set {variable} to a directory on a larger disk"
            ) from error
        if error.errno in CLOSED:
            raise UsageError(
                f"cannot write in {place} (while {doing}): {error.strerror}; "
                f"set {variable} to a directory you can write"
            ) from error
        raise


def entry(path: Path, make: Callable[[Path], None], waiting: Callable[[], None] = lambda: None) -> Path:
    """Return ``path``, made by ``make(temporary)`` when it is not there yet.

    ``make`` fills a new, empty temporary directory beside ``path``, which is renamed to ``path`` only when
    ``make`` returns: an error, a full disk or a kill leaves no half-made entry. Callers that want the same
    entry at once wait for each other, and the second finds it finished. What a killed run left is removed
    by the next one that takes the lock.

    Args:
        path: the entry, which tells by its name what it holds: it never changes once it is there.
        make: fills the temporary directory it is given.
        waiting: called once when another run is making the entry.

    Raises:
        UsageError: the disk is full or cannot be written; whatever else ``make`` raises.
    """
    if path.is_dir():
        return path
    with explained(path.parent, f"making {path.name}"), locked(path, waiting):
        if path.is_dir():
            return path
        for stale in path.parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            make(temporary)
            temporary.chmod(0o755)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return path
