"""Which algorithms a kernel has, and what was tested of them: ``python -m tests.algorithms.report RESULTS``.

RESULTS is the directory of a run (``results/latest``), or the results.json in it.

For each kernel of the run one table: every algorithm that
AF_ALG could bind, its drivers, the oracle, the tests that ran and their verdict, or why there were none. The exit
status is 0 when every algorithm was tested and none failed, else 1; 4 when there is no such run.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.afalg.proc import Implementation, implementations
from tests.algorithms import catalogue
from tests.oracle.sources import source
from vm.base.command import command
from vm.base.errors import UsageError
from vm.base.files import text_of
from vm.results import events
from vm.results.model import TestResult, Verdict

_TYPES = {
    "test_hash.py": "hash",
    "test_skcipher.py": "skcipher",
    "test_aead.py": "aead",
    "test_rng.py": "rng",
    "test_every_driver_of_a_hash": "hash",
    "test_every_driver_of_a_skcipher": "skcipher",
    "test_every_driver_of_an_aead": "aead",
    "test_collected_digests": "hash",
    "test_collected_ciphertexts": "skcipher",
    "test_collected_seals": "aead",
}


@dataclass(frozen=True)
class Line:
    """One algorithm of one kernel.

    Attributes:
        drivers: the kernel's implementations, the preferred one first.
        verdicts: how many tests ended how.
        missing: why nothing was tested; empty when something was.
    """

    type_: str
    name: str
    drivers: tuple[str, ...]
    oracle: str
    verdicts: Counter[Verdict]
    missing: str

    @property
    def good(self) -> bool:
        """Whether it was tested, and nothing was wrong; a skip has its reason, and the whole run a budget of them."""
        return not self.missing and all(verdict.good for verdict in self.verdicts)


def lines(proc_crypto: str, tests: Sequence[TestResult]) -> list[Line]:
    """Return a line for each algorithm the kernel has.

    Args:
        proc_crypto: the kernel's /proc/crypto after the tests.
        tests: of this kernel.
    """
    entries: dict[tuple[str, str], list[Implementation]] = defaultdict(list)
    for entry in implementations(proc_crypto):
        if entry.af_alg_type is not None:
            entries[entry.af_alg_type, entry.name].append(entry)
    ran = _verdicts(tests)
    bound = {key for key, counted in ran.items() if set(counted) - {Verdict.SKIPPED}}
    return [_line(key, entries.get(key, []), ran.get(key, Counter())) for key in sorted(bound | set(entries))]


@command
def main(arguments: Sequence[str]) -> int:
    """Print the tables of a run; return the exit status."""
    if len(arguments) != 1:
        raise UsageError("expected one argument, the directory of a run; try results/latest")
    ((directory, run),) = events.load_all([Path(arguments[0])])
    good = bool(run.kernels)
    for kernel in run.kernels:
        table = lines(text_of(directory / kernel.proc_crypto) if kernel.proc_crypto else "", kernel.tests)
        print(_render(kernel.name, table))
        good = good and bool(table) and all(line.good for line in table)
    return 0 if good else 1


def _verdicts(tests: Sequence[TestResult]) -> dict[tuple[str, str], Counter[Verdict]]:
    """Count the verdicts of each algorithm's tests."""
    found: dict[tuple[str, str], Counter[Verdict]] = defaultdict(Counter)
    for test in tests:
        match = re.fullmatch(r"tests/algorithms/(\w+\.py)::(\w+)\[(.+)\]", test.test)
        type_ = match and (_TYPES.get(match[1]) or _TYPES.get(match[2]))
        if match and type_:
            found[type_, match[3]][test.verdict] += 1
    return found


def _line(key: tuple[str, str], entries: list[Implementation], verdicts: Counter[Verdict]) -> Line:
    type_, name = key
    missing = ""
    if not set(verdicts) - {Verdict.SKIPPED}:
        missing = _why_not(key, entries, bool(verdicts))
    drivers = tuple(entry.driver for entry in sorted(entries, key=lambda entry: -entry.priority))
    oracle = "statistics" if type_ == "rng" and "ansi" not in name else source(name)
    return Line(type_, name, drivers, oracle, verdicts, missing)


def _why_not(key: tuple[str, str], entries: list[Implementation], skipped: bool) -> str:
    type_, name = key
    if name not in catalogue.by_type()[type_]:
        return "no row in the catalogue: put together by another test from known parts, or new"
    if entries and all(entry.asynchronous for entry in entries):
        return "only asynchronous implementations, which this kernel hides from AF_ALG"
    return "its tests were skipped" if skipped else "its tests were not selected"


def _render(kernel: str, table: list[Line]) -> str:
    covered = sum(not line.missing for line in table)
    out = [f"{kernel}: {len(table)} algorithms, {covered} tested, {sum(line.good for line in table)} good", ""]
    width = max((len(line.name) for line in table), default=0)
    for line in table:
        counted = ", ".join(
            f"{line.verdicts[verdict]} {verdict.value}" for verdict in Verdict if line.verdicts[verdict]
        )
        drivers = ", ".join(line.drivers) or "-"
        out.append(f"{line.type_:8} {line.name:{width}}  {counted or '-':24} {line.oracle}  [{drivers}]")
        if line.missing:
            out.append(f"{'':8} {'':{width}}  not covered: {line.missing}")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
