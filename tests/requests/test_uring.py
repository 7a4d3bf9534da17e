"""io_uring on AF_ALG sockets: every operation gives what the system call of its name does, in the completion."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

import pytest

from tests.afalg import Pipe, Pointer, Socket, sockaddr_alg
from tests.afalg.constants import AF_ALG, MSG_DONTWAIT, MSG_MORE, SOCK_SEQPACKET
from tests.afalg.memory import Memory
from tests.afalg.uring import (
    IOSQE_IO_LINK,
    OP_ACCEPT,
    OP_ASYNC_CANCEL,
    OP_BIND,
    OP_CLOSE,
    OP_POLL_ADD,
    OP_READ,
    OP_READV,
    OP_RECV,
    OP_RECVMSG,
    OP_SEND,
    OP_SENDMSG,
    OP_SOCKET,
    OP_SPLICE,
    OP_WRITE,
    OP_WRITEV,
    Completion,
    Message,
    Request,
    Ring,
)
from tests.errors.subjects import (
    AEAD,
    HASH,
    RNG,
    SKCIPHER,
    Subject,
    each_keyed_type,
    each_queued_type,
    each_type,
)
from tests.requests.rings import NO_OFFSET, done, need_operation

RECV, CANCEL = 7, 8


def by_sendmsg(ring: Ring, op: Socket, subject: Subject) -> None:
    message = Message([subject.message[:3], subject.message[3:]], subject.control)
    request = Request(OP_SENDMSG, op.fd, address=message.address, length=1)
    assert done(ring, request) == len(subject.message)


def by_send(ring: Ring, op: Socket, subject: Subject) -> None:
    op.sendmsg([], subject.control, MSG_MORE)
    assert done(ring, Request(OP_SEND, op.fd, subject.message[:20], op_flags=MSG_MORE)) == 20
    assert done(ring, Request(OP_SEND, op.fd, subject.message[20:])) == len(subject.message) - 20


def by_write(ring: Ring, op: Socket, subject: Subject) -> None:
    op.sendmsg([], subject.control, MSG_MORE)
    assert done(ring, Request(OP_WRITE, op.fd, subject.message, offset=NO_OFFSET)) == len(subject.message)


def by_writev(ring: Ring, op: Socket, subject: Subject) -> None:
    op.sendmsg([], subject.control, MSG_MORE)
    vector = Message([subject.message[:3], subject.message[3:]])
    request = Request(OP_WRITEV, op.fd, address=vector.vector, length=2, offset=NO_OFFSET)
    assert done(ring, request) == len(subject.message)


def by_splice(ring: Ring, op: Socket, subject: Subject) -> None:
    op.sendmsg([], subject.control, MSG_MORE)
    with Pipe() as pipe:
        os.write(pipe.write_end, subject.message)
        assert done(ring, splicing(pipe.read_end, op.fd, len(subject.message))) == len(subject.message)


def splicing(source: int, target: int, length: int) -> Request:
    return Request(OP_SPLICE, target, address=NO_OFFSET, length=length, offset=NO_OFFSET, splice_fd_in=source)


def to_recv(ring: Ring, op: Socket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: done(ring, Request(OP_RECV, op.fd, buffer))])


def to_recvmsg(ring: Ring, op: Socket, size: int) -> bytes:
    parts = [bytearray(5), bytearray(size - 5)]
    message = Message(parts)
    size = done(ring, Request(OP_RECVMSG, op.fd, address=message.address, length=1))
    return b"".join(parts)[:size]


def to_read(ring: Ring, op: Socket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: done(ring, Request(OP_READ, op.fd, buffer, offset=NO_OFFSET))])


def to_readv(ring: Ring, op: Socket, size: int) -> bytes:
    parts = [bytearray(5), bytearray(size - 5)]
    vector = Message(parts)
    size = done(ring, Request(OP_READV, op.fd, address=vector.vector, length=2, offset=NO_OFFSET))
    return b"".join(parts)[:size]


def to_splice(ring: Ring, op: Socket, size: int) -> bytes:
    with Pipe() as pipe:
        return os.read(pipe.read_end, max(done(ring, splicing(op.fd, pipe.write_end, size)), 1))


IN: dict[str, Callable[[Ring, Socket, Subject], None]] = {
    "SENDMSG": by_sendmsg,
    "SEND": by_send,
    "WRITE": by_write,
    "WRITEV": by_writev,
    "SPLICE": by_splice,
}
OUT: dict[str, Callable[[Ring, Socket, int], bytes]] = {
    "RECV": to_recv,
    "RECVMSG": to_recvmsg,
    "READ": to_read,
    "READV": to_readv,
    "SPLICE": to_splice,
}


@each_keyed_type
@pytest.mark.parametrize("way_in", IN)
def test_request_by_every_way_in(subject: Subject, way_in: str, ring: Ring) -> None:
    """io_uring_enter(2): each operation that sends or writes ends in the socket's sendmsg (io_uring/net.c, rw.c)."""
    with subject.open() as transform:
        IN[way_in](ring, transform.op, subject)
        subject.finish(transform.op)


