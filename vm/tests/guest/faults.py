"""Ways for a guest to misbehave, each a test of its own; run by vm/tests/test_real_vms.py, never collected.

Everything is done with what any kernel offers: sysrq, reboot(2), /dev/kmsg, signals, memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import pytest


def sysrq(key: str) -> None:
    Path("/proc/sysrq-trigger").write_text(key)


def test_before() -> None:
    assert os.uname().release


def test_panic() -> None:
    sysrq("c")


def test_between() -> None:
    assert os.getpid() > 1


def test_warning() -> None:
    # What a WARN_ON prints; no kernel has a trigger for a real one that user space can pull.
    with open("/dev/kmsg", "w") as log:
        log.write("<4>------------[ cut here ]------------\n")
        log.flush()
        log.write("<4>WARNING: CPU: 0 PID: 1 at crypto/af_alg.c:123 af_alg_fake+0x12/0x34\n")
        log.flush()
        log.write("<4>---[ end trace 0000000000000000 ]---\n")


def test_power_off() -> None:
    ctypes.CDLL(None).reboot(0x4321FEDC)


def test_hang_in_user_space() -> None:
    while True:
        pass


def test_hang_deaf_to_signals() -> None:
    # The guest cannot interrupt this: the signal of the deadline is blocked, and so is Python.
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    ctypes.CDLL(None).pause()


def test_out_of_memory() -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")
    hoard = [b"x" * (1 << 24) for _ in range(1 << 10)]
    assert not hoard


def test_interpreter_gone() -> None:
    os._exit(7)


def test_kill_init_process() -> None:
    pytest.skip("a skip between crashes")


def test_after() -> None:
    assert os.uname().release


def test_last_panics() -> None:
    sysrq("c")
