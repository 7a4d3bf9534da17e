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

from tests.afalg.deadline import DeadlineExpired, bounded, check
from tests.afalg.libc import checked
from tests.afalg.memory import PAGE, Memory
from tests.afalg.sockets import Pointer, Source, _Iovec, _libc, _locate, _message

OP_NOP = 0
OP_READV = 1
OP_WRITEV = 2
OP_READ_FIXED = 4
OP_WRITE_FIXED = 5
OP_POLL_ADD = 6
OP_SENDMSG = 9
OP_RECVMSG = 10
OP_ACCEPT = 13
OP_ASYNC_CANCEL = 14
OP_LINK_TIMEOUT = 15
OP_CLOSE = 19
OP_READ = 22
OP_WRITE = 23
OP_SEND = 26
OP_RECV = 27
OP_SPLICE = 30
OP_PROVIDE_BUFFERS = 31
OP_SOCKET = 45
OP_URING_CMD = 46
OP_SEND_ZC = 47
OP_BIND = 56

SOCKET_SIOCINQ = 0
SOCKET_SIOCOUTQ = 1
SOCKET_GETSOCKOPT = 2
SOCKET_SETSOCKOPT = 3
SOCKET_GETSOCKNAME = 5
"""Commands of OP_URING_CMD on a socket: enum io_uring_socket_op."""

SETUP_SQPOLL = 2
"""Flag of a ring: a thread of the kernel takes the submissions."""
FEAT_RECVSEND_BUNDLE = 1 << 14
"""Feature of a kernel's io_uring (Linux 6.10): RECVSEND_BUNDLE."""

IOSQE_FIXED_FILE = 1
"""Flag of a request: ``fd`` is a place among the registered files."""
IOSQE_IO_LINK = 4
"""Flag of a request: the next one begins when this has succeeded, and is cancelled when it has not."""
IOSQE_BUFFER_SELECT = 32
"""Flag of a request: the kernel takes a buffer of ``group``, and says which (Completion.buffer)."""

ACCEPT_MULTISHOT = 1
RECV_MULTISHOT = 2
"""``priority`` of OP_ACCEPT and OP_RECV: it goes on after a completion, as long as those say more."""
RECVSEND_BUNDLE = 16
"""``priority`` of OP_RECV and OP_SEND with IOSQE_BUFFER_SELECT: as many buffers of the group as there is data for."""


@dataclass(frozen=True)
class Request:
    """One submission; the fields are those of ``struct io_uring_sqe``.

    Attributes:
        buffer: memory the request works on; its address goes into ``addr``, its length into ``len`` where
            ``length`` is 0, and it is kept alive by the ring. None takes ``address`` as it is.
        data: comes back with the completion.
        priority: ``ioprio``, which holds flags of its own for some operations.
        group: ``buf_group``, and ``buf_index`` of what works on registered buffers.
        option: memory whose address goes into ``optval``; kept alive by the ring, too.
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
    priority: int = 0
    group: int = 0
    option: Source | None = None


class Completion(NamedTuple):
    """The request's ``data``, and its result: bytes, a descriptor or a negative errno."""

    data: int
    result: int
    flags: int

    @property
    def more(self) -> bool:
        """Whether the request goes on, and more completions of it will come."""
        return bool(self.flags & 2)

    @property
    def buffer(self) -> int | None:
        """The id of the buffer that the kernel took of a group; None where it took none."""
        return self.flags >> 16 if self.flags & 1 else None


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


def socket_command(command: int, fd: int, level: int, option: int, value: Source, length: int | None = None) -> Request:
    """Return getsockopt(2) or setsockopt(2) as a request; the completion of the first has the option's length.

    Args:
        command: SOCKET_GETSOCKOPT or SOCKET_SETSOCKOPT.
        value: memory for the option's value, or that holds it.
        length: the length to pass; None for that of ``value``.
    """
    size = _locate(value)[1] if length is None else length
    return Request(OP_URING_CMD, fd, offset=command, address=level | option << 32, splice_fd_in=size, option=value)


def timespec(seconds: float) -> bytes:
    """Return the ``struct __kernel_timespec`` to which a request for OP_LINK_TIMEOUT points."""
    return struct.pack("@qq", int(seconds), int(seconds % 1 * 1e9))


class BufferRing:
    """Buffers of one size for :meth:`Ring.register_buffer_ring`, in a ring of the process's own memory.

    Args:
        memory: two pages or more, which the kernel reads while the ring is registered: the first has the ring
            (``struct io_uring_buf_ring``), the others the buffers.
        size: of a buffer, in bytes.
        count: how many there are.
    """

    def __init__(self, memory: Memory, size: int, count: int) -> None:
        self.memory = memory
        self.size = size
        self.entries = 1 << (count - 1).bit_length()
        for number in range(count):
            self._give(number)

    def read(self, number: int) -> bytes:
        """Return what is in a buffer."""
        return self.memory.read(PAGE + number * self.size, self.size)

    def _give(self, number: int) -> None:
        tail = struct.unpack("@H", self.memory.read(_TAIL, 2))[0]
        address = self.memory.pointer(PAGE + number * self.size, self.size).address
        at = 16 * (tail % self.entries)
        # The last two bytes of the first entry are the ring's tail.
        self.memory.write(at, struct.pack("@QIH", address, self.size, number))
        self.memory.write(_TAIL, struct.pack("@H", (tail + 1) & 0xFFFF))


