"""Kernel AIO on op sockets: whether a request is done at once or later, its event says what a plain call returns.

Until Linux 7.2 a read of an op socket could go on after io_submit, where the algorithm was asynchronous; for
skciphers stable kernels ended that earlier. Then io_submit does all the work, and may wait as recv does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Pointer, Skcipher, Socket, set_assoclen, set_iv, set_op
from tests.afalg.aio import (
    IOCB_CMD_FSYNC,
    IOCB_CMD_POLL,
    IOCB_CMD_PREAD,
    IOCB_CMD_PREADV,
    IOCB_CMD_PWRITE,
    IOCB_CMD_PWRITEV,
    Context,
    Event,
    Iocb,
)
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_MORE
from tests.errors.raises import raises_errno
from tests.errors.subjects import HASH, RNG, SKCIPHER, Subject, each_keyed_type, each_queued_type, each_type
from tests.need import need, need_aio
from tests.oracle import aeads, skciphers
from tests.requests.calls import Call
from tests.requests.subjects import STREAM

KEY = bytes(range(16))
BIG = STREAM * 5
AUTHENC = "authenc(hmac(sha256-generic),cryptd(cbc(aes-generic)))"
"""Asynchronous, where the kernel still shows such to AF_ALG; by the names of drivers, which find nothing faster."""


@pytest.fixture
def context() -> Iterator[Context]:
    with need_aio(32) as made:
        yield made


def only_event(context: Context) -> int:
    """Return the result of the one request in flight, and be sure that no other event comes with it."""
    (event,) = context.events(1, 8)
    return event.result


@each_keyed_type
def test_write_and_read_tell_an_eventfd(subject: Subject, context: Context) -> None:
    """PWRITE sends, PREAD receives, and each adds one to the counter of eventfd(2)."""
    buffer = bytearray(len(subject.answer))
    with subject.open() as transform:
        op, counter = transform.op, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        op.sendmsg([], subject.control, MSG_MORE)
        context.submit([Iocb(op.fd, IOCB_CMD_PWRITE, subject.message, data=1, eventfd=counter)])
        assert context.events(1, 8) == [Event(1, len(subject.message))]
        assert os.eventfd_read(counter) == 1
        context.submit([Iocb(op.fd, IOCB_CMD_PREAD, buffer, data=2, eventfd=counter)])
        assert context.events(1, 8) == [Event(2, len(buffer))]
        assert os.eventfd_read(counter) == 1
    os.close(counter)
    assert bytes(buffer) == subject.result


@each_keyed_type
def test_vectors_are_joined(subject: Subject, context: Context) -> None:
    """PWRITEV gathers and PREADV scatters, as writev(2) and readv(2) do."""
    message, result = subject.message, subject.answer
    parts: list[bytearray] = [bytearray(5), bytearray(0), bytearray(len(result) - 5)]
    with subject.open() as transform:
        op = transform.op
        op.sendmsg([], subject.control, MSG_MORE)
        context.submit([Iocb(op.fd, IOCB_CMD_PWRITEV, [message[:3], message[3:20], message[20:]])])
        assert only_event(context) == len(message)
        context.submit([Iocb(op.fd, IOCB_CMD_PREADV, [*parts])])
        assert only_event(context) == len(result)
    assert b"".join(parts) == result


def test_random_bytes(context: Context) -> None:
    """io_submit(2), two PREADs of one rng op socket: rng_recvmsg (crypto/algif_rng.c) for each, and other bytes."""
    buffers = [bytearray(16), bytearray(16)]
    with RNG.open() as rng:
        context.submit([Iocb(rng.op.fd, IOCB_CMD_PREAD, buffer) for buffer in buffers])
        assert [event.result for event in context.events(2, 8)] == [16, 16]
    assert len({bytes(16), *map(bytes, buffers)}) == 3, "zeros, or the same bytes twice"


@each_keyed_type
def test_requests_on_many_sockets_at_once(subject: Subject, context: Context) -> None:
    """One io_submit for sixteen of them: each has its event, and its result."""
    buffers = [bytearray(len(subject.answer)) for _ in range(16)]
    with subject.open() as transform:
        ops = [transform.tfm.accept() for _ in buffers]
        for op in ops:
            subject.begin(op)
        reads = [
            Iocb(op.fd, IOCB_CMD_PREAD, buffer, data=at)
            for at, (op, buffer) in enumerate(zip(ops, buffers, strict=True))
        ]
        assert context.submit(reads) == 16
        events = sorted(context.events(16, 32))
        assert events == [Event(at, len(subject.answer)) for at in range(16)]
        assert {bytes(buffer) for buffer in buffers} == {subject.result}
        for op in ops:
            op.close()


@contextlib.contextmanager
def ahead_of_kernel_threads() -> Iterator[None]:
    """Let this thread keep its processor until it sleeps: what it gives a kernel thread there to do, stays undone."""
    processors, policy, parameter = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setaffinity(0, [min(processors)])
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)
        os.sched_setaffinity(0, processors)


@pytest.mark.fixed_by("bf09b0be8e85", "crypto: algif_skcipher - force synchronous processing", cve="CVE-2026-74578")
def test_reads_in_flight_on_one_skcipher_are_done_in_order(context: Context) -> None:
    """The IV was the socket's also for a request that was not done: whoever sent changed it. One was the limit.

    Source: ctx->iv in _skcipher_recvmsg.
    """
    size = 80_000
    with need(Skcipher, "cryptd(ctr(aes-generic))", KEY) as cipher:
        buffers = [bytearray(size // 2), bytearray(size // 2)]
        cipher.op.sendmsg([BIG[:size]], set_op(ALG_OP_ENCRYPT) + set_iv(KEY))
        with ahead_of_kernel_threads():
            context.submit([Iocb(cipher.op.fd, IOCB_CMD_PREAD, buffer, data=at) for at, buffer in enumerate(buffers)])
        events = context.events(2, 8)
        assert [event.data for event in events] == [0, 1], "the reads were done in another order"
        assert events == [Event(0, size // 2), Event(1, size // 2)]
        assert b"".join(buffers) == skciphers.crypt("ctr(aes)", KEY, KEY, BIG[:size])


def test_several_reads_of_one_message_are_done_in_order(context: Context) -> None:
    """The same with an algorithm that is done when it returns, as all are since Linux 7.2."""
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        buffers = [bytearray(size) for size in (16, 4096, 48, 20000)]
        total = sum(len(buffer) for buffer in buffers)
        cipher.op.sendmsg([BIG[:total]], set_op(ALG_OP_ENCRYPT) + set_iv(KEY))
        for at, buffer in enumerate(buffers):
            context.submit([Iocb(cipher.op.fd, IOCB_CMD_PREAD, buffer, data=at)])
            assert context.events(1, 8) == [Event(at, len(buffer))]
        assert b"".join(buffers) == skciphers.crypt("ctr(aes)", KEY, KEY, BIG[:total])


def asynchronous_aead(key: bytes, decrypt: bool, data: bytes) -> Aead:
    """Return an AEAD with a message whose work may go on after io_submit."""
    aead = need(Aead, AUTHENC, key, 16)
    operation = ALG_OP_DECRYPT if decrypt else ALG_OP_ENCRYPT
    aead.op.sendmsg([data], set_op(operation) + set_iv(KEY) + set_assoclen(0))
    return aead


def authenc_message(size: int) -> tuple[bytes, bytes]:
    """Return a key, and the sealed first ``size`` bytes of BIG."""
    from tests.afalg import authenc_key

    key = authenc_key(bytes(20), KEY)
    return key, aeads.seal("authenc(hmac(sha256),cbc(aes))", key, KEY, b"", BIG[:size], 16)


def test_read_of_an_asynchronous_aead(context: Context) -> None:
    """_aead_recvmsg (crypto/algif_aead.c): at once, or by af_alg_async_cb with the result's length (areq->outlen)."""
    key, sealed = authenc_message(64000)
    with asynchronous_aead(key, False, BIG[:64000]) as aead:
        buffer = bytearray(len(sealed))
        context.submit([Iocb(aead.op.fd, IOCB_CMD_PREAD, buffer)])
        assert only_event(context) == len(sealed)
        assert buffer == sealed


