"""Each verdict on standard output as it comes: a machine that tests itself takes its files along when it goes down.

``lines`` are for people; ``tap`` is TAP 13, whose plan is its last line; ``lava`` are the signals that LAVA reads off a
console, one a test.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest

from vm.results import ktap, lava
from vm.results.events import Event, TestEnded
from vm.results.model import TestResult
from vm.run.command import RUNNING

FORMATS = ("lines", "tap", "lava")


class Live:
    """Tells of each test that ended, instead of pytest's letters.

    Args:
        form: one of FORMATS.
    """

    def __init__(self, form: str) -> None:
        self.form = form
        self.count = 0

    def take(self, event: Event) -> None:
        """Tell of an event, if it is the end of a test."""
        if not isinstance(event, TestEnded):
            return
        if self.form == "tap" and not self.count:
            self._say("TAP version 13")
        self.count += 1
        self._say(line(event.result, self.form, self.count, "" if event.kernel == RUNNING else event.kernel))

    def end(self) -> None:
        """Tell that no more come."""
        if self.form == "tap":
            self._say(f"1..{self.count}")

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Have pytest count, and show nothing."""
        said = yield
        return said and (said[0], "", "")


def line(test: TestResult, form: str, number: int, kernel: str = "") -> str:
    """Return the line of one test; ``kernel`` stands before its name, as in what is written at the end."""
    if form == "tap":
        return ktap.result_line(number, test, kernel and f"{kernel}: ")
    if form == "lava":
        return lava.signal(test, kernel and f"{kernel}/")
    reason = " ".join((test.known_issue or test.reason).split())
    name = f"{kernel}: {test.test}" if kernel else test.test
    return f"{test.verdict.value.upper()} {name}{f': {reason}' if reason else ''}"
