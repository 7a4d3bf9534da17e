"""Kernel AIO (io_setup, io_submit, io_getevents, io_destroy) by raw system calls.

On an op socket it was the way to have several requests in flight; since Linux 7.2 every submission completes before
io_submit returns. Source: include/uapi/linux/aio_abi.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from typing import NamedTuple

from tests.afalg.deadline import bounded, check
from tests.afalg.sockets import Source, _libc, _locate

IOCB_CMD_PREAD = 0
IOCB_CMD_PWRITE = 1
IOCB_CMD_FSYNC = 2
IOCB_CMD_POLL = 5
IOCB_CMD_PREADV = 7
IOCB_CMD_PWRITEV = 8


class Iocb(NamedTuple):
    """One request: ``buffer`` is read into (PREAD) or written from, and stays the caller's until its event came."""

    fd: int
    command: int
    buffer: Source
    data: int = 0
    offset: int = 0


class Event(NamedTuple):
    """One completion: the request's ``data``, and the bytes moved or a negative errno."""

    data: int
    result: int


class Context:
    """An AIO context for ``size`` requests at a time; closes with the ``with`` block."""

    def __init__(self, size: int = 8) -> None:
        self._id = ctypes.c_ulong()
        _checked(_libc.syscall(_NUMBERS["io_setup"], size, ctypes.byref(self._id)), "io_setup")
        self._kept: list[object] = []

    def submit(self, requests: Sequence[Iocb], *, seconds: float | None = None) -> int:
        """Submit requests, and return how many were taken; a synchronous one may block until it is done.

        Raises:
            OSError: the first request was refused.
            DeadlineExpired: it was still blocked at the deadline.
        """
        blocks = [self._block(request) for request in requests]
        pointers = (ctypes.c_void_p * len(blocks))(*(ctypes.addressof(block) for block in blocks))
        outcome = bounded(
            _libc.syscall, _NUMBERS["io_submit"], self._id, ctypes.c_long(len(blocks)), pointers, seconds=seconds
        )
        return check(outcome, "io_submit", seconds)

    def events(self, least: int, most: int, *, seconds: float = 10.0) -> list[Event]:
        """Return the completions there are, after waiting for ``least`` of them at most so many seconds."""
        events = (_Event * most)()
        timeout = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        number = _NUMBERS["io_getevents"]
        arguments = (self._id, ctypes.c_long(least), ctypes.c_long(most), events, ctypes.byref(timeout))
        count = check(bounded(_libc.syscall, number, *arguments, seconds=seconds + 5), "io_getevents", seconds)
        return [Event(event.data, event.result) for event in events[:count]]

    def close(self) -> None:
        if self._id.value:
            _libc.syscall(_NUMBERS["io_destroy"], self._id)
            self._id.value = 0

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _block(self, request: Iocb) -> _Iocb:
        address, length, keep = _locate(request.buffer)
        block = _Iocb(
            data=request.data,
            opcode=request.command,
            fd=request.fd,
            buffer=address or 0,
            size=length,
            offset=request.offset,
        )
        self._kept += [block, keep]
        return block


class _Iocb(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("resfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        ("object", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


# arch/x86/entry/syscalls/syscall_64.tbl, and include/uapi/asm-generic/unistd.h for all newer architectures.
_NUMBERS = (
    {"io_setup": 206, "io_destroy": 207, "io_getevents": 208, "io_submit": 209}
    if platform.machine() == "x86_64"
    else {"io_setup": 0, "io_destroy": 1, "io_submit": 2, "io_getevents": 4}
)


def _checked(result: int, call: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
