"""What is printed at the end of a run besides what pytest prints."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vm.base import files
from vm.base.words import plural
from vm.results.model import Run, Verdict
from vm.run import known, skipped


def unknown_to_pytest(reporter: Any, run: Run, stopped: str) -> None:
    """Print the tests of each verdict that pytest does not know.

    Args:
        reporter: pytest's terminal reporter.
        run: that has ended.
        stopped: why it ended early, which is told of elsewhere; empty when it did not.
    """
    for verdict in Verdict:
        tests = [test for kernel in run.kernels for test in kernel.tests if test.verdict is verdict]
        if verdict.pytests or not tests or (verdict is Verdict.NOT_RUN and stopped):
            continue
        reporter.write_sep("=", verdict.value.upper(), red=True)
        if verdict is Verdict.NOT_RUN:
            for reason, count in Counter(test.reason for test in tests).items():
                reporter.write_line(f"{plural(count, 'test')} not run: {reason.removeprefix('not run: ')}")
            continue
        for test in tests:
            reporter.write_sep("_", test.nodeid, red=True)
            reporter.write_line(test.details)
            reporter.write_sep("-", "run this again")
            reporter.write_line(test.rerun)


def stalls(reporter: Any, run: Run) -> None:
    """Tell what was not taken for a verdict, since the host gave a machine no time."""
    found = [stall for kernel in run.kernels for stall in kernel.stalls]
    if found:
        reporter.write_sep("=", "stalls of the host")
    for stall in found:
        reporter.write_line(
            f"{stall.vm} was kept from running for {stall.seconds:g} s in {stall.test}; no verdict: {stall.instead}"
        )


def skips(reporter: Any, run: Run, kinds: Sequence[skipped.Kind], directory: Path) -> None:
    """Tell what the kernels do not have; each has the list among its results."""
    lines = []
    for kernel in run.kernels:
        reasons = Counter(test.reason for test in kernel.tests if test.verdict is Verdict.SKIPPED)
        if line := skipped.summary(kernel.name, reasons, kinds):
            lines.append(line)
            with contextlib.suppress(OSError):  # the disk is full: that is told of with the results
                place = directory / "kernels" / kernel.name
                place.mkdir(parents=True, exist_ok=True)
                files.replace_text(place / "skipped", skipped.listing(reasons))
    if lines:
        reporter.write_sep("=", "skipped")
        reporter.write_line("\n".join(lines))


def known_issues(reporter: Any, run: Run, versions: Mapping[str, str], issues: Mapping[str, known.Issue]) -> None:
    """Name the known issues of each kernel, those first that a test has shown."""
    for kernel in run.kernels:
        shown = Counter(test.known_issue for test in kernel.tests if test.known_issue)
        if lines := known.summary(versions[kernel.name], issues, shown):
            reporter.write_sep("=", f"known issues of {kernel.name}")
            for line in lines:
                reporter.write_line(line)
