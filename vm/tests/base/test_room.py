"""What we may use of a machine: limits of control groups, as the files of both versions tell them, and affinity."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from vm.base import room
from vm.base.files import ROOT

GIB = 2**30
# /proc/self/cgroup and mountinfo: of version 2 alone; of version 1 with several controllers in one; of a container
# that has no control group namespace, whose mount shows its own group alone; of one that has.
V2 = "0::/user.slice/app.service\n"
V2_MOUNTS = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
V1 = "9:memory:/docker/a b\n4:cpu,cpuacct:/docker/a b\n1:name=systemd:/\n0::/\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
CONTAINER_MOUNTS = V1_MOUNTS.replace("0:29 /", r"0:29 /docker/a\040b").replace("0:32 /", r"0:32 /docker/a\040b")
TOP = "sys/fs/cgroup"


def machine(root: Path, groups: str, mounts: str, files: Mapping[str, str], available: int = 8 * GIB) -> Path:
    written = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": "23 1 254:0 / / rw - ext4 /dev/vda rw\n" + mounts,
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {available // 1024} kB\n",
        **{f"{TOP}/{name}": text for name, text in files.items()},
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param(V2, V2_MOUNTS, {}, 8, id="no-files"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/app.service/cpu.max": "max 100000\n"}, 8, id="v2-none"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/app.service/cpu.max": "200000 100000\n"}, 2, id="v2"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/app.service/cpu.max": "150000 100000\n"}, 2, id="v2-one-and-a-half"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/app.service/cpu.max": "1000 100000\n"}, 1, id="v2-hardly-any"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/cpu.max": "300000 100000\n"}, 3, id="v2-of-the-group-above"),
        pytest.param(V2, V2_MOUNTS, {"other.slice/cpu.max": "100000 100000\n"}, 8, id="v2-of-another-group"),
        pytest.param("0::/\n", V2_MOUNTS, {"cpu.max": "400000 100000\n"}, 4, id="v2-container-with-namespace"),
        pytest.param(
            V1, V1_MOUNTS,
            {"cpu,cpuacct/docker/a b/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/docker/a b/cpu.cfs_period_us": "100000\n"},
            8, id="v1-none",
        ),
        pytest.param(
            V1, V1_MOUNTS,
            {"cpu,cpuacct/docker/a b/cpu.cfs_quota_us": "250000\n",
             "cpu,cpuacct/docker/a b/cpu.cfs_period_us": "50000\n"},
            5, id="v1",
        ),
        pytest.param(
            V1, CONTAINER_MOUNTS,
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            1, id="v1-container",
        ),
        pytest.param("", "", {}, 8, id="nothing-known"),
    ],
)  # fmt: skip
def test_processors(tmp_path: Path, groups: str, mounts: str, files: dict[str, str], expected: int) -> None:
    assert room.processors(machine(tmp_path, groups, mounts, files)) == expected


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param(V2, V2_MOUNTS, {}, 8 * GIB, id="no-files"),
        pytest.param(V2, V2_MOUNTS, {"user.slice/app.service/memory.max": "max\n"}, 8 * GIB, id="v2-none"),
        pytest.param(
            V2, V2_MOUNTS,
            {"user.slice/app.service/memory.max": f"{2 * GIB}\n",
             "user.slice/app.service/memory.current": f"{GIB}\n",
             "user.slice/app.service/memory.stat": f"anon 4096\ninactive_file {GIB // 2}\nactive_file 9\n"},
            1.5 * GIB, id="v2",
        ),
        pytest.param(
            V2, V2_MOUNTS,
            {"user.slice/app.service/memory.max": f"{4 * GIB}\n", "user.slice/memory.high": f"{3 * GIB}\n",
             "user.slice/memory.current": f"{GIB}\n", "user.slice/app.service/memory.current": f"{GIB // 4}\n"},
            2 * GIB, id="v2-of-the-group-above",
        ),
        pytest.param(
            V2, V2_MOUNTS,
            {"user.slice/app.service/memory.max": f"{GIB}\n", "user.slice/app.service/memory.current": f"{2 * GIB}\n"},
            0, id="v2-too-much",
        ),
        pytest.param(
            V1, V1_MOUNTS, {"memory/docker/a b/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, 8 * GIB, id="v1-none"
        ),
        pytest.param(
            V1, V1_MOUNTS,
            {"memory/docker/a b/memory.limit_in_bytes": f"{GIB}\n", "memory/docker/a b/memory.usage_in_bytes": "4096\n",
             "memory/docker/a b/memory.stat": "cache 8192\ninactive_file 1\ntotal_inactive_file 4096\n"},
            GIB, id="v1",
        ),
        pytest.param(V1, CONTAINER_MOUNTS, {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB, id="v1-container"),
    ],
)  # fmt: skip
def test_memory(tmp_path: Path, groups: str, mounts: str, files: dict[str, str], expected: float) -> None:
    assert room.memory(machine(tmp_path, groups, mounts, files)) == expected


def test_a_machine_that_tells_nothing_has_no_bounds(tmp_path: Path) -> None:
    assert room.memory(tmp_path) == math.inf


def test_a_process_counts_the_processors_that_it_may_run_on() -> None:
    only_one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    code = f"{only_one}; from vm.base import room; print(room.processors())"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "1\n", run.stderr
