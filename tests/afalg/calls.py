"""Numbers of system calls that the C library has no functions for, and what a sleeping thread's call is about.

Source: the kernel's tables, arch/*/…/syscall*.tbl (x86, s390, powerpc, arm), and include/uapi/asm-generic/unistd.h for
the newer architectures (arm64, riscv). What they have in common since 5.1, io_uring's among it, is numbered alike.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_NAMES = ("io_setup", "io_destroy", "io_getevents", "io_submit", "io_cancel", "add_key", "keyctl", "futex")
_GENERIC = (0, 1, 4, 2, 3, 217, 219, 98)
_ARM = (243, 244, 245, 246, 247, 309, 311, 240)
_TABLE = {
    "x86_64": (206, 207, 208, 209, 210, 248, 250, 202),
    "i686": (245, 246, 247, 248, 249, 286, 288, 240),
    "s390x": (243, 244, 245, 246, 247, 278, 280, 238),
    "ppc64le": (227, 228, 229, 230, 231, 269, 271, 221),
    # A 32-bit system on a 64-bit processor.
    "armv7l": _ARM,
    "armv8l": _ARM,
}
# Sockets by one system call, whose second argument points to the call's own: s390's and i386's C library, still.
_SOCKETCALL = "102"
_HAVE_SOCKETCALL = ("s390x", "i686")


def number(name: str) -> int:
    """Return the number of a system call on this machine: ``io_setup``, ``add_key``."""
    return _TABLE.get(platform.machine(), _GENERIC)[_NAMES.index(name)]


def descriptor(task: Path) -> int | None:
    """Return the first argument of the system call that a thread sleeps in; None while it runs.

    Args:
        task: ``/proc/PID`` or ``/proc/self/task/TID``; proc(5), syscall.

    Raises:
        OSError: there is no such thread any more.
    """
    fields = (task / "syscall").read_text().split()
    if len(fields) < 3:
        return None
    if fields[0] != _SOCKETCALL or platform.machine() not in _HAVE_SOCKETCALL:
        return int(fields[1], 16)
    size = 8 if sys.maxsize > 2**32 else 4
    with open(task / "mem", "rb", buffering=0) as memory:
        return int.from_bytes(os.pread(memory.fileno(), size, int(fields[2], 16)), sys.byteorder)
