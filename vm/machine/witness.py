"""What a VM's parent saw of the host: how long QEMU was kept from running, and how long the guest has been silent.

A host that stalls looks like a kernel that hangs: the guest says nothing, and its clock jumps, so that its own
watchdogs bark. From outside the two can be told apart. A VM that was stopped, or waited for a processor, did not get
that time (proc(5): the state in ``/proc/PID/stat``; Documentation/scheduler/sched-stats.rst: the time on a run queue in
``/proc/PID/task/TID/schedstat``); a kernel that spins burns it, and one that sleeps does not ask for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vm.base import files

EVERY = 1.0
"""Seconds between two looks."""
RECENT = 60.0
"""Seconds that count as recent: the kernel's watchdogs look back about as far."""
# A look that comes later than this was itself kept from running, and so was everything else, or may have been.
_LATE = 2.0


@dataclass(frozen=True)
class Testimony:
    """What the file ``witness`` of a VM's directory says.

    Attributes:
        at: monotonic time of the last look, in seconds.
        lost: seconds that QEMU was kept from running, since it was started.
        recent: of those, in the last RECENT seconds.
        silent: seconds since the guest last said a word, without those that were lost.
    """

    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    at: float
    lost: float = 0.0
    recent: float = 0.0
    silent: float = 0.0

    @classmethod
    def load(cls, directory: Path) -> Testimony | None:
        """Read it; None where there is none yet, or none that can be read."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((directory / "witness").read_text()))
        return None


def starved(lost: float, seconds: float) -> bool:
    """Whether what happened within ``seconds``, of which ``lost`` were lost, says nothing about the guest."""
    return lost >= max(2.0, seconds / 4)


class Witness:
    """Watches one process; to be asked for a look at least every EVERY seconds.

    Args:
        pid: of QEMU.
        directory: of the VM, where the testimony is kept.
        clock: the time, in seconds.
        kept_from_running: cumulated seconds that a process waited for a processor, None while it is stopped.
    """

    def __init__(
        self,
        pid: int,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
        kept_from_running: Callable[[int], dict[str, float] | None] | None = None,
    ) -> None:
        self.pid = pid
        self.directory = directory
        self.clock = clock
        self.waits = kept_from_running or waits_of
        self.last = self.word = clock()
        self.lost = self.lost_at_word = 0.0
        self.waited = self.waits(pid) or {}
        self.losses: deque[tuple[float, float]] = deque()

    def heard(self) -> None:
        """The guest said something."""
        self.word, self.lost_at_word = self.clock(), self.lost

    def look(self, now: bool = False) -> None:
        """Add up what was lost since the last look, and write it down; ``now`` even when that was a moment ago."""
        passed = self.clock() - self.last
        if passed < EVERY and not now:
            return
        self.last += passed
        waited = self.waits(self.pid)
        lost = passed
        if waited is not None:
            # The thread that waited longest: a guest with a processor less has not run as it would.
            lost = max((seconds - self.waited.get(thread, seconds) for thread, seconds in waited.items()), default=0.0)
            self.waited = waited
            if passed > _LATE:
                lost = max(lost, passed - EVERY)
        lost = min(lost, passed)
        self.lost += lost
        self.losses.append((self.last, lost))
        while self.losses[0][0] < self.last - RECENT:
            self.losses.popleft()
        self._write()

    def _write(self) -> None:
        silent = self.last - self.word - (self.lost - self.lost_at_word)
        said = Testimony(self.last, self.lost, sum(lost for _, lost in self.losses), max(silent, 0.0))
        # A full disk is told of with the results.
        with contextlib.suppress(OSError):
            files.replace_text(self.directory / "witness", json.dumps(dataclasses.asdict(said)))


def waits_of(pid: int) -> dict[str, float] | None:
    """Return for each thread of a process the seconds it has waited for a processor, None while it is stopped.

    Empty where the kernel does not count them (no CONFIG_SCHED_INFO), or the process is gone.
    """
    with contextlib.suppress(OSError, IndexError):
        if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "Tt":
            return None
    found = {}
    for thread in Path("/proc").glob(f"{pid}/task/*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found
