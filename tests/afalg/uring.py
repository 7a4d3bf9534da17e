"""io_uring by raw system calls: one ring, requests in, completions out.

Source: include/uapi/linux/io_uring.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.afalg.deadline import DEFAULT_SECONDS, DeadlineExpired, bounded, check
from tests.afalg.sockets import Source, _libc, _locate, _message

OP_NOP = 0
OP_READV = 1
OP_WRITEV = 2
OP_POLL_ADD = 6
OP_SENDMSG = 9
OP_RECVMSG = 10
OP_ACCEPT = 13
OP_ASYNC_CANCEL = 14
OP_CLOSE = 19
OP_READ = 22
OP_WRITE = 23
OP_SEND = 26
OP_RECV = 27
OP_SPLICE = 30
OP_SOCKET = 45
OP_BIND = 56

IOSQE_IO_LINK = 4
"""Flag of a request: the next one begins when this has succeeded, and is cancelled when it has not."""


@dataclass(frozen=True)
class Request:
    """One submission; the fields are those of ``struct io_uring_sqe``.

    Attributes:
        buffer: memory the request works on; its address and length go into ``addr`` and ``len``, and it is kept
            alive by the ring. None takes ``address`` and ``length`` as they are.
        data: comes back with the completion.
    """

    opcode: int
    fd: int = -1
    buffer: Source | None = None
    address: int = 0
    length: int = 0
    offset: int = 0
    op_flags: int = 0
    flags: int = 0
    data: int = 0
    splice_fd_in: int = 0


class Completion(NamedTuple):
    """The request's ``data``, and its result: bytes, a descriptor or a negative errno."""

    data: int
    result: int
    flags: int


class Message:
    """A msghdr that stays where it is, for SENDMSG and RECVMSG: pass ``address=message.address, length=1``.

    Attributes:
        address: of the msghdr.
        vector: address of its iovec, for READV and WRITEV.
    """

    def __init__(self, buffers: Sequence[Source], control: Source = b"") -> None:
        self._header, self.size, self._keep = _message(buffers, control, None)
        self.address = ctypes.addressof(self._header)
        self.vector: int = self._header.iov


class Ring:
    """A ring for ``entries`` submissions at a time; closes with the ``with`` block.

    Raises:
        OSError: ENOSYS where the kernel has none, EPERM where sysctl kernel.io_uring_disabled forbids it.
    """

    def __init__(self, entries: int = 8) -> None:
        parameters = bytearray(_PARAMETERS_SIZE)
        pointer = (ctypes.c_char * len(parameters)).from_buffer(parameters)
        self._fd = _libc.syscall(_SETUP, entries, pointer)
        if self._fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"io_uring_setup: {os.strerror(error)}")
        self._entries, completions = struct.unpack_from("@2I", parameters)
        self._sq = struct.unpack_from("@8IQ", parameters, 40)
        self._cq = struct.unpack_from("@8IQ", parameters, 80)
        size = max(self._sq[6] + 4 * self._entries, self._cq[5] + 16 * completions)
        # One mapping holds both rings (IORING_FEAT_SINGLE_MMAP, Linux 5.4).
        self._ring = mmap.mmap(self._fd, size, offset=0)
        self._slots = mmap.mmap(self._fd, 64 * self._entries, offset=_SLOTS)
        self._kept: list[object] = []

    def submit(self, requests: Sequence[Request], wait: int = 0, *, seconds: float | None = None) -> int:
        """Submit requests and wait for ``wait`` completions; return how many were taken.

        Raises:
            DeadlineExpired: fewer had completed at the deadline. What was submitted stays submitted.
        """
        tail = self._word(self._sq[1])
        for request in requests:
            slot = tail % self._entries
            self._slots[64 * slot : 64 * slot + 64] = self._pack(request)
            struct.pack_into("@I", self._ring, self._sq[6] + 4 * slot, slot)
            tail += 1
        struct.pack_into("@I", self._ring, self._sq[1], tail & 0xFFFFFFFF)
        return self._enter(len(requests), wait, seconds)

    def wait(self, count: int, *, seconds: float | None = None) -> list[Completion]:
        """Return ``count`` completions or more, once they are there.

        Raises:
            DeadlineExpired: fewer were there at the deadline.
        """
        if self._ready() < count:
            self._enter(0, count, seconds)
        return self.completions()

    def completions(self) -> list[Completion]:
        """Return the completions that are there, without waiting."""
        head, found = self._word(self._cq[0]), []
        mask = self._word(self._cq[2])
        for _ in range(self._ready()):
            at = self._cq[5] + 16 * (head & mask)
            found.append(Completion(*struct.unpack_from("@QiI", self._ring, at)))
            head += 1
        struct.pack_into("@I", self._ring, self._cq[0], head & 0xFFFFFFFF)
        return found

    def close(self) -> None:
        if self._fd >= 0:
            self._ring.close()
            self._slots.close()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, submit: int, wait: int, seconds: float | None) -> int:
        flags = _GETEVENTS if wait else 0
        outcome = bounded(_libc.syscall, _ENTER, self._fd, submit, wait, flags, None, 0, seconds=seconds)
        taken = check(outcome, "io_uring_enter", seconds)
        # Having submitted, the call returns that count also when its wait was interrupted.
        if outcome.expired and self._ready() < wait:
            raise DeadlineExpired("io_uring_enter", DEFAULT_SECONDS if seconds is None else seconds)
        return taken

    def _ready(self) -> int:
        return (self._word(self._cq[1]) - self._word(self._cq[0])) & 0xFFFFFFFF

    def _word(self, offset: int) -> int:
        value: int = struct.unpack_from("@I", self._ring, offset)[0]
        return value

    def _pack(self, request: Request) -> bytes:
        address, length = request.address, request.length
        if request.buffer is not None:
            located, length, keep = _locate(request.buffer)
            address = located or 0
            self._kept.append(keep)
        packed = struct.pack(
            "@BBHiQQIIQHHi",
            request.opcode,
            request.flags,
            0,
            request.fd,
            request.offset & 0xFFFFFFFFFFFFFFFF,
            address,
            length,
            request.op_flags,
            request.data,
            0,
            0,
            request.splice_fd_in,
        )
        return packed.ljust(64, b"\0")


_SETUP, _ENTER = 425, 426
_GETEVENTS = 1
_SLOTS = 0x10000000
_PARAMETERS_SIZE = 120
