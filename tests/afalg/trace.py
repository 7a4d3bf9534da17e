"""Which system calls a function makes, by ptrace(2): every one, in order, whoever makes it."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable

from tests.afalg.libc import checked

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
# Stops at system calls are told from others; the child does not outlive its tracer.
_OPTIONS = 1 | 0x100000
_ENTRY, _NUMBER_AT, _INFO_SIZE = 1, 24, 88
# A call without arguments or effect, which marks begin and end: getppid.
_MARK = {"x86_64": 110, "aarch64": 173, "riscv64": 173}


def calls_of(function: Callable[[], object]) -> list[int]:
    """Run ``function`` in a child process and return the numbers of the system calls it made.

    The first run, which has memory mapped and names resolved, is not counted.

    Raises:
        OSError: the child cannot be traced (another tracer, a security module).
    """
    child = os.fork()
    if child == 0:
        try:
            _ptrace(_TRACEME, 0, 0, None)
            function()
            os.kill(os.getpid(), signal.SIGSTOP)
            os.getppid()
            function()
            os.getppid()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    try:
        _ptrace(_SETOPTIONS, child, 0, ctypes.c_void_p(_OPTIONS))
        return _between_marks(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _between_marks(child: int) -> list[int]:
    mark = _MARK[platform.machine()]
    calls: list[int] = []
    begun = False
    info = ctypes.create_string_buffer(_INFO_SIZE)
    while True:
        _ptrace(_SYSCALL, child, 0, None)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            raise OSError(0, "the traced function ended its process")
        _ptrace(_GET_SYSCALL_INFO, child, _INFO_SIZE, ctypes.cast(info, ctypes.c_void_p))
        if info.raw[0] != _ENTRY:
            continue
        number = int.from_bytes(info.raw[_NUMBER_AT : _NUMBER_AT + 8], "little")
        if number == mark and begun:
            return calls
        if begun:
            calls.append(number)
        begun = begun or number == mark


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request: int, pid: int, address: int, data: ctypes.c_void_p | None) -> None:
    checked(_libc.ptrace(request, pid, address, data), "ptrace")
