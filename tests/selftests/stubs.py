"""A pytest plugin that puts a stub in the kernel's place: ``-p tests.selftests.stubs --stub zeros``.

The socket calls of the binding are replaced; what is above them runs as ever. Nothing may pass (test_quality.py).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Generator, Sequence

import pytest

from tests.afalg import Socket
from tests.afalg.sockets import Received, Source, Target
from tests.selftests import surroundings

STUBS = ("enoent", "zeros", "echo", "short", "random")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stub", choices=STUBS, required=True, help="what answers instead of the kernel")
    parser.addoption(
        "--every-nth", type=int, default=1, metavar="N", help="run only every Nth case, and the first of each test"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Put it there before any conftest.py or test imports a function."""
    install(early_config.known_args_namespace.stub)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """End what waits for something that no stub does."""
    signal.setitimer(signal.ITIMER_REAL, surroundings.SECONDS)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first case of every test, and of all cases every Nth."""
    nth, seen = config.getoption("--every-nth"), set[object]()
    kept = []
    for number, item in enumerate(items):
        test = getattr(item, "function", item)
        if test not in seen or number % nth == 0:
            kept.append(item)
        seen.add(test)
    items[:] = kept


def install(stub: str) -> None:
    """Replace every call of Socket, and splice and its like, before a test module imports them.

    ``enoent`` has no algorithm. The others accept everything and return: ``zeros`` as many zero bytes as there is
    room for, ``random`` as many random ones, ``echo`` what was sent, ``short`` nothing at all.
    """
    sent: dict[int, bytes] = {}

    def create(cls: type[Socket], type_: int = 0, protocol: int = 0) -> Socket:
        return cls(os.open(os.devnull, os.O_RDWR))

    def bind_raw(self: Socket, address: Source, length: int | None = None) -> None:
        if stub == "enoent":
            raise OSError(errno.ENOENT, "stub")

    def accept(self: Socket, flags: int = 0, *, address: bool = False) -> Socket:
        return Socket(os.open(os.devnull, os.O_RDWR))

    def ignore(self: Socket, *arguments: object, **options: object) -> None:
        return None

    def sendmsg(self: Socket, buffers: Sequence[Source], *arguments: object, **options: object) -> int:
        data = b"".join(bytes(buffer) for buffer in buffers if not isinstance(buffer, tuple))
        sent[self.fd] = sent.get(self.fd, b"") + data
        return len(data)

    def recvmsg(self: Socket, buffers: Sequence[Target], *arguments: object, **options: object) -> Received:
        data = sent.pop(self.fd, b"")
        room = sum(len(buffer) for buffer in buffers if not isinstance(buffer, tuple))
        answer = {"zeros": bytes(room), "echo": data[:room], "short": b"", "random": os.urandom(room)}[stub]
        rest = answer
        for buffer in buffers:
            if not isinstance(buffer, tuple):
                piece, rest = rest[: len(buffer)], rest[len(buffer) :]
                memoryview(buffer)[: len(piece)] = piece
        return Received(len(answer), 0, b"")

    for name, function in (("create", classmethod(create)), ("bind_raw", bind_raw), ("accept", accept)):
        setattr(Socket, name, function)
    for name, method in (("setsockopt", ignore), ("sendmsg", sendmsg), ("recvmsg", recvmsg)):
        setattr(Socket, name, method)
    surroundings.install(Socket.recv)
