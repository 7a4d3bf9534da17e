"""Moving pages without copying: splice, vmsplice, tee, sendfile, and pipes to do it through."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Sequence
from typing import Protocol

from tests.afalg.constants import F_SETPIPE_SZ
from tests.afalg.deadline import bounded, check
from tests.afalg.sockets import Source, _libc, _vector


class HasFileno(Protocol):
    """Anything with a file descriptor."""

    def fileno(self) -> int: ...


class Pipe:
    """A pipe that closes with the ``with`` block.

    Args:
        size: capacity in bytes (rounded up by the kernel); None leaves 16 pages.
    """

    def __init__(self, size: int | None = None) -> None:
        self.read_end = self.write_end = -1
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        if size is not None:
            fcntl.fcntl(self.write_end, F_SETPIPE_SZ, size)

    def close_write(self) -> None:
        """Close the write end, so that readers see the end of the data."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        self.close_write()
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def splice(
    source: int | HasFileno,
    target: int | HasFileno,
    length: int,
    flags: int = 0,
    *,
    offset_in: int | None = None,
    offset_out: int | None = None,
    seconds: float | None = None,
) -> int:
    """splice(2): move up to ``length`` bytes, one of the two ends a pipe; returns the bytes moved.

    Args:
        offset_in, offset_out: byte offsets, for ends that can seek; None passes NULL.
    """
    at_in, at_out = _offset(offset_in), _offset(offset_out)
    outcome = bounded(_libc.splice, _fd(source), at_in, _fd(target), at_out, length, flags, seconds=seconds)
    return check(outcome, "splice")


def vmsplice(pipe: int | HasFileno, buffers: Sequence[Source], flags: int = 0, *, seconds: float | None = None) -> int:
    """vmsplice(2): the pages of ``buffers`` into a pipe by reference; returns the bytes moved.

    The caller keeps the memory alive until the pipe is drained: pass a Pointer into a mapping of its own.
    """
    vector, _, _keep = _vector(buffers)
    outcome = bounded(_libc.vmsplice, _fd(pipe), ctypes.byref(vector), len(buffers), flags, seconds=seconds)
    return check(outcome, "vmsplice")


def tee(
    source: int | HasFileno,
    target: int | HasFileno,
    length: int,
    flags: int = 0,
    *,
    seconds: float | None = None,
) -> int:
    """tee(2): duplicate up to ``length`` bytes from one pipe into another; returns the bytes duplicated."""
    outcome = bounded(_libc.tee, _fd(source), _fd(target), length, flags, seconds=seconds)
    return check(outcome, "tee")


def sendfile(
    target: int | HasFileno,
    source: int | HasFileno,
    count: int,
    *,
    offset: int | None = None,
    seconds: float | None = None,
) -> int:
    """sendfile(2): up to ``count`` bytes of a file into a socket; returns the bytes sent.

    Args:
        offset: where to begin in the file; None begins at, and moves, its position.
    """
    outcome = bounded(_libc.sendfile, _fd(target), _fd(source), _offset(offset), count, seconds=seconds)
    return check(outcome, "sendfile")


_SIZE, _INT, _POINTER = ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
_libc.splice.argtypes = [_INT, _POINTER, _INT, _POINTER, _SIZE, ctypes.c_uint]
_libc.vmsplice.argtypes = [_INT, _POINTER, _SIZE, ctypes.c_uint]
_libc.tee.argtypes = [_INT, _INT, _SIZE, ctypes.c_uint]
_libc.sendfile.argtypes = [_INT, _INT, _POINTER, _SIZE]
for _function in (_libc.splice, _libc.vmsplice, _libc.tee, _libc.sendfile):
    _function.restype = ctypes.c_ssize_t


def _fd(end: int | HasFileno) -> int:
    return end if isinstance(end, int) else end.fileno()


def _offset(offset: int | None) -> ctypes.c_void_p | None:
    if offset is None:
        return None
    return ctypes.cast(ctypes.pointer(ctypes.c_longlong(offset)), ctypes.c_void_p)
