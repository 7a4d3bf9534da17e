"""Memory with holes, whose pages can be made unreadable, read-only or unmapped; and memory that is a file's."""

from __future__ import annotations

import ctypes

from tests.afalg.libc import checked, mapped
from tests.afalg.sockets import Pointer

PAGE = 4096

PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4

_MAP_SHARED = 0x01
_MAP_PRIVATE = 0x02
_MAP_PRIVATE_ANONYMOUS = 0x22


class Memory:
    """A private anonymous mapping of whole pages, gone at the end of the ``with`` block.

    Args:
        pages: number of 4096-byte pages, readable and writable at first.
        protection: of further pages at its end, one each, in order (PROT_…).
    """

    def __init__(self, pages: int, *protection: int) -> None:
        self.size = (pages + len(protection)) * PAGE
        address = _libc.mmap(None, self.size, PROT_READ | PROT_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0)
        self.address = mapped(address, "test memory")
        for page, wanted in enumerate(protection, start=pages):
            self.protect(page, wanted)

    def protect(self, page: int, protection: int) -> None:
        """mprotect(2) of one page."""
        checked(_libc.mprotect(self.address + page * PAGE, PAGE, protection), "mprotect of test memory")

    def pointer(self, offset: int, length: int) -> Pointer:
        """Return the range as an argument of a system call; it may reach into any page, or past the end."""
        return Pointer(self.address + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; the pages must be writable."""
        ctypes.memmove(self.address + offset, data, len(data))

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; the pages must be readable."""
        return ctypes.string_at(self.address + offset, length)

    def close(self) -> None:
        if self.address:
            _libc.munmap(self.address, self.size)
            self.address = 0

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mapping(Memory):
    """Part of a file, mapped read-only.

    Args:
        fd: of the file, open for reading.
        size: bytes from its beginning; rounded up to whole pages by the kernel.
        shared: MAP_SHARED, which a file sealed against writing refuses before Linux 6.7; else MAP_PRIVATE.
    """

    def __init__(self, fd: int, size: int, *, shared: bool = True) -> None:
        self.size = size
        address = _libc.mmap(None, size, PROT_READ, _MAP_SHARED if shared else _MAP_PRIVATE, fd, 0)
        self.address = mapped(address, "a file")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
