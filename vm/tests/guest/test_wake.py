"""What a machine becomes that goes on: one of its own, for the kernel and for Python."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from vm.guest import wake


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[object]]]:
    """Return what is done to this machine, and have nothing be done."""
    state = random.getstate()
    calls: dict[str, list[object]] = {"name": [], "clock": [], "ioctl": []}
    monkeypatch.setattr(socket, "sethostname", lambda *given: calls["name"].append(given))
    monkeypatch.setattr(time, "clock_settime", lambda *given: calls["clock"].append(given))
    monkeypatch.setattr(fcntl, "ioctl", lambda _file, *given: calls["ioctl"].append(given))
    yield calls
    random.setstate(state)


def told(entropy: bytes) -> dict[str, object]:
    return {"name": "6.12-2", "time": 1.75e9, "entropy": entropy.hex()}


def test_a_machine_has_its_own_name_and_time(done: dict[str, list[object]]) -> None:
    wake.become(told(bytes(wake.ENTROPY)))
    assert done["name"] == [("6.12-2",)]
    assert done["clock"] == [(time.CLOCK_REALTIME, 1.75e9)]


def test_the_kernel_is_given_the_bytes_as_random_and_told_to_draw_from_them(done: dict[str, list[object]]) -> None:
    """RNDADDENTROPY takes struct rand_pool_info: bits, bytes, and these; RNDRESEEDCRNG nothing (random(4))."""
    entropy = os.urandom(wake.ENTROPY)
    wake.become(told(entropy))
    add, reseed = done["ioctl"]
    assert add == (0x40085203, struct.pack("ii", 8 * wake.ENTROPY, wake.ENTROPY) + entropy)
    assert reseed == (0x5207,)


def test_an_architecture_with_other_directions_in_its_commands(
    done: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(_file: object, command: int, *given: object) -> None:
        if command not in (0x80085203, 0x20005207):
            raise OSError(errno.EINVAL, "no such command")
        done["ioctl"].append(command)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    wake.become(told(bytes(wake.ENTROPY)))
    assert done["ioctl"] == [0x80085203, 0x20005207]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_a_kernel_that_does_not_take_them_runs_no_test(
    done: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def ioctl(*_given: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match=os.strerror(number)):
        wake.become(told(bytes(wake.ENTROPY)))


def test_python_draws_other_numbers_in_each(done: dict[str, list[object]]) -> None:
    saved = random.getstate()
    drawn = []
    for number in range(2):
        random.setstate(saved)
        wake.become(told(bytes([number] * wake.ENTROPY)))
        drawn.append(random.random())
    assert drawn[0] != drawn[1]


def test_a_pause_ends_when_the_host_says_so(done: dict[str, list[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("paused"):
            # In pieces, as a port may give it.
            whole = wake.line("6.12-3", bytes(wake.ENTROPY), 1.75e9)
            theirs.sendall(whole[:10])
            theirs.sendall(whole[10:])

    with ours, theirs:
        monkeypatch.setenv("VM_WAKE_FD", str(ours.fileno()))
        wake.pause(wake.COLLECTED, say)
    assert [line.rpartition(" ")[0] for line in said[:1]] == ["paused collected"]
    assert said[1:] == ["ready"]
    assert done["name"] == [("6.12-3",)]


def test_a_host_that_is_gone_ends_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        monkeypatch.setenv("VM_WAKE_FD", str(ours.fileno()))
        with pytest.raises(SystemExit, match="the host went away"):
            wake.pause(wake.IMPORTED, lambda _line: None)


def test_a_machine_that_is_not_saved_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VM_WAKE_FD", raising=False)
    wake.pause(wake.IMPORTED, pytest.fail)
