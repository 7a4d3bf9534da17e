"""AIO and io_uring of the binding, on pipes and files of the host."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator

import pytest

from tests.afalg import DeadlineExpired, Pipe, aio, uring


@pytest.fixture
def ring() -> Iterator[uring.Ring]:
    try:
        made = uring.Ring(4)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            pytest.skip("this host has no io_uring")
        raise
    with made:
        yield made


def test_aio_reads_a_file() -> None:
    with tempfile.TemporaryFile() as file, aio.Context() as context:
        file.write(b"0123456789")
        file.flush()
        buffers = [bytearray(4), bytearray(4)]
        requests = [
            aio.Iocb(file.fileno(), aio.IOCB_CMD_PREAD, buffer, data=i, offset=3 * i)
            for i, buffer in enumerate(buffers)
        ]
        assert context.submit(requests) == 2
        assert sorted(context.events(2, 4)) == [aio.Event(0, 4), aio.Event(1, 4)]
        assert [bytes(buffer) for buffer in buffers] == [b"0123", b"3456"]


def test_aio_reports_a_bad_descriptor() -> None:
    with aio.Context() as context, pytest.raises(OSError, match="io_submit") as caught:
        context.submit([aio.Iocb(-1, aio.IOCB_CMD_PREAD, bytearray(1))])
    assert caught.value.errno == errno.EBADF


def test_ring_moves_bytes_through_a_pipe(ring: uring.Ring) -> None:
    with Pipe() as pipe:
        target = bytearray(5)
        write = uring.Request(uring.OP_WRITE, pipe.write_end, b"hello", offset=-1, data=1)
        read = uring.Request(uring.OP_READ, pipe.read_end, target, offset=-1, data=2)
        assert ring.submit([write], wait=1) == 1
        assert [(done.data, done.result) for done in ring.completions()] == [(1, 5)]
        for _ in range(9):  # more than the ring has entries
            ring.submit([uring.Request(uring.OP_NOP, data=7)], wait=1)
            assert [done.data for done in ring.completions()] == [7]
        ring.submit([read])
        assert [(done.data, done.result) for done in ring.wait(1)] == [(2, 5)]
        assert bytes(target) == b"hello"


def test_ring_reports_errors_and_keeps_its_deadline(ring: uring.Ring) -> None:
    ring.submit([uring.Request(uring.OP_READ, -1, bytearray(1))], wait=1)
    assert [done.result for done in ring.completions()] == [-errno.EBADF]
    with Pipe() as pipe:
        with pytest.raises(DeadlineExpired):
            ring.submit([uring.Request(uring.OP_READ, pipe.read_end, bytearray(1), offset=-1)], wait=1, seconds=0.2)
        os.write(pipe.write_end, b"x")
        assert [done.result for done in ring.wait(1)] == [1]
