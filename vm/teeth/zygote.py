"""pytest in a guest that collects once and then forks: each child runs tests on the kernel as it is by then.

A plugin (``-p vm.teeth.zygote``). What it is to do it reads from one descriptor, a line of JSON each: the numbers of
tests. What it found goes to another: ``["start", NUMBER]``, ``["reached", NUMBER, FLAGS]`` when it is to count,
``["failed", NUMBER, REASON]`` and ``["end"]``.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from vm.guest import internals
from vm.guest.expect import fixes_of, reason_of
from vm.guest.worker import KernelLog, Watchdog
from vm.klog import taint
from vm.results.absence import Absence, parse
from vm.teeth import reach

ENVIRONMENT = "VM_TEETH"
"""Two descriptors, to read from and to write to, and what deadlines are multiplied by."""


class Zygote:
    """Takes the place of pytest's loop over the tests."""

    def __init__(self, commands: int, answers: int, factor: float) -> None:
        self.factor = factor
        self.commands = os.fdopen(commands, "r")
        self.answers = answers

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Tell the tests, and serve."""
        self.say(["tests", [(item.nodeid, fixes_of(item)) for item in session.items]])
        for line in self.commands:
            order = json.loads(line)
            child = os.fork()
            if not child:
                try:
                    self._run(session, [(number, session.items[number]) for number in order["tests"]], order)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            self.say(["end"])
        return True

    def say(self, words: list[Any]) -> None:
        """Write one line, whole."""
        data = json.dumps(words).encode() + b"\n"
        while data:
            data = data[os.write(self.answers, data) :]

    def _run(self, session: pytest.Session, tests: list[tuple[int, pytest.Item]], order: dict[str, Any]) -> None:
        """In a child of its own process group, so that all of it can be killed."""
        os.setpgid(0, 0)
        self.say(["child", os.getpid()])
        guest: Any = session.config.pluginmanager.get_plugin("vm-guest")
        # Threads do not outlive a fork, and the log's position is the parent's too.
        guest.watchdog, guest.log, guest.taint = Watchdog(), KernelLog(marking=False), taint.read()
        guest.factor = self.factor
        # So that the console of a machine that dies tells in which test; the plugin's own marks are of this one's test.
        console = KernelLog(marking=True)
        failures = _Failures()
        session.config.pluginmanager.register(failures)
        for place, (number, item) in enumerate(tests):
            self.say(["start", number])
            console.mark(f"teeth: {item.nodeid}")
            if order["count"]:
                reach.clear()
            following = tests[place + 1][1] if place + 1 < len(tests) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if order["count"]:
                self.say(["reached", number, reach.read()])
            if failures.reason is not None:
                self.say(["failed", number, failures.reason])
                failures.reason = None
                if order["stop"]:
                    break
        internals.tear_down(session)


class _Failures:
    """Remembers what failed last."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report; the first of a test counts."""
        if self.reason is not None:
            return
        if report.failed:
            self.reason = reason_of(report)[:500]
        elif report.skipped and parse(reason_of(report)).absence is Absence.UNEXPLAINED:
            # No run accepts it (vm/run/skips.py): what everything says should be there is gone with the change.
            self.reason = f"skipped: {reason_of(report)}"[:500]


def pytest_configure(config: pytest.Config) -> None:
    """Register it in the process that was told its descriptors."""
    if told := os.environ.pop(ENVIRONMENT, ""):
        commands, answers, factor = told.split(",")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        config.pluginmanager.register(Zygote(int(commands), int(answers), float(factor)), "vm-zygote")
