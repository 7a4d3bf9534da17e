"""How data gets from a source into an op socket: each way there is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from tests.afalg import Pipe, Socket, sendfile, splice, tee
from tests.afalg.constants import MSG_MORE, MSG_SPLICE_PAGES, SPLICE_F_MORE
from tests.afalg.uring import OP_SPLICE, Request, Ring
from tests.errors.raises import outcome
from tests.need import need_ring
from tests.splice.sources import ROOM, Source, Zero, check_pipe, memory_into_pipe

Move = Callable[[Source, Socket, int, int, int, bool], int]
"""(source, op, start, length, flags, more): the bytes the socket took; what it did not take must still be there."""


def by_splice(source: Source, op: Socket, start: int, length: int, flags: int, more: bool) -> int:
    """Into a pipe, in the manner of the source, and from there into the socket."""
    with Pipe(ROOM) as pipe:
        source.into_pipe(pipe, start, length, flags)
        return _from_pipe(pipe, source, op, start, length, _flags(flags, more))


def by_vmsplice(source: Source, op: Socket, start: int, length: int, flags: int, more: bool) -> int:
    """The pages of memory into a pipe, and from there into the socket."""
    with Pipe(ROOM) as pipe:
        memory_into_pipe(source, pipe, start, length, flags)
        return _from_pipe(pipe, source, op, start, length, _flags(flags, more))


def by_io_uring(source: Source, op: Socket, start: int, length: int, flags: int, more: bool) -> int:
    """As by_splice, but the second step is IORING_OP_SPLICE."""
    with Pipe(ROOM) as pipe, ring() as uring:
        source.into_pipe(pipe, start, length, flags)
        request = Request(
            OP_SPLICE,
            op.fd,
            address=(1 << 64) - 1,
            offset=-1,
            length=length,
            op_flags=_flags(flags, more),
            splice_fd_in=pipe.read_end,
        )
        uring.submit([request], wait=1)
        (completion,) = uring.completions()
        if completion.result < 0:
            raise OSError(-completion.result, f"io_uring splice: {os.strerror(-completion.result)}")
        check_pipe(pipe, source.content[start + completion.result : start + length])
        return completion.result


def by_sendfile(source: Source, op: Socket, start: int, length: int, flags: int, more: bool) -> int:
    """Without a pipe of one's own. More is announced by asking for more than the file has."""
    begin = source.offset + start
    os.lseek(source.fd, begin, os.SEEK_SET)
    taken = sendfile(op, source.fd, length + more)
    moved_to = os.lseek(source.fd, 0, os.SEEK_CUR)
    # A device has no position.
    assert moved_to == begin + taken or isinstance(source, Zero), "moved on by other than what was taken"
    return taken


def by_sendmsg(source: Source, op: Socket, start: int, length: int, flags: int, more: bool) -> int:
    """MSG_SPLICE_PAGES is the kernel's own: from user space it must be as if it were not there."""
    return op.sendmsg([source.memory(start, length)], flags=MSG_SPLICE_PAGES | (MSG_MORE if more else 0))


WAYS: dict[str, Move] = {
    "splice": by_splice,
    "sendfile": by_sendfile,
    "vmsplice": by_vmsplice,
    "sendmsg": by_sendmsg,
    "io_uring": by_io_uring,
}


def splices(way: str, source: Source) -> bool:
    """Tell whether the kernel lets data out of this source in this way at all; asked without an op socket.

    Splicing out of devices came with Linux 6.5; out of huge pages it is still not there.
    """
    if not source.may_refuse or way in ("vmsplice", "sendmsg"):
        return True
    with Pipe() as pipe, open("/dev/null", "wb") as sink:
        if way == "sendfile":
            return outcome(lambda: sendfile(sink, source.fd, 1)) != errno.EINVAL
        return outcome(lambda: splice(source.fd, pipe.write_end, 1, offset_in=0)) != errno.EINVAL


def ring() -> Ring:
    """Return a ring, or skip the test where there is none."""
    return need_ring(4)


def _flags(flags: int, more: bool) -> int:
    return flags | (SPLICE_F_MORE if more else 0)


def _from_pipe(pipe: Pipe, source: Source, op: Socket, start: int, length: int, flags: int) -> int:
    """Splice all the pipe holds into the socket; a copy of its pages must not change by that."""
    if length:
        witness = source.witness(start, length)
        assert tee(pipe.read_end, witness.write_end, length) == length
    taken = splice(pipe.read_end, op, length, flags)
    check_pipe(pipe, source.content[start + taken : start + length])
    return taken
