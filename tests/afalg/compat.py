"""The kernel as a 32-bit program sees it: calls by ``int 0x80``, structures with pointers of four bytes (x86 only).

Source: arch/x86/entry/syscalls/syscall_32.tbl, include/net/compat.h and include/linux/compat.h of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import struct

from tests.afalg.memory import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE

SOCKET, BIND, ACCEPT4, GETSOCKOPT, SETSOCKOPT, SENDMSG, RECVMSG = 359, 361, 364, 365, 366, 370, 372

_MACHINE_CODE = bytes.fromhex(
    "53"  # push rbx
    "89f8"  # mov eax, edi
    "4989f0"  # mov r8, rsi
    "418b18"  # mov ebx, [r8]
    "418b4804"  # mov ecx, [r8 + 4]
    "418b5008"  # mov edx, [r8 + 8]
    "418b700c"  # mov esi, [r8 + 12]
    "418b7810"  # mov edi, [r8 + 16]
    "cd80"  # int 0x80
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
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap of memory below 2 GiB")
        self.address: int = address
        self._next: int = address
        self._code = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(self.place(_MACHINE_CODE))
        self._arguments = self.place(bytes(20))

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

    def call(self, number: int, *arguments: int) -> int:
        """Make a system call of up to five arguments.

        Raises:
            OSError: with the kernel's errno.
        """
        words = [value & 0xFFFFFFFF for value in (*arguments, 0, 0, 0, 0, 0)[:5]]
        ctypes.memmove(self._arguments, struct.pack("<5I", *words), 20)
        result: int = self._code(number, self._arguments)
        if result < 0:
            raise OSError(-result, f"32-bit system call {number}: {os.strerror(-result)}")
        return result

    def message(self, data: int, length: int, control: bytes = b"") -> int:
        """Return a pointer to a ``struct compat_msghdr`` of one buffer.

        Args:
            data: pointer to the buffer.
            length: of the buffer, bytes.
            control: control messages made by ``cmsg`` below.
        """
        vector = self.place(struct.pack("<2I", data, length))
        at = self.place(control) if control else 0
        return self.place(struct.pack("<7I", 0, 0, vector, 1, at, len(control), 0))

    def close(self) -> None:
        if self.address:
            _libc.munmap(self.address, _PAGES * PAGE)
            self.address = 0

    def __enter__(self) -> Compat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
