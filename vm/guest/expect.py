"""What becomes of a test that shows a known issue (vm/run/known.py), where it runs and where its report arrives.

Apart from the table, so that a guest has little to import: it is told of each issue only what to expect.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import pytest

from vm.guest import internals

MARKER = "fixed_by"
SECTION = "this test guards a fix"


class State(Enum):
    """Whether a kernel has an issue, by its version."""

    ABSENT = "absent"
    PRESENT = "present"
    UNDECIDED = "undecided"  # the table says nothing of its series, or it is a -rc of the release with the fix
    UNPLACED = "unplaced"  # its version tells no series: a vendor's, or somebody's own


class Expectation(NamedTuple):
    """One issue on one kernel; travels to the guest as a tuple.

    Attributes:
        state: value of a :class:`State`.
        excuse: reason of an expected failure: name, first fixed version, commit.
        crashes: whether it takes the kernel down.
    """

    state: str
    excuse: str
    crashes: bool


class GuestExpectations:
    """Judges each test where it runs, so that ``-x`` stops at what is really wrong.

    Args:
        issues: what the table says of this kernel, by commit.
        expected: the same, or nothing when nothing is to be expected.
        expendable: whether this kernel may go down.
    """

    def __init__(
        self, issues: Mapping[str, Expectation], expected: Mapping[str, Expectation], expendable: bool
    ) -> None:
        self.issues = issues
        self.expected = expected
        self.expendable = expendable

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave alone the machine that somebody sits at."""
        if not self.expendable and may_take_it_down(item, self.issues):
            pytest.skip("not on the running kernel, which it may take down")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
        """Inside of the worker's own: a kernel that complains fails the test whatever was expected."""
        report: pytest.TestReport = yield
        judge(report, item, self.expected)
        return report


def judge(report: pytest.TestReport, item: pytest.Item, expected: Mapping[str, Expectation]) -> None:
    """Turn the report of a phase of a test into what it means on this kernel, in place."""
    if report.failed:
        _say_what_is_guarded(report, item)
    found = _expectation(item, expected)
    if found is None or report.when != "call" or str(report.longrepr).startswith("[XPASS(strict)]"):
        return
    if report.failed and found.state == State.PRESENT.value:
        _excuse(report, found)
    elif report.failed and found.state == State.UNDECIDED.value:
        internals.attach(report, verdict=State.UNDECIDED.value)
        text = f"{reason_of(report) or 'failed'}; nobody looked up whether this kernel should have {found.excuse}"
        report.longrepr = f"{text}\n\n{report.longreprtext}"
    elif report.passed and found.state == State.PRESENT.value:
        report.outcome = "failed"
        report.longrepr = (
            f"fixed earlier than the table says: this kernel should have {found.excuse}. If it has the fix, "
            "say so in the table of known issues; if not, the test has lost its teeth"
        )


def judge_loss(report: pytest.TestReport, item: pytest.Item | None, expected: Mapping[str, Expectation]) -> None:
    """Do the same to the report of a VM that crashed or hung in a test: expected of an issue that crashes."""
    if item is None:
        return
    _say_what_is_guarded(report, item)
    found = _expectation(item, expected)
    if found is not None and found.crashes and found.state == State.PRESENT.value:
        _excuse(report, found)
        internals.detach(report, "verdict")


def reason_of(report: pytest.TestReport) -> str:
    """Return the one line that tells most."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash is not None else report.longrepr).strip().splitlines()
    return lines[0] if lines else ""


def may_take_it_down(item: pytest.Item, expected: Mapping[str, Expectation]) -> bool:
    """Say whether a test may take this kernel down: its issue does, and the kernel is not known to be without."""
    found = _expectation(item, expected)
    return found is not None and found.crashes and found.state != State.ABSENT.value


def last_those_that_crash(items: list[pytest.Item], expected: Mapping[str, Expectation]) -> None:
    """Move the tests that take a bad kernel down behind all others, in place."""

    def crashes(item: pytest.Item) -> bool:
        found = _expectation(item, expected)
        return found is not None and found.crashes

    items.sort(key=crashes)


def _expectation(item: pytest.Item, expected: Mapping[str, Expectation]) -> Expectation | None:
    marker = item.get_closest_marker(MARKER)
    return expected.get(marker.args[0]) if marker is not None else None


def _excuse(report: pytest.TestReport, found: Expectation) -> None:
    report.outcome = "skipped"
    internals.attach(report, wasxfail=found.excuse)


def _say_what_is_guarded(report: pytest.TestReport, item: pytest.Item) -> None:
    marker = item.get_closest_marker(MARKER)
    if marker is None or any(name == SECTION for name, _ in report.sections):
        return
    title = f' ("{marker.args[1]}")' if len(marker.args) > 1 else ""
    cve = f", {marker.kwargs['cve']}" if "cve" in marker.kwargs else ""
    report.sections.append((SECTION, f"fixed by Linux kernel commit {marker.args[0]}{title}{cve}"))
