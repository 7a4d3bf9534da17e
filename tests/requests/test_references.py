"""Pages of a program that the kernel has used are the program's alone again.

A file in memory can be sealed against writing only when nobody but the file itself holds a reference to its pages
(F_SEAL_WRITE, memfd_wait_for_pins in mm/memfd.c): one that was lost makes that EBUSY for good, on every kernel,
whether it was taken as a pin or as a plain reference (before Linux 6.3, where no counter shows it).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import mmap
import os
from collections.abc import Iterator

import pytest

from tests.afalg import Pipe, Pointer, sendfile, set_op, splice
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.afalg.memory import PAGE
from tests.errors.raises import raises_errno
from tests.errors.subjects import AEAD, HASH, Subject, each_keyed_type, each_queued_type

F_ADD_SEALS, F_SEAL_WRITE = 1033, 8
PAGES = 40
"""More than the kernel takes from a program at a time (ALG_MAX_PAGES, 16)."""
SIZES = [16, PAGE, 16 * PAGE + 32, (PAGES - 8) * PAGE]


@pytest.fixture
def file() -> Iterator[int]:
    """Give a file in memory; at the end of the test, when it is mapped no more, nobody holds its pages."""
    fd = os.memfd_create("references", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, PAGES * PAGE)
        os.pwrite(fd, bytes(i * 7 % 251 for i in range(PAGE)) * PAGES, 0)
        yield fd
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)
    finally:
        os.close(fd)


@contextlib.contextmanager
def mapped(fd: int) -> Iterator[memoryview]:
    """Give the file's pages as memory."""
    with mmap.mmap(fd, PAGES * PAGE, mmap.MAP_SHARED) as memory:
        view = memoryview(memory)
        try:
            yield view
        finally:
            gc.collect()  # what an error's frames hold would keep the memory from being let go
            view.release()


def test_check_sees_a_reference() -> None:
    """A pipe that holds a page of the file: EBUSY while it does (F_SEAL_WRITE, fcntl(2))."""
    fd = os.memfd_create("references", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with Pipe() as pipe:
        os.pwrite(fd, bytes(PAGE), 0)
        splice(fd, pipe.write_end, PAGE, offset_in=0)
        with raises_errno(errno.EBUSY):
            fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)
        os.read(pipe.read_end, PAGE)
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)
    os.close(fd)


@each_keyed_type
@pytest.mark.parametrize("size", SIZES)
def test_pages_that_were_sent(subject: Subject, size: int, file: int) -> None:
    """By sendmsg from the pages themselves, which a hash reads in place (hash_sendmsg)."""
    with subject.open() as transform, mapped(file) as memory:
        end = 3 + size + (16 if subject is AEAD else 0)
        expected = subject.answer_to(bytes(memory[3:end]))
        transform.op.sendmsg([memory[3:end]], subject.control)
        assert transform.op.recv(len(expected)) == expected


@each_keyed_type
@pytest.mark.parametrize("how", ["sendfile", "splice"])
@pytest.mark.parametrize("end", ["read", "closed"])
def test_pages_that_were_spliced(subject: Subject, how: str, end: str, file: int) -> None:
    """Read by a recv, or thrown away with the op socket (af_alg_free_areq_sgls, af_alg_pull_tsgl)."""
    with subject.open() as transform, Pipe() as pipe:
        data = os.pread(file, 2 * PAGE, 0)
        if subject is not HASH:
            transform.op.sendmsg([], subject.control, MSG_MORE)
        if how == "sendfile":
            assert sendfile(transform.op, file, 2 * PAGE, offset=0) == 2 * PAGE
        else:
            assert splice(file, pipe.write_end, 2 * PAGE, offset_in=0) == 2 * PAGE
            assert splice(pipe.read_end, transform.op, 2 * PAGE) == 2 * PAGE
        if end == "read":
            expected = subject.answer_to(data)
            assert transform.op.recv(len(expected)) == expected
        with transform.tfm.accept() as other:
            subject.works(other)


@each_keyed_type
@pytest.mark.parametrize("size", SIZES)
def test_pages_that_were_received_into(subject: Subject, size: int, file: int) -> None:
    """In one piece at an odd address, and in pieces that share a page; what was written is in the file.

    Source: af_alg_free_sg.
    """
    data = bytes(i * 5 % 249 for i in range(size))
    if subject is AEAD and size == 16:
        data += bytes(16)
    expected = subject.answer_to(data)
    with subject.open() as transform, mapped(file) as memory:
        end = 77 + len(expected)
        for targets in (
            [memory[77:end]],
            [memory[77:78], memory[78:90], memory[90 : end - 1], memory[end - 1 : end]],
        ):
            os.pwrite(file, bytes(end + 9), 0)
            transform.op.sendmsg([data], subject.control)
            assert transform.op.recvmsg(targets).size == len(expected)
            for target in targets:
                target.release()
            assert os.pread(file, end + 9, 0) == bytes(77) + expected + bytes(9)


@each_queued_type
def test_pages_of_a_recv_that_fails(subject: Subject, file: int) -> None:
    """With nothing to read, with room for too little, with a second buffer that cannot be written; then it works.

    Source: af_alg_free_areq_sgls.
    """
    with subject.open() as transform, mapped(file) as memory:
        buffer = memory[: len(subject.answer)]
        with raises_errno(errno.EAGAIN):
            transform.op.recvmsg([buffer], flags=MSG_DONTWAIT)
        subject.begin(transform.op)
        with raises_errno(errno.EINVAL), contextlib.ExitStack() as stack:
            part = stack.enter_context(buffer[:7])
            if transform.op.recvmsg([part], flags=MSG_DONTWAIT).size == 0:  # before Linux 6.1.158, of a skcipher
                raise OSError(errno.EINVAL, "nothing")
        with raises_errno(errno.EFAULT):
            transform.op.recvmsg([buffer[:17], Pointer(8, len(subject.answer))])
        assert transform.op.recvmsg([buffer]).size == len(subject.answer)
        assert bytes(buffer) == subject.answer
        buffer.release()


def test_pages_of_a_forgery(file: int) -> None:
    """EBADMSG, with AAD and result in them (af_alg_free_areq_sgls)."""
    with AEAD.open() as aead, mapped(file) as memory:
        sealed = AEAD.answer[:-1] + bytes([AEAD.answer[-1] ^ 1])
        aead.op.sendmsg([sealed], AEAD.control.replace(set_op(1), set_op(0), 1))
        buffer = memory[5 : 5 + len(AEAD.message)]
        with raises_errno(errno.EBADMSG):
            aead.op.recvmsg([buffer])
        buffer.release()
        AEAD.works(aead.op)
