"""Signed package lists and packages of one suite, kept apart from the running system.

A suite's lists are kept as *generations*: directories that are made complete, renamed into place and never
changed, so that a reader needs no lock and a broken refresh leaves the previous lists as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from vm.base import cache, files, process
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels.apt import apt_get
from vm.kernels.apt.apt_get import ARCHITECTURE
from vm.kernels.apt.sources import Source, machine_sources, own_suites, source_text

HELPER = Path("/usr/lib/apt/apt-helper")
OFFLINE_VARIABLE = "AFALG_OFFLINE"
# Lists younger than this are taken as they are.
FRESH_SECONDS = 6 * 3600.0
# A refresh this recent is not repeated for a version that is not there.
JUST_NOW_SECONDS = 60.0
KEPT_PACKAGES = re.compile(r"linux-(image|base|binary|modules|modules-extra|source)(-unsigned)?-\d")
GENERATIONS_KEPT = 2
REFRESH_DEADLINE = 600.0
DOWNLOAD_DEADLINE = 3600.0


_Answer = TypeVar("_Answer")


class NoMatch(UsageError):
    """The lists name no such version, or not all of it: newer lists may help."""


@dataclass(frozen=True)
class Package:
    """One version of one kernel package in a suite's index.

    Attributes:
        name: ``linux-image-6.1.0-50-amd64``.
        version: ``6.1.176-1``.
        size: bytes to download.
        sha256: of the .deb, in hexadecimal, from the signed index.
        depends: the Depends field, as it stands.
    """

    name: str
    version: str
    size: int
    sha256: str
    depends: str


@dataclass(frozen=True)
class Lists:
    """The kernel packages of one suite, as of one refresh.

    Attributes:
        suite: ``bookworm-security``.
        directory: this generation's directory.
        packages: every version the suite's index names.
        architecture: Debian's name of that of the packages.
    """

    suite: str
    directory: Path
    packages: tuple[Package, ...]
    architecture: str = ARCHITECTURE

    @property
    def age(self) -> float:
        """Seconds since the refresh."""
        return files.age(int(self.directory.name))


def ask(online: Callable[[float], _Answer], offline: Callable[[str], _Answer]) -> _Answer:
    """Return what the mirror has, or what there is without it.

    Args:
        online: looks in lists that are at most so many seconds old; tried once more, with new ones, when it raises
            NoMatch or Gone.
        offline: called with the reason, in words, when the mirror cannot be reached or AFALG_OFFLINE is set.

    Raises:
        UsageError: there is no apt; what the two raise.
    """
    if os.environ.get(OFFLINE_VARIABLE):
        return offline(f"{OFFLINE_VARIABLE} is set")
    apt_get.require()
    try:
        try:
            return online(FRESH_SECONDS)
        except (NoMatch, apt_get.Gone):
            return online(JUST_NOW_SECONDS)
    except apt_get.Unreachable as error:
        return offline(str(error))


def renewed(
    suite: str | None, progress: Progress, *, older_than: float, architecture: str = ARCHITECTURE
) -> Iterator[Lists]:
    """Yield the lists of ``suite`` (None: of each of the machine's own), at most ``older_than`` seconds old.

    Raises:
        Unreachable: the mirror cannot be reached.
        UsageError: the machine's sources name no archive; there is no such suite.
    """
    sources = machine_sources()
    suites = [suite] if suite is not None else own_suites(sources)
    if not suites:
        source_text("", sources)  # which explains what is missing
    for one in suites:
        lists = kept(one, sources, architecture)
        if lists is None or lists.age > older_than:
            lists = refresh(one, sources, progress, older_than=older_than, architecture=architecture)
        yield lists


def kept(suite: str, sources: Sequence[Source], architecture: str = ARCHITECTURE) -> Lists | None:
    """Return the newest kept lists of ``suite``, however old, without running anything; None without any."""
    for generation in _generations(_home(suite, source_text(suite, sources, architecture))):
        with contextlib.suppress(FileNotFoundError):
            raw = json.loads((generation / "packages.json").read_text())
            return Lists(suite, generation, tuple(Package(**package) for package in raw), architecture)
    return None


def refresh(
    suite: str,
    sources: Sequence[Source],
    progress: Progress,
    *,
    older_than: float,
    architecture: str = ARCHITECTURE,
) -> Lists:
    """Return lists of ``suite`` that are at most ``older_than`` seconds old, fetched when they must be.

    Raises:
        Unreachable: the mirror cannot be reached.
        UsageError: there is no such suite; its signature is not good; no space.
    """
    text = source_text(suite, sources, architecture)
    home = _home(suite, text)
    with contextlib.ExitStack() as stack:
        stack.enter_context(cache.explained(home, "keeping package lists"))
        stack.enter_context(cache.locked(home, lambda: progress(f"{suite}: waiting for another run")))
        present = kept(suite, sources, architecture)
        if present and present.age <= older_than:
            return present
        progress(f"{suite}: asking the mirror what kernels there are")
        work = stack.enter_context(apt_get.workplace())
        _update(suite, text, work, present, progress, architecture)
        packages = _read_index(work, architecture)
        (work / "packages.json").write_text(json.dumps([asdict(package) for package in packages]))
        _keep(work, home)
    fresh = kept(suite, sources, architecture)
    assert fresh is not None
    return fresh


def download(lists: Lists, packages: Sequence[Package], into: Path, progress: Progress) -> list[Path]:
    """Fetch ``packages``, checked by apt against the signed index, and return the .deb files.

    Args:
        lists: the suite's lists that name them.
        packages: what to fetch.
        into: an empty directory inside a workplace().
        progress: told what is fetched and how far it is.

    Raises:
        Unreachable: the mirror cannot be reached. Gone: it no longer has one of them.
        UsageError: a file is not what the index says; no space.
    """
    total = sum(package.size for package in packages)
    apt_get.require_room(into, total)
    names = ", ".join(package.name for package in packages)
    progress(f"{lists.suite}: fetching {names} {packages[0].version} ({apt_get.mega(total)})")
    into.chmod(0o755)
    if os.geteuid() == 0:
        _give_to_sandbox(into)
    configuration = apt_get.configure(
        into.parent, lists.directory / "source.sources", lists.directory / "lists", lists.architecture
    )
    wanted = [f"{package.name}:{lists.architecture}={package.version}" for package in packages]
    apt_get.run(lists.suite, configuration, ["download", *wanted], into, total, DOWNLOAD_DEADLINE, progress)
    fetched = [_only(into, package) for package in packages]
    for file, package in zip(fetched, packages, strict=True):
        if file.stat().st_size != package.size:
            raise UsageError(f"{file.name} has {file.stat().st_size} bytes, the index says {package.size}")
    return fetched


def fetch_closure(lists: Lists, names: Sequence[str], work: Path, progress: Progress) -> list[Path]:
    """Fetch packages with all that they depend on, checked by apt, and return the .deb files, sorted by name.

    Args:
        lists: the suite's, whose architecture counts.
        names: of the packages; what they recommend is left out.
        work: a workplace(), or an empty directory inside one.
        progress: told what is fetched and how far it is.

    Raises:
        Unreachable: the mirror cannot be reached. Gone: it no longer has one of them.
        UsageError: there is no such package; a file is not what the index says; no space.
    """
    configuration = apt_get.configure(
        work, lists.directory / "source.sources", lists.directory / "lists", lists.architecture
    )
    archives = work / "cache" / "archives"
    if os.geteuid() == 0:
        _give_to_sandbox(archives / "partial")
    progress(f"{lists.suite}: fetching packages of {lists.architecture}")
    words = ["install", "--download-only", "-y", "--no-install-recommends", *names]
    apt_get.run(lists.suite, configuration, words, archives, 0, DOWNLOAD_DEADLINE, progress)
    found = sorted(archives.glob("*.deb"))
    if missing := [name for name in names if not any(file.name.startswith(f"{name}_") for file in found)]:
        raise UsageError(f"apt-get ended well without bringing {', '.join(missing)}; try again")
    return found


def _home(suite: str, text: str) -> Path:
    # What is kept of an index belongs to the name: lists of other rules are no lists of ours.
    digest = hashlib.sha256(f"{KEPT_PACKAGES.pattern}\0{text}".encode()).hexdigest()[:8]
    return cache.cache_dir() / "apt" / f"{suite.replace('/', '_')}-{digest}"


def _generations(home: Path) -> list[Path]:
    """Return the generations in ``home``, newest first; those of a clock that was ahead last."""
    names = [path for path in home.glob("*") if path.name.isdigit()]
    return sorted(names, key=lambda path: (files.age(int(path.name)), -int(path.name)))


def _update(suite: str, text: str, work: Path, present: Lists | None, progress: Progress, architecture: str) -> None:
    (work / "source.sources").write_text(text)
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True)
    if present:
        # apt then asks only for what has changed.
        for file in (present.directory / "lists").iterdir():
            if file.is_file():
                shutil.copy2(file, lists)
    configuration = apt_get.configure(work, work / "source.sources", lists, architecture)
    apt_get.run(suite, configuration, ["update"], lists, 0, REFRESH_DEADLINE, progress)


def _read_index(work: Path, architecture: str) -> list[Package]:
    configuration = str(work / "apt.conf")
    indexes = process.run(
        ["apt-get", "-c", configuration, "indextargets", "--format", "$(FILENAME)", "Created-By: Packages"],
        deadline=60,
    ).output.split()
    if not indexes:
        return []  # apt keeps no index of a suite that has no packages
    index = process.run([str(HELPER), "-c", configuration, "cat-file", *indexes], deadline=120)
    if index.status:
        raise UsageError(f"apt cannot read the index it fetched: {apt_get.complaint(index)}")
    return list(dict.fromkeys(_parse_index(index.output, architecture)))


def _parse_index(text: str, architecture: str = ARCHITECTURE) -> Iterator[Package]:
    # Tens of megabytes, of which a few kilobytes matter: find those before taking anything apart.
    for match in re.finditer(r"^Package: (linux-\S+)$", text, re.MULTILINE):
        if KEPT_PACKAGES.match(match[1]):
            end = text.find("\n\n", match.start())
            stanza = text[match.start() : end if end >= 0 else len(text)]
            fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
            if fields.get("Architecture") in (architecture, "all") and "SHA256" in fields:
                size, depends = int(fields["Size"]), fields.get("Depends", "")
                yield Package(match[1], fields["Version"], size, fields["SHA256"], depends)


def _keep(work: Path, home: Path) -> None:
    """Move what a refresh made in ``work`` to a new generation in ``home``, and remove the oldest ones."""
    taken = [int(path.name) for path in _generations(home)]
    newest = max((name for name in taken if math.isfinite(files.age(name))), default=0)

    def move(temporary: Path) -> None:
        for name in ("packages.json", "source.sources"):
            shutil.copyfile(work / name, temporary / name)
        (temporary / "lists").mkdir()
        for file in (work / "lists").iterdir():
            if file.is_file() and file.name != "lock":
                shutil.copy2(file, temporary / "lists")

    cache.entry(home / str(max(int(time.time()), newest + 1)), move)
    for old in _generations(home)[GENERATIONS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
        (home / f"{old.name}.lock").unlink(missing_ok=True)


def _give_to_sandbox(directory: Path) -> None:
    with contextlib.suppress(LookupError, PermissionError):
        shutil.chown(directory, user="_apt")


def _only(directory: Path, package: Package) -> Path:
    found = list(directory.glob(f"{package.name}_*.deb"))
    if len(found) != 1:
        raise UsageError(f"apt-get ended well without bringing {package.name}; try again")
    return found[0]
