"""Ways for a guest to misbehave, each a test of its own; run by vm/tests/machine/test_real_vms.py, never collected.

Everything is done with what any kernel offers: sysrq, reboot(2), /dev/kmsg, signals, priorities, memory. User
space cannot switch interrupts off (since Linux kernel commit c8137ace5638 ("x86/iopl: Restrict iopl() permission
scope") (in v5.5) not even by iopl(3)); a spinning thread that nothing preempts on the only processor is as near
as it gets.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest


def test_before() -> None:
    assert os.uname().release


def test_warning() -> None:
    # What a WARN_ON prints; no kernel has a trigger for a real one that user space can pull.
    with Path("/dev/kmsg").open("w") as log:
        for line in (
            "------------[ cut here ]------------",
            "WARNING: CPU: 0 PID: 1 at crypto/af_alg.c:123 af_alg_fake+0x12/0x34",
            "---[ end trace 0000000000000000 ]---",
        ):
            log.write(f"<4>{line}\n")
            log.flush()


def test_taint() -> None:
    # The taint flag of a WARN_ON, set by hand (Documentation/admin-guide/tainted-kernels.rst: W is 512).
    Path("/proc/sys/kernel/tainted").write_text("512")


def test_power_off() -> None:
    ctypes.CDLL(None).reboot(0x4321FEDC)
    time.sleep(60)


def test_between() -> None:
    assert os.getpid() > 1


@pytest.mark.deadline(2)
def test_hang_in_user_space() -> None:
    while True:
        pass


@pytest.mark.deadline(2)
def test_lockup() -> None:
    # The guest cannot interrupt this: the deadline's signal is blocked, and its thread never runs again.
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    while True:
        pass


def test_out_of_memory() -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")
    hoard = [b"x" * (1 << 24) for _ in range(1 << 10)]
    assert not hoard


def test_skip() -> None:
    pytest.skip("a skip between crashes")


def test_after() -> None:
    assert os.uname().release


def test_last_panics() -> None:
    Path("/proc/sysrq-trigger").write_text("c")
