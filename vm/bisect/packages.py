"""The packaged kernels between two versions, and what a package's changelog says of the crypto between two."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels import packaged, versions
from vm.kernels.catalogue import Candidate, own_suites
from vm.kernels.spec import SUITE, VERSION

# A bug list and a subject of the kernel's: "    - crypto: af_alg - Set merge to zero early in af_alg_sendmsg".
_CRYPTO = re.compile(r"\s+- (\[[^]]*\] )?(crypto|lib/crypto|padata|asymmetric_keys|KEYS)\b")


@dataclass(frozen=True)
class Range:
    """The kernels between two versions, both included, oldest first.

    Attributes:
        candidates: those that can be had.
        holes: what the suites name and nobody can fetch, in words.
        notes: what to know of the range.
    """

    candidates: tuple[Candidate, ...]
    holes: tuple[str, ...]
    notes: tuple[str, ...]


def between(good: str, bad: str, suites: Sequence[str], progress: Progress) -> tuple[Range, bool]:
    """Return the kernels from one end to the other, and whether ``good`` is the older one.

    Args:
        good, bad: ``6.12.74``, ``bookworm-backports/6.12.90``.
        suites: to look in, besides those that the two name; none at all: the machine's own, their backports,
            and those of cached kernels.

    Raises:
        UsageError: one of the two is no packaged kernel, or both are the same; no network.
    """
    found = _all(_suites(good, bad, suites), progress)
    ends = [_end(spec, found) for spec in (good, bad)]
    low, high = sorted(ends, key=lambda candidate: versions.key(candidate.version))
    if low.version == high.version:
        raise UsageError(f"{good} and {bad} are the same kernel, {low.version}; give two that differ")
    flavours = {versions.flavour(end.release) for end in ends}
    if len(flavours) > 1:
        raise UsageError(f"{good} and {bad} differ in more than their version; give two of one flavour")
    keys = [versions.key(end.version) for end in (low, high)]
    inside = [
        c for c in found if keys[0] <= versions.key(c.version) <= keys[1] and versions.flavour(c.release) in flavours
    ]
    series = {re.match(r"\d+\.\d+", end.version)[0] for end in (low, high)}  # type: ignore[index]
    notes: tuple[str, ...] = ()
    if len(series) == 1:
        inside = [c for c in inside if c.version.startswith(f"{min(series)}.")]
    else:
        notes = (
            "these are several series: a fix reaches each of them at another time, so the answer may change "
            "more than once, and one of the changes is found",
        )
    holes = tuple(f"{c.suite}/{c.version} (no {', '.join(c.missing)})" for c in inside if c.missing)
    return Range(_one_each(inside, (low, high)), holes, notes), ends[0] is low


def crypto_changes(older: Candidate, newer: Candidate, progress: Progress) -> list[str]:
    """Return the lines on crypto in the changelog of ``newer`` since ``older``, each with the version it came in.

    Raises:
        UsageError: the package cannot be had, or has no changelog.
    """
    text = changelog(newer, progress)
    lines: list[str] = []
    version = ""
    for line in text.splitlines():
        if entry := re.match(r"linux\S* \(([^)]+)\)", line):
            version = entry[1]
            if versions.key(_plain(version)) <= versions.key(_plain(older.version)):
                break
        elif _CRYPTO.match(line):
            lines.append(f"{version}: {line.strip().removeprefix('- ')}")
    return lines


def changelog(candidate: Candidate, progress: Progress) -> str:
    """Return the Debian changelog of a kernel's package, kept in the cache once it was fetched.

    Raises:
        UsageError: the package cannot be had, or has no changelog.
    """
    path = cache.cache_dir() / "changelogs" / candidate.entry.name

    def make(temporary: Path) -> None:
        with candidate.downloaded(progress) as (work, files):
            for number, file in enumerate(files):
                packaged.unpack(file, work / f"{number}")
                if logs := sorted(work.glob(f"{number}/usr/share/doc/*/changelog*.gz")):
                    (temporary / "changelog").write_bytes(gzip.decompress(logs[-1].read_bytes()))
                    return
        raise UsageError(f"the packages of {candidate.version} hold no changelog")

    entry = cache.entry(path, make)
    return (entry / "changelog").read_text(errors="replace")


def spec_of(candidate: Candidate) -> str:
    """Return the spec of exactly this kernel."""
    return f"{candidate.suite}/{versions.with_flavour(candidate.version, candidate.release)}"


def _suites(good: str, bad: str, suites: Sequence[str]) -> list[str]:
    named = [found["suite"] for spec in (good, bad) if not VERSION.match(spec) and (found := SUITE.match(spec))]
    if suites or named:
        return list(dict.fromkeys([*named, *suites]))
    own = own_suites()
    backports = [f"{suite}-backports" for suite in own if "-" not in suite and "/" not in suite]
    return list(dict.fromkeys([*own, *backports, *(entry.suite for entry in packaged.KERNELS.cached())]))


def _all(suites: Iterable[str], progress: Progress) -> list[Candidate]:
    found: list[Candidate] = []
    failed: list[str] = []
    for suite in suites:
        try:
            found += packaged.KERNELS.candidates(suite, progress)
        except UsageError as error:
            failed.append(str(error))
    if not found:
        raise UsageError(failed[0] if failed else "no suite to look in: give SUITE/VERSION")
    for line in failed:
        progress(f"left out: {line}")
    return sorted(found, key=lambda candidate: versions.key(candidate.version))


def _end(spec: str, found: Sequence[Candidate]) -> Candidate:
    """Return the kernel that one end of the range names: the newest that fits and can be had."""
    suite, version = None, spec
    if not VERSION.match(spec):
        named = SUITE.match(spec)
        if named is None:
            raise UsageError(f"{spec!r} is no packaged kernel; expected a version (6.12.74) or SUITE/VERSION")
        suite, version = named["suite"], named["version"] or ""
    fitting = [
        c for c in found
        if not c.missing and (suite is None or c.suite == suite) and versions.matches(version, c.version, c.release)
    ]  # fmt: skip
    if not fitting:
        where = ", ".join(sorted({c.suite for c in found}))
        raise UsageError(
            f"no kernel matches {spec!r} in {where} (make kernels SUITE=… lists them; or give SUITE/VERSION)"
        )
    return fitting[-1]


def _one_each(inside: Sequence[Candidate], ends: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return one candidate a kernel version: an end, else a cached one, else the first; oldest first."""
    chosen: dict[str, Candidate] = {}
    for candidate in inside:
        if candidate.missing:
            continue
        version = _plain(candidate.version)
        old = chosen.get(version)
        if old is None or candidate in ends or (old not in ends and candidate.entry.is_dir()):
            chosen[version] = candidate
    return tuple(sorted(chosen.values(), key=lambda candidate: versions.key(_plain(candidate.version))))


def _plain(version: str) -> str:
    """Return a version without what a rebuild for another release appends: ``6.12.90-2~bpo12+1``."""
    return re.sub(r"(\+\d+)?~(bpo|deb)\d.*", "", version)
