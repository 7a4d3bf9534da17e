"""What op sockets hold, and the memory control group of the process that filled them.

UNIX sockets take their pages with __GFP_ACCOUNT (sk_allocation in net/unix/af_unix.c), so that memory.max bounds what a
container queues (Documentation/admin-guide/cgroup-v2.rst). AF_ALG takes them by alloc_page(GFP_KERNEL)
(af_alg_sendmsg) and never did otherwise: what bounds it is the send buffer of each socket, and the number of sockets.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.afalg import privileges
from tests.afalg.buffers import pages_of
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE, SO_SNDBUF
from tests.afalg.libc import checked
from tests.afalg.memory import PAGE
from tests.afalg.privileges import ROOT
from tests.doctor import absence
from tests.errors.raises import raises_errno
from tests.errors.subjects import AEAD, SKCIPHER, Subject
from tests.need import lacking

_HELD = 16 * 2**20
"""Bytes that the sockets of a test hold. A group's counter is exact to some 64 pages a processor."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    """A group of its own that counts memory; the test's child goes into it."""
    root = tmp_path / "groups"
    root.mkdir()
    try:
        checked(_libc.mount(b"cgroup2", bytes(root), b"cgroup2", 0, None), "mount of cgroup2")
    except OSError as error:
        lacking(absence.MEMORY_GROUPS, error.errno or 0)
    try:
        try:
            (root / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            lacking(absence.MEMORY_GROUPS, error.errno)
        own = root / "af-alg-test"
        own.mkdir()
        yield own
        own.rmdir()
    finally:
        checked(_libc.umount(bytes(root)), "umount of cgroup2")


def charged(group: Path, fill: Callable[[contextlib.ExitStack], int]) -> tuple[int, int]:
    """Return what sockets hold, and how much of it was charged to the group of the process that filled them, in bytes.

    Args:
        fill: opens sockets and fills them; returns how many bytes they hold.
    """

    def of_a_child() -> tuple[int, int]:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.ExitStack() as kept:
            before = int((group / "memory.current").read_text())
            held = fill(kept)
            return held, int((group / "memory.current").read_text()) - before

    held, more = privileges.run_as(ROOT, of_a_child)
    return held, more


def unix_sockets(kept: contextlib.ExitStack) -> int:
    """Fill pairs of stream sockets until they hold enough."""
    held = 0
    while held < _HELD:
        writer, reader = socket.socketpair()
        kept.enter_context(writer)
        kept.enter_context(reader)
        writer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                held += writer.send(bytes(16 * PAGE))
    return held


def op_sockets(subject: Subject, kept: contextlib.ExitStack) -> int:
    """Fill op sockets of one tfm until they hold enough."""
    transform = kept.enter_context(subject.open())
    held = 0
    while held < _HELD:
        op = kept.enter_context(transform.tfm.accept())
        op.sendmsg([b""], subject.control, MSG_MORE)
        room = pages_of(op, SO_SNDBUF)
        held += op.send(bytes(room), MSG_MORE)
        with raises_errno(errno.EAGAIN):
            op.send(b"x", MSG_MORE | MSG_DONTWAIT)
    return held


@pytest.mark.parametrize("subject", [SKCIPHER, AEAD], ids=lambda subject: subject.type_)
def test_op_sockets_are_not_charged(group: Path, subject: Subject) -> None:
    """Of what af_alg_sendmsg copied nothing is charged, of what UNIX sockets hold nearly all, so that it can be seen.

    No kernel has charged it (see above). One that does has changed for the better: then memory.max bounds what a
    container queues, and this test has to say since when.
    """
    held, more = charged(group, unix_sockets)
    assert more >= held * 3 // 4, f"of {held} bytes in UNIX sockets only {more} were charged: nothing can be told"
    held, more = charged(group, lambda kept: op_sockets(subject, kept))
    assert more <= held // 4, f"a change: of {held} bytes {more} were charged to the memory control group"
