"""A directory of finished things: made once, complete or absent, safe for several runs at once.

What a run has taken is its own until it ends (``hold``): nobody removes it meanwhile (``remove``, vm.base.prune).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vm.base import files
from vm.base.errors import UsageError

ENVIRONMENT_VARIABLE = "AFALG_CACHE"

# What the user can put right, as the cause of an OSError; anything else is a defect and keeps its traceback.
FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def cache_dir() -> Path:
    """Return the directory that holds everything fetched or built, created when missing.

    It is ``$AFALG_CACHE``, else ``af-alg-tests`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        UsageError: the directory cannot be created.
    """
    path = _place()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create the cache directory {path}: {error.strerror}; "
            f"set {ENVIRONMENT_VARIABLE} to a directory you can write"
        ) from error
    return path


def _place() -> Path:
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "af-alg-tests"


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the exclusive lock of ``path`` (a file ``path.lock`` beside it) for the duration of the block.

    The lock belongs to the open file, so that it vanishes with the process whatever ends it: the wait for it
    has no deadline of its own, but what another run does while it holds it has.

    Args:
        path: what is locked; it need not exist.
        waiting: called once when another run holds the lock, before waiting for it.
    """
    with _lock_file(path) as lock:
        if not _taken(lock):
            waiting()
            _lock(lock, fcntl.LOCK_EX)
            _sign(lock)
        yield


def holder(path: Path) -> str:
    """Say who holds the lock of ``path``: ``process 1234 since 15:04:10``; for a message, it may be over."""
    try:
        process, since = map(int, Path(f"{path}.lock").read_text().split())
    except (OSError, ValueError):
        return "a process that did not say its number"
    return f"process {process} since {time.strftime('%H:%M:%S', time.localtime(since))}"


# A file that is there when an entry was made that prune has not seen: by whichever process, those of machines too.
_GROWN = ".grown"
_held: dict[Path, IO[str]] = {}


def hold(path: Path) -> Path:
    """Keep ``path``, an entry or what holds one, from being removed for as long as this process lives."""
    try:
        if path not in _held:
            lock = _lock_file(path)
            _lock(lock, fcntl.LOCK_SH)
            _held[path] = lock
        os.utime(f"{path}.lock")
    except OSError as error:
        # A cache that we may only read: it is for others to keep.
        if error.errno not in CLOSED:
            raise
    return path


def taken(path: Path) -> IO[str] | None:
    """Take the lock of ``path`` as :func:`locked` does, unless another run has it; None then.

    It is had until the file that is returned is closed, or this process ends.
    """
    lock = _lock_file(path)
    if _taken(lock):
        return lock
    lock.close()
    return None


def let_go(path: Path) -> None:
    """Do not :func:`hold` this any longer."""
    if held := _held.pop(path, None):
        held.close()


def last_used(path: Path) -> float:
    """Return when a run last took ``path`` or worked on it, as a time of the epoch.

    One that a clock was ahead for is counted from now on: it would outlive all that is used.
    """
    lock = Path(f"{path}.lock")
    stamped = lock if lock.exists() else path
    when = stamped.stat().st_mtime
    if math.isfinite(files.age(when)):
        return when
    with contextlib.suppress(OSError):
        os.utime(stamped)
    return time.time()


def remove(path: Path) -> bool:
    """Remove the directory ``path`` unless somebody uses it; say whether it is gone.

    It vanishes whole: what a kill leaves of it is under a name that nobody reads. Somebody else's, which we may not
    remove, is left.
    """
    with contextlib.suppress(PermissionError), _lock_file(path) as lock:
        if not _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if path.is_dir():
            grave = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
            path.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)
        _sweep(path)
        return True
    return False


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
    told = False
    with explained(path.parent, f"making {path.name}"):
        while not (path.is_dir() and hold(path).is_dir()):
            let_go(path)
            with _lock_file(path) as lock:
                if _taken(lock):
                    if not path.is_dir():
                        _make_entry(path, make)
                    continue
                if not told:
                    told = True
                    waiting()
                # Shared: the run that makes it will not let go of it before it ends.
                _lock(lock, fcntl.LOCK_SH)
    return path


def grown() -> bool:
    """Say whether any run has made an entry since this was last asked: whoever asks sees to the limit."""
    try:
        (cache_dir() / _GROWN).unlink()
    except OSError:
        return False
    return True


def _make_entry(path: Path, make: Callable[[Path], None]) -> None:
    _sweep(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        make(temporary)
        temporary.chmod(0o755)
        temporary.rename(path)
        if path.is_relative_to(_place()):
            with contextlib.suppress(OSError):
                (_place() / _GROWN).touch()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what killed runs left of making or removing ``path``; the caller holds its lock."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)


def _lock_file(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not emptied by opening: it says who holds it. For reading as well: where flock(2) is done by locks of fcntl(2), on
    # NFS, a shared one needs a file that can be read, an exclusive one a file that can be written.
    return open(f"{path}.lock", "a+")


def _lock(lock: IO[str], operation: int) -> bool:
    """Call flock(2); say whether the lock was had, which it always is without LOCK_NB.

    Raises:
        UsageError: the file system has no locks (NFS without its lock service).
    """
    try:
        fcntl.flock(lock, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in LOCKLESS:
            raise UsageError(
                f"cannot lock {lock.name}: {error.strerror}; set {ENVIRONMENT_VARIABLE} to a directory on a local disk"
            ) from error
        raise
    return True


def _taken(lock: IO[str]) -> bool:
    """Take the exclusive lock and sign it, unless somebody else has it."""
    if not _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return False
    _sign(lock)
    return True


def _sign(lock: IO[str]) -> None:
    # For holder(); and the time of the file is that of the last use.
    lock.truncate(0)
    lock.write(f"{os.getpid()} {int(time.time())}")
    lock.flush()
