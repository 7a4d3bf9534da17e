"""Prebuilt distribution kernels, by version and suite, unpacked and pruned into the cache.

A kernel is one (ABI name, package version) pair, made of one package or of several: up to 6.18
``linux-image-<abi>`` has everything; since then it is only a name, and the files are in
``linux-binary-<abi>`` (the image), ``linux-modules-<abi>`` and ``linux-base-<abi>`` (config and tables) of
the same version. Ubuntu's ``linux-image-<abi>`` is the image alone, ``linux-modules-<abi>`` has config, tables and
modules, but for those of ``linux-modules-extra-<abi>``. Only the generic flavour is offered: the cloud flavours have
no 9p. It is told by its ABI name, which ends in the architecture (Debian) or in ``generic`` (Ubuntu).
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm.base import cache, process
from vm.base.errors import UsageError
from vm.base.files import first_existing
from vm.base.progress import Progress
from vm.kernels import image, modules, versions
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.kernels.apt import sources as apt_sources

UNPACK_DEADLINE = 600.0

ABI = re.compile(rf"(\d[\w.+~-]*-{apt_get.ARCHITECTURE}|\d+\.\d+\.\d+-\d+-generic)$")
OTHER_FLAVOURS = re.compile(r"-(cloud|rt)-")
_NAME = re.compile(r"linux-(image|base|binary|modules-extra|modules)(-unsigned)?-(\d.*)")


@dataclass(frozen=True)
class Candidate:
    """A kernel that a suite's index names.

    Attributes:
        suite: ``bookworm-security``.
        release: ``uname -r``, which is the ABI name: ``6.1.0-50-amd64``.
        version: package version: ``6.1.176-1``.
        packages: what its files are in.
        missing: packages it would need besides, that the index does not name.
    """

    suite: str
    release: str
    version: str
    packages: tuple[apt.Package, ...]
    missing: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(package.size for package in self.packages)

    @property
    def entry(self) -> Path:
        """Where it is in the cache, there or not: the name tells the packages' content and our rules."""
        digests = sorted(package.sha256 for package in self.packages)
        digest = hashlib.sha256("".join([str(modules.RULES), *digests]).encode()).hexdigest()
        return kernels_dir() / f"{versions.printable(self.version)}-{digest[:12]}"


@dataclass(frozen=True)
class Entry:
    """A kernel that is in the cache: what its kernel.json says.

    Attributes:
        directory: holds ``boot/vmlinuz-<release>``, ``boot/config-<release>``, ``lib/modules/<release>``.
        suite: the suite it was fetched from.
        release: ``uname -r``.
        version: package version.
    """

    directory: Path
    suite: str
    release: str
    version: str

    @property
    def image(self) -> Path:
        """The bzImage."""
        return self.directory / "boot" / f"vmlinuz-{self.release}"

    @property
    def config(self) -> Path:
        """The kernel's .config; there only when a package had it."""
        return self.directory / "boot" / f"config-{self.release}"


def resolve(suite: str | None, version: str, progress: Progress) -> Entry:
    """Return the newest kernel of ``suite`` that matches ``version``, fetched into the cache when it must be.

    An exact version (``6.12.94``, ``6.1.192-2``) that is cached is taken without looking further. Anything
    else is looked up in the suite's lists, renewed when they are older than six hours, and once more before
    saying that there is no such version. Without a network (or with AFALG_OFFLINE set) the newest cached
    kernel that matches is taken, and that is said.

    Args:
        suite: ``trixie-backports``; None for the suites of the machine's own sources.
        version: ``6.12``, ``6.12.94``, ``6.1.192-2``, ``6.1.0-50-amd64``; empty for the newest.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: no such suite or version, no network, no space, no apt, a signature that is not good.
    """
    if versions.is_exact(version) and (hit := _newest_cached(suite, version)):
        return hit
    return apt.ask(
        lambda age: fetch(_choose(suite, version, candidates(suite, progress, older_than=age)), progress),
        lambda reason: _offline(suite, version, reason, progress),
    )


def candidates(suite: str | None, progress: Progress, *, older_than: float = apt.FRESH_SECONDS) -> list[Candidate]:
    """Return every kernel that ``suite`` (None: the machine's own suites) names, newest first.

    Those that cannot be had, for want of a package, are among them: their ``missing`` says what.

    Raises:
        UsageError: no such suite, no network, no apt.
    """
    found: list[Candidate] = []
    for lists in apt.renewed(suite, progress, older_than=older_than):
        found += _candidates(lists)
    return sorted(found, key=lambda candidate: versions.key(candidate.version), reverse=True)


