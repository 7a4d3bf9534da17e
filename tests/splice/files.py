"""Files whose pages a test watches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def tmpfs_file(content: bytes) -> Iterator[int]:
    """Give a read-only descriptor of a tmpfs file that holds ``content``.

    The file is a memfd, opened a second time without write access: nothing done through this descriptor
    may change a byte. Its pages are page cache and nothing else, so reading it back shows any change.
    """
    writable = os.memfd_create("af-alg-test", os.MFD_CLOEXEC)
    try:
        os.write(writable, content)
        readable = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
    try:
        yield readable
    finally:
        os.close(readable)


def content_of(fd: int) -> bytes:
    """Return all the file holds, without moving its position."""
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)
