"""What pairs of measurements come to: a ratio with its spread, and whether the machine was quiet enough to judge it.

The two sides of a ratio are measured one right after the other, in changing order, so that what slows this machine down
for a while hits both. A ratio is the median over the pairs; its spread is how far the middle half of them lies apart.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vm.base import room
from vm.base.files import text_of
from vm.guest.worker import cpuinfo

PAIRS = 5
"""Fewer are not judged."""
MOST_SPREAD = 0.25
"""Of a ratio, as a share of its median."""
MOST_NOISE = 0.3
"""Of the same work done again and again, as a share of the fastest; and load of others a processor."""
_WORK = 200_000


@dataclass(frozen=True)
class Ratio:
    """One figure.

    Attributes:
        name: what it says.
        values: one a pair, in the order in which they were measured.
        goal: what it is to be.
        at_most: whether less is better.
        text: what was measured, in words.
    """

    name: str
    values: tuple[float, ...]
    goal: float
    at_most: bool
    text: str = ""

    @property
    def median(self) -> float:
        """The figure itself."""
        return statistics.median(self.values)

    @property
    def middle(self) -> tuple[float, float]:
        """Between what the middle half of the pairs lies."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """How far that is, as a share of the median."""
        low, high = self.middle
        return (high - low) / self.median

    def doubt(self) -> str:
        """Return why it cannot be judged, empty where it can."""
        if len(self.values) < PAIRS:
            return f"{len(self.values)} of {PAIRS} pairs"
        if self.spread > MOST_SPREAD:
            return f"spread {self.spread:.0%} of at most {MOST_SPREAD:.0%}"
        return ""

    def verdict(self, noise: str = "") -> str:
        """Return how it compares with its goal: ``goal at most 4: missed``.

        Args:
            noise: why nothing can be judged on this machine, empty where it can.
        """
        goal = f"goal at {'most' if self.at_most else 'least'} {self.goal:g}"
        if doubt := noise or self.doubt():
            return f"{goal}: not judged ({doubt})"
        met = self.median <= self.goal if self.at_most else self.median >= self.goal
        return f"{goal}: {'met' if met else 'missed'}"

    def line(self, noise: str = "") -> str:
        """Return the row of the table."""
        low, high = self.middle
        return f"{self.name:14} {self.median:6.2f}  {low:.2f} to {high:.2f}  {self.text}; {self.verdict(noise)}"

    def told(self, noise: str = "") -> dict[str, object]:
        """Return it as JSON says it."""
        low, high = self.middle
        return {
            "name": self.name,
            "median": self.median,
            "quartiles": [low, high],
            "pairs": list(self.values),
            "goal": self.goal,
            "at_most": self.at_most,
            "doubt": noise or self.doubt(),
        }


@dataclass
class Quiet:
    """Whether a machine has other things to do, by how long the same work takes on it again and again.

    Attributes:
        load: of the last minute, when it was made: nothing of ours ran by then.
        times: seconds that the work took.
    """

    load: float = field(default_factory=lambda: os.getloadavg()[0])
    times: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Do the work once more; takes some milliseconds."""
        began = time.perf_counter()
        sum(range(_WORK))
        self.times.append(time.perf_counter() - began)

    @property
    def noise(self) -> float:
        """How much longer than the fastest the middle one took, as a share of it."""
        return statistics.median(self.times) / min(self.times) - 1 if self.times else 0.0

    def doubt(self) -> str:
        """Return why nothing can be judged here, empty where it can."""
        if self.load > MOST_NOISE * room.processors():
            return f"the machine was busy: load {self.load:.1f} on {room.processors()} processors"
        if self.noise > MOST_NOISE:
            return f"the machine is too noisy: the same work took {self.noise:.0%} longer than at best"
        return ""


def machine() -> dict[str, object]:
    """Return what the figures were measured on: processors and their clock, kernel, clock source."""
    names = map(cpuinfo, ("model name", "cpu model", "Processor"))
    clock = text_of(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")).strip()
    return {
        "processor": next(filter(None, names), platform.machine()),
        "processors": room.processors(),
        "mhz": float(cpuinfo("cpu MHz") or 0) or None,
        "kernel": platform.release(),
        "clock": clock,
        "python": platform.python_version(),
    }


def described(told: dict[str, object], load: float) -> str:
    """Return that in a line."""
    mhz = f" at {told['mhz']:.0f} MHz" if told["mhz"] else ""
    return (
        f"{told['processors']} × {told['processor']}{mhz}, load {load:.1f}, "
        f"kernel {told['kernel']}, clock {told['clock'] or 'unknown'}"
    )


def in_turn(pair: int, names: Iterable[str]) -> list[str]:
    """Return the order in which things are measured for a pair: the other way round every second time."""
    return list(names)[:: 1 if pair % 2 == 0 else -1]
