"""How much of this machine we may use: its processors and its memory, as far as we are let.

A container or a service often has a part of both: by the processors a process may run on (sched_setaffinity(2)), and
by the limits of its control groups, of either version (cgroups(7); Documentation/admin-guide/cgroup-v2.rst, "CPU" and
"Memory"; Documentation/admin-guide/cgroup-v1/memory.rst; Documentation/scheduler/sched-bwc.rst).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from vm.base import files

ROOT = Path("/")


def processors(root: Path = ROOT) -> int:
    """Return how many processors' time we may use: at least one, a started one counts.

    Args:
        root: where ``proc`` and the control groups are looked for (tests).
    """
    allowed = float(len(os.sched_getaffinity(0)))
    for group in _groups("cpu", root):
        allowed = min(allowed, _quota(group))
    return max(1, math.ceil(allowed))


def memory(root: Path = ROOT) -> float:
    """Return how many bytes may still be allocated; infinite when nothing tells.

    What the page cache holds and would give back counts as free.

    Args:
        root: where ``proc`` and the control groups are looked for (tests).
    """
    available = re.search(r"^MemAvailable: *(\d+) kB", files.text_of(root / "proc/meminfo"), re.MULTILINE)
    free = int(available[1]) * 1024.0 if available else math.inf
    for group in _groups("memory", root):
        free = min(free, _left(group))
    return max(free, 0.0)


def _quota(group: Path) -> float:
    """Return how many processors' time a group may have."""
    if (words := files.text_of(group / "cpu.max").split()) and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    # Version 1 says -1 for no limit.
    return quota / period if 0 < quota < math.inf and 0 < period < math.inf else math.inf


def _left(group: Path) -> float:
    """Return how many bytes a group may still have."""
    limit = min(_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes"))
    if math.isinf(limit):
        return limit
    used = min(_number(group / name) for name in ("memory.current", "memory.usage_in_bytes"))
    if math.isinf(used):
        return limit
    statistics = files.text_of(group / "memory.stat")
    # Version 1 counts the groups below only in those with total_.
    found = re.search(r"^total_inactive_file (\d+)$", statistics, re.MULTILINE) or re.search(
        r"^inactive_file (\d+)$", statistics, re.MULTILINE
    )
    return limit - used + (int(found[1]) if found else 0)


def _number(file: Path) -> float:
    """Return the number in a file; infinite for ``max``, for none, and where there is no such file."""
    text = files.text_of(file).strip()
    return float(text) if re.fullmatch(r"-?\d+", text) else math.inf


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Give our control group of each version that has the controller, and those above it."""
    ours: dict[str, str] = {}
    for line in files.text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        ours |= dict.fromkeys(controllers.split(","), path)  # "" for version 2
    for line in files.text_of(root / "proc/self/mountinfo").splitlines():
        # proc_pid_mountinfo(5): root of the mount and mount point are the fourth and fifth, the type follows a hyphen.
        fields, _, rest = line.partition(" - ")
        kind, _, options = [*rest.split(), "", "", ""][:3]
        if kind == "cgroup2" and "" in ours:
            path = ours[""]
        elif kind == "cgroup" and controller in options.split(",") and controller in ours:
            path = ours[controller]
        else:
            continue
        inside, mounted = (_plain(word) for word in fields.split()[3:5])
        top = root / mounted.lstrip("/")
        # A container may see its own group as the root of the mount, by either name.
        below = path.removeprefix(inside if inside != "/" else "").strip("/")
        group = top / below
        yield from (each for each in (group, *group.parents) if each.is_relative_to(top))


def _plain(word: str) -> str:
    """Return a path as it is: white space and backslashes are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)
