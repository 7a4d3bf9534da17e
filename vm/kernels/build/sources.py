"""Kernel source trees: the distribution's, by version, and the user's own, none of which is ever written to.

A distribution's source comes as one binary package, ``linux-source-6.12``, which holds the patched tree; so
it is found, fetched and checked like a packaged kernel, from the same suites.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vm.base import arch, cache, process
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels import built, versions
from vm.kernels.apt import packages as apt
from vm.kernels.catalogue import Candidate, Catalogue
from vm.kernels.kconfig import Series

PACKAGE = re.compile(r"linux-source-(\d+\.\d+)$")
RECORD = "source.json"
UNPACK_DEADLINE = 1800.0


@dataclass(frozen=True)
class Tree:
    """One source tree.

    Attributes:
        path: where it is.
        release: what its Makefile says: ``6.12.117``, ``7.3.0-rc1``.
        series: the first two numbers of it.
        label: short name, for kernels made of it: ``6.12.117-src``, ``linux-7.3.0-rc1``.
        version: of the package, else the release.
        fixed: it is in the cache and never changes.
    """

    path: Path
    release: str
    series: Series
    label: str
    version: str
    fixed: bool


def local(path: Path) -> Tree:
    """Return the tree at ``path``.

    Raises:
        UsageError: there is no kernel source tree.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UsageError(f"no directory {path}; expected a kernel source tree")
    if source := built.source_of(path):
        raise UsageError(f"{path} is a build directory (O=); variants are built of its sources: give {source}+…")
    own = arch.default().directory
    if not all((path / name).exists() for name in ("Makefile", "Kbuild", "Kconfig", f"arch/{own}/Makefile")):
        raise UsageError(
            f"{path} is no kernel source tree for {own}: it lacks Makefile, Kbuild, Kconfig or arch/{own}; "
            "give the top directory of a Linux tree"
        )
    path = path.resolve()
    release, series = _release(path)
    label = versions.printable(f"{path.name}-{release}")
    return Tree(path, release, series, label, release, fixed=False)


def fetch(spec: str, progress: Progress) -> Tree:
    """Return the distribution's source tree of ``VERSION`` or ``SUITE/VERSION``, fetched when it must be.

    Args:
        spec: what follows ``source:``; see :meth:`vm.kernels.catalogue.Catalogue.resolve`.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: no such version or suite, no network, no space.
    """
    suite, _, version = spec.rpartition("/")
    entry = SOURCES.resolve(suite or None, version, progress)
    path = cache.hold(entry.directory) / "tree"
    release, series = _release(path)
    return Tree(path, release, series, f"{release}-src", entry.version, fixed=True)


def shadow(tree: Tree) -> Path:
    """Return a directory of links that stands for ``tree``, brought up to date.

    The kernel builds in a subdirectory of it. That keeps the tree itself unwritten; lets a tree that was
    built in place be built apart, which the kernel refuses, since what the first build left is not linked;
    and makes all paths on the compiler's command line relative (``../crypto/af_alg.c``) and the same for
    every tree, so that ccache finds in one what it compiled in another.

    The caller holds the lock of the build.
    """
    digest = hashlib.sha256(str(tree.path).encode()).hexdigest()[:10]
    root = cache.cache_dir() / "builds" / f"{tree.label}-{digest}"
    root.mkdir(parents=True, exist_ok=True)
    if _built_in_place(tree.path):
        _link_files(tree.path, root)
    else:
        _link_top(tree.path, root)
    return root


# -- the distribution's ------------------------------------------------------------------------------------


class _Source(Candidate):
    @property
    def entry(self) -> Path:
        (package,) = self.packages
        return cache.cache_dir() / "sources" / f"{versions.printable(self.version)}-{package.sha256[:12]}"


def _candidates(lists: apt.Lists) -> Iterator[Candidate]:
    for package in lists.packages:
        if PACKAGE.match(package.name):
            yield _Source(lists.suite, "", package.version, (package,))


def _make(candidate: Candidate, entry: Path, progress: Progress) -> None:
    """Fill the new cache entry ``entry`` with the tree that is packed in a package."""
    (package,) = candidate.packages
    with candidate.downloaded(progress) as (work, (file,)):
        progress(f"{candidate.suite}: unpacking {package.name} {package.version}")
        (entry / "tree").mkdir()
        _unpack(file, f"./usr/src/{package.name}.tar.xz", work / "source.tar.xz", entry / "tree")
    record = {"version": package.version, "suite": candidate.suite, "sha256": package.sha256}
    (entry / RECORD).write_text(json.dumps(record) + "\n")


