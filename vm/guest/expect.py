"""What becomes of a test that shows a known issue (vm/run/known.py), where it runs and where its report arrives.

Apart from the table, so that a guest has little to import: it is told of each issue only what to expect.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
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
        fails: regular expressions, of which the reason of a test that fails by it has one.
        crashes: the same for what the kernel says when it goes down; none for an issue that does not take it down.
    """

    state: str
    excuse: str
    fails: tuple[str, ...]
    crashes: tuple[str, ...]


class Undecided(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """What a kernel did, where nobody looked up what one of its version should do."""


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
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """Inside of the worker's own: a kernel that complains fails the test whatever was expected."""
        report: pytest.TestReport = yield
        judge(report, item, self.expected)
        if report.failed and call.excinfo is not None and call.excinfo.errisinstance(Undecided):
            internals.attach(report, verdict=State.UNDECIDED.value)
        return report


def judge(report: pytest.TestReport, item: pytest.Item, expected: Mapping[str, Expectation]) -> None:
    """Turn the report of a phase of a test into what it means on this kernel, in place."""
    if report.failed:
        _say_what_is_guarded(report, item)
    found = _expectations(item, expected)
    if report.when != "call" or str(report.longrepr).startswith("[XPASS(strict)]"):
        return
    present = [each for each in found if each.state == State.PRESENT.value]
    if report.failed:
        said = reason_of(report)
        _judge_failure(report, found, said, [each for each in found if looks_like(said, each.fails)])
    elif report.passed and present:
        report.outcome = "failed"
        report.longrepr = (
            f"fixed earlier than the table says: this kernel should have {_names(present)}. If it has the fix, "
            "say so in the table of known issues; if not, the test has lost its teeth"
        )


def judge_loss(report: pytest.TestReport, item: pytest.Item | None, expected: Mapping[str, Expectation]) -> None:
    """Do the same to the report of a VM that crashed or hung in a test: expected of an issue that crashes."""
    if item is None:
        return
    _say_what_is_guarded(report, item)
    found = [each for each in _expectations(item, expected) if each.crashes and each.state == State.PRESENT.value]
    said = complaints_of(report)
    alike = [each for each in found if any(looks_like(text, each.crashes) for text in said)]
    _judge_failure(report, found, "; ".join(said), alike)
    if alike:
        internals.detach(report, "verdict")


def looks_like(said: str, looks: Sequence[str]) -> bool:
    """Say whether a reason, or a complaint of the kernel, has one of the looks of an issue."""
    return any(re.search(look, said) for look in looks)


def complaints_of(report: pytest.TestReport) -> list[str]:
    """Return what a kernel that went down said: how it ended, then each complaint with the functions it came from."""
    splats = [f"{title} in {fingerprint}" for _, title, _, fingerprint, _ in getattr(report, "splats", ())]
    return [reason_of(report), *splats]


def reason_of(report: pytest.TestReport) -> str:
    """Return the one line that tells most."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash is not None else report.longrepr).strip().splitlines()
    return lines[0] if lines else ""


def fixes_of(item: pytest.Item) -> list[str]:
    """Return the commits that fixed the bugs a test guards against, as its markers name them, the nearest first."""
    return list(dict.fromkeys(marker.args[0] for marker in item.iter_markers(MARKER)))


def may_take_it_down(item: pytest.Item, expected: Mapping[str, Expectation]) -> bool:
    """Say whether a test may take this kernel down: an issue of it does, and the kernel is not known to be without."""
    return any(each.crashes and each.state != State.ABSENT.value for each in _expectations(item, expected))


def last_those_that_crash(items: list[pytest.Item], expected: Mapping[str, Expectation]) -> None:
    """Move the tests that take a bad kernel down behind all others, in place."""

    def crashes(item: pytest.Item) -> bool:
        return any(each.crashes for each in _expectations(item, expected))

    items.sort(key=crashes)


def _expectations(item: pytest.Item, expected: Mapping[str, Expectation]) -> list[Expectation]:
    """Return what to expect of each issue that a test names, the nearest first."""
    return [expected[fix] for fix in fixes_of(item) if fix in expected]


def _judge_failure(
    report: pytest.TestReport, found: Sequence[Expectation], said: str, alike: Sequence[Expectation]
) -> None:
    """Excuse a failure that looks like an issue of this kernel; of any other, tell what one would look like."""
    present, undecided = (
        [each for each in found if each.state == state.value] for state in (State.PRESENT, State.UNDECIDED)
    )
    if excuses := [each for each in present if each in alike]:
        report.outcome = "skipped"
        internals.attach(report, wasxfail=excuses[0].excuse)
        return
    text = ""
    if open_ := [each for each in undecided if each in alike]:
        internals.attach(report, verdict=State.UNDECIDED.value)
        text = f"{said or 'failed'}; nobody looked up whether this kernel should have {_names(open_)}"
    elif present:
        looks = [look for each in present for look in (*each.fails, *each.crashes)]
        text = (
            f"this kernel should have {_names(present)}, but the failure does not look like it: "
            f"expected {' or '.join(looks)}, got: {said or 'nothing'}"
        )
    if text:
        report.longrepr = f"{text}\n\n{report.longreprtext}"


def _names(found: Sequence[Expectation]) -> str:
    return " and ".join(each.excuse for each in found)


def _say_what_is_guarded(report: pytest.TestReport, item: pytest.Item) -> None:
    if any(name == SECTION for name, _ in report.sections):
        return
    for marker in item.iter_markers(MARKER):
        title = f' ("{marker.args[1]}")' if len(marker.args) > 1 else ""
        cve = f", {marker.kwargs['cve']}" if "cve" in marker.kwargs else ""
        report.sections.append((SECTION, f"fixed by Linux kernel commit {marker.args[0]}{title}{cve}"))
