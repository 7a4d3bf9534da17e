"""What suites have of one kind of package, what the cache holds of it, and which of these a user's words mean."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels import modules, versions
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.kernels.apt import sources as apt_sources


@dataclass(frozen=True)
class Candidate:
    """What a suite's index names: a kernel, or its source.

    Attributes:
        suite: ``bookworm-security``.
        release: ``uname -r`` of a kernel, which is the ABI name: ``6.1.0-50-amd64``; empty for a source.
        version: package version: ``6.1.176-1``.
        packages: what its files are in.
        missing: packages it would need besides, that the index does not name.
        architecture: Debian's name of it.
    """

    suite: str
    release: str
    version: str
    packages: tuple[apt.Package, ...]
    missing: tuple[str, ...] = ()
    architecture: str = apt_get.ARCHITECTURE

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(package.size for package in self.packages)

    @property
    def entry(self) -> Path:
        """Where it is in the cache, there or not: the name tells the packages' content and our rules."""
        digests = sorted(package.sha256 for package in self.packages)
        digest = hashlib.sha256("".join([str(modules.RULES), *digests]).encode()).hexdigest()
        return cache.cache_dir() / "kernels" / f"{versions.printable(self.version)}-{digest[:12]}"

    @contextlib.contextmanager
    def downloaded(self, progress: Progress) -> Iterator[tuple[Path, list[Path]]]:
        """Fetch its packages; give a directory to work in, which is removed at the end, and the .deb files in it.

        Raises:
            UsageError: no network, no space, broken packages.
        """
        lists = apt.kept(self.suite, apt_sources.machine_sources(), self.architecture)
        if lists is None:
            raise UsageError(f"the lists of {self.suite} are gone; run make kernels SUITE={self.suite}")
        with apt_get.workplace() as work:
            into = work / "packages"
            into.mkdir()
            yield work, apt.download(lists, self.packages, into, progress)


@dataclass(frozen=True)
class Entry:
    """A kernel or source that is in the cache, by the record in it.

    Attributes:
        directory: of a kernel, holds ``boot/vmlinuz-<release>``, ``boot/config-<release>``, ``lib/modules/<release>``.
        suite: the suite it was fetched from.
        release: ``uname -r`` of a kernel; empty for a source.
        version: package version.
        architecture: Debian's name of it.
        current: whether it was made by today's rules (vm/kernels/modules.py); what other ones made may lack modules.
    """

    directory: Path
    suite: str
    release: str
    version: str
    architecture: str = apt_get.ARCHITECTURE
    current: bool = True

    @property
    def image(self) -> Path:
        """The image of a kernel."""
        return self.directory / "boot" / f"vmlinuz-{self.release}"

    @property
    def config(self) -> Path:
        """A kernel's .config; there only when a package had it."""
        return self.directory / "boot" / f"config-{self.release}"


