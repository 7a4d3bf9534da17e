"""One request in a ring at a time, and what a kernel's io_uring can do."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence

from tests.afalg.constants import SOL_SOCKET
from tests.afalg.uring import (
    ACCEPT_MULTISHOT,
    FEAT_RECVSEND_BUNDLE,
    IOSQE_BUFFER_SELECT,
    OP_ACCEPT,
    OP_PROVIDE_BUFFERS,
    OP_RECV,
    RECV_MULTISHOT,
    SOCKET_GETSOCKOPT,
    BufferRing,
    Completion,
    Request,
    Ring,
    socket_command,
)
from tests.need import need_ring, older

NO_OFFSET = (1 << 64) - 1
SO_TYPE = 3


def done(ring: Ring, request: Request) -> int:
    """Return the result of one request, alone in the ring."""
    return completed(ring, request).result


def completed(ring: Ring, request: Request) -> Completion:
    """Return the completion of one request, alone in the ring."""
    ring.submit([request], wait=1)
    (completion,) = ring.completions()
    return completion


def need_operation(ring: Ring, operation: int, name: str) -> None:
    """Skip the test where the kernel's io_uring says that it lacks the operation, and refuses a request of it."""
    if operation not in ring.operations():
        assert done(ring, Request(operation)) == -errno.EINVAL, "not listed, and all the same not refused"
        older(f"kernel's io_uring has no {name}")


def need_socket_commands() -> None:
    """Skip the test where a socket that is none of AF_ALG's cannot be asked for its type by OP_URING_CMD.

    They came with Linux 6.7, at first for protocols with an ioctl of their own: UDP has one, AF_UNIX and AF_ALG do not.
    """
    if _type_by_command(socket.AF_UNIX):
        return
    if _type_by_command(socket.AF_INET):
        older("kernel's io_uring has no commands for sockets without an ioctl")
    older("kernel's io_uring has no commands for sockets")


def _type_by_command(family: socket.AddressFamily) -> bool:
    """Whether SOCKET_URING_OP_GETSOCKOPT gives a socket's type; False as well where there is no such family."""
    value = bytearray(4)
    try:
        other = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return False
    with need_ring(2) as ring, other:
        result = done(ring, socket_command(SOCKET_GETSOCKOPT, other.fileno(), SOL_SOCKET, SO_TYPE, value))
    if result != len(value):
        assert result in (-errno.EINVAL, -errno.EOPNOTSUPP)
        return False
    assert int.from_bytes(value, sys.byteorder) == socket.SOCK_DGRAM
    return True


def need_multishot_accept() -> None:
    """Skip the test where a listening socket that is none of AF_ALG's is refused, to which nobody connects."""
    with socket.socket(socket.AF_UNIX) as other, need_ring(2) as ring:
        other.bind("")
        other.listen()
        _refused(ring, Request(OP_ACCEPT, other.fileno(), priority=ACCEPT_MULTISHOT), "multishot ACCEPT")


def need_multishot_recv() -> None:
    """Skip the test where a socket that is none of AF_ALG's is refused, to which nobody sends."""
    one, other = socket.socketpair()
    with one, other, need_ring(2) as ring:
        provide(ring, [bytearray(1)], 0)
        _refused(ring, multishot_recv(one.fileno(), 0), "multishot RECV")


def multishot_recv(fd: int, group: int, data: int = 0) -> Request:
    """Return a request for all that comes, each time into another buffer of the group."""
    return Request(OP_RECV, fd, priority=RECV_MULTISHOT, flags=IOSQE_BUFFER_SELECT, group=group, data=data)


def provide(ring: Ring, buffers: Sequence[bytearray], group: int) -> None:
    """IORING_OP_PROVIDE_BUFFERS: let the kernel take these, whose ids are their places in the sequence."""
    for at, buffer in enumerate(buffers):
        # The number of buffers goes where others have a descriptor, the first id where they have an offset.
        assert done(ring, Request(OP_PROVIDE_BUFFERS, 1, buffer, offset=at, group=group)) >= 0


def _refused(ring: Ring, request: Request, name: str) -> None:
    ring.submit([request])
    for completion in ring.completions():
        assert completion.result == -errno.EINVAL
        older(f"kernel's io_uring has no {name}")


def need_buffer_ring(ring: Ring, buffers: BufferRing, group: int) -> None:
    """Register a ring of buffers, or skip the test where the kernel has no such rings."""
    try:
        ring.register_buffer_ring(buffers, group)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        older("kernel's io_uring has no buffer rings")


def need_bundles(ring: Ring) -> None:
    """Skip the test where the kernel says that one request cannot take several buffers."""
    if not ring.features & FEAT_RECVSEND_BUNDLE:
        older("kernel's io_uring has no bundles")
