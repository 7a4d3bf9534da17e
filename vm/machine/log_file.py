"""The logs of a VM, which a guest may flood: bounded on the disk, and in what is read of them.

QEMU writes them and never looks back, so that the middle of one can be given back to the file system while it grows
(fallocate(2), FALLOC_FL_PUNCH_HOLE): the beginning tells what booted, the end what happened.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import tempfile
from pathlib import Path

HEAD = 4 * 2**20
"""Bytes of a log's beginning that are always there."""
KEPT = 60 * 2**20
"""Bytes of its end that are always there."""
READ = 12 * 2**20
"""Bytes of its end that are read: to search a megabyte for splats takes a third of a second."""
MOST = 2**30
"""Bytes a log may have where the file system cannot give back a part of a file."""

LEFT_OUT = "are left out here: more than is kept or read of a log"
"""Words where the middle of a log is not shown."""

_SLACK = 16 * 2**20
_PAGE = 4096
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def text(path: Path) -> str:
    """Return what a log says, undecodable bytes replaced; of a long one the beginning and the end, with a note between.

    Nothing when it is not there or cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= HEAD + READ:
                return _decoded(file.read())
            head = file.read(HEAD)
            file.seek(size - READ)
            return _decoded(head + _note(size - READ - HEAD) + file.read(READ))
    except OSError:
        return ""


class Bound:
    """Keeps a log that grows within HEAD and KEPT."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.given_back = HEAD

    def keep(self) -> bool:
        """Give its middle back when it has become long; say whether it is within bounds."""
        with contextlib.suppress(OSError), self.path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            end = (size - KEPT) // _PAGE * _PAGE
            if end - self.given_back < _SLACK:
                return True
            if _punch(file.fileno(), self.given_back, end - self.given_back):
                self.given_back = end
                return True
            return size < MOST
        return True

    def finish(self) -> None:
        """Put a note where the middle was; nobody writes to it any more. A luxury: may fail."""
        if self.given_back == HEAD:
            return
        with contextlib.suppress(OSError), self.path.open("rb") as old:
            size = os.fstat(old.fileno()).st_size
            descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent)
            try:
                with open(descriptor, "wb") as new:
                    new.write(old.read(HEAD) + _note(self.given_back - HEAD))
                    old.seek(self.given_back)
                    new.write(old.read(size - self.given_back))
                    os.fchmod(new.fileno(), 0o644)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


def _note(left_out: int) -> bytes:
    return f"\n(... {left_out / 1e6:.1f} MB {LEFT_OUT} ...)\n".encode()


def _punch(descriptor: int, offset: int, length: int) -> bool:
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(descriptor, _PUNCH_HOLE, offset, length) == 0)


def _decoded(data: bytes) -> str:
    # With the ends of lines as a file opened for text has them.
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace").read()