class Ring:
    """A ring for ``entries`` submissions at a time; closes with the ``with`` block.

    Args:
        flags: SETUP_SQPOLL has a thread of the kernel take the submissions (io_uring_setup(2)).

    Attributes:
        features: FEAT_… flags of this kernel's io_uring.

    Raises:
        OSError: ENOSYS where the kernel has none, EPERM where sysctl kernel.io_uring_disabled forbids it.
    """

    def __init__(self, entries: int = 8, flags: int = 0) -> None:
        parameters = bytearray(_PARAMETERS_SIZE)
        struct.pack_into("@I", parameters, 8, flags)
        pointer = (ctypes.c_char * len(parameters)).from_buffer(parameters)
        self._fd = checked(_libc.syscall(_SETUP, entries, pointer), "io_uring_setup")
        self._entries, completions = struct.unpack_from("@2I", parameters)
        self._polled = bool(flags & SETUP_SQPOLL)
        self.features: int = struct.unpack_from("@I", parameters, 20)[0]
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

    def operations(self) -> set[int]:
        """Return the operations this kernel's io_uring has (IORING_REGISTER_PROBE, Linux 5.6)."""
        probe = bytearray(16 + 8 * 256)
        self._register(_REGISTER_PROBE, (ctypes.c_char * len(probe)).from_buffer(probe), 256)
        found = (struct.unpack_from("@BBHI", probe, 16 + 8 * at) for at in range(probe[1]))
        return {operation for operation, _, flags, _ in found if flags & 1}

    def register_buffers(self, buffers: Sequence[Pointer]) -> None:
        """IORING_REGISTER_BUFFERS: their pages stay pinned until they are given back, or the ring is closed."""
        vector = (_Iovec * len(buffers))(*(_Iovec(*buffer) for buffer in buffers))
        self._register(_REGISTER_BUFFERS, vector, len(buffers))

    def unregister_buffers(self) -> None:
        """IORING_UNREGISTER_BUFFERS."""
        self._register(_UNREGISTER_BUFFERS, None, 0)

    def register_files(self, descriptors: Sequence[int]) -> None:
        """IORING_REGISTER_FILES: requests with IOSQE_FIXED_FILE name them by their places; -1 leaves a place free.

        The ring holds them, whatever becomes of the descriptors, until it is closed.
        """
        self._register(_REGISTER_FILES, (ctypes.c_int32 * len(descriptors))(*descriptors), len(descriptors))

    def unregister_files(self) -> None:
        """IORING_UNREGISTER_FILES."""
        self._register(_UNREGISTER_FILES, None, 0)

    def register_buffer_ring(self, buffers: BufferRing, group: int) -> None:
        """IORING_REGISTER_PBUF_RING: buffers for IOSQE_BUFFER_SELECT, without a request to provide them (Linux 5.19).

        Raises:
            OSError: EINVAL where the kernel has no such rings.
        """
        argument = struct.pack("@QIHH3Q", buffers.memory.pointer(0, PAGE).address, buffers.entries, group, 0, 0, 0, 0)
        self._kept.append(buffers)
        self._register(_REGISTER_PBUF_RING, ctypes.create_string_buffer(argument, len(argument)), 1)

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
        flags = (_GETEVENTS if wait else 0) | (_SQ_WAKEUP if self._polled else 0)
        outcome = bounded(_libc.syscall, _ENTER, self._fd, submit, wait, flags, None, 0, seconds=seconds)
        # Having submitted, the call returns that count also when its wait was interrupted.
        if outcome.expired and outcome.result >= 0 and self._ready() < wait:
            if seconds is not None or not submit:
                raise DeadlineExpired("io_uring_enter", outcome.seconds)
            self._enter(0, wait, None)
            return outcome.result
        return check(outcome, "io_uring_enter")

    def _register(self, operation: int, argument: object, count: int) -> None:
        checked(_libc.syscall(_REGISTER, self._fd, operation, argument, count), "io_uring_register")

    def _ready(self) -> int:
        return (self._word(self._cq[1]) - self._word(self._cq[0])) & 0xFFFFFFFF

    def _word(self, offset: int) -> int:
        value: int = struct.unpack_from("@I", self._ring, offset)[0]
        return value

    def _pack(self, request: Request) -> bytes:
        address, length = request.address, request.length
        if request.buffer is not None:
            located, size, keep = _locate(request.buffer)
            address, length = located or 0, length or size
            self._kept.append(keep)
        option = 0
        if request.option is not None:
            located, _, keep = _locate(request.option)
            option = located or 0
            self._kept.append(keep)
        packed = struct.pack(
            "@BBHiQQIIQHHiQ",
            request.opcode,
            request.flags,
            request.priority,
            request.fd,
            request.offset & 0xFFFFFFFFFFFFFFFF,
            address,
            length,
            request.op_flags,
            request.data,
            request.group,
            0,
            request.splice_fd_in,
            option,
        )
        return packed.ljust(64, b"\0")


_SETUP, _ENTER, _REGISTER = 425, 426, 427
_REGISTER_BUFFERS, _UNREGISTER_BUFFERS, _REGISTER_PROBE = 0, 1, 8
_TAIL = 14
_REGISTER_FILES, _UNREGISTER_FILES, _REGISTER_PBUF_RING = 2, 3, 22
_GETEVENTS, _SQ_WAKEUP = 1, 2
_SLOTS = 0x10000000
_PARAMETERS_SIZE = 120