@each_keyed_type
@pytest.mark.parametrize("way_out", OUT)
def test_result_by_every_way_out(subject: Subject, way_out: str, ring: Ring) -> None:
    """io_uring_enter(2): each operation that receives or reads ends in the socket's recvmsg (io_uring/net.c, rw.c)."""
    with subject.open() as transform:
        subject.begin(transform.op)
        assert OUT[way_out](ring, transform.op, len(subject.answer)) == subject.result


@pytest.mark.parametrize("way_out", OUT)
def test_random_bytes_by_every_way_out(way_out: str, ring: Ring) -> None:
    """io_uring_enter(2): each way ends in rng_recvmsg (crypto/algif_rng.c), and gives bytes of its own."""
    with RNG.open() as rng:
        first, second = (OUT[way_out](ring, rng.op, 32) for _ in range(2))
    assert len(first) == len(second) == 32
    assert len({first, second, bytes(32)}) == 3


@each_type
def test_accept_gives_an_op_socket(subject: Subject, ring: Ring) -> None:
    """IORING_OP_ACCEPT (io_uring_enter(2)) is accept4(2): af_alg_accept makes the socket."""
    with subject.open() as transform, Socket(done(ring, Request(OP_ACCEPT, transform.tfm.fd))) as op:
        subject.works(op)


def test_accept_gives_a_clone(ring: Ring) -> None:
    """Of the op socket of a hash, as accept(2) does."""
    with HASH.open() as tfm:
        tfm.op.send(HASH.message[:9], MSG_MORE)
        with Socket(done(ring, Request(OP_ACCEPT, tfm.op.fd))) as clone:
            for op in (clone, tfm.op):
                op.send(HASH.message[9:])
                HASH.finish(op)


def test_socket_and_close(ring: Ring) -> None:
    """IORING_OP_SOCKET, Linux 5.19: a tfm socket as socket(2) makes it."""
    need_operation(ring, OP_SOCKET, "SOCKET")
    with Socket(done(ring, Request(OP_SOCKET, AF_ALG, offset=SOCK_SEQPACKET))) as tfm:
        tfm.bind("hash", "sha256")
        with tfm.accept() as op:
            assert op.recv(32).hex().startswith("e3b0c442"), "FIPS 180-4: the digest of nothing"
        assert done(ring, Request(OP_CLOSE, tfm.fd)) == 0
        tfm.fd = -1
    assert done(ring, Request(OP_SOCKET, AF_ALG, offset=SOCK_SEQPACKET, length=5)) == -errno.EPROTONOSUPPORT


def test_bind(ring: Ring) -> None:
    """IORING_OP_BIND, Linux 6.11: bind(2), errors and all."""
    need_operation(ring, OP_BIND, "BIND")
    good = sockaddr_alg("hash", "sha256")
    with Socket.create() as tfm, Memory(1) as memory:
        memory.write(0, good)
        memory.write(1024, sockaddr_alg("hash", "no such hash"))
        # The length of the address goes where files have an offset.
        binds = [Request(OP_BIND, tfm.fd, address=memory.address + at, offset=len(good)) for at in (0, 1024)]
        assert done(ring, binds[0]) == 0
        assert done(ring, binds[1]) == -errno.ENOENT
        with tfm.accept() as op:
            assert op.recv(32).hex().startswith("e3b0c442"), "FIPS 180-4: the digest of nothing"


# Errors --------------------------------------------------------------------------------------------------------------


