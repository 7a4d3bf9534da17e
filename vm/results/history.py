"""What became of each test from run to run: its streak, its flips, the first bad run; and which tests are flaky.

python -m vm results history RUN… [--all] [--flips N] [--format text|json]

Runs are taken in the order in which they began, and a kernel is what was asked for: nightly runs of ``6.12`` are one
history, whichever 6.12 was newest. A test is flaky when it passed and failed on one and the same kernel, tested by one
revision of this suite. One letter a run, the oldest first: ``.`` passed, others as in the matrix, ``-`` where the test
was not part of the run or not run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.results import boots, changes, events
from vm.results.model import KernelRun, Run, Verdict


@dataclass(frozen=True)
class History:
    """One test on one kernel over several runs.

    Attributes:
        kernel: what was asked for.
        test: its id, without the kernel.
        letters: one a run, the oldest first.
        state: ``passes``, ``fails``, or ``no verdict``: that of the newest run which has the test.
        streak: runs, counted from the newest that has a verdict, in which the state is the same.
        flips: how often it changed between passing and failing.
        first_bad: id of the first run of the streak, when it fails now; else empty.
        flaky: whether it passed and failed on one kernel, tested by one revision of the suite.
    """

    kernel: str
    test: str
    letters: str
    state: str
    streak: int
    flips: int
    first_bad: str
    flaky: bool

    @property
    def notable(self) -> bool:
        """Whether there is anything to tell of it."""
        return self.flips > 0 or self.state == "fails"


def histories(runs: Sequence[Run]) -> list[History]:
    """Return the history of every test on every kernel, in the order of kernels and tests.

    Args:
        runs: in any order.
    """
    ordered = sorted(runs, key=lambda run: run.started)
    seen: dict[str, list[tuple[Run, KernelRun]]] = {}
    for run in ordered:
        for kernel in run.kernels:
            seen.setdefault(kernel.spec or kernel.name, []).append((run, kernel))
    return [each for spec, those in seen.items() for each in _of_kernel(spec, those)]


def _of_kernel(spec: str, those: Sequence[tuple[Run, KernelRun]]) -> list[History]:
    verdicts: dict[str, list[Verdict | None]] = {}
    for index, (_, kernel) in enumerate(those):
        for test in kernel.tests:
            line = verdicts.setdefault(test.test, [None] * len(those))
            line[index] = test.verdict
    return [_history(spec, test, line, those) for test, line in verdicts.items()]


def _history(spec: str, test: str, line: Sequence[Verdict | None], those: Sequence[tuple[Run, KernelRun]]) -> History:
    # Index of the run, and whether the test failed there: what has no verdict on the kernel neither ends a streak nor
    # begins one.
    told = [
        (index, changes.fails(verdict))
        for index, verdict in enumerate(line)
        if verdict is Verdict.PASSED or (verdict is not None and changes.fails(verdict))
    ]
    flips = sum(a[1] != b[1] for a, b in itertools.pairwise(told))
    streak = 0
    for _, bad in reversed(told):
        if bad != told[-1][1]:
            break
        streak += 1
    fails = bool(told) and told[-1][1]
    outcomes: dict[tuple[str, ...], set[bool]] = {}
    for index, bad in told:
        outcomes.setdefault(_identity(*those[index]), set()).add(bad)
    return History(
        kernel=spec,
        test=test,
        letters="".join(map(_letter, line)),
        state="no verdict" if not told else "fails" if fails else "passes",
        streak=streak,
        flips=flips,
        first_bad=those[told[-streak][0]][0].id if fails else "",
        flaky=any(len(both) == 2 for both in outcomes.values()),
    )


def _identity(run: Run, kernel: KernelRun) -> tuple[str, ...]:
    """Return what tells a kernel, the way it was booted and what tested it from others of its name."""
    return (run.revision, kernel.name, kernel.release, kernel.version, kernel.banner, *boots.arguments(kernel.cmdline))


def _letter(verdict: Verdict | None) -> str:
    if verdict is None or verdict is Verdict.NOT_RUN:
        return "-"
    return "." if verdict is Verdict.PASSED else verdict.letter


def render(found: Sequence[History], runs: int) -> str:
    """Return histories as text for a terminal: those that flip most first, then those that fail longest."""
    lines = []
    for kernel in dict.fromkeys(each.kernel for each in found):
        own = sorted((each for each in found if each.kernel == kernel), key=lambda each: (-each.flips, -each.streak))
        flaky = sum(each.flaky for each in own)
        lines += [f"{kernel}: {plural(len(own), 'test')} to look at, {flaky} flaky"]
        for each in own:
            since = f", first bad in {each.first_bad}" if each.first_bad else ""
            flake = ", flaky" if each.flaky else ""
            lines += [
                f"  {each.letters}  {each.test}",
                f"      {each.state} since {plural(each.streak, 'run')}, {plural(each.flips, 'flip')}{since}{flake}",
            ]
    return "\n".join(lines or [f"{plural(runs, 'run')}: no test fails, and none changed"]) + "\n"


@command
def main(arguments: Sequence[str]) -> None:
    """Print it; return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm results history", description=__doc__, formatter_class=formatter)
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or a file in it")
    parser.add_argument("--all", action="store_true", help="also tests that always passed, or never had a verdict")
    parser.add_argument("--flips", type=int, default=0, metavar="N", help="only tests that changed N times or more")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    options = parser.parse_args(arguments)
    runs = [run for _, run in events.load_all(options.results)]
    if len(runs) < 2:
        raise UsageError("a history takes two runs or more: python -m vm results history results/*")
    found = [each for each in histories(runs) if (options.all or each.notable) and each.flips >= options.flips]
    if options.format == "json":
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    else:
        sys.stdout.write(render(found, len(runs)))