def _unpack(file: Path, inner: str, archive: Path, into: Path) -> None:
    """Unpack the tree inside the tar archive ``inner`` inside the package, without its top directory."""
    steps = (
        (["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -xO "$1" > "$2"', str(file), inner, str(archive)], archive),
        (["tar", "-xf", str(archive), "-C", str(into), "--strip-components=1", "--no-same-owner"], into),
    )
    for command, place in steps:
        process.run(command, deadline=UNPACK_DEADLINE).require(f"cannot unpack {file.name}", place)


SOURCES = Catalogue(
    "kernel source", "sources", RECORD, "others: source:SUITE/VERSION, as source:trixie-backports/7.3",
    _candidates, _make,
)  # fmt: skip
"""The packages with the distribution's source trees."""


# -- trees -------------------------------------------------------------------------------------------------


def _release(path: Path) -> tuple[str, Series]:
    """Read VERSION, PATCHLEVEL, SUBLEVEL and EXTRAVERSION at the top of the tree's Makefile."""
    try:
        head = (path / "Makefile").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError as error:
        raise UsageError(f"cannot read {path / 'Makefile'}: {error.strerror}") from error
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *=[ \t]*(\S*)", head, re.MULTILINE))
    if not (fields.get("VERSION", "").isdigit() and fields.get("PATCHLEVEL", "").isdigit()):
        raise UsageError(f"{path / 'Makefile'} names no kernel version; expected the top of a Linux tree")
    numbers = ".".join(fields[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL") if fields.get(name))
    series = (int(fields["VERSION"]), int(fields["PATCHLEVEL"]))
    return numbers + fields.get("EXTRAVERSION", ""), series


def _built_in_place(path: Path) -> bool:
    # What the kernel's own Makefile looks for when it refuses a build apart.
    return any(any(path.glob(name)) for name in (".config", "include/config", "arch/*/include/generated"))


BUILD_PREFIX = "build"


def _link_top(source: Path, root: Path) -> None:
    """Link the entries of the top directory: enough where nothing was ever built."""
    _match(root, {p.name: p for p in source.iterdir() if p.name != ".git"}, keep=BUILD_PREFIX)


def _link_files(source: Path, root: Path) -> None:
    """Link every source file by itself, in directories of our own, and leave out what a build has made."""
    for directory, files in _source_files(source).items():
        here = root / directory
        if here.is_symlink():
            here.unlink()
        here.mkdir(parents=True, exist_ok=True)
        wanted = {name: source / directory / name for name in files}
        _match(here, wanted, keep=BUILD_PREFIX if directory == "." else None)


def _match(directory: Path, wanted: dict[str, Path], keep: str | None) -> None:
    """Make the links in ``directory`` those of ``wanted``; leave real directories and ``keep…`` alone."""
    present = {}
    for entry in os.scandir(directory):
        if entry.is_symlink():
            present[entry.name] = str(Path(entry.path).readlink())
        elif not entry.is_dir() and not (keep and entry.name.startswith(keep)):
            Path(entry.path).unlink()
    for name, target in wanted.items():
        if keep and name.startswith(keep):
            continue
        if present.pop(name, None) == str(target):
            continue
        link = directory / name
        if link.is_dir() and not link.is_symlink():
            shutil.rmtree(link)  # links to the files of a tree that was built in place, and is no longer
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name in present:
        (directory / name).unlink()


_MADE = re.compile(r"\.(o|a|ko|mod|cmd|d|dwo|gcno|symversions|order|lds)$|^(\.config|\.tmp_|\.version$)")
_IMAGES = "|".join(re.escape(row.image.name) for row in arch.ARCHITECTURES)
_MADE_UNLESS_SOURCE = re.compile(rf"^(vmlinux|System\.map|({_IMAGES})$|Module\.symvers$|modules\.)")
_SOURCE = (".c", ".h", ".S", ".sh", ".rst")


def _source_files(source: Path) -> dict[str, list[str]]:
    """Return the source files by directory: git tells them where it can, else their names do."""
    by_directory: dict[str, list[str]] = {}
    for name in _tracked(source) or _unmade(source):
        directory, _, file = name.rpartition("/")
        by_directory.setdefault(directory or ".", []).append(file)
    return by_directory


def _tracked(source: Path) -> list[str]:
    """Ask git for the files it tracks, and the new ones it does not ignore as it does a build's."""
    if not (source / ".git").exists():
        return []
    result = subprocess.run(
        ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, timeout=300,
    )  # fmt: skip
    names = os.fsdecode(result.stdout).split("\0") if result.returncode == 0 else []
    return [name for name in names if name and os.path.lexists(source / name)]


def _unmade(source: Path) -> Iterator[str]:
    """Name the files that do not look like a build's."""
    for folder, folders, files in os.walk(source):
        inside = os.path.relpath(folder, source)
        folders[:] = [name for name in folders if name not in ("generated", ".git")]
        if inside == "include":
            folders[:] = [name for name in folders if name != "config"]
        for name in files:
            odd = _MADE_UNLESS_SOURCE.search(name) and not name.endswith(_SOURCE)
            if not odd and not _MADE.search(name):
                yield name if inside == "." else f"{inside}/{name}"
