"""List the kernels that are cached and those that can be had: ``python -m vm kernels [--suite SUITE]…``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vm.base.command import Parser, command, say
from vm.base.progress import Progress
from vm.kernels import packaged, versions
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.kernels.catalogue import Candidate, own_suites


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        spec: what to type for exactly this kernel.
        version: package version.
        suite: where it comes from.
        size: megabytes to download, empty when that is not known.
        state: ``cached``, empty when it can be had, else what it lacks.
    """

    spec: str
    version: str
    suite: str
    size: str
    state: str


HEADINGS = Row("KERNEL=", "version", "suite", "MB", "")


def rows(suites: Sequence[str], progress: Progress) -> list[Row]:
    """Return the kernels of ``suites`` (none: the machine's own) and all cached ones, newest first.

    Without a network (or with AFALG_OFFLINE set) there are only the cached ones, which is said.

    Raises:
        UsageError: no such suite, no apt.
    """
    own = own_suites() if apt_get.available() else []
    found = _available(suites or own, progress)
    # The machine's own suites are asked together, so that one version in two of them is one kernel.
    named = {(c.suite in own or c.suite, c.version) for c in found}
    revisions = Counter((where, versions.upstream(version)) for where, version in named)
    table = {}
    for candidate in found:
        where, short = candidate.suite in own or candidate.suite, versions.upstream(candidate.version)
        version = versions.with_flavour(short if revisions[where, short] == 1 else candidate.version, candidate.release)
        spec = version if candidate.suite in own else f"{candidate.suite}/{version}"
        table[candidate.entry.name] = _candidate_row(candidate, spec)
    for entry in packaged.KERNELS.cached():
        if entry.directory.name not in table:
            spec = f"{entry.suite}/{versions.with_flavour(entry.version, entry.release)}"
            table[entry.directory.name] = Row(spec, entry.version, entry.suite, "", "cached")
    return sorted(table.values(), key=lambda row: versions.key(row.version), reverse=True)


@command
def main(arguments: Sequence[str]) -> None:
    """Print the table; return the exit status."""
    parser = Parser(prog="python -m vm kernels", description=__doc__)
    parser.add_argument("--suite", action="append", default=[], help="ask this suite; may be repeated")
    for row in [HEADINGS, *rows(parser.parse_args(arguments).suite, say)]:
        print(f"{row.spec:36} {row.version:26} {row.suite:22} {row.size:>4}  {row.state}".rstrip())


def _available(suites: Sequence[str], progress: Progress) -> list[Candidate]:
    def without(reason: str) -> list[Candidate]:
        progress(f"{reason}; only what is cached:")
        return []

    return apt.ask(
        lambda age: [c for suite in suites for c in packaged.KERNELS.candidates(suite, progress, older_than=age)],
        without,
    )


def _candidate_row(candidate: Candidate, spec: str) -> Row:
    if candidate.missing:
        lacking = f"cannot be had: the suite has no {', '.join(candidate.missing)}"
        return Row(spec, candidate.version, candidate.suite, "", lacking)
    state = "cached" if candidate.entry.is_dir() else ""
    return Row(spec, candidate.version, candidate.suite, f"{candidate.size / 1e6:.0f}", state)
