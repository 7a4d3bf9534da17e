"""The kernel's sockets as the endpoint of a sequence, in two kinds: one that never waits, and one that does.

Thousands of short sequences take the first: it is Python's own socket class, an order of magnitude cheaper than the
binding, and needs no deadline because every call has MSG_DONTWAIT. Where a call would wait it then gives EAGAIN or a
part, so that the two tell the same.
"""

from __future__ import annotations

import os
import select
import socket

from tests.afalg import Pipe, Socket, Transform, splice
from tests.afalg.constants import AF_ALG, MSG_DONTWAIT, MSG_MORE, SOCK_SEQPACKET, SOL_ALG, SOL_SOCKET, SPLICE_F_MORE
from tests.requests.steps import Control

SO_SNDBUF = 7


class WaitingEndpoint:
    """The binding's sockets: a call waits when it is told to, and has a deadline.

    Args:
        transform: owned by the caller.
    """

    def __init__(self, transform: Transform) -> None:
        self._tfm = transform.tfm
        self._op: Socket | None = None
        self._pipe = Pipe()

    @property
    def op(self) -> Socket:
        """The op socket, accepted when first asked for."""
        if self._op is None:
            self._op = self._tfm.accept()
        return self._op

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int:
        flags = (MSG_MORE if more else 0) | (0 if wait else MSG_DONTWAIT)
        return self.op.sendmsg([data] if data else [], control.packed() if control else b"", flags)

    def splice(self, data: bytes, more: bool) -> int:
        os.write(self._pipe.write_end, data)
        try:
            return splice(self._pipe.read_end, self.op, len(data), SPLICE_F_MORE if more else 0)
        except OSError:
            # What was refused stays in the pipe.
            os.read(self._pipe.read_end, len(data))
            raise

    def recv(self, size: int, wait: bool) -> bytes:
        return self.op.recv(size, 0 if wait else MSG_DONTWAIT)

    def poll(self) -> int:
        return self.op.poll()

    def clone(self) -> None:
        clone = self.op.accept()
        self.close()
        self._op = clone

    def close(self) -> None:
        if self._op is not None:
            self._op.close()
            self._op = None

    def set_key(self, key: bytes) -> None:
        self._tfm.set_key(key)

    def __enter__(self) -> WaitingEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._pipe.close()


class PromptEndpoint:
    """Python's sockets, none of whose calls waits.

    Args:
        transform: owned by the caller.
        sndbuf: SO_SNDBUF of each op socket; None leaves the default.
    """

    def __init__(self, transform: Transform, sndbuf: int | None = None) -> None:
        self._transform = transform
        self._tfm = socket.socket(AF_ALG, SOCK_SEQPACKET, 0, fileno=os.dup(transform.tfm.fd))
        self._sndbuf = sndbuf
        self._op: socket.socket | None = None
        self._poll = select.poll()
        self._pipe = Pipe()

    @property
    def op(self) -> socket.socket:
        """The op socket, accepted when first asked for."""
        return self._op or self._accepted(self._tfm)

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int:
        flags = MSG_MORE | MSG_DONTWAIT if more else MSG_DONTWAIT
        if control is None:
            return self.op.send(data, flags)
        return self.op.sendmsg([data], [(SOL_ALG, type_, value) for type_, value in control.messages()], flags)

    def splice(self, data: bytes, more: bool) -> int:
        os.write(self._pipe.write_end, data)
        try:
            return os.splice(self._pipe.read_end, self.op.fileno(), len(data), flags=SPLICE_F_MORE if more else 0)
        except OSError:
            os.read(self._pipe.read_end, len(data))
            raise

    def recv(self, size: int, wait: bool) -> bytes:
        # Python's recv(0) is no system call.
        return self.op.recv(size, MSG_DONTWAIT) if size else self.op.recvmsg(0, 0, MSG_DONTWAIT)[0]

    def poll(self) -> int:
        self.op  # noqa: B018
        ready = self._poll.poll(0)
        return ready[0][1] if ready else 0

    def clone(self) -> None:
        original = self.op
        self._accepted(original)
        original.close()

    def close(self) -> None:
        if self._op is not None:
            self._poll.unregister(self._op)
            self._op.close()
            self._op = None

    def set_key(self, key: bytes) -> None:
        self._transform.tfm.set_key(key)

    def __enter__(self) -> PromptEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._pipe.close()
        self._tfm.close()

    def _accepted(self, parent: socket.socket) -> socket.socket:
        op, _ = parent.accept()
        # A splice has no flag that keeps it from waiting.
        op.setblocking(False)
        if self._sndbuf is not None:
            op.setsockopt(SOL_SOCKET, SO_SNDBUF, self._sndbuf)
        if self._op is not None:
            self._poll.unregister(self._op)
        self._poll.register(op, 0x7FFF)
        self._op = op
        return op
