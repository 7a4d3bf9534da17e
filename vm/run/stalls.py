"""Stalls of the host: what a starved VM did is no verdict about its kernel, and its test runs again.

Which verdicts depend on time is known by their words: the kernel's watchdogs, a deadline, a clock. Everything else,
wrong bytes or an oops, a host cannot cause by being slow.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from vm.klog.splats import Splat
from vm.machine.witness import Testimony, starved
from vm.results.model import Stall

TIMES = 3
"""A test that was starved so often is not tried again: ``vm lost``."""

_OF_TIME = re.compile(
    r"soft ?lockup|hard LOCKUP|workqueue lockup|hung_task: |(blocked( in I/O wait)?|can't die) for more than \d+ s"
    r"|rcu\w* (self-detected stall|detected (expedited )?stalls?|kthread (starved|timer wakeup))|IO-APIC \+ timer"
    r"|deadline: not finished after|still blocked after \d|silent for \d|not up after \d|Timeout|timed out"
)
# What a stall of this length or longer in the last RECENT seconds may have caused, however long the test ran.
_LONG = 15.0


def depends_on_time(text: str) -> bool:
    """Whether a reason, or the title of a splat, is one that a slow host can cause."""
    return _OF_TIME.search(text) is not None


def of_time(report: pytest.TestReport) -> bool:
    """Whether a slow host can cause all that a failed report tells of: what was raised, and what the kernel said.

    Lines of source code in a traceback tell nothing.
    """
    raised = "\n".join(line for line in report.longreprtext.splitlines() if line.startswith("E "))
    titles = [splat[1] for splat in getattr(report, "splats", ())]
    return all(map(depends_on_time, titles)) and depends_on_time(raised or report.longreprtext)


def seconds_lost(now: Testimony | None, before: float, ran: float) -> float:
    """Return the seconds a VM lost when they are enough to explain what it did, else 0.

    Args:
        now: what its parent says.
        before: seconds it had lost when the test began.
        ran: seconds since then.
    """
    if now is None:
        return 0.0
    if starved(now.lost - before, ran):
        return now.lost - before
    return now.recent if now.recent >= _LONG else 0.0


def explained(splats: Sequence[Splat], said: Testimony | None) -> float:
    """Return the seconds a VM lost, when they explain all of ``splats`` of outside its tests; else 0."""
    if said is None or said.lost < _LONG or not all(depends_on_time(splat.title) for splat in splats):
        return 0.0
    return said.lost


def given_up(reason: str) -> str:
    """Return why a test is ``vm lost`` that was starved TIMES times; ``reason`` is how it ended the last time."""
    return f"the host starved it {TIMES} times in this test, the last time it ended so: {reason}"


class Stalls:
    """The stalls of a run, and how often each test met one.

    Args:
        tell: is told of each, with the label of its kernel.
    """

    def __init__(self, tell: Callable[[str, Stall], None] = lambda *_: None) -> None:
        self.tell = tell
        self.found: dict[str, list[Stall]] = {}
        self.times: Counter[tuple[str, str]] = Counter()

    def note(self, label: str, vm: str, test: str, seconds: float, instead: str) -> bool:
        """Record one; say whether the test has had its TIMES.

        Args:
            label: of the kernel.
            vm: name of the VM.
            test: id, or words for what it was doing.
            seconds: how long it was kept from running.
            instead: the verdict that this would have been, with its reason.
        """
        stall = Stall(vm, test, round(seconds, 1), instead)
        self.found.setdefault(label, []).append(stall)
        self.tell(label, stall)
        self.times[label, test] += 1
        return self.times[label, test] >= TIMES


class AwakeClock:
    """Counts the seconds in which this process ran: one that was stopped for a minute has not waited for a minute."""

    STEP = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last = clock()
        self.awake = 0.0

    def __call__(self) -> float:
        """Return the seconds since it was made; call it several times a second."""
        now = self.clock()
        self.awake += min(now - self.last, self.STEP)
        self.last = now
        return self.awake
