"""sendmmsg(2) and recvmmsg(2): several messages by one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from tests.afalg.deadline import bounded, check
from tests.afalg.sockets import Socket, Source, _libc, _message, _Msghdr


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


def sendmmsg(
    sock: Socket, messages: Sequence[tuple[Source, bytes]], flags: int = 0, *, seconds: float | None = None
) -> list[int]:
    """Send several messages, each one buffer and its control data.

    Returns:
        The bytes taken of each that was sent; the kernel stops at the first that fails.

    Raises:
        OSError: the first message failed.
    """
    vector, _keep = _vector([_message([data], control, None) for data, control in messages])
    outcome = bounded(_libc.sendmmsg, sock.fd, vector, len(messages), flags, seconds=seconds)
    done = check(outcome, "sendmmsg")
    return [vector[at].length for at in range(done)]


def recvmmsg(sock: Socket, sizes: Sequence[int], flags: int = 0, *, seconds: float | None = None) -> list[bytes]:
    """Receive several messages into buffers of these sizes.

    Returns:
        What came; the kernel stops at the first that fails.

    Raises:
        OSError: the first failed.
    """
    buffers = [bytearray(size) for size in sizes]
    vector, _keep = _vector([_message([buffer], b"", None) for buffer in buffers])
    outcome = bounded(_libc.recvmmsg, sock.fd, vector, len(sizes), flags, None, seconds=seconds)
    done = check(outcome, "recvmmsg")
    return [bytes(buffers[at][: vector[at].length]) for at in range(done)]


def _vector(made: list[tuple[_Msghdr, int, list[object]]]) -> tuple[ctypes.Array[_Mmsghdr], list[object]]:
    vector = (_Mmsghdr * len(made))(*(_Mmsghdr(header, 0) for header, _, _ in made))
    return vector, [made]


for _function in (_libc.sendmmsg, _libc.recvmmsg):
    _function.restype = ctypes.c_int
_libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_libc.recvmmsg.argtypes = [*_libc.sendmmsg.argtypes, ctypes.c_void_p]