@each_queued_type
def test_errors_are_in_the_completions(subject: Subject, ring: Ring) -> None:
    """io_uring_enter(2): cqe->res is the negative errno that the system call of the name would give."""
    with subject.open() as transform:
        op, size = transform.op, len(subject.answer)
        assert done(ring, Request(OP_RECV, op.fd, bytearray(16), op_flags=MSG_DONTWAIT)) == -errno.EAGAIN
        subject.begin(op)
        assert done(ring, Request(OP_SEND, op.fd, b"second message")) == -errno.EINVAL
        assert done(ring, Request(OP_RECV, op.fd, Pointer(16, size))) == -errno.EFAULT
        assert done(ring, Request(OP_READ, op.fd, bytearray(size), offset=1)) == -errno.ESPIPE
        assert done(ring, Request(OP_ACCEPT, op.fd)) == -errno.EOPNOTSUPP
        assert done(ring, Request(OP_RECV, transform.tfm.fd, bytearray(16))) == -errno.EOPNOTSUPP
        subject.finish(op)


def test_wrong_tag_is_ebadmsg(ring: Ring) -> None:
    """cqe->res is the -EBADMSG of aead_recvmsg (crypto/algif_aead.c)."""
    from tests.afalg import set_assoclen, set_iv, set_op

    forged = AEAD.answer[:-1] + bytes([AEAD.answer[-1] ^ 1])
    control = set_op(0) + set_iv(bytes.fromhex("cafebabefacedbaddecaf888")) + set_assoclen(20)
    with AEAD.open() as aead:
        aead.op.sendmsg([forged], control)
        assert done(ring, Request(OP_RECV, aead.op.fd, bytearray(len(AEAD.message)))) == -errno.EBADMSG


@each_keyed_type
def test_without_a_key_is_enokey(subject: Subject, ring: Ring) -> None:
    """cqe->res is the -ENOKEY of hash_check_key, skcipher_check_key or aead_check_key."""
    with subject.open_without_key() as transform:
        assert done(ring, Request(OP_RECV, transform.op.fd, bytearray(16))) == -errno.ENOKEY
        assert done(ring, Request(OP_SEND, transform.op.fd, b"data")) == -errno.ENOKEY


# Waiting -------------------------------------------------------------------------------------------------------------


@each_queued_type
def test_recv_completes_when_the_message_has_come(subject: Subject, ring: Ring) -> None:
    """Submitted on a socket without one, it completes by itself; nobody waits meanwhile (io_uring_enter(2))."""
    buffer = bytearray(len(subject.answer))
    with subject.open() as transform:
        transform.op.sendmsg([subject.message[:5]], subject.control, MSG_MORE)
        ring.submit([Request(OP_RECV, transform.op.fd, buffer, data=4)])
        assert ring.completions() == []
        transform.op.send(subject.message[5:])
        assert [(c.data, c.result) for c in ring.wait(1)] == [(4, len(buffer))]
    assert bytes(buffer) == subject.result


def test_recv_of_more_than_there_is_gives_what_there_is(ring: Ring) -> None:
    """Where recv(2) would wait for the rest: the first attempt does not wait, and a part is a result."""
    with SKCIPHER.open() as cipher:
        SKCIPHER.begin(cipher.op)
        assert to_recv(ring, cipher.op, 500) == SKCIPHER.result


def test_poll_of_what_is_ready(ring: Ring) -> None:
    """IORING_OP_POLL_ADD (io_uring_enter(2)) completes at once with the mask of af_alg_poll."""
    with SKCIPHER.open() as cipher:
        request = Request(OP_POLL_ADD, cipher.op.fd, op_flags=select.POLLIN | select.POLLOUT)
        assert done(ring, request) == select.POLLIN | select.POLLOUT
        cipher.op.sendmsg([], SKCIPHER.control, MSG_MORE)
        assert done(ring, request) == select.POLLOUT


def test_poll_completes_when_data_comes(ring: Ring) -> None:
    """For RDNORM: see test_readiness.py."""
    with SKCIPHER.open() as cipher:
        cipher.op.sendmsg([], SKCIPHER.control, MSG_MORE)
        ring.submit([Request(OP_POLL_ADD, cipher.op.fd, op_flags=select.POLLIN | select.POLLRDNORM)])
        assert ring.completions() == []
        cipher.op.send(bytes(16))
        (completion,) = ring.wait(1)
        assert completion.result & select.POLLRDNORM


@pytest.mark.parametrize("subject", [HASH, RNG], ids=lambda subject: subject.type_)
def test_poll_of_what_is_never_ready(subject: Subject, ring: Ring) -> None:
    """Sockets without a poll method: EINVAL (io_arm_poll_handler in io_uring/poll.c)."""
    with subject.open() as transform:
        assert done(ring, Request(OP_POLL_ADD, transform.op.fd, op_flags=select.POLLIN)) == -errno.EINVAL