@dataclass(frozen=True)
class Catalogue:
    """One kind of package.

    Attributes:
        noun: for messages: ``kernel source``.
        place: its directory in the cache.
        record: file of a cache entry that says what it is.
        hint: for messages: how to see or ask for others.
        offers: puts the packages of a suite's lists together to candidates.
        make: fills a new cache entry with a candidate.
    """

    noun: str
    place: str
    record: str
    hint: str
    offers: Callable[[apt.Lists], Iterable[Candidate]]
    make: Callable[[Candidate, Path, Progress], None]

    def resolve(
        self, suite: str | None, version: str, progress: Progress, architecture: str = apt_get.ARCHITECTURE
    ) -> Entry:
        """Return the newest of ``suite`` that matches ``version``, fetched into the cache when it must be.

        An exact version (``6.12.94``, ``6.1.192-2``) that is cached is taken without looking further. Anything
        else is looked up in the suite's lists, renewed when they are older than six hours, and once more before
        saying that there is no such version. Without a network (or with AFALG_OFFLINE set) the newest cached
        one that matches is taken, and that is said.

        Args:
            suite: ``trixie-backports``; None for the suites of the machine's own sources.
            version: ``6.12``, ``6.12.94``, ``6.1.192-2``, ``6.1.0-50-amd64``; empty for the newest.
            progress: told in one line each what is waited for.
            architecture: Debian's name of it.

        Raises:
            UsageError: no such suite or version, no network, no space, no apt, a signature that is not good.
        """
        if versions.is_exact(version) and (hit := self._newest_cached(suite, version, architecture)) and hit.current:
            return hit
        return apt.ask(
            lambda age: self.fetch(
                self._choose(
                    suite, version, self.candidates(suite, progress, older_than=age, architecture=architecture)
                ),
                progress,
            ),
            lambda reason: self._offline(suite, version, reason, progress, architecture),
        )

    def candidates(
        self,
        suite: str | None,
        progress: Progress,
        *,
        older_than: float = apt.FRESH_SECONDS,
        architecture: str = apt_get.ARCHITECTURE,
    ) -> list[Candidate]:
        """Return all that ``suite`` (None: the machine's own suites) names, newest first.

        Those that cannot be had, for want of a package, are among them: their ``missing`` says what.

        Raises:
            UsageError: no such suite, no network, no apt.
        """
        found: list[Candidate] = []
        for lists in apt.renewed(suite, progress, older_than=older_than, architecture=architecture):
            found += self.offers(lists)
        return sorted(found, key=lambda candidate: versions.key(candidate.version), reverse=True)

    def fetch(self, candidate: Candidate, progress: Progress) -> Entry:
        """Return the cache entry of ``candidate``, fetched and unpacked when it is not there yet.

        Raises:
            UsageError: no network, no space, broken packages.
        """
        path = cache.entry(
            candidate.entry,
            lambda temporary: self.make(candidate, temporary, progress),
            lambda: progress(
                f"{candidate.suite}: waiting, for {cache.holder(candidate.entry)} fetches {candidate.version}"
            ),
        )
        return self._read(path)

    def cached(self) -> list[Entry]:
        """Return what is in the cache, newest version first."""
        records = (cache.cache_dir() / self.place).glob(f"[!.]*/{self.record}")
        found = [self._read(path.parent) for path in records]
        return sorted(found, key=lambda entry: versions.key(entry.version), reverse=True)

    def _read(self, directory: Path) -> Entry:
        try:
            raw = json.loads((directory / self.record).read_text())
            machine = raw.get("architecture", apt_get.ARCHITECTURE)
            current = raw.get("rules", modules.RULES) == modules.RULES
            return Entry(directory, raw["suite"], raw.get("release", ""), raw["version"], machine, current)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"the cached {self.noun} {directory} is damaged; remove that directory") from error

    def _choose(self, suite: str | None, version: str, found: Sequence[Candidate]) -> Candidate:
        """Return the newest of ``found`` (newest first) that matches and can be had."""
        fitting = [c for c in found if versions.matches(version, c.version, c.release)]
        for candidate in fitting:
            if not candidate.missing:
                return candidate
        where = suite or ", ".join(own_suites())
        flavour = versions.split_flavour(version)[1]
        nearest = self._nearest(version, [c for c in found if not c.missing and versions.flavour(c.release) == flavour])
        if fitting:
            short, lacking = versions.upstream(fitting[0].version), ", ".join(fitting[0].missing)
            raise apt.NoMatch(f"{short} of {where} cannot be had: its index names no {lacking}; {nearest}")
        raise apt.NoMatch(f"no {self.noun} matches {version!r} in {where}; {nearest}")

    def _nearest(self, version: str, havable: Sequence[Candidate]) -> str:
        if not havable:
            return "there is none for this machine (ask another suite: SUITE/VERSION)"
        newest = versions.upstream(havable[0].version)
        series = re.match(r"\d+\.\d+", version)
        same = [c for c in havable if series and versions.matches(series[0], c.version, "")]
        if same:
            key = versions.key(version)
            above = [c for c in same if versions.key(c.version) > key]
            nearest = versions.upstream((above or same)[-1 if above else 0].version)
            return f"nearest is {nearest}, newest is {newest} ({self.hint})"
        return f"newest is {newest} ({self.hint})"

    def _newest_cached(self, suite: str | None, version: str, architecture: str) -> Entry | None:
        """Return the newest cached one that matches: by its own record, or by what the kept lists name."""
        sources = apt_sources.machine_sources() if apt_get.available() else ()
        suites = [suite] if suite is not None else apt_sources.own_suites(sources)
        # Without apt there are no suites of the machine's own: a cache brought along is all there is.
        here = [entry for entry in self.cached() if entry.suite in suites or not sources]
        for one in suites if sources else []:
            if lists := apt.kept(one, sources, architecture):
                here += [self._read(c.entry) for c in self.offers(lists) if c.entry.is_dir()]
        here = [entry for entry in here if entry.architecture == architecture]
        fitting = [entry for entry in here if versions.matches(version, entry.version, entry.release)]
        return max(fitting, key=lambda entry: (versions.key(entry.version), entry.current), default=None)

    def _offline(self, suite: str | None, version: str, reason: str, progress: Progress, architecture: str) -> Entry:
        if hit := self._newest_cached(suite, version, architecture):
            progress(f"{reason}; taking the cached {hit.version} of {hit.suite}")
            return hit
        have = ", ".join(f"{entry.suite}/{versions.upstream(entry.version)}" for entry in self.cached()) or "nothing"
        wanted = f"{suite}/{version}" if suite else version
        raise UsageError(f"{reason}; no cached {self.noun} matches {wanted!r} (cached: {have})")


def own_suites() -> list[str]:
    """Return the suites of the distribution that the machine's apt sources name."""
    return apt_sources.own_suites(apt_sources.machine_sources())
