"""QEMU's monitor (QMP): one command at a time, each with a deadline.

The protocol is QEMU's docs/interop/qmp-spec: JSON objects, one a line; the first is a greeting with the version, and
between a command and its answer there may be events.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

# An answer is some hundred bytes, a greeting more; QEMU that runs a guest which broke out may send anything.
_LONGEST = 1 << 20


class MonitorError(Exception):
    """QEMU refused a command, said what is no answer, or did not say anything in time; in one line."""


class Monitor:
    """The controlling end of a QEMU's monitor.

    Args:
        connection: a connected Unix socket, of which QEMU has the other end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self.version = ""

    def greet(self, due: float) -> str:
        """Take QEMU's greeting and leave the state in which it takes no commands; return its version and package.

        Args:
            due: monotonic time until which all of it must have happened.

        Raises:
            MonitorError: it did not.
        """
        greeting = self._next(due)
        try:
            number = greeting["QMP"]["version"]["qemu"]
            package = greeting["QMP"]["version"]["package"]
            self.version = f"{number['major']}.{number['minor']}.{number['micro']} {package}".strip()
        except (KeyError, TypeError) as error:
            raise MonitorError("QEMU's monitor does not greet") from error
        self.execute("qmp_capabilities", due)
        return self.version

    def execute(self, command: str, due: float, descriptor: int | None = None, **arguments: object) -> Any:
        """Give a command and return its answer.

        Args:
            command: its name.
            due: monotonic time until which it must be answered.
            descriptor: passed along with it (``getfd``).
            arguments: its arguments; ``_`` in a name stands for ``-``.

        Raises:
            MonitorError: QEMU refused it, with its own words, or did not answer in time.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        line = json.dumps({"execute": command, "arguments": named}).encode() + b"\n"
        try:
            self._connection.settimeout(_left(due))
            if descriptor is None:
                self._connection.sendall(line)
            else:
                socket.send_fds(self._connection, [line], [descriptor])
        except OSError as error:
            raise MonitorError(f"QEMU's monitor does not take {command}: {error}") from error
        while True:
            answer = self._next(due)
            if "error" in answer:
                raise MonitorError(f"QEMU refuses {command}: {_words(answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def _next(self, due: float) -> dict[str, Any]:
        """Return the next object that QEMU sends."""
        while b"\n" not in self._received:
            try:
                self._connection.settimeout(_left(due))
                data = self._connection.recv(1 << 16)
            except TimeoutError as error:
                raise MonitorError("QEMU's monitor does not answer") from error
            except OSError as error:
                raise MonitorError(f"QEMU's monitor is gone: {error}") from error
            if not data:
                raise MonitorError("QEMU's monitor is gone")
            self._received += data
            if len(self._received) > _LONGEST:
                raise MonitorError("QEMU's monitor says too much")
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        try:
            said = json.loads(line)
        except ValueError as error:
            raise MonitorError("QEMU's monitor says what is no JSON") from error
        if not isinstance(said, dict):
            raise MonitorError("QEMU's monitor says what is no object")
        return said


def _left(due: float) -> float:
    """Return the seconds until ``due``; a timeout of 0 would mean not to wait at all, and fail otherwise."""
    return max(due - time.monotonic(), 0.001)


def _words(error: object) -> str:
    said = error.get("desc") if isinstance(error, dict) else error
    return str(said).splitlines()[0] if str(said) else "without a word"