def fetch(candidate: Candidate, progress: Progress) -> Entry:
    """Return the cache entry of ``candidate``, fetched and unpacked when it is not there yet.

    Raises:
        UsageError: no network, no space, broken packages.
    """
    path = cache.entry(
        candidate.entry,
        lambda temporary: _make(candidate, temporary, progress),
        lambda: progress(f"{candidate.suite}: waiting for another run that fetches {candidate.version}"),
    )
    return read_entry(path)


def cached() -> list[Entry]:
    """Return the packaged kernels in the cache, newest version first."""
    found = [read_entry(path.parent) for path in kernels_dir().glob("[!.]*/kernel.json")]
    return sorted(found, key=lambda entry: versions.key(entry.version), reverse=True)


def read_entry(directory: Path) -> Entry:
    """Read the cache entry ``directory``.

    Raises:
        UsageError: it is damaged.
    """
    try:
        raw = json.loads((directory / "kernel.json").read_text())
        return Entry(directory, raw["suite"], raw["release"], raw["version"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"the cached kernel {directory} is damaged; remove that directory") from error


def kernels_dir() -> Path:
    """Return the directory of unpacked kernels in the cache."""
    return cache.cache_dir() / "kernels"


def own_suites() -> list[str]:
    """Return the suites of the distribution that the machine's apt sources name."""
    return apt_sources.own_suites(apt_sources.machine_sources())


# -- choosing ----------------------------------------------------------------------------------------------


def _choose(suite: str | None, version: str, found: Sequence[Candidate]) -> Candidate:
    """Return the newest of ``found`` (newest first) that matches and can be had."""
    fitting = [c for c in found if versions.matches(version, c.version, c.release)]
    for candidate in fitting:
        if not candidate.missing:
            return candidate
    where = suite or ", ".join(own_suites())
    havable = [c for c in found if not c.missing]
    hint = _hint(version, havable)
    if fitting:
        lacking = ", ".join(fitting[0].missing)
        raise apt.NoMatch(
            f"{versions.upstream(fitting[0].version)} of {where} cannot be had: its index names no {lacking}; {hint}"
        )
    raise apt.NoMatch(f"no kernel matches {version!r} in {where}; {hint}")


def _hint(version: str, havable: Sequence[Candidate]) -> str:
    if not havable:
        return "there is none for this machine (ask another suite: SUITE/VERSION)"
    newest = versions.upstream(havable[0].version)
    series = re.match(r"\d+\.\d+", version)
    same = [c for c in havable if series and versions.matches(series[0], c.version, c.release)]
    if same:
        key = versions.key(version)
        above = [c for c in same if versions.key(c.version) > key]
        nearest = versions.upstream((above or same)[-1 if above else 0].version)
        return f"nearest is {nearest}, newest is {newest} (make kernels lists them)"
    return f"newest is {newest} (make kernels lists them)"


def _newest_cached(suite: str | None, version: str) -> Entry | None:
    """Return the newest cached kernel that matches: by its own record, or by what the kept lists name."""
    sources = apt_sources.machine_sources() if apt_get.available() else ()
    suites = [suite] if suite is not None else apt_sources.own_suites(sources)
    # Without apt there are no suites of the machine's own: a cache brought along is all there is.
    here = [entry for entry in cached() if entry.suite in suites or not sources]
    for one in suites if sources else []:
        if lists := apt.kept(one, sources):
            here += [read_entry(c.entry) for c in _candidates(lists) if c.entry.is_dir()]
    fitting = [entry for entry in here if versions.matches(version, entry.version, entry.release)]
    return max(fitting, key=lambda entry: versions.key(entry.version), default=None)


def _offline(suite: str | None, version: str, reason: str, progress: Progress) -> Entry:
    if hit := _newest_cached(suite, version):
        progress(f"{reason}; taking the cached {hit.version} of {hit.suite}")
        return hit
    have = ", ".join(f"{entry.suite}/{versions.upstream(entry.version)}" for entry in cached()) or "nothing"
    wanted = f"{suite}/{version}" if suite else version
    raise UsageError(f"{reason}; no cached kernel matches {wanted!r} (cached: {have})")


# -- the index ---------------------------------------------------------------------------------------------


def _candidates(lists: apt.Lists) -> Iterator[Candidate]:
    """Put the packages of ``lists`` together to kernels."""
    kernels: dict[tuple[str, str], dict[str, apt.Package]] = {}
    for package in lists.packages:
        role, abi = _role(package.name)
        if abi and not OTHER_FLAVOURS.search(abi):
            kernels.setdefault((abi, package.version), {})[role] = package
    for (abi, version), parts in kernels.items():
        if candidate := _candidate(lists.suite, abi, version, parts):
            yield candidate


def _role(name: str) -> tuple[str, str]:
    """Split a package name: ("image", "6.1.0-50-amd64"); the ABI is empty for what is no part of a kernel."""
    unsigned = name.endswith("-unsigned")
    found = _NAME.fullmatch(name.removesuffix("-unsigned"))
    if found is None:
        return "", ""
    role = found[1] + ("-unsigned" if unsigned or found[2] else "")
    return role, found[3] if ABI.match(found[3]) else ""


def _candidate(suite: str, abi: str, version: str, parts: dict[str, apt.Package]) -> Candidate | None:
    named = parts.get("image") or parts.get("image-unsigned")
    if named and re.search(r"\blinux-image-", named.depends):
        return None  # a name for whatever is newest: linux-image-6.12-amd64
    if named and not re.search(r"\blinux-(binary|modules)-", named.depends):
        return Candidate(suite, abi, version, (named, *_optional(parts)))
    needed = {"binary": parts.get("binary") or parts.get("binary-unsigned"), "modules": parts.get("modules")}
    if named and "linux-binary-" not in named.depends:
        needed["binary"] = named
    missing = [f"linux-{role}-{abi}" for role, part in needed.items() if part is None]
    present = [part for part in needed.values() if part is not None]
    if not present and named is None:
        return None
    return Candidate(suite, abi, version, (*present, *_optional(parts)), tuple(missing))


def _optional(parts: dict[str, apt.Package]) -> Iterable[apt.Package]:
    # Its config and module tables help, and nothing fails to boot without them.
    return [parts[role] for role in ("base", "modules-extra") if role in parts]


# -- unpacking ---------------------------------------------------------------------------------------------


def _make(candidate: Candidate, entry: Path, progress: Progress) -> None:
    """Fill the new cache entry ``entry`` from the packages of ``candidate``."""
    lists = apt.kept(candidate.suite, apt_sources.machine_sources())
    assert lists is not None, "a candidate comes from kept lists"
    tree = entry / "unpacked"
    tree.mkdir()
    with apt_get.workplace() as work:
        into = work / "packages"
        into.mkdir()
        files = apt.download(lists, candidate.packages, into, progress)
        progress(f"{candidate.suite}: unpacking {candidate.version}")
        with cache.explained(entry.parent, f"making {candidate.version}"):
            for file in files:
                _unpack(file, tree)
    _lay_out(candidate, tree, entry)
    shutil.rmtree(tree)
    record = {**asdict(candidate), "rules": modules.RULES, "size": candidate.size}
    (entry / "kernel.json").write_text(json.dumps(record, indent=1) + "\n")


def _lay_out(candidate: Candidate, tree: Path, entry: Path) -> None:
    """Move what a guest needs of the unpacked packages in ``tree`` to its place in ``entry``."""
    release, boot = candidate.release, entry / "boot"
    boot.mkdir()
    lib = first_existing([tree / "usr/lib/modules" / release, tree / "lib/modules" / release])
    if lib is None:
        raise UsageError(f"the packages of {candidate.version} hold no modules of {release}")
    for name in ("vmlinuz", "config", "System.map"):
        found = first_existing([tree / "boot" / f"{name}-{release}", lib / name])
        if found:
            shutil.move(found, boot / f"{name}-{release}")
        elif name == "vmlinuz":
            raise UsageError(f"the packages of {candidate.version} hold no image vmlinuz-{release}")
    if (said := image.read(boot / f"vmlinuz-{release}").release) != release:
        raise UsageError(f"the image of {candidate.version} calls itself {said}, its package {release}")
    modules.install(lib, entry, release)


def _unpack(package: Path, tree: Path) -> None:
    result = process.run(["dpkg-deb", "-x", str(package), str(tree)], deadline=UNPACK_DEADLINE)
    if result.status:
        if "No space left" in result.errors:
            raise OSError(errno.ENOSPC, "No space left on device", str(tree))
        said = (result.errors.strip().splitlines() or ["no word"])[-1]
        raise UsageError(f"cannot unpack {package.name}: {said}")