def test_closing_while_a_read_is_in_flight(context: Context) -> None:
    """The request holds the socket: it is done, its event comes, and the result is right.

    Source: sock_hold in _aead_recvmsg.
    """
    key, sealed = authenc_message(64000)
    buffer = bytearray(64000)
    with asynchronous_aead(key, True, sealed) as aead:
        context.submit([Iocb(aead.op.fd, IOCB_CMD_PREAD, buffer)])
    assert only_event(context) == 64000
    assert buffer == BIG[:64000]


def test_context_destroyed_while_a_read_is_in_flight() -> None:
    """io_destroy(2) waits for what cannot be cancelled: afterwards nobody writes to the buffer any more."""
    key, sealed = authenc_message(64000)
    buffer = bytearray(64000)
    with asynchronous_aead(key, True, sealed) as aead:
        with need_aio(4) as context:
            context.submit([Iocb(aead.op.fd, IOCB_CMD_PREAD, buffer)])
        assert buffer == BIG[:64000]


def test_event_of_a_wrong_tag_is_ebadmsg(context: Context) -> None:
    """In flight or not, the error is the request's and not io_submit's."""
    key, sealed = authenc_message(6400)
    with asynchronous_aead(key, True, sealed[:-1] + bytes([sealed[-1] ^ 1])) as aead:
        context.submit([Iocb(aead.op.fd, IOCB_CMD_PREAD, bytearray(6400))])
        assert only_event(context) == -errno.EBADMSG