# Links, cancelling, closing ------------------------------------------------------------------------------------------


def answers(completions: list[Completion]) -> dict[int, int]:
    return {completion.data: completion.result for completion in completions}


@each_keyed_type
def test_linked_requests_are_done_one_after_another(subject: Subject, ring: Ring) -> None:
    """IOSQE_IO_LINK: a message in three sends and its result, by one system call."""
    message, result = subject.message, bytearray(len(subject.answer))
    with subject.open() as transform:
        fd = transform.op.fd
        begin = Message([message[:7]], subject.control)
        ring.submit(
            [
                Request(
                    OP_SENDMSG, fd, address=begin.address, length=1, op_flags=MSG_MORE, flags=IOSQE_IO_LINK, data=1
                ),
                Request(OP_SEND, fd, message[7:20], op_flags=MSG_MORE, flags=IOSQE_IO_LINK, data=2),
                Request(OP_SEND, fd, message[20:], flags=IOSQE_IO_LINK, data=3),
                Request(OP_RECV, fd, result, data=4),
            ],
            wait=4,
        )
        assert answers(ring.completions()) == {1: 7, 2: 13, 3: len(message) - 20, 4: len(result)}
    assert bytes(result) == subject.result


@each_queued_type
def test_failure_cancels_what_is_linked_to_it(subject: Subject, ring: Ring) -> None:
    """A second message is EINVAL; the recv behind it is ECANCELED and takes nothing (io_uring_enter(2))."""
    with subject.open() as transform:
        op = transform.op
        subject.begin(op)
        ring.submit(
            [
                Request(OP_SEND, op.fd, b"second message", flags=IOSQE_IO_LINK, data=1),
                Request(OP_RECV, op.fd, bytearray(len(subject.answer)), data=2),
            ],
            wait=2,
        )
        assert answers(ring.completions()) == {1: -errno.EINVAL, 2: -errno.ECANCELED}
        subject.finish(op)


@each_queued_type
@pytest.mark.parametrize("begun", [False, True], ids=["fresh", "begun"])
def test_waiting_recv_can_be_cancelled(subject: Subject, begun: bool, ring: Ring) -> None:
    """IORING_OP_ASYNC_CANCEL: it ends with ECANCELED, or with EINTR when a worker thread waited in it.

    Asked while the request is on its way to the worker, the cancel does not find it (ENOENT), and has to be repeated.
    """
    with subject.open() as transform:
        op = transform.op
        if begun:
            op.sendmsg([subject.message[:5]], subject.control, MSG_MORE)
        ring.submit([Request(OP_RECV, op.fd, bytearray(16), data=RECV)])
        assert ring.completions() == []
        found: dict[int, int] = {}
        while RECV not in found:
            ring.submit([Request(OP_ASYNC_CANCEL, address=RECV, data=CANCEL)], wait=1)
            found |= answers(ring.completions())
            assert found.get(CANCEL, 0) in (0, -errno.EALREADY, -errno.ENOENT)
        assert found[RECV] in (-errno.ECANCELED, -errno.EINTR)
        op.sendmsg([subject.message[5:] if begun else subject.message], b"" if begun else subject.control)
        subject.finish(op)


@each_queued_type
def test_waiting_recv_outlives_its_descriptor(subject: Subject, ring: Ring) -> None:
    """close(2) does not end it: the request holds the socket, and another descriptor still feeds it."""
    buffer = bytearray(len(subject.answer))
    with subject.open() as transform, Socket(os.dup(transform.op.fd)) as duplicate:
        ring.submit([Request(OP_RECV, transform.op.fd, buffer)])
        transform.op.close()
        subject.begin(duplicate)
        assert [completion.result for completion in ring.wait(1)] == [len(buffer)]
    assert bytes(buffer) == subject.result


@each_queued_type
def test_ring_closed_while_a_recv_waits(subject: Subject, ring: Ring) -> None:
    """Closing the ring ends it; the socket goes on as before (io_uring/io_uring.c)."""
    with subject.open() as transform:
        ring.submit([Request(OP_RECV, transform.op.fd, bytearray(16))])
        assert ring.completions() == []
        ring.close()
        subject.works(transform.op)
