"""A system call in a thread of its own, and knowing that it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from tests.afalg import Socket
from tests.afalg.calls import number
from tests.afalg.deadline import IDLE_SECONDS, Rest, interrupt, patience
from tests.errors.threads import wait_until_inside_a_call

_T = TypeVar("_T")
_SECONDS = 30.0
_FUTEX = str(number("futex"))
"""By this a thread waits for the interpreter."""


class Call(Generic[_T]):
    """A call that runs while the ``with`` block does, and must have returned by its end.

    Args:
        call: a function with a deadline of its own, and its arguments.
    """

    def __init__(self, call: Callable[..., _T], *arguments: Any) -> None:
        self._value: list[_T] = []
        self._error: BaseException | None = None

        def run() -> None:
            try:
                with patience():
                    self._value.append(call(*arguments))
            except BaseException as error:
                self._error = error

        self.thread = threading.Thread(target=run, daemon=True)

    def waits(self, sock: Socket) -> None:
        """Return once the call sleeps in the kernel, in a system call on the socket."""
        wait_until_inside_a_call(self.thread, sock)

    def sleeps(self) -> None:
        """Return once the call sleeps in the kernel: not running, and not waiting for the interpreter's lock."""
        where = Path(f"/proc/self/task/{self.thread.native_id}/syscall")
        end = time.monotonic() + _SECONDS
        while (number := where.read_text().split()[0]) in ("running", _FUTEX):
            assert time.monotonic() < end, f"the thread does not sleep in a call of its own: {number}"

    def result(self) -> _T:
        """Return what the call returns, or raise what it raised.

        Whatever the call waits for has been done: where the machine is idle and it waits all the same, it has failed.
        """
        end = time.monotonic() + _SECONDS
        while self.thread.is_alive():
            rest = Rest()
            self.thread.join(IDLE_SECONDS)
            if self.thread.is_alive() and (rest.lasts() or time.monotonic() > end):
                raise AssertionError("the call waits for what has happened already")
        if self._error is not None:
            raise self._error
        return self._value[0]

    def __enter__(self) -> Call[_T]:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failure the call may never return by itself, and restarts after a single signal.
        end = time.monotonic() + _SECONDS
        while self.thread.is_alive() and time.monotonic() < end:
            self.thread.join(_SECONDS if kind is None else 0.05)
            if kind is not None:
                interrupt(self.thread)
