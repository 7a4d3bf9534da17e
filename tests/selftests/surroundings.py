"""What the tests reach besides socket calls while a stub is in the kernel's place: answers of no use, and no harm done.

The machine's own kernel must not be changed by tests that set sysctls, load modules or make algorithms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tests.afalg
from tests.afalg import Socket, compat, keys, many, pipes
from tests.afalg.aio import Context, Event, Iocb
from tests.afalg.netlink import Algorithm, CryptoNetlink
from tests.afalg.registers import Registers
from tests.afalg.sockets import Source
from tests.afalg.uring import Completion, Request, Ring
from tests.algorithms import modules
from tests.errors import held, leaks
from tests.requests import pins

SECONDS = 1
"""That a test may take: what waits for an event that no stub makes has failed."""


def install(recv: Callable[[Socket, int], bytes]) -> None:
    """Replace them all.

    Args:
        recv: what the stub gives for a read of so many bytes.
    """
    _splices()
    _rings()
    _others(recv)
    _host()


def _put(target: object, **functions: object) -> None:
    for name, function in functions.items():
        setattr(target, name, function)


def _nothing(*arguments: object, **options: object) -> None:
    return None


def _splices() -> None:
    def splice(source: object, target: object, length: int, *arguments: object, **options: object) -> int:
        if isinstance(target, int):
            os.write(target, bytes(min(length, 4096)))  # a pipe that somebody will read
        return length

    def vmsplice(pipe: object, buffers: Sequence[Source], *arguments: object, **options: object) -> int:
        return sum(buffer.length if hasattr(buffer, "length") else len(buffer) for buffer in buffers)

    for module in (tests.afalg, pipes):
        _put(module, splice=splice, vmsplice=vmsplice, tee=splice, sendfile=splice)


def _rings() -> None:
    """io_uring and AIO: everything is done at once, with as many bytes as it has."""

    def made(self: Any, size: int = 8) -> None:
        self.done = []

    def length(buffer: object) -> int:
        return buffer.length if hasattr(buffer, "length") else len(buffer) if hasattr(buffer, "__len__") else 0

    def submit(self: Any, requests: Sequence[Request], wait: int = 0, *, seconds: float | None = None) -> int:
        self.done += [Completion(request.data, length(request.buffer), 0) for request in requests]
        return len(requests)

    def submit_aio(self: Any, requests: Sequence[Iocb], *, seconds: float | None = None) -> int:
        self.done += [Event(request.data, length(request.buffer)) for request in requests]
        return len(requests)

    def take(self: Any, *arguments: object, **options: object) -> list[object]:
        done, self.done = self.done, []
        return list(done)

    _put(Ring, __init__=made, submit=submit, wait=take, completions=take, operations=lambda _: set(range(64)))
    _put(Ring, register_buffers=_nothing, unregister_buffers=_nothing, close=_nothing)
    _put(Context, __init__=made, submit=submit_aio, events=take, cancel=_nothing, close=_nothing)


def _others(recv: Callable[[Socket, int], bytes]) -> None:
    def sendmmsg(sock: Socket, messages: Sequence[tuple[Source, bytes]], *_: object, **__: object) -> list[int]:
        return [sock.send(data) for data, _control in messages]

    def recvmmsg(sock: Socket, sizes: Sequence[int], *_: object, **__: object) -> list[bytes]:
        return [recv(sock, size) for size in sizes]

    def call(self: Registers, number: int, *arguments: object) -> tuple[int, list[str]]:
        return 0, []

    _put(many, sendmmsg=sendmmsg, recvmmsg=recvmmsg)

    def getsockopt(self: Socket, option: int, size: int = 4, **_: object) -> bytes:
        return bytes(size)

    _put(Socket, getsockopt=getsockopt, poll=lambda *_, **__: 0)
    _put(compat.Compat, call=lambda *_: 0)
    _put(Registers, call=call)
    _put(keys, _syscall=lambda *_: 1, _keyctl=lambda *_: 0)
    fields: dict[str, Any] = {name: _empty(kind) for name, kind in Algorithm.__annotations__.items()}
    nobody = Algorithm(**fields)
    _put(CryptoNetlink, __init__=_nothing, request=lambda *_, **__: [], get=lambda *_, **__: nobody)
    _put(CryptoNetlink, dump=lambda _: [], close=_nothing)


def _empty(kind: object) -> object:
    return {"int": 0, "str": "", "bytes": b""}.get(str(kind), {})


def _host() -> None:
    """Nothing of this machine is written to, no program of it run; what is held on it is not looked at."""
    run, write = subprocess.run, Path.write_text

    def only_python(command: Any, *arguments: Any, **options: Any) -> Any:
        if command[0] == sys.executable:
            return run(command, *arguments, **options)
        return subprocess.CompletedProcess(command, 1, "", "")

    def only_files(self: Path, *arguments: Any, **options: Any) -> int:
        if str(self).startswith(("/proc/", "/sys/")):
            return 0
        return write(self, *arguments, **options)

    def too_long(*_: object) -> None:
        raise TimeoutError("nothing happened")

    _put(subprocess, run=only_python)
    _put(Path, write_text=only_files)
    same = held.Held(frozenset(), "", "", "", "", "")
    for module in (held, leaks):
        _put(module, held=lambda: same, sockets_in_use=lambda: "")
    _put(pins, pinned=lambda: 0)
    _put(modules, load_all=lambda: ())
    signal.signal(signal.SIGALRM, too_long)


__all__ = ["SECONDS", "install"]