@each_queued_type
def test_errors_are_in_the_events(subject: Subject, context: Context) -> None:
    """Nothing to read where it may not wait, memory that is not there, an offset: what the plain calls say.

    Source: io_submit(2).
    """
    with subject.open() as transform:
        op = transform.op
        os.set_blocking(op.fd, False)
        size = len(subject.answer)
        context.submit([Iocb(op.fd, IOCB_CMD_PREAD, bytearray(16))])
        assert only_event(context) == -errno.EAGAIN
        subject.begin(op)
        context.submit([Iocb(op.fd, IOCB_CMD_PREAD, Pointer(16, size))])
        assert only_event(context) == -errno.EFAULT
        context.submit([Iocb(op.fd, IOCB_CMD_PREAD, bytearray(size), offset=1)])
        assert only_event(context) == -errno.ESPIPE
        context.submit([Iocb(op.fd, IOCB_CMD_PWRITE, b"second message")])
        assert only_event(context) == -errno.EINVAL
        subject.finish(op)


@each_keyed_type
def test_read_without_a_key_is_enokey(subject: Subject, context: Context) -> None:
    """io_submit(2) takes the request; the event has what hash_recvmsg_nokey or its like returns."""
    with subject.open_without_key() as transform:
        context.submit([Iocb(transform.op.fd, IOCB_CMD_PREAD, bytearray(16))])
        assert only_event(context) == -errno.ENOKEY


@each_type
def test_what_a_socket_cannot_do_is_refused_at_once(subject: Subject, context: Context) -> None:
    """There is no fsync: EBADF or EINVAL of io_submit, and no event."""
    with subject.open() as transform:
        with raises_errno(errno.EBADF, errno.EINVAL):
            context.submit([Iocb(transform.op.fd, IOCB_CMD_FSYNC, b"")])
        subject.works(transform.op)


@each_queued_type
def test_submission_of_a_read_waits_as_the_read_does(subject: Subject, context: Context) -> None:
    """io_submit(2) may block: here until somebody sends what is to be read. A cancel finds nothing to cancel."""
    buffer = bytearray(len(subject.answer))
    with subject.open() as transform:
        op = transform.op
        with Call(context.submit, [Iocb(op.fd, IOCB_CMD_PREAD, buffer, data=5)]) as submission:
            submission.sleeps()
            subject.begin(op)
            assert submission.result() == 1
        assert context.events(1, 8) == [Event(5, len(buffer))]
        with raises_errno(errno.EINVAL):
            context.cancel(5)
    assert bytes(buffer) == subject.result


# POLL ----------------------------------------------------------------------------------------------------------------


def begun(op: Socket) -> None:
    op.sendmsg([], SKCIPHER.control, MSG_MORE)


def test_poll_of_what_is_ready(context: Context) -> None:
    """IOCB_CMD_POLL gives the mask as the result of its event: readable and writable, or without data writable."""
    with SKCIPHER.open() as cipher:
        poll = Iocb(cipher.op.fd, IOCB_CMD_POLL, select.POLLIN | select.POLLOUT)
        context.submit([poll])
        assert only_event(context) == select.POLLIN | select.POLLOUT
        begun(cipher.op)
        context.submit([poll])
        assert only_event(context) == select.POLLOUT


def test_poll_ends_when_data_comes(context: Context) -> None:
    """IOCB_CMD_POLL (io_submit(2)) waits until af_alg_data_wakeup announces EPOLLRDNORM."""
    with SKCIPHER.open() as cipher:
        begun(cipher.op)
        context.submit([Iocb(cipher.op.fd, IOCB_CMD_POLL, select.POLLRDNORM)])
        assert context.events(0, 8, seconds=0) == []
        cipher.op.send(bytes(16))
        # With the other events that the kernel announces, asked for or not: see test_readiness.py.
        assert only_event(context) & select.POLLRDNORM


def test_poll_can_be_cancelled(context: Context) -> None:
    """io_cancel(2): EINPROGRESS, and the event comes; the socket goes on as before."""
    with SKCIPHER.open() as cipher:
        begun(cipher.op)
        context.submit([Iocb(cipher.op.fd, IOCB_CMD_POLL, select.POLLRDNORM, data=3)])
        with raises_errno(errno.EINPROGRESS):
            context.cancel(3)
        assert context.events(1, 8) == [Event(3, 0)]
        cipher.op.send(SKCIPHER.message)
        SKCIPHER.finish(cipher.op)


@pytest.mark.parametrize("end", ["close", "destroy"])
def test_poll_that_nobody_ends(end: str) -> None:
    """Neither closing the socket nor destroying the context waits for data that never comes (io_destroy(2))."""
    with need_aio(4) as context, SKCIPHER.open() as cipher:
        op = cipher.tfm.accept()
        begun(op)
        context.submit([Iocb(op.fd, IOCB_CMD_POLL, select.POLLRDNORM)])
        assert context.events(0, 8, seconds=0) == []
        if end == "close":
            op.close()
        else:
            context.close()
            op.send(SKCIPHER.message)
            SKCIPHER.finish(op)
        SKCIPHER.works(cipher.op)


@pytest.mark.parametrize("subject", [HASH, RNG], ids=lambda subject: subject.type_)
def test_poll_of_what_is_never_ready_is_einval(subject: Subject, context: Context) -> None:
    """Sockets without a poll method; not even an event (aio_poll in fs/aio.c)."""
    with subject.open() as transform, raises_errno(errno.EINVAL):
        context.submit([Iocb(transform.op.fd, IOCB_CMD_POLL, select.POLLIN)])
