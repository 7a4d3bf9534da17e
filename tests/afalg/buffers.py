"""The sizes of a socket's two buffers (socket(7))."""

from __future__ import annotations

import sys

from tests.afalg.constants import SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE, SOL_SOCKET
from tests.afalg.memory import PAGE
from tests.afalg.sockets import Socket


def set_send_buffer(op: Socket, size: int, *, force: bool = False) -> None:
    """Have the socket hold ``size`` bytes; of those only whole pages count, and one at least (af_alg_sndbuf).

    Args:
        force: beyond net.core.wmem_max, which needs CAP_NET_ADMIN.
    """
    _set(op, SO_SNDBUFFORCE if force else SO_SNDBUF, size)


def set_receive_buffer(op: Socket, size: int, *, force: bool = False) -> None:
    """Have one request write at most ``size`` bytes of a result at a time; see set_send_buffer."""
    _set(op, SO_RCVBUFFORCE if force else SO_RCVBUF, size)


def pages_of(op: Socket, option: int) -> int:
    """Return what the buffer of an op socket is good for, in bytes: whole pages, and one at least.

    A fresh socket has what its architecture's ``sk_buff`` makes of it (socket(7), wmem_default).

    Args:
        op: the op socket.
        option: ``SO_SNDBUF`` or ``SO_RCVBUF``.
    """
    size = int.from_bytes(op.getsockopt(option), sys.byteorder)
    return max(size // PAGE * PAGE, PAGE)


def _set(op: Socket, option: int, size: int) -> None:
    # The kernel doubles what it is told.
    op.setsockopt(option, (size // 2).to_bytes(4, sys.byteorder), level=SOL_SOCKET)
