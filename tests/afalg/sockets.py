"""The system calls of an AF_ALG socket, one method each, with nothing added.

A tfm socket and an op socket are the same class, because every misuse of the one as the other must be
expressible. Errors are OSError with the kernel's errno. Every call that may block has a deadline.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from tests.afalg import constants as c
from tests.afalg.abi import sockaddr_alg
from tests.afalg.deadline import DeadlineExpired, bounded, check
from tests.afalg.libc import checked


class Pointer(NamedTuple):
    """A raw address and length: memory that need not be mapped, or that lies in a mapping of one's own."""

    address: int
    length: int


Source: TypeAlias = bytes | bytearray | memoryview | Pointer
Target: TypeAlias = bytearray | memoryview | Pointer


class Received(NamedTuple):
    """What recvmsg gave: bytes written into the buffers, ``msg_flags``, and the control data."""

    size: int
    flags: int
    control: bytes


class Socket:
    """One AF_ALG file descriptor. Closes with the ``with`` block; ``fd`` is -1 afterwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, type_: int = c.SOCK_SEQPACKET, protocol: int = 0) -> Socket:
        """socket(AF_ALG, type_, protocol), close-on-exec."""
        return cls(checked(_libc.socket(c.AF_ALG, type_ | c.SOCK_CLOEXEC, protocol), "socket"))

    @classmethod
    def bound(cls, type_: str, name: str, feat: int = 0, mask: int = 0) -> Socket:
        """Return a new tfm socket bound to an algorithm; nothing stays open when bind fails."""
        sock = cls.create()
        try:
            sock.bind(type_, name, feat, mask)
        except BaseException:
            sock.close()
            raise
        return sock

    def bind(self, type_: str, name: str, feat: int = 0, mask: int = 0) -> None:
        """bind(2) to an algorithm, with a well-formed address."""
        self.bind_raw(sockaddr_alg(type_, name, feat, mask))

    def bind_raw(self, address: Source, length: int | None = None) -> None:
        """bind(2) with any bytes as address.

        It has no deadline: only a fatal signal interrupts the wait for a self-test, which the kernel
        itself ends after 60 s (ETIMEDOUT).

        Args:
            length: the length to pass; None for that of ``address``.
        """
        pointer, size, _keep = _locate(address)
        checked(_libc.bind(self.fd, pointer, size if length is None else length), "bind")

    def setsockopt(
        self, option: int, value: Source | None, *, level: int = c.SOL_ALG, length: int | None = None
    ) -> None:
        """setsockopt(2).

        Args:
            value: None passes a NULL pointer.
            length: the length to pass; None for that of ``value`` (0 for NULL).
        """
        pointer, size, _keep = (None, 0, None) if value is None else _locate(value)
        size = size if length is None else length
        checked(_libc.setsockopt(self.fd, level, option, pointer, size), "setsockopt")

    def set_key(self, key: Source) -> None:
        """ALG_SET_KEY: the key of a hash, skcipher or aead, the seed of an rng."""
        self.setsockopt(c.ALG_SET_KEY, key)

    def set_authsize(self, size: int) -> None:
        """ALG_SET_AEAD_AUTHSIZE: tag size in bytes, which travels as the option's length."""
        self.setsockopt(c.ALG_SET_AEAD_AUTHSIZE, None, length=size)

    def getsockopt(self, option: int, size: int = 4, *, level: int = c.SOL_SOCKET) -> bytes:
        """getsockopt(2): at most ``size`` bytes of the option's value."""
        buffer = ctypes.create_string_buffer(max(size, 1))
        length = ctypes.c_uint(size)
        checked(_libc.getsockopt(self.fd, level, option, buffer, ctypes.byref(length)), "getsockopt")
        return buffer.raw[: length.value]

    def accept(self, flags: int = c.SOCK_CLOEXEC, *, address: bool = False) -> Socket:
        """accept4(2): an op socket of a tfm socket, a clone of a hash op socket.

        Args:
            address: ask for the peer's address, which AF_ALG has none of (ECONNABORTED).
        """
        buffer = ctypes.create_string_buffer(128) if address else None
        length = ctypes.byref(ctypes.c_uint(128)) if address else None
        return Socket(checked(_libc.accept4(self.fd, buffer, length, flags), "accept"))

    def send(self, data: Source, flags: int = 0, *, seconds: float | None = None) -> int:
        """sendmsg(2) of one buffer without control data; returns the bytes taken."""
        return self.sendmsg([data], flags=flags, seconds=seconds)

    def sendmsg(
        self,
        buffers: Sequence[Source],
        control: Source = b"",
        flags: int = 0,
        *,
        name: bytes | None = None,
        seconds: float | None = None,
    ) -> int:
        """sendmsg(2); returns the bytes taken.

        Args:
            buffers: the iovec.
            control: control data, well-formed (``set_op(...) + set_iv(...)``) or not.
            name: destination address.
            seconds: deadline; None for the default.
        """
        header, wanted, _keep = _message(buffers, control, name)
        outcome = bounded(_libc.sendmsg, self.fd, ctypes.byref(header), flags, seconds=seconds)
        return check(outcome, "sendmsg", wanted)

    def recv(self, size: int, flags: int = 0, *, seconds: float | None = None) -> bytes:
        """recvmsg(2) into one buffer of ``size`` bytes; returns what was written.

        ``recv(0)`` reaches the kernel. A skcipher or aead asked for more than the result holds blocks:
        that is the kernel's rule, and ends in DeadlineExpired.
        """
        buffer = bytearray(size)
        got = self.recvmsg([buffer], flags=flags, seconds=seconds).size
        return bytes(buffer[:got])

    def recvmsg(
        self, buffers: Sequence[Target], control: int = 0, flags: int = 0, *, seconds: float | None = None
    ) -> Received:
        """recvmsg(2) into an iovec.

        Args:
            control: bytes of room for control data.
        """
        room = bytearray(control)
        header, wanted, _keep = _message(buffers, room, None)
        outcome = bounded(_libc.recvmsg, self.fd, ctypes.byref(header), flags, seconds=seconds)
        size = check(outcome, "recvmsg", wanted)
        return Received(size, header.flags, bytes(room[: header.controllen]))

    def poll(self, seconds: float = 0.0, events: int = 0xFFFF) -> int:
        """Return the poll mask after at most ``seconds``, 0 for none."""
        poller = select.poll()
        poller.register(self.fd, events & 0x7FFF)
        ready = poller.poll(seconds * 1000)
        return ready[0][1] if ready else 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


