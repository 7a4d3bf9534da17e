"""Pages of the caller that the kernel holds on to."""

from __future__ import annotations

import contextlib
import gc
import time
from pathlib import Path

_SETTLE_SECONDS = 20.0


def pinned() -> int:
    """Return the number of user pages that are pinned for the kernel, on the whole machine (vmstat: nr_foll_pin_…)."""
    with contextlib.suppress(OSError):  # of a counter below zero, after the work is done
        Path("/proc/sys/vm/stat_refresh").read_bytes()  # brings the counters of all processors together
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields.get("nr_foll_pin_acquired", 0)) - int(fields.get("nr_foll_pin_released", 0))


def check_nothing_pinned(before: int, seconds: float = _SETTLE_SECONDS) -> None:
    """Fail when more pages are pinned than ``before``, and stay so.

    Args:
        seconds: that the kernel may take to let go of them.
    """
    end = time.monotonic() + seconds
    while (after := pinned()) > before:
        gc.collect()
        assert time.monotonic() < end, f"{after - before} pages are still pinned"
