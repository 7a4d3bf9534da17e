"""What can be seen of a process that is looked on: its memory, and its io_uring rings (vm/guest/recorder.py)."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import mmap
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

MOST = 1 << 24
"""Bytes of one buffer that are kept."""

_PIDFD_GETFD = 438
_SLOTS = 0x10000000


def pack(data: bytes) -> str:
    """Return bytes as text: hexadecimal, or packed where they are many."""
    if len(data) <= 64:
        return f"x{data.hex()}"
    return "z" + base64.b64encode(zlib.compress(data, 6)).decode()


def unpack(text: str) -> bytes:
    """Return what :func:`pack` was given."""
    return bytes.fromhex(text[1:]) if text[0] == "x" else zlib.decompress(base64.b64decode(text[1:]))


class Memory:
    """The memory of a process, read through proc(5)."""

    def __init__(self, thread: int) -> None:
        self.descriptor = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, address: int, length: int) -> bytes:
        """Return what can be read of a range from its beginning on."""
        length = min(length, MOST)
        found = b""
        while address and len(found) < length and address + len(found) < 1 << 63:
            at = address + len(found)
            try:
                part = os.pread(self.descriptor, length - len(found), at)
            except OSError:
                part = b""
            if not part:
                # Perhaps only the end of it cannot be read.
                page = min(4096 - at % 4096, length - len(found))
                try:
                    part = os.pread(self.descriptor, page, at) if page < length - len(found) else b""
                except OSError:
                    part = b""
            if not part:
                break
            found += part
        return found

    def string(self, address: int) -> bytes:
        """Return a string without its end."""
        return self.read(address, 512).partition(b"\0")[0]

    def word(self, address: int, size: int = 8) -> int:
        """Return a number; 0 where there is none."""
        return int.from_bytes(self.read(address, size), sys.byteorder)

    def buffer(self, address: int, length: int) -> dict[str, Any]:
        """Return a range as the record has it: where it is, its length, and what can be read of it."""
        if not address:
            return {"at": 0, "length": length}
        return {"at": address, "length": length, "data": pack(self.read(address, length))}


def file_part(process: int, descriptor: int, offset: int | None, length: int) -> dict[str, Any]:
    """Return what a file of a process holds, as a call is about to read it.

    Args:
        process, descriptor: of the file.
        offset: where; None for where the file stands.
        length: bytes, of which the first :data:`MOST` are looked at.

    Returns:
        ``offset`` and ``data``; nothing of what is no regular file.
    """
    path = Path(f"/proc/{process}/fd/{descriptor}")
    with contextlib.suppress(OSError, ValueError):
        if not path.is_file():
            return {}
        if offset is None:
            place = Path(f"/proc/{process}/fdinfo/{descriptor}").read_text()
            offset = int(place.split("pos:")[1].split()[0])
        own = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return {"offset": offset, "data": pack(os.pread(own, min(length, MOST), offset))}
        finally:
            os.close(own)
    return {}


class Rings:
    """An io_uring of a process, as far as what goes in and comes out of it has been seen.

    Its memory is mapped here, too: before Linux 6.10 proc(5) does not show that of the process.

    Args:
        process: that has it.
        descriptor: of it there.
        parameters: ``struct io_uring_params`` as the kernel filled it in.

    Raises:
        OSError: no pidfd_getfd(2) (Linux 5.6), or no right to it.
    """

    def __init__(self, process: int, descriptor: int, parameters: bytes) -> None:
        self.entries, self.completions = struct.unpack_from("@2I", parameters)
        self.submissions = struct.unpack_from("@8I", parameters, 40)
        self.completed = struct.unpack_from("@8I", parameters, 80)
        self.submitted = self.seen = 0
        other = os.pidfd_open(process)
        try:
            own = _libc.syscall(_PIDFD_GETFD, other, descriptor, 0)
            if own < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            size = max(self.submissions[6] + 4 * self.entries, self.completed[5] + 16 * self.completions)
            self.ring = mmap.mmap(own, size, prot=mmap.PROT_READ)
            self.slots = mmap.mmap(own, 64 * self.entries, prot=mmap.PROT_READ, offset=_SLOTS)
            os.close(own)
        finally:
            os.close(other)

    def close(self) -> None:
        """Let go of it: it is not gone before."""
        self.ring.close()
        self.slots.close()

    def _word(self, at: int) -> int:
        return int.from_bytes(self.ring[at : at + 4], sys.byteorder)

    def fresh(self) -> list[bytes]:
        """Return the submissions since the last call."""
        tail, found = self._word(self.submissions[1]), []
        while self.submitted != tail:
            slot = self._word(self.submissions[6] + 4 * (self.submitted % self.entries))
            found.append(self.slots[64 * slot : 64 * slot + 64])
            self.submitted = (self.submitted + 1) & 0xFFFFFFFF
        return found

    def done(self) -> list[list[int]]:
        """Return the completions since the last call: data, result, flags."""
        tail, found = self._word(self.completed[1]), []
        while self.seen != tail:
            at = self.completed[5] + 16 * (self.seen % self.completions)
            found.append(list(struct.unpack_from("@QiI", self.ring, at)))
            self.seen = (self.seen + 1) & 0xFFFFFFFF
        return found


_libc = ctypes.CDLL(None, use_errno=True)
