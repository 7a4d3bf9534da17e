"""Several kernels side by side: groups of tests × kernels, what differs between them, their known issues.

python -m vm matrix RUN… [--format text|json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.results import events
from vm.results.model import KernelRun, Run, Verdict

ABSENT = "absent"
"""Stands for the verdict of a test that a kernel was not asked for."""

_MOST_OF_A_REASON = 150
LEGEND = "a number is of tests passed; with " + ", ".join(
    f"{each.letter} {each.value}" for each in Verdict if each.letter
)


@dataclass(frozen=True)
class Difference:
    """Cases of one test function that have the same verdicts, and not the same on all kernels.

    Attributes:
        test: id of the function, or of its only case.
        cases: how many.
        verdicts: by kernel, in their order; ``absent`` where a kernel was not asked for it.
        first: id of the first case.
        reasons: by kernel, why that case did not simply pass there.
    """

    test: str
    cases: int
    verdicts: dict[str, str]
    first: str
    reasons: dict[str, str]


@dataclass(frozen=True)
class Matrix:
    """The view of one or several runs.

    Attributes:
        kernels: names.
        groups: for each file of tests, for each kernel, how many tests have each verdict.
        differences: between the kernels, by test.
        known_issues: for each kernel, how many tests showed each, by its text.
        untested: for each kernel, how many tests did not run on it: nothing is known of them.
    """

    kernels: tuple[str, ...]
    groups: dict[str, dict[str, dict[str, int]]]
    differences: tuple[Difference, ...]
    known_issues: dict[str, dict[str, int]]
    untested: dict[str, int]


def matrix(runs: Sequence[KernelRun]) -> Matrix:
    """Return the view of these kernels, whose names differ.

    Raises:
        UsageError: two have the same name.
    """
    names = tuple(run.name for run in runs)
    if len(set(names)) != len(names):
        double = next(name for name, count in Counter(names).items() if count > 1)
        raise UsageError(f"{double} is there twice; give each run once")
    groups: dict[str, dict[str, dict[str, int]]] = {}
    for run in runs:
        for test in run.tests:
            counts = groups.setdefault(group(test.test), {}).setdefault(run.name, {})
            counts[test.verdict.value] = counts.get(test.verdict.value, 0) + 1
    known = {run.name: dict(Counter(test.known_issue for test in run.tests if test.known_issue)) for run in runs}
    return Matrix(names, dict(sorted(groups.items())), tuple(differences(runs)), known, untested(runs))


def untested(runs: Sequence[KernelRun]) -> dict[str, int]:
    """Return for each kernel that has some how many of its tests did not run, or one where none is there at all."""
    counts = {run.name: sum(not test.verdict.ran for test in run.tests) or int(not run.tests) for run in runs}
    return {name: count for name, count in counts.items() if count}


def differences(runs: Sequence[KernelRun]) -> list[Difference]:
    """Return the tests whose verdict is not the same on all of these kernels, cases of one function together."""
    verdicts = {run.name: {test.test: test.verdict.value for test in run.tests} for run in runs}
    reasons = {run.name: {test.test: test.known_issue or test.reason for test in run.tests} for run in runs}
    together: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for test in dict.fromkeys(test.test for run in runs for test in run.tests):
        line = tuple(verdicts[run.name].get(test, ABSENT) for run in runs)
        if len(set(line)) > 1:
            together.setdefault((test.partition("[")[0], line), []).append(test)
    return [
        Difference(
            test=function if len(cases) > 1 else cases[0],
            cases=len(cases),
            verdicts=dict(zip(verdicts, line, strict=True)),
            first=cases[0],
            reasons={name: why for name, those in reasons.items() if (why := those.get(cases[0]))},
        )
        for (function, line), cases in together.items()
    ]


def group(test: str) -> str:
    """Return the file a test is in; what happened to no test, as a boot that failed, is in ``machine``."""
    return "machine" if test.startswith("machine") else test.partition("::")[0]


def render(view: Matrix) -> str:
    """Return the view as text for a terminal."""
    lines = _table(view)
    lines += ["", LEGEND, ""]
    nothing = "no difference is known" if view.untested else "no differences"
    lines += [f"{len(view.differences)} differences between the kernels" if view.differences else nothing]
    lines += [f"not run on {name}: {plural(count, 'test')}" for name, count in view.untested.items()]
    lines += [line for each in view.differences for line in _lines(each)]
    for name, issues in view.known_issues.items():
        lines += [
            "",
            f"known issues of {name}:",
            *(f"  {issue}: {plural(count, 'test')}" for issue, count in issues.items()),
        ]
        lines += [] if issues else ["  none shown"]
    return "\n".join(lines) + "\n"


def dump(view: Matrix) -> str:
    """Return the view as JSON: an object with the members of :class:`Matrix`."""
    return json.dumps(asdict(view), indent=1) + "\n"


def load(paths: Sequence[Path]) -> list[tuple[Path, KernelRun]]:
    """Return the kernels of several runs, each with its directory; of two with one name each is ``NAME@RUN``.

    Raises:
        UsageError: one of them cannot be read.
    """
    found = [(place, run, kernel) for place, run in events.load_all(paths) for kernel in run.kernels]
    return [(place, replace(kernel, name=name)) for name, place, _, kernel in named(found)]


def named(found: Sequence[tuple[Path, Run, KernelRun]]) -> list[tuple[str, Path, Run, KernelRun]]:
    """Return kernels, each behind a name that no other has: ``NAME@RUN`` where several have one name."""
    count = Counter(kernel.name for _, _, kernel in found)
    names = [f"{kernel.name}@{run.id}" if count[kernel.name] > 1 else kernel.name for _, run, kernel in found]
    # Two machines may have begun a run in the same second.
    names = [f"{name}#{names[:at].count(name) + 1}" if names.count(name) > 1 else name for at, name in enumerate(names)]
    return [(name, *each) for name, each in zip(names, found, strict=True)]


@command
def main(arguments: Sequence[str]) -> None:
    """Print the view; return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm matrix", description=__doc__, formatter_class=formatter)
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or its results.json")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    options = parser.parse_args(arguments)
    view = matrix([kernel for _, kernel in load(options.results)])
    sys.stdout.write(dump(view) if options.format == "json" else render(view))


def _table(view: Matrix) -> list[str]:
    rows = [["", *view.kernels]]
    for name, counts in view.groups.items():
        rows.append([name, *(_cell(counts.get(kernel, {})) for kernel in view.kernels)])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(counts: dict[str, int]) -> str:
    parts = [f"{counts[each.value]}{each.letter}" for each in Verdict if counts.get(each.value)]
    return " ".join(parts) or "-"


def _lines(each: Difference) -> list[str]:
    cases = f" ({each.cases} cases)" if each.cases > 1 else ""
    by_verdict: dict[str, list[str]] = {}
    for kernel, verdict in each.verdicts.items():
        by_verdict.setdefault(verdict, []).append(kernel)
    said = "; ".join(f"{verdict}: {', '.join(kernels)}" for verdict, kernels in by_verdict.items())
    because: dict[str, list[str]] = {}
    for kernel, reason in each.reasons.items():
        because.setdefault(shortened(reason), []).append(kernel)
    why = [f"      {', '.join(kernels)}: {reason}" for reason, kernels in because.items()]
    return [f"  {each.test}{cases}", f"      {said}", *why]


def shortened(reason: str) -> str:
    """Return a reason for one line of text."""
    return reason if len(reason) <= _MOST_OF_A_REASON else f"{reason[: _MOST_OF_A_REASON - 1]}…"
