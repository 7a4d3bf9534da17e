"""Installed modules: of several with one name, the one that modprobe would load.

``lib/modules/REL`` may hold a module more than once: the kernel's own below ``kernel/``, one of ``make M=crypto
modules_install`` below ``updates/`` or ``extra/``, one with another suffix. depmod decides, by depmod.d(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import files

SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")

# kmod: tools/depmod.c, default_cfg_paths; of two files with one name the first counts.
_PLACES = ("run/depmod.d", "etc/depmod.d", "usr/local/lib/depmod.d", "lib/depmod.d", "usr/lib/depmod.d")
_BUILT_IN = "built-in"
# Links to the sources, with modules in them that are not installed.
_NOT_SEARCHED = ("build", "source")


@dataclass(frozen=True)
class Order:
    """What depmod.d says, for one kernel.

    Attributes:
        search: directories, the most important first; ``built-in`` is what none of the others name.
        overrides: modules that win whatever ``search`` says: ``extra/af_alg``.
        exclude: names of directories that are not looked into.
    """

    search: tuple[str, ...] = ("updates",)
    overrides: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def rank(self, path: str) -> tuple[int, int]:
        """Return the rank of a module (its path below ``lib/modules/REL``, no suffix); the smallest wins."""
        forced = self.overrides.index(path) if path in self.overrides else len(self.overrides)
        inside = [n for n, place in enumerate(self.search) if path.startswith(f"{place}/")]
        other = self.search.index(_BUILT_IN) if _BUILT_IN in self.search else len(self.search)
        return forced, min(inside, default=other)


def order(source: Path) -> Order:
    """Return what decides for ``source`` (``…/lib/modules/REL``): the depmod.d of its root, else this machine's.

    ``make modules_install`` into a directory without any is indexed by this machine's depmod.
    """
    root = source.parents[3 if source.parts[-4:-2] == ("usr", "lib") else 2]
    lines = list(_lines(root)) or list(_lines(Path("/")))
    search: list[str] = []
    overrides: list[str] = []
    exclude: list[str] = []
    for command, *words in lines:
        if command == "search":
            search += words
        elif command == "exclude":
            exclude += words
        elif command == "override" and len(words) == 3 and _is_for(words[1], source.name):
            # Later ones are looked at first.
            overrides.insert(0, f"{words[2]}/{words[0]}")
    return Order(tuple(search) or Order.search, tuple(overrides), tuple(exclude))


def find(source: Path) -> dict[str, Path]:
    """Return the file of each module that is installed in ``source`` (``…/lib/modules/REL``).

    They are named by their path below ``kernel/`` without suffix: ``crypto/af_alg``. One from elsewhere has the name
    of the one it replaces; where it replaces none, its own: ``../updates/dkms/zfs``.

    Where depmod takes what it happens to read first, that is the one that ``modules.dep`` names if it has been
    written since, else one from outside of ``kernel/``, else the newest.
    """
    rules = order(source)
    indexed = _indexed(source)
    found: dict[str, list[tuple[str, Path]]] = {}
    for path, file in _modules(source, rules.exclude):
        found.setdefault(_name(path), []).append((path, file))

    def rank(candidate: tuple[str, Path]) -> tuple[object, ...]:
        path, file = candidate
        status = file.stat()
        newest_first = -status.st_mtime_ns
        named = file in indexed and status.st_ctime_ns <= indexed[file]
        return (*rules.rank(path), not named, path.startswith("kernel/"), newest_first, str(file))

    chosen = {}
    for candidates in found.values():
        own = [path for path, _ in candidates if path.startswith("kernel/")]
        winner, file = min(candidates, key=rank)
        place = own[0] if own else winner
        chosen[place.removeprefix("kernel/") if own else f"../{place}"] = file
    return dict(sorted(chosen.items()))


def replaced(source: Path, found: dict[str, Path]) -> list[str]:
    """Return those of ``found`` that are not from ``kernel/``, as paths below ``source``."""
    paths = [file.relative_to(source).as_posix() for file in found.values()]
    return [path for path in paths if not path.startswith("kernel/")]


def _lines(root: Path) -> Iterator[list[str]]:
    """Give the words of each line of the configuration below ``root``."""
    named: dict[str, Path] = {}
    for place in _PLACES:
        for file in sorted((root / place).glob("*.conf")):
            named.setdefault(file.name, file)
    for _, file in sorted(named.items()):
        for line in re.sub(r"\\\n", " ", files.text_of(file)).splitlines():
            if (words := line.split()) and not line.startswith("#"):
                yield words


def _is_for(pattern: str, release: str) -> bool:
    try:
        return pattern == "*" or re.search(pattern, release) is not None
    except re.error:
        return False


def _modules(source: Path, exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Give path below ``source`` without suffix, and file, of everything that may be a module."""
    seen = set()
    for folder, folders, names in os.walk(source, followlinks=True):
        # A link that leads back up has no end.
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if name not in (*_NOT_SEARCHED, *exclude) and not name.startswith(".")
        )
        for name in sorted(names):
            if name.endswith(SUFFIXES) and (file := Path(folder, name)).is_file():
                yield file.relative_to(source).as_posix().rpartition(".ko")[0], file


def _name(path: str) -> str:
    return path.rpartition("/")[2].replace("-", "_")


def _indexed(source: Path) -> dict[Path, int]:
    """Return the modules that ``modules.dep`` names, with the time at which it was written."""
    index = source / "modules.dep"
    names = [line.partition(":")[0] for line in files.text_of(index).splitlines()]
    return dict.fromkeys((source / name for name in names), index.stat().st_mtime_ns) if names else {}
