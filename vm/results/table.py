"""A run for people: the table at the end of the terminal, and what was bad, line by line."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from vm.base.words import plural
from vm.results.model import KernelRun, Run, TestResult, Verdict

WIDTH = 120
_LONGEST_KERNEL = 32
# Tests that were not run for the same reason, each in a line of its own.
_MOST_ALIKE = 3

# Of these there are columns even where there are none.
_ALWAYS = (Verdict.PASSED, Verdict.FAILED, Verdict.CRASHED, Verdict.SKIPPED, Verdict.KNOWN, Verdict.NOT_RUN)


def table(run: Run) -> str:
    """Return one line a kernel below a line of titles, without a newline at the end.

    At most ``WIDTH`` columns wide: a long kernel name loses its middle, and when paths of consoles have no room
    beside the numbers, all stand below them, each whole, however long.
    """
    occurring = sum((kernel.counts() for kernel in run.kernels), Counter[Verdict]())
    verdicts = [*_ALWAYS, *(verdict for verdict in Verdict if verdict not in _ALWAYS and occurring[verdict])]
    numbers = [["boot s", *(verdict.column for verdict in verdicts)]]
    for kernel in run.kernels:
        counts = kernel.counts()
        numbers.append([_boots(kernel), *(str(counts[verdict]) for verdict in verdicts)])
    right = _aligned([["accel", *(kernel.accelerator or "-" for kernel in run.kernels)], *_columns(numbers)])
    most = min(_LONGEST_KERNEL, WIDTH - len(right[0]) - 2)
    names = ["kernel", *(shortened(kernel.name, most) for kernel in run.kernels)]
    fronts = _aligned([names, right])
    consoles = ["console", *(_console(kernel) for kernel in run.kernels)]
    lines = [f"{front}  {console}" for front, console in zip(fronts, consoles, strict=True)]
    if max(map(len, lines)) <= WIDTH:
        return "\n".join(lines)
    below = ["", *(f"\n    console: {console}" if console != "-" else "" for console in consoles[1:])]
    return "\n".join(front.rstrip() + console for front, console in zip(fronts, below, strict=True))


def summary_lines(run: Run) -> list[str]:
    """Return one line for every kernel and test that is not good, then one with the totals.

    A bad test's line is followed by the command that runs exactly it.
    """
    lines = []
    for kernel in run.kernels:
        if kernel.reason:
            lines.append(f"{kernel.name}: {_brief(kernel.reason)}")
        elif not kernel.tests:
            lines.append(f"{kernel.name}: no test was {'chosen' if run.left_out(kernel) else 'run'}")
        # After an interruption there may be thousands, of one reason.
        missing = Counter(test.reason for test in kernel.tests if test.verdict is Verdict.NOT_RUN)
        for test in kernel.tests:
            if test.verdict is not Verdict.NOT_RUN or missing[test.reason] <= _MOST_ALIKE:
                lines += _bad(kernel, test)
        lines += [
            f"{kernel.name}: {plural(count, 'test')} not run: {_brief(reason)}"
            for reason, count in missing.items()
            if count > _MOST_ALIKE
        ]
    if run.finished is None:
        lines.append("this run was cut off: what is not run may be well or not")
    return [*lines, _totals(run)]


def shortened(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` columns, its middle replaced by an ellipsis when it is longer."""
    if len(text) <= width:
        return text
    kept = width - 1
    return text[: kept - kept * 2 // 3] + "…" + text[len(text) - kept * 2 // 3 :]


def _bad(kernel: KernelRun, test: TestResult) -> list[str]:
    if test.verdict.good:
        return []
    line = f"{kernel.name}: {test.verdict.value}: {test.test}"
    if test.reason:
        line += f": {_brief(test.reason)}"
    return [line, f"    {test.rerun}"] if test.rerun else [line]


def _totals(run: Run) -> str:
    counts = sum((kernel.counts() for kernel in run.kernels), Counter[Verdict]())
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    kernels, tests = len(run.kernels), sum(counts.values())
    found = ", ".join(parts) or "nothing was run"
    return f"{plural(kernels, 'kernel')}, {plural(tests, 'result')}: {found}"


def _brief(text: str) -> str:
    return textwrap.shorten(text, 200, placeholder=" …")


def _boots(kernel: KernelRun) -> str:
    """Return the seconds that booting took, as a range when several boots differ."""
    if not kernel.boot_seconds:
        return "resumed" if any(vm.resumed for vm in kernel.vms) else "-"
    low, high = f"{min(kernel.boot_seconds):.1f}", f"{max(kernel.boot_seconds):.1f}"
    return low if low == high else f"{low}-{high}"


def _console(kernel: KernelRun) -> str:
    """Return the path of the console to look into: of the first machine that ended badly, else of the first."""
    paths = [vm.console for vm in sorted(kernel.vms, key=lambda vm: not vm.reason) if vm.console]
    if not paths:
        return "-"
    return paths[0] + (f" (+{len(paths) - 1})" if len(paths) > 1 else "")


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return rows of numbers as columns, padded on the left."""
    return [[cell.rjust(max(map(len, column))) for cell in column] for column in zip(*rows, strict=True)]


def _aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    """Return columns as lines, padded on the right."""
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return ["  ".join(line) for line in zip(*padded, strict=True)]
