"""Keep the cache within bounds: what was used longest ago goes first, what a run uses stays.

    python -m vm cache          # down to $AFALG_CACHE_LIMIT (30G), as whenever a kernel was made ready
    python -m vm cache --all    # everything that no run uses: make clean-cache

Everything in the cache can be had again, by fetching or building it. The compiler's cache (ccache) has a bound of
its own, lists of packages replace each other, and a bisection's work tree goes only with ``--all``.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.progress import Progress

LIMIT_VARIABLE = "AFALG_CACHE_LIMIT"
# The sources of five series and some variants of each, built.
DEFAULT_LIMIT = "30G"
UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

# Patterns of what is used and removed as one, below the cache directory.
ENTRIES = (
    *("sources/*", "builds/*/build*", "built/*/*", "kernels/*", "modules/*", "initramfs/*", "vmlinux/*"),
    *("roots/*", "projects/*", "module-images/*", "archives/*", "bytecode/*", "machines/*"),
)
ONLY_WITH_ALL = ("bisect/*", "ccache")
# Where a source tree's size is kept, which takes seconds to count and never changes.
SIZE = ".size"


@dataclass(frozen=True)
class Entry:
    """What is removed as one.

    Attributes:
        path: the directory.
        used: when a run last took it, as a time of the epoch.
        size: bytes on the disk.
    """

    path: Path
    used: float
    size: int

    def __str__(self) -> str:
        day = time.strftime("%Y-%m-%d", time.localtime(self.used))
        return f"{self.path.relative_to(cache.cache_dir())} ({self.size / 1e9:.1f} GB, last used {day})"


def limit() -> int | None:
    """Return how many bytes the cache may have, None for any number.

    Raises:
        UsageError: the variable is neither a size nor ``none``.
    """
    text = os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT
    if text.lower() == "none":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if not found:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}; expected a size like {DEFAULT_LIMIT} or 500M, or none")
    return int(float(found[1]) * UNITS.get(found[2], 1))


def to_limit(progress: Progress) -> None:
    """Remove what was used longest ago until the rest is within the limit.

    Args:
        progress: told in one line each what is removed.

    Raises:
        UsageError: the limit cannot be understood.
    """
    cache.grown()
    bound = limit()
    if bound is None:
        return
    found = sorted(entries(), key=lambda entry: entry.used)
    total = sum(entry.size for entry in found)
    for entry in found:
        if total <= bound:
            break
        if cache.remove(entry.path):
            total -= entry.size
            progress(f"removed from the cache: {entry}; {LIMIT_VARIABLE} is {bound / 1e9:g} GB")
    _tidy()


def when_grown(progress: Progress) -> None:
    """Do the same, but only when something was added to the cache since this was last done.

    Raises:
        UsageError: the limit cannot be understood.
    """
    if cache.grown():
        to_limit(progress)


def everything(progress: Progress) -> int:
    """Remove all that no run uses; return the bytes that are free now.

    Args:
        progress: told in one line each what is left, and why.
    """
    freed = 0
    for entry in entries(ENTRIES + ONLY_WITH_ALL):
        if cache.remove(entry.path):
            freed += entry.size
        else:
            progress(f"a run uses {entry}: left")
    _tidy()
    return freed


def entries(patterns: Sequence[str] = ENTRIES) -> Iterator[Entry]:
    """Find the directories that match ``patterns``, with their ages and sizes."""
    for pattern in patterns:
        for path in sorted(cache.cache_dir().glob(pattern)):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield Entry(path, cache.last_used(path), _size(path))


def _size(path: Path) -> int:
    fixed = path.parent.name == "sources"
    with contextlib.suppress(OSError, ValueError):
        if fixed:
            return int((path / SIZE).read_text())
    size = 0
    for folder, _, files in os.walk(path):
        for name in files:
            # Something may be built there at this moment.
            with contextlib.suppress(OSError):
                size += Path(folder, name).lstat().st_blocks * 512
    if fixed:
        with contextlib.suppress(OSError):
            (path / SIZE).write_text(str(size))
    return size


def _tidy() -> None:
    """Remove the links that stand for a tree of which no build is left."""
    for shadow in cache.cache_dir().glob("builds/*"):
        if not shadow.is_dir() or any(path.is_dir() and not path.is_symlink() for path in shadow.glob("build*")):
            continue
        # As vm.kernels.build.build does: first this lock, then the shadow is its own.
        with cache.locked(cache.cache_dir() / "builds" / f"shadow-{shadow.name.rpartition('-')[0]}"):
            cache.remove(shadow)


@command
def main(arguments: Sequence[str]) -> None:
    """Prune; return the exit status."""
    parser = Parser(prog="python -m vm cache", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="remove everything that no run uses")
    if parser.parse_args(arguments).all:
        print(f"{everything(print) / 1e9:.1f} GB freed in {cache.cache_dir()}")
    else:
        to_limit(print)
