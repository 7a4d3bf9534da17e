"""Numbers of system calls are those of the machine the suite runs on, as its C library uses them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.afalg import calls
from vm.tests.harness import poll


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "s390x", "ppc64le", "i686", "armv7l"])
def test_each_machine_has_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(calls.platform, "machine", lambda: machine)
    found = [calls.number(name) for name in calls._NAMES]
    assert len(set(found)) == len(found)
    # keyctl stands two behind add_key, and request_key between, in every table.
    assert calls.number("keyctl") - calls.number("add_key") == 2
    assert calls.number("io_setup") + 1 == calls.number("io_destroy")


def test_descriptor_of_a_sleeping_thread_is_seen() -> None:
    reading, writing = os.pipe()
    thread = threading.Thread(target=os.read, args=(reading, 1))
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    while calls.descriptor(task) != reading:
        assert thread.is_alive()
    os.write(writing, b"x")
    thread.join()
    os.close(reading)
    os.close(writing)
    # Python's thread has ended before the kernel's has.
    poll(lambda: not task.exists(), 20, "the thread is still there")
    with pytest.raises(OSError):
        calls.descriptor(task)


def test_descriptor_of_a_multiplexed_call_is_read_from_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ctypes
    import sys

    size = ctypes.sizeof(ctypes.c_void_p)
    arguments = ctypes.create_string_buffer((77).to_bytes(size, sys.byteorder), size)
    (tmp_path / "syscall").write_text(f"102 0x11 {hex(ctypes.addressof(arguments))} 0x0 0x0 0x0 0x0 0x0 0x0\n")
    (tmp_path / "mem").symlink_to("/proc/self/mem")
    assert calls.descriptor(tmp_path) == 0x11
    monkeypatch.setattr(calls.platform, "machine", lambda: "s390x")
    assert calls.descriptor(tmp_path) == 77
    (tmp_path / "syscall").write_text("running\n")
    assert calls.descriptor(tmp_path) is None