__all__ = ["DeadlineExpired", "Pointer", "Received", "Socket", "Source", "Target"]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.bind.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
_libc.setsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
_libc.getsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.accept4.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
_libc.sendmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_libc.recvmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_libc.sendmsg.restype = ctypes.c_ssize_t
_libc.recvmsg.restype = ctypes.c_ssize_t


def _locate(buffer: Source) -> tuple[int | None, int, object]:
    """Return address, length and an object that keeps the memory alive."""
    if isinstance(buffer, Pointer):
        return buffer.address, buffer.length, None
    if isinstance(buffer, memoryview) and buffer.readonly:
        buffer = bytes(buffer)
    if isinstance(buffer, bytes):
        pointer = ctypes.c_char_p(buffer)
        return ctypes.cast(pointer, ctypes.c_void_p).value, len(buffer), pointer
    length = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    array = (ctypes.c_char * length).from_buffer(buffer)
    return ctypes.addressof(array), length, array


def _vector(buffers: Sequence[Source]) -> tuple[Any, int, list[object]]:
    """Return an array of struct iovec over the buffers, the sum of their lengths, and what keeps them alive."""
    located = [_locate(buffer) for buffer in buffers]
    vector = (_Iovec * len(located))(*(_Iovec(address, length) for address, length, _ in located))
    return vector, sum(length for _, length, _ in located), [kept for _, _, kept in located]


def _message(buffers: Sequence[Source], control: Source, name: bytes | None) -> tuple[Any, int, list[object]]:
    """Return a msghdr over the buffers, the sum of their lengths, and what keeps them alive."""
    vector, total, keep = _vector(buffers)
    control_at, control_length, control_keep = _locate(control)
    name_at, name_length, name_keep = (None, 0, None) if name is None else _locate(name)
    header = _Msghdr(
        name_at,
        name_length,
        ctypes.addressof(vector),
        len(buffers),
        control_at if control_length else None,
        control_length,
        0,
    )
    return header, total, [vector, control_keep, name_keep, keep]
