"""Deadlines, on a pipe, which needs no AF_ALG."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from tests.afalg import DeadlineExpired, Pipe, splice, tee


def test_blocked_call_ends_at_its_deadline() -> None:
    with Pipe() as empty, Pipe() as target:
        start = time.monotonic()
        with pytest.raises(DeadlineExpired, match=r"splice still blocked after 0\.2 s"):
            splice(empty.read_end, target.write_end, 10, seconds=0.2)
        assert 0.2 <= time.monotonic() - start < 10


def test_call_that_does_not_block_is_left_alone() -> None:
    with Pipe() as source, Pipe() as target:
        os.write(source.write_end, b"some data")
        assert splice(source.read_end, target.write_end, 100, seconds=0.01) == 9
        assert os.read(target.read_end, 100) == b"some data"


def test_each_thread_has_its_own_deadline() -> None:
    """The signal must reach the thread that blocks, and no other."""
    outcomes: dict[str, object] = {}

    def block(name: str, seconds: float) -> None:
        with Pipe() as empty, Pipe() as target:
            start = time.monotonic()
            try:
                tee(empty.read_end, target.write_end, 10, seconds=seconds)
            except DeadlineExpired as expired:
                outcomes[name] = (expired.call, time.monotonic() - start >= seconds)

    threads = [threading.Thread(target=block, args=(f"{i}", 0.1 * (i + 1))) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == {f"{i}": ("tee", True) for i in range(3)}


def test_error_keeps_the_kernels_errno() -> None:
    with pytest.raises(OSError, match="splice") as caught:
        splice(-1, -1, 10)
    assert caught.value.errno == errno.EBADF
    assert not isinstance(caught.value, DeadlineExpired)


def test_deadline_works_in_a_forked_child() -> None:
    with Pipe() as empty, Pipe() as target:
        with pytest.raises(DeadlineExpired):
            splice(empty.read_end, target.write_end, 10, seconds=0.05)
        child = os.fork()
        if child == 0:
            try:
                splice(empty.read_end, target.write_end, 10, seconds=0.05)
            except DeadlineExpired:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
