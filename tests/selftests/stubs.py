"""A pytest plugin that puts a stub in the kernel's place: ``-p tests.selftests.stubs --stub zeros``.

The socket calls of the binding are replaced; what is above them runs as ever. Nothing may pass (test_quality.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import pytest

import tests.afalg
from tests.afalg import Socket
from tests.afalg.sockets import Received, Source, Target
from tests.algorithms import modules

STUBS = ("enoent", "zeros", "echo", "short")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stub", choices=STUBS, required=True, help="what answers instead of the kernel")
    parser.addoption(
        "--every-nth", type=int, default=1, metavar="N", help="run only every Nth case, and the first of each test"
    )


def pytest_configure(config: pytest.Config) -> None:
    install(config.getoption("--stub"))


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
    room for, ``echo`` what was sent, ``short`` nothing at all.
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
        answer = {"zeros": bytes(room), "echo": data[:room], "short": b""}[stub]
        rest = answer
        for buffer in buffers:
            if not isinstance(buffer, tuple):
                piece, rest = rest[: len(buffer)], rest[len(buffer) :]
                memoryview(buffer)[: len(piece)] = piece
        return Received(len(answer), 0, b"")

    def splice(source: object, target: object, length: int, *arguments: object, **options: object) -> int:
        if isinstance(target, int):
            os.write(target, bytes(min(length, 4096)))  # a pipe that somebody will read
        return length

    for name, function in (("create", classmethod(create)), ("bind_raw", bind_raw), ("accept", accept)):
        setattr(Socket, name, function)
    for name, method in (("setsockopt", ignore), ("sendmsg", sendmsg), ("recvmsg", recvmsg)):
        setattr(Socket, name, method)
    for name in ("splice", "vmsplice", "tee", "sendfile"):
        setattr(tests.afalg, name, splice)
    # The host's own modules and /proc/crypto are no part of this.
    modules.load_all = lambda: ()  # type: ignore[assignment]
