"""Deadlines, on a pipe, which needs no AF_ALG."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time

import pytest

from tests.afalg import DeadlineExpired, Pipe, deadline, splice, tee
from tests.requests.calls import Call


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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have less patience than usual."""
    for name, seconds in {"PATIENCE_SECONDS": 0.1, "IDLE_SECONDS": 0.1, "DEFAULT_SECONDS": 5.0}.items():
        monkeypatch.setattr(deadline, name, seconds)
    monkeypatch.setattr("tests.requests.calls.IDLE_SECONDS", 0.1)


@pytest.fixture
def idle(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine that does nothing."""
    monkeypatch.setattr(deadline, "_idle_seconds", lambda: 100 * time.monotonic())


@pytest.fixture
def busy(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine that always does something."""
    monkeypatch.setattr(deadline, "_idle_seconds", lambda: 7.0)


def test_call_is_given_up_when_the_machine_is_idle(idle: None) -> None:
    with Pipe() as empty, Pipe() as target:
        start = time.monotonic()
        with pytest.raises(DeadlineExpired, match="splice still blocked after"):
            splice(empty.read_end, target.write_end, 10)
        assert 0.2 <= time.monotonic() - start < 4


def test_call_has_time_while_the_machine_is_busy(busy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is interrupted and goes on, until it gets what it waits for, or to its deadline."""
    # What comes by chance when it is just being interrupted is not what this is about.
    monkeypatch.setattr(deadline, "_AT_ONCE", 0)
    with Pipe() as source, Pipe() as target:
        timer = threading.Timer(0.7, os.write, (source.write_end, b"late"))
        timer.start()
        assert splice(source.read_end, target.write_end, 10) == 4
        timer.join()
        start = time.monotonic()
        with pytest.raises(DeadlineExpired):
            splice(source.read_end, target.write_end, 10)
        assert time.monotonic() - start >= 5


def test_call_that_only_the_signal_has_woken_up_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it returns then: without the deadline it would have slept for ever."""
    monkeypatch.setattr(deadline, "_AT_ONCE", 100)
    libc = ctypes.CDLL(None)

    def forgotten() -> int:
        libc.pause()
        return 16

    with pytest.raises(DeadlineExpired):
        deadline.check(deadline.bounded(forgotten, seconds=0.2), "recv", 16)


def test_call_that_works_beyond_its_deadline_has_not_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_AT_ONCE", 100)

    def slow() -> int:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return 16

    assert deadline.check(deadline.bounded(slow, seconds=0.15), "recv", 16) == 16


def test_call_of_a_thread_that_waits_for_nothing_is_told_and_ended(idle: None) -> None:
    with Pipe() as empty, Pipe() as target:
        call = Call(splice, empty.read_end, target.write_end, 10)
        with pytest.raises(AssertionError, match="waits for what has happened already"), call:
            call.result()
        assert not call.thread.is_alive()


def test_call_of_a_thread_has_time_while_the_machine_is_busy(busy: None) -> None:
    with Pipe() as source, Pipe() as target, Call(splice, source.read_end, target.write_end, 10) as call:
        timer = threading.Timer(0.7, os.write, (source.write_end, b"late"))
        timer.start()
        assert call.result() == 4
        timer.join()
