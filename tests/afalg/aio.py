"""Kernel AIO (io_setup, io_submit, io_getevents, io_cancel, io_destroy) by raw system calls.

On an op socket it was the way to have several requests in flight; since Linux 7.2 every submission completes before
io_submit returns. Source: include/uapi/linux/aio_abi.h.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.afalg.calls import number
from tests.afalg.deadline import DEFAULT_SECONDS, IDLE_SECONDS, Rest, bounded, check
from tests.afalg.libc import checked
from tests.afalg.sockets import Source, _libc, _locate, _vector

IOCB_CMD_PREAD = 0
IOCB_CMD_PWRITE = 1
IOCB_CMD_FSYNC = 2
IOCB_CMD_POLL = 5
IOCB_CMD_PREADV = 7
IOCB_CMD_PWRITEV = 8

_IOCB_FLAG_RESFD = 1


class Iocb(NamedTuple):
    """One request.

    Attributes:
        buffer: what is read into (PREAD) or written from, a list of such for PREADV and PWRITEV, the events for POLL;
            it stays the caller's until its event came.
        data: comes back with the event, and names the request to ``cancel``.
        eventfd: descriptor that is told of the completion (IOCB_FLAG_RESFD); None for none.
    """

    fd: int
    command: int
    buffer: Source | list[Source] | int
    data: int = 0
    offset: int = 0
    eventfd: int | None = None


class Event(NamedTuple):
    """One completion: the request's ``data``, and the bytes moved or a negative errno."""

    data: int
    result: int


class Context:
    """An AIO context for ``size`` requests at a time; closes with the ``with`` block."""

    def __init__(self, size: int = 8) -> None:
        self._id = ctypes.c_ulong()
        checked(_libc.syscall(number("io_setup"), size, ctypes.byref(self._id)), "io_setup")
        self._kept: list[object] = []
        self._blocks: dict[int, _Iocb] = {}

    def submit(self, requests: Sequence[Iocb], *, seconds: float | None = None) -> int:
        """Submit requests, and return how many were taken; a synchronous one may block until it is done.

        Raises:
            OSError: the first request was refused.
            DeadlineExpired: it was still blocked at the deadline.
        """
        blocks = [self._block(request) for request in requests]
        pointers = (ctypes.c_void_p * len(blocks))(*(ctypes.addressof(block) for block in blocks))
        outcome = bounded(
            _libc.syscall, number("io_submit"), self._id, ctypes.c_long(len(blocks)), pointers, seconds=seconds
        )
        return check(outcome, "io_submit")

    def events(self, least: int, most: int, *, seconds: float | None = None) -> list[Event]:
        """Return the completions there are, after waiting for ``least`` of them; fewer where no more come.

        Args:
            seconds: to wait at most; None waits as a call does that names no deadline (tests/afalg/deadline.py).
        """
        if seconds is not None:
            return self._events(least, most, seconds)
        found: list[Event] = []
        end = time.monotonic() + DEFAULT_SECONDS
        while True:
            rest = Rest()
            found += self._events(least - len(found), most - len(found), IDLE_SECONDS)
            if len(found) >= least or rest.lasts() or time.monotonic() > end:
                return found

    def _events(self, least: int, most: int, seconds: float) -> list[Event]:
        events = (_Event * most)()
        timeout = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        arguments = (self._id, ctypes.c_long(least), ctypes.c_long(most), events, ctypes.byref(timeout))
        count = check(bounded(_libc.syscall, number("io_getevents"), *arguments, seconds=seconds + 5), "io_getevents")
        return [Event(event.data, event.result) for event in events[:count]]

    def cancel(self, data: int) -> None:
        """io_cancel(2) of the last request submitted with this ``data``.

        Raises:
            OSError: EINPROGRESS when it is being cancelled and its event will come; EINVAL when it cannot be.
        """
        event = ctypes.byref(_Event())
        checked(_libc.syscall(number("io_cancel"), self._id, ctypes.byref(self._blocks[data]), event), "io_cancel")

    def close(self) -> None:
        if self._id.value:
            _libc.syscall(number("io_destroy"), self._id)
            self._id.value = 0

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _block(self, request: Iocb) -> _Iocb:
        address, length, keep = _place(request.buffer)
        block = _Iocb(
            data=request.data,
            opcode=request.command,
            fd=request.fd,
            buffer=address or 0,
            size=length,
            offset=request.offset,
            flags=0 if request.eventfd is None else _IOCB_FLAG_RESFD,
            resfd=request.eventfd or 0,
        )
        self._kept += [block, keep]
        self._blocks[request.data] = block
        return block


def _place(buffer: Source | list[Source] | int) -> tuple[int | None, int, object]:
    """Return what goes into aio_buf and aio_nbytes, and what keeps it alive."""
    if isinstance(buffer, int):
        return buffer, 0, None
    if not isinstance(buffer, list):
        return _locate(buffer)
    vector, _, keep = _vector(buffer)
    return ctypes.addressof(vector), len(buffer), [vector, keep]


_WORDS = (("key", ctypes.c_uint32), ("rw_flags", ctypes.c_uint32))


class _Iocb(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        # In the order of the machine's bytes (PADDED).
        *(_WORDS if sys.byteorder == "little" else reversed(_WORDS)),
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
