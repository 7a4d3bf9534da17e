"""The sizes of the socket's buffers: how much it holds, how much it writes at a time. What is cut short goes on later.

The send buffer limits what waits to be read, in whole pages, one at least; the receive buffer what of a result one
request writes (af_alg_sndbuf and af_alg_rcvbuf in include/crypto/if_alg.h).
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.afalg import Pipe, splice
from tests.afalg.buffers import pages_of, set_receive_buffer, set_send_buffer
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE, SO_RCVBUF, SO_SNDBUF, SPLICE_F_MORE
from tests.errors.raises import raises_errno
from tests.splice.cases import PAGE
from tests.splice.sources import ROOM
from tests.splice.targets import TAG, TARGETS, check

SMALLEST, LARGE = 2, 1 << 19
SIZES = [SMALLEST, PAGE - 2, 2 * PAGE, 2 * PAGE + 2, 5 * PAGE, LARGE]
FORCED = {LARGE}
"""Beyond what the administrator allows everybody (net.core.wmem_max, rmem_max)."""

each_size = pytest.mark.parametrize("size", SIZES)
each_cipher = pytest.mark.parametrize("name", ["ctr(aes)", "gcm(aes)-seal"])


@each_size
@each_cipher
def test_send_takes_what_the_send_buffer_has_room_for(name: str, size: int) -> None:
    """All of it and no byte more; the rest can be sent once that is read (af_alg_sndbuf in include/crypto/if_alg.h)."""
    target = TARGETS[name]
    with target.open() as transform:
        op = transform.op
        set_send_buffer(op, size, force=size in FORCED)
        set_receive_buffer(op, LARGE + PAGE, force=True)
        room = pages_of(op, SO_SNDBUF)
        stream = target.stream(room + 3 * PAGE + 1)
        op.sendmsg([], target.control, MSG_MORE)
        assert op.send(stream, MSG_DONTWAIT | MSG_MORE) == room
        with raises_errno(errno.EAGAIN):
            op.send(stream[room:], MSG_DONTWAIT)
        op.send(b"")
        check(op, target.size_of(stream[:room]), target.result(stream[:room]))
        target.works(op)


@each_size
def test_stream_through_a_small_send_buffer_is_whole(size: int) -> None:
    """Sent, and read, whenever there is room: nothing is lost or doubled (af_alg_writable)."""
    target = TARGETS["ctr(aes)"]
    with target.open() as transform:
        op = transform.op
        set_send_buffer(op, size, force=size in FORCED)
        stream = target.stream(min(3 * pages_of(op, SO_SNDBUF), 300 * PAGE) + 77)
        op.sendmsg([], target.control, MSG_MORE)
        got, sent = b"", 0
        while sent < len(stream):
            sent += op.send(stream[sent:], MSG_DONTWAIT | MSG_MORE)
            whole = (sent - len(got)) // 16 * 16
            got += op.recv(whole, MSG_DONTWAIT)
        op.send(b"")
        got += op.recv(len(stream) - len(got))
        assert got == target.result(stream)


@each_size
@pytest.mark.parametrize("name", ["ctr(aes)"])
def test_stream_spliced_through_a_small_send_buffer_is_whole(name: str, size: int) -> None:
    """The same out of a pipe: what the socket did not take is still there (splice(2))."""
    target = TARGETS[name]
    stream = target.stream(11 * PAGE + 77)
    with target.open() as transform, Pipe(ROOM) as pipe:
        op = transform.op
        set_send_buffer(op, size, force=size in FORCED)
        os.set_blocking(op.fd, False)
        op.sendmsg([], target.control, MSG_MORE)
        os.write(pipe.write_end, stream)
        got, sent = b"", 0
        while sent < len(stream):
            taken = splice(pipe.read_end, op, len(stream) - sent, SPLICE_F_MORE)
            assert 0 < taken <= pages_of(op, SO_SNDBUF)
            sent += taken
            got += op.recv((sent - len(got)) // 16 * 16)
        op.send(b"")
        got += op.recv(len(stream) - len(got))
        assert got == target.result(stream)


@each_size
def test_full_socket_takes_nothing_by_splice(size: int) -> None:
    """EAGAIN where it does not wait; the pipe keeps all, and the request is as it was (af_alg_wait_for_wmem)."""
    target = TARGETS["ctr(aes)"]
    with target.open() as transform, Pipe() as pipe:
        op = transform.op
        set_send_buffer(op, size, force=size in FORCED)
        os.set_blocking(op.fd, False)
        stream = target.stream(pages_of(op, SO_SNDBUF))
        op.sendmsg([], target.control, MSG_MORE)
        assert op.send(stream, MSG_MORE) == len(stream)
        os.write(pipe.write_end, b"more than fits")
        with raises_errno(errno.EAGAIN):
            splice(pipe.read_end, op, 14)
        assert os.read(pipe.read_end, 20) == b"more than fits"
        op.send(b"")
        assert op.recv(len(stream)) == target.result(stream)


@each_size
@pytest.mark.parametrize("name", ["cbc(aes)", "ctr(aes)"])
def test_result_of_a_cipher_is_whole_whatever_the_receive_buffer(name: str, size: int) -> None:
    """It is written a buffer at a time, in one recv (skcipher_recvmsg, af_alg_rcvbuf)."""
    target = TARGETS[name]
    stream = target.stream(20 * PAGE + 16)
    with target.open() as transform:
        op = transform.op
        set_receive_buffer(op, size, force=size in FORCED)
        op.sendmsg([stream], target.control)
        check(op, len(stream), target.result(stream))


@each_size
def test_sealed_message_as_long_as_the_receive_buffer_is_one(size: int) -> None:
    """What fits is sealed at once; what is longer need not be one message (tests/regressions; af_alg_readable).

    Of a long buffer 16 pages are taken at a time, and in the end less than a page of room is none.
    """
    target = TARGETS["gcm(aes)-seal"]
    with target.open() as transform:
        op = transform.op
        set_receive_buffer(op, size, force=size in FORCED)
        set_send_buffer(op, LARGE + PAGE, force=True)
        room = pages_of(op, SO_RCVBUF)
        stream = target.stream(room - TAG - (PAGE if room > 16 * PAGE else 0))
        op.sendmsg([stream], target.control)
        check(op, len(stream) + TAG, target.result(stream))
        target.works(op)


@pytest.mark.parametrize("name", ["sha256", "hmac(sha256)"])
@pytest.mark.parametrize("size", SIZES)
def test_hash_takes_any_length_whatever_the_buffers(name: str, size: int) -> None:
    """It keeps nothing; the send buffer only says how much it takes in at a time (max_pages in hash_sendmsg)."""
    target = TARGETS[name]
    stream = target.stream(20 * PAGE + 5)
    with target.open() as transform, Pipe(ROOM) as pipe:
        op = transform.op
        set_send_buffer(op, size, force=size in FORCED)
        set_receive_buffer(op, size, force=size in FORCED)
        half = len(stream) // 2
        assert op.send(stream[:half], MSG_MORE | MSG_DONTWAIT) == half
        os.write(pipe.write_end, stream[half:])
        assert splice(pipe.read_end, op, len(stream) - half) == len(stream) - half
        check(op, 32, target.result(stream))
