"""For every test of this folder: nothing is left behind, and no page of the caller stays pinned."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.errors.leaks import _nothing_left_behind

_SETTLE_SECONDS = 5.0


def pinned() -> int:
    """Return the number of user pages that are pinned for the kernel, on the whole machine (vmstat: nr_foll_pin_…)."""
    with contextlib.suppress(OSError):  # of a counter below zero, after the work is done
        Path("/proc/sys/vm/stat_refresh").read_bytes()  # brings the counters of all processors together
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(fields.get("nr_foll_pin_acquired", 0)) - int(fields.get("nr_foll_pin_released", 0))


@pytest.fixture(autouse=True)
def _no_page_stays_pinned() -> Generator[None, None, None]:
    before = pinned()
    yield
    end = time.monotonic() + _SETTLE_SECONDS
    while (after := pinned()) > before:
        gc.collect()
        assert time.monotonic() < end, f"{after - before} pages are still pinned"


__all__ = ["_no_page_stays_pinned", "_nothing_left_behind"]
