"""Kernel memory that is given out: objects of the general slab caches, and pages that no counter accounts for."""

from __future__ import annotations

import errno
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.doctor import absence
from tests.need import lacking

_SLABINFO, _CACHES = Path("/proc/slabinfo"), Path("/sys/kernel/slab")
_REFRESH = Path("/proc/sys/vm/stat_refresh")
_GENERAL = re.compile(r"(kmalloc-\S+|skbuff_\S+|sock_inode_cache|filp)\s+(\d+)", re.ASCII)
_KNOWN = (
    "nr_free_pages", "nr_anon_pages", "nr_file_pages", "nr_slab_reclaimable", "nr_slab_unreclaimable",
    "nr_page_table_pages",
)  # fmt: skip
ROUNDS = 32
"""How often each call is made: so many objects or pages are lost by one that loses one."""
_LOOKS = 4
_STARTS = 3
"""How often it begins anew when others gave back memory meanwhile."""
_SETTLE_SECONDS = 2.0
_LOOK_SECONDS, _LAST_SECONDS = 0.5, 6.0
"""How long what is freed late is waited for: at a look after which there is another one, and at the last."""
_NOISE = 8
"""Pages that come and go by the second on a machine that does nothing."""


class Given(NamedTuple):
    """What is given out: objects by cache, and pages that are nobody's."""

    objects: dict[str, int]
    pages: int


def given() -> Given:
    """Count, exactly: caches are shrunk first, counters of all processors are summed up.

    Source: Documentation/ABI/testing/sysfs-kernel-slab (shrink), admin-guide/sysctl/vm.rst (stat_refresh).
    Skips the test where the kernel has no counters of slabs.
    """
    if not (_SLABINFO.exists() and _CACHES.exists()):
        lacking(absence.SLAB_COUNTERS, errno.ENOENT)
    for cache in _CACHES.iterdir():
        if _GENERAL.match(f"{cache.name} 0"):
            (cache / "shrink").write_text("1")
    objects = {name: int(active) for name, active in _GENERAL.findall(_SLABINFO.read_text())}
    _REFRESH.write_text("1")
    counters = {name: int(value) for name, value in map(str.split, Path("/proc/vmstat").read_text().splitlines())}
    # Free pages that a processor has for itself count neither as free nor as used.
    own = sum(map(int, re.findall(r"^ +count: +(\d+)$", Path("/proc/zoneinfo").read_text(), re.MULTILINE)))
    return Given(objects, -own - sum(counters[name] for name in _KNOWN))


def lost(call: Callable[[], None], rounds: int = ROUNDS) -> list[str]:
    """Return what a call loses each time it is made, in words: whatever grows again and again as it is repeated.

    It is made once beforehand: caches of the kernel, modules and Python's own memory come with the first. Others take
    memory and free some meanwhile, for which one look of four may show nothing, and each half of what is lost; and
    what has grown at one look, and not with each again, is theirs.
    """
    call()
    looks: list[dict[str, int]] = []
    for _ in range(_STARTS):
        before = _at_rest()
        looks, now = _grown(call, rounds, before)
        # What others gave back (of a module, freed late) or took may hide as many that were lost.
        if len(looks) == _LOOKS or abs(now.pages - before.pages) <= _NOISE:
            break
    return [
        f"{name}: {more} more after {_LOOKS * rounds} calls"
        for name, more in sorted(looks[-1].items())
        if _grows([look.get(name, 0) for look in looks], rounds)
    ]


def _grows(totals: list[int], rounds: int) -> bool:
    """Whether something that has grown by so much until each look has grown at all of them but one."""
    steps = [more - less for less, more in zip([0, *totals], totals, strict=False)]
    return len(totals) == _LOOKS and sum(step >= rounds // 2 for step in steps) >= _LOOKS - 1


def _at_rest() -> Given:
    """Return what is given out once two looks show about as many pages, or after a while: others still free theirs."""
    end = time.monotonic() + _SETTLE_SECONDS
    before, now = given(), given()
    while abs(now.pages - before.pages) > _NOISE and time.monotonic() < end:
        before, now = now, given()
    return now


def _grown(call: Callable[[], None], rounds: int, before: Given) -> tuple[list[dict[str, int]], Given]:
    """Return by how much all has grown until each look, and what is given out at the last.

    The last is one at which nothing has grown by half of what was called.
    """
    now = before
    looks: list[dict[str, int]] = []
    for look in range(1, _LOOKS + 1):
        for _ in range(rounds):
            call()
        suspicious = look * rounds // 2
        now = _settled(before, suspicious, _LAST_SECONDS if look == _LOOKS else _LOOK_SECONDS)
        looks.append(_growth(before, now))
        if not any(more >= suspicious for more in looks[-1].values()):
            break
    return looks, now


def _growth(before: Given, now: Given) -> dict[str, int]:
    grown = {name: count - before.objects.get(name, 0) for name, count in now.objects.items()}
    return {**grown, "pages": now.pages - before.pages}


def _settled(before: Given, suspicious: int, seconds: float) -> Given:
    """Return what is given out once nothing has grown by so much, or once that has not become less for a while.

    RCU and work queues free later, on a machine that gets little time from its host much later.
    """
    end, least = 0.0, math.inf
    while True:
        now = given()
        grown = sum(more for more in _growth(before, now).values() if more >= suspicious)
        if grown < least:
            end, least = time.monotonic() + seconds, grown
        if not grown or time.monotonic() > end:
            return now
