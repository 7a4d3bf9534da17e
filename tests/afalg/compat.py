"""The kernel as a 32-bit program sees it: calls by ``int 0x80``, structures with pointers of four bytes (x86 only).

Source: arch/x86/entry/syscalls/syscall_32.tbl, include/net/compat.h and include/linux/compat.h of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import struct

from tests.afalg.libc import mapped
from tests.afalg.memory import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE

SOCKET, BIND, ACCEPT4, GETSOCKOPT, SETSOCKOPT, SENDMSG, RECVMSG = 359, 361, 364, 365, 366, 370, 372
SENDTO, RECVFROM, SENDMMSG, RECVMMSG, RECVMMSG_TIME64 = 369, 371, 345, 337, 417
READ, WRITE, READV, WRITEV, IOCTL, SENDFILE, SPLICE, VMSPLICE = 3, 4, 145, 146, 54, 187, 313, 316
IO_SETUP, IO_DESTROY, IO_SUBMIT, IO_PGETEVENTS_TIME64 = 245, 246, 248, 416

SOCKETCALL = 102
"""The one call of all sockets, until Linux 4.3 the only one; its first argument is one of SYS_…"""
SYS_SOCKET, SYS_BIND, SYS_ACCEPT, SYS_SEND, SYS_RECV, SYS_SETSOCKOPT, SYS_SENDMSG, SYS_RECVMSG = (
    1,
    2,
    5,
    9,
    10,
    14,
    16,
    17,
)

_MACHINE_CODE = bytes.fromhex(
    "53"  # push rbx
    "55"  # push rbp
    "89f8"  # mov eax, edi
    "4989f0"  # mov r8, rsi
    "418b18"  # mov ebx, [r8]
    "418b4804"  # mov ecx, [r8 + 4]
    "418b5008"  # mov edx, [r8 + 8]
    "418b700c"  # mov esi, [r8 + 12]
    "418b7810"  # mov edi, [r8 + 16]
    "418b6814"  # mov ebp, [r8 + 20]
    "cd80"  # int 0x80
    "5d"  # pop rbp
    "5b"  # pop rbx
    "c3"  # ret
)
_PAGES = 4
_MAP_PRIVATE_ANONYMOUS_32BIT = 0x22 | 0x40


class Compat:
    """A 32-bit program's view: memory it can point to, and its system calls. Closes with the ``with`` block."""

    def __init__(self) -> None:
        size, protection = _PAGES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC
        address = _libc.mmap(None, size, protection, _MAP_PRIVATE_ANONYMOUS_32BIT, -1, 0)
        self.address = self._next = mapped(address, "memory below 2 GiB")
        self._code = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(self.place(_MACHINE_CODE))
        self._arguments = self.place(bytes(24))

    def place(self, data: bytes) -> int:
        """Store bytes and return where, a pointer of four bytes."""
        at = self._next
        if at + len(data) > self.address + _PAGES * PAGE:
            raise MemoryError("too much for one 32-bit program")
        ctypes.memmove(at, data, len(data))
        self._next = (at + len(data) + 15) & ~15
        return at

    def read(self, address: int, length: int) -> bytes:
        """Return what is stored at a pointer."""
        return ctypes.string_at(address, length)

    def word(self, address: int, size: int = 4) -> int:
        """Return the integer that is stored at a pointer."""
        return int.from_bytes(self.read(address, size), "little")

    def call(self, number: int, *arguments: int) -> int:
        """Make a system call of up to six arguments.

        Raises:
            OSError: with the kernel's errno.
        """
        ctypes.memmove(self._arguments, words(*(*arguments, 0, 0, 0, 0, 0, 0)[:6]), 24)
        result: int = self._code(number, self._arguments)
        if result < 0:
            raise OSError(-result, f"32-bit system call {number}: {os.strerror(-result)}")
        return result

    def socketcall(self, number: int, *arguments: int) -> int:
        """Make the call of this number (SYS_…) with its arguments in memory."""
        return self.call(SOCKETCALL, number, self.place(words(*arguments)))

    def vector(self, *parts: tuple[int, int]) -> int:
        """Return a pointer to an array of ``struct compat_iovec``: pointers and lengths."""
        return self.place(b"".join(words(*part) for part in parts))

    def message(self, data: int, length: int, control: bytes = b"") -> int:
        """Return a pointer to a ``struct compat_msghdr`` of one buffer.

        Args:
            data: pointer to the buffer.
            length: of the buffer, bytes.
            control: control messages made by ``cmsg`` below.
        """
        return self.place(self._message(data, length, control))

    def messages(self, *messages: tuple[int, int, bytes]) -> int:
        """Return a pointer to an array of ``struct compat_mmsghdr``, made as ``message`` does; see ``lengths``."""
        return self.place(b"".join(self._message(*message) + bytes(4) for message in messages))

    def lengths(self, messages: int, count: int) -> list[int]:
        """Return ``msg_len`` of the first messages of such an array."""
        return [self.word(messages + 32 * at + 28) for at in range(count)]

    def iocb(self, fd: int, command: int, buffer: int, length: int, data: int = 0) -> int:
        """Return a pointer to an array of one pointer to a ``struct iocb``, which is the same for both."""
        request = struct.pack("<QIiHhIQQqQII", data, 0, 0, command, 0, fd, buffer, length, 0, 0, 0, 0)
        return self.place(words(self.place(request)))

    def _message(self, data: int, length: int, control: bytes) -> bytes:
        at = self.place(control) if control else 0
        return words(0, 0, self.vector((data, length)), 1, at, len(control), 0)

    def close(self) -> None:
        if self.address:
            _libc.munmap(self.address, _PAGES * PAGE)
            self.address = 0

    def __enter__(self) -> Compat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def words(*values: int, size: int = 4) -> bytes:
    """Return integers of four bytes each, or of ``size``."""
    return b"".join((value % (1 << 8 * size)).to_bytes(size, "little") for value in values)


def cmsg(level: int, type_: int, data: bytes, length: int | None = None) -> bytes:
    """Return a ``struct compat_cmsghdr`` with data, padded to four bytes; ``length`` other than None is a lie."""
    true_length = 12 + len(data)
    message = struct.pack("<Iii", true_length if length is None else length, level, type_) + data
    return message + bytes(-len(message) % 4)


def converted(control: bytes) -> bytes:
    """Return control messages of the 64-bit form in the 32-bit one."""
    found = b""
    while control:
        length, level, type_ = struct.unpack_from("<Qii", control)
        found += cmsg(level, type_, control[16:length])
        control = control[(length + 7) & ~7 :]
    return found


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
