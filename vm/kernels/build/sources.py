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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache, process
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels import built, packaged, versions
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
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
    if not all((path / name).exists() for name in ("Makefile", "Kbuild", "Kconfig", "arch/x86/Makefile")):
        raise UsageError(
            f"{path} is no kernel source tree for x86: it lacks Makefile, Kbuild, Kconfig or arch/x86; "
            "give the top directory of a Linux tree"
        )
    path = path.resolve()
    release, series = _release(path)
    label = versions.printable(f"{path.name}-{release}")
    return Tree(path, release, series, label, release, fixed=False)


def fetch(spec: str, progress: Progress) -> Tree:
    """Return the distribution's source tree of ``VERSION`` or ``SUITE/VERSION``, fetched when it must be.

    Without a suite, the suites of the machine's own sources are looked through. The newest version that
    matches is taken: ``6.12``, ``6.12.94``, ``6.12.94-1``.

    Args:
        spec: what follows ``source:``.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: no such version or suite, no network, no space.
    """
    suite, _, version = spec.rpartition("/")
    if versions.is_exact(version) and (hit := _newest_cached(suite, version)):
        return _held(hit)
    return apt.ask(
        lambda age: _fetched(_choose(suite, version, _candidates(suite or None, progress, age)), progress),
        lambda reason: _offline(suite, version, reason, progress),
    )


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


@dataclass(frozen=True)
class _Candidate:
    lists: apt.Lists
    package: apt.Package

    @property
    def entry(self) -> Path:
        name = f"{versions.printable(self.package.version)}-{self.package.sha256[:12]}"
        return _sources_dir() / name


def _sources_dir() -> Path:
    return cache.cache_dir() / "sources"


def _candidates(suite: str | None, progress: Progress, older_than: float) -> list[_Candidate]:
    """Return the source packages of ``suite`` (None: the machine's own suites), newest first."""
    found = [
        _Candidate(lists, package)
        for lists in apt.renewed(suite, progress, older_than=older_than)
        for package in lists.packages
        if PACKAGE.match(package.name)
    ]
    return sorted(found, key=lambda c: versions.key(c.package.version), reverse=True)


def _choose(suite: str, version: str, found: Sequence[_Candidate]) -> _Candidate:
    for candidate in found:
        if versions.matches(version, candidate.package.version, ""):
            return candidate
    where = suite or ", ".join(packaged.own_suites())
    have = ", ".join(dict.fromkeys(versions.upstream(c.package.version) for c in found)) or "none"
    raise apt.NoMatch(
        f"no kernel source matches {version!r} in {where}; there: {have}; "
        "another suite is asked by source:SUITE/VERSION (source:trixie-backports/7.3)"
    )


def _fetched(candidate: _Candidate, progress: Progress) -> Tree:
    entry = cache.entry(
        candidate.entry,
        lambda path: _make(candidate, path, progress),
        lambda: progress(
            f"source {candidate.package.version}: waiting, for {cache.holder(candidate.entry)} fetches it"
        ),
    )
    return _cached_tree(entry)


def _make(candidate: _Candidate, entry: Path, progress: Progress) -> None:
    package = candidate.package
    with apt_get.workplace() as work:
        into = work / "packages"
        into.mkdir()
        (file,) = apt.download(candidate.lists, [package], into, progress)
        progress(f"{candidate.lists.suite}: unpacking {package.name} {package.version}")
        (entry / "tree").mkdir()
        _unpack(file, package, work, entry / "tree")
    record = {"version": package.version, "suite": candidate.lists.suite, "sha256": package.sha256}
    (entry / RECORD).write_text(json.dumps(record) + "\n")


def _unpack(file: Path, package: apt.Package, work: Path, into: Path) -> None:
    """Unpack the tree inside the tar archive inside the package, without its top directory."""
    inner = f"./usr/src/{package.name}.tar.xz"
    archive = work / "source.tar.xz"
    steps = (
        ["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -xO "$1" > "$2"', str(file), inner, str(archive)],
        ["tar", "-xf", str(archive), "-C", str(into), "--strip-components=1", "--no-same-owner"],
    )
    for step in steps:
        result = process.run(step, deadline=UNPACK_DEADLINE)
        if "No space left" in result.errors:
            raise UsageError(
                f"no space left to unpack {package.name} (1.7 GB in {into.parents[1]}); free some, "
                f"or set {cache.ENVIRONMENT_VARIABLE} to a directory on a larger disk"
            )
        if result.status:
            said = (result.errors.strip().splitlines() or ["no word"])[-1]
            raise UsageError(f"cannot unpack {file.name}: {said}")


def _cached_tree(entry: Path) -> Tree:
    try:
        version = json.loads((entry / RECORD).read_text())["version"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"the cached source {entry} is damaged; remove that directory") from error
    release, series = _release(entry / "tree")
    return Tree(entry / "tree", release, series, f"{release}-src", version, fixed=True)


def _held(tree: Tree) -> Tree:
    cache.hold(tree.path.parent)
    return tree


def _newest_cached(suite: str, version: str) -> Tree | None:
    records = _sources_dir().glob(f"[!.]*/{RECORD}")
    entries = [path.parent for path in records if not suite or json.loads(path.read_text())["suite"] == suite]
    fitting = [t for t in map(_cached_tree, entries) if versions.matches(version, t.version, "")]
    return max(fitting, key=lambda t: versions.key(t.version), default=None)


def _offline(suite: str, version: str, reason: str, progress: Progress) -> Tree:
    if hit := _newest_cached(suite, version):
        progress(f"{reason}; taking the cached source of {hit.version}")
        return _held(hit)
    raise UsageError(f"{reason}; no cached kernel source matches {version!r}; give the path of a tree instead")


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
    return any((path / name).exists() for name in (".config", "include/config", "arch/x86/include/generated"))


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
_MADE_UNLESS_SOURCE = re.compile(r"^(vmlinux|System\.map|bzImage$|Module\.symvers$|modules\.)")
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
