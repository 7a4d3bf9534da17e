"""io_uring on AF_ALG sockets, into buffers that the kernel chooses or that are registered, and with a time limit."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Hash
from tests.afalg.constants import MSG_MORE
from tests.afalg.memory import PAGE, Memory
from tests.afalg.uring import (
    IOSQE_BUFFER_SELECT,
    IOSQE_IO_LINK,
    OP_ASYNC_CANCEL,
    OP_LINK_TIMEOUT,
    OP_READ,
    OP_READ_FIXED,
    OP_RECV,
    OP_SEND,
    OP_WRITE_FIXED,
    Request,
    Ring,
    timespec,
)
from tests.errors.subjects import HASH, RNG, SKCIPHER, Subject, each_keyed_type, each_queued_type
from tests.oracle import hashes, skciphers
from tests.requests.model import DEFAULT_ROOM
from tests.requests.rings import NO_OFFSET, completed, done, multishot_recv, need_multishot_recv, provide
from tests.requests.subjects import CTR, STREAM
from tests.splice.targets import TARGETS, check

GROUP = 3
RECV, OTHER = 7, 8


def buffers_of(size: int, count: int = 3) -> list[bytearray]:
    return [bytearray(b"?" * size) for _ in range(count)]


# Buffers that the kernel chooses -------------------------------------------------------------------------------------


@each_keyed_type
@pytest.mark.parametrize("operation", [OP_RECV, OP_READ], ids=["RECV", "READ"])
def test_result_into_a_buffer_that_the_kernel_chooses(subject: Subject, operation: int, ring: Ring) -> None:
    """IOSQE_BUFFER_SELECT: the completion says which of those provided it is, and only that one is written to."""
    buffers = buffers_of(len(subject.answer))
    provide(ring, buffers, GROUP)
    with subject.open() as transform:
        chosen = set()
        for _ in buffers:
            subject.begin(transform.op)
            request = Request(
                operation,
                transform.op.fd,
                length=len(subject.answer),
                offset=NO_OFFSET if operation == OP_READ else 0,
                flags=IOSQE_BUFFER_SELECT,
                group=GROUP,
            )
            completion = completed(ring, request)
            assert completion.result == len(subject.answer)
            assert completion.buffer is not None
            chosen.add(completion.buffer)
            written = [at for at, buffer in enumerate(buffers) if buffer == subject.answer]
            assert set(written) == chosen, "another buffer than the one it says"
    assert chosen == {0, 1, 2}


@each_keyed_type
def test_request_stays_when_no_buffer_is_left(subject: Subject, ring: Ring) -> None:
    """ENOBUFS before anything is received (IOSQE_BUFFER_SELECT, io_uring_enter(2))."""
    provide(ring, buffers_of(16, 1), GROUP)
    with subject.open() as transform:
        subject.begin(transform.op)
        request = Request(OP_RECV, transform.op.fd, flags=IOSQE_BUFFER_SELECT, group=GROUP + 1)
        completion = completed(ring, request)
        assert (completion.result, completion.buffer) == (-errno.ENOBUFS, None)
        subject.finish(transform.op)


def test_multishot_recv_gives_what_there_is_whenever_it_comes(ring: Ring) -> None:
    """IORING_RECV_MULTISHOT, Linux 6.0: one request, and a completion for each piece until it is cancelled.

    Of a message without an end. At the end of one poll says readable and recv that it would wait (test_readiness.py),
    of which io_uring makes a loop that nothing leaves: seen on Linux 6.12.117, and the machine had to be killed.
    """
    need_multishot_recv()
    buffers = buffers_of(48, 4)
    provide(ring, buffers, GROUP)
    with SKCIPHER.open() as cipher:
        op = cipher.op
        op.sendmsg([], SKCIPHER.control, MSG_MORE)
        ring.submit([multishot_recv(op.fd, GROUP, RECV)])
        assert ring.completions() == []
        for start in (0, 16):
            op.send(SKCIPHER.message[start : start + 16], MSG_MORE)
            (completion,) = ring.wait(1)
            assert (completion.data, completion.result, completion.more) == (RECV, 16, True)
            assert completion.buffer is not None
            assert buffers[completion.buffer] == SKCIPHER.answer[start : start + 16] + b"?" * 32
        ring.submit([Request(OP_ASYNC_CANCEL, address=RECV, data=OTHER)], wait=2)
        ended = {completion.data: completion for completion in ring.completions()}
        assert (ended[RECV].result, ended[RECV].more, ended[OTHER].result) == (-errno.ECANCELED, False, 0)
        op.send(b"")
        assert op.recv(16) == b""
        SKCIPHER.works(op)


@each_queued_type
def test_multishot_recv_ends_with_the_buffers(subject: Subject, ring: Ring) -> None:
    """ENOBUFS is its last completion; the socket goes on as before (IORING_RECV_MULTISHOT)."""
    need_multishot_recv()
    buffers = buffers_of(len(subject.answer), 1)
    provide(ring, buffers, GROUP)
    with subject.open() as transform:
        subject.begin(transform.op)
        ring.submit([multishot_recv(transform.op.fd, GROUP)], wait=1)
        found = ring.completions()
        while found[-1].more:
            found += ring.wait(1)
        results = [(completion.result, completion.more) for completion in found]
        assert results == [(len(subject.answer), True), (-errno.ENOBUFS, False)]
        assert buffers[0] == subject.answer
        subject.works(transform.op)


@pytest.mark.parametrize("subject", [HASH, RNG], ids=lambda subject: subject.type_)
def test_multishot_recv_of_what_never_waits_takes_all_buffers(subject: Subject, ring: Ring) -> None:
    """Each gets what another recv would: of a hash first the digest, then that of nothing; of an rng other bytes.

    Source: hash_recvmsg, rng_recvmsg.
    """
    need_multishot_recv()
    buffers = buffers_of(32, 5)
    provide(ring, buffers, GROUP)
    with subject.open() as transform:
        if subject is HASH:
            subject.begin(transform.op)
        ring.submit([multishot_recv(transform.op.fd, GROUP)], wait=1)
        found = ring.completions()
        while found[-1].more:
            found += ring.wait(1)
    assert [completion.result for completion in found] == [32] * 5 + [-errno.ENOBUFS]
    got = [bytes(buffers[completion.buffer]) for completion in found if completion.buffer is not None]
    if subject is HASH:
        assert got == [HASH.result] + [hashes.digest("hmac(sha256)", b"", HASH.key)] * 4
    else:
        assert len({*got, bytes(32), b"?" * 32}) == 7


# Buffers that are registered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1])
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "rng"])
def test_message_and_result_in_registered_buffers(name: str, offset: int, ring: Ring) -> None:
    """WRITE_FIXED and READ_FIXED: pages that the kernel has at hand, instead of memory that it looks up."""
    target = TARGETS[name]
    stream = target.stream(3 * PAGE + 16)
    result = target.result(stream)
    assert isinstance(result, bytes)
    with target.open() as transform, Memory(11) as memory:
        op = transform.op
        memory.write(offset, stream)
        message, place = memory.pointer(offset, len(stream)), memory.pointer(5 * PAGE + offset, len(result))
        ring.register_buffers([message, memory.pointer(5 * PAGE, 6 * PAGE)])
        op.sendmsg([], target.control, MSG_MORE)
        assert done(ring, Request(OP_WRITE_FIXED, op.fd, message, offset=NO_OFFSET, group=0)) == len(stream)
        assert done(ring, Request(OP_READ_FIXED, op.fd, place, offset=NO_OFFSET, group=1)) == len(result)
        assert memory.read(5 * PAGE, offset) == bytes(offset), "wrote before the buffer"
        assert memory.read(5 * PAGE + offset, len(result)) == result
        assert memory.read(5 * PAGE + offset + len(result), PAGE) == bytes(PAGE), "wrote behind the result"
        assert memory.read(offset, len(stream)) == stream, "wrote to the message"
        target.works(op)


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1])
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "rng"])
def test_message_is_part_of_a_registered_buffer(name: str, offset: int, ring: Ring) -> None:
    """What is behind the message belongs to the buffer and not to the message.

    A hash takes it in all the same, to the end of the page, and says that it took so many bytes more, on kernels whose
    hash_sendmsg takes pages without a limit (since Linux 6.5; found in 6.12.117 and 7.3.4, no fix was known by then).
    Nothing else may come of it, and a kernel that mends it passes.
    """
    target = TARGETS[name]
    stream = target.stream(2 * PAGE + 48)
    end = (offset + len(stream)) // PAGE * PAGE + PAGE
    with target.open() as transform, Memory(5) as memory:
        op = transform.op
        memory.write(0, STREAM[: 4 * PAGE])
        memory.write(offset, stream)
        ring.register_buffers([memory.pointer(0, 5 * PAGE)])
        op.sendmsg([], target.control, MSG_MORE)
        message = memory.pointer(offset, len(stream))
        taken = done(ring, Request(OP_WRITE_FIXED, op.fd, message, offset=NO_OFFSET))
        assert taken == len(stream) or (target.kind is Hash and taken == end - offset)
        check(op, target.size_of(stream), target.result(memory.read(offset, taken)))


def test_request_outside_the_registered_buffer_is_refused(ring: Ring) -> None:
    """EFAULT, and the message stays (io_import_fixed in io_uring/rsrc.c)."""
    with SKCIPHER.open() as cipher, Memory(3) as memory:
        ring.register_buffers([memory.pointer(0, PAGE)])
        SKCIPHER.begin(cipher.op)
        outside = Request(OP_READ_FIXED, cipher.op.fd, memory.pointer(PAGE - 16, 32), offset=NO_OFFSET)
        assert done(ring, outside) == -errno.EFAULT
        assert memory.read(0, 2 * PAGE) == bytes(2 * PAGE)
        SKCIPHER.finish(cipher.op)


# What ends a request that waits --------------------------------------------------------------------------------------


@each_queued_type
def test_time_limit_of_a_recv(subject: Subject, ring: Ring) -> None:
    """IORING_OP_LINK_TIMEOUT ends what the socket's own timeouts do not; nothing is taken.

    Of a message without data yet: with some, poll says readable, so the recv goes to a worker thread, and what
    io_uring is asked to cancel on the way there it does not find.
    """
    limit = timespec(0.01)
    with subject.open() as transform:
        op = transform.op
        op.sendmsg([], subject.control, MSG_MORE)
        ring.submit(
            [
                Request(OP_RECV, op.fd, bytearray(16), flags=IOSQE_IO_LINK, data=RECV),
                Request(OP_LINK_TIMEOUT, buffer=limit, length=1, data=OTHER),
            ],
            wait=2,
        )
        results = {completion.data: completion.result for completion in ring.completions()}
        assert results == {RECV: -errno.ECANCELED, OTHER: -errno.ETIME}
        op.send(subject.message)
        subject.finish(op)


@each_queued_type
def test_time_limit_that_is_not_reached(subject: Subject, ring: Ring) -> None:
    """The result is there, and the limit is cancelled (IORING_OP_LINK_TIMEOUT)."""
    buffer = bytearray(len(subject.answer))
    with subject.open() as transform:
        subject.begin(transform.op)
        ring.submit(
            [
                Request(OP_RECV, transform.op.fd, buffer, flags=IOSQE_IO_LINK, data=RECV),
                Request(OP_LINK_TIMEOUT, buffer=timespec(1000), length=1, data=OTHER),
            ],
            wait=2,
        )
        results = {completion.data: completion.result for completion in ring.completions()}
        assert results == {RECV: len(buffer), OTHER: -errno.ECANCELED}
    assert buffer == subject.result


@each_queued_type
def test_several_recvs_wait_and_are_served_or_cancelled(subject: Subject, ring: Ring) -> None:
    """Three in flight on one socket: messages serve two, whichever they are, and closing the ring ends the third.

    Source: io_uring_enter(2).
    """
    buffers = buffers_of(len(subject.answer))
    with subject.open() as transform:
        op = transform.op
        ring.submit([Request(OP_RECV, op.fd, buffer, data=at) for at, buffer in enumerate(buffers)])
        assert ring.completions() == []
        served = []
        for _ in range(2):
            subject.begin(op)
            (completion,) = ring.wait(1)
            assert completion.result == len(subject.answer)
            served.append(completion.data)
        assert len(set(served)) == 2
        assert [at for at, buffer in enumerate(buffers) if buffer == subject.answer] == sorted(served)
        ring.close()
        subject.works(op)


def test_send_that_waits_for_room_goes_on_when_there_is_some(ring: Ring) -> None:
    """It is whole then, and waits for EPOLLOUT: room is announced as EPOLLIN, and it is told by the next data only.

    See test_readiness.py. Where a kernel announces what it means, it comes before that data.
    """
    room, more = DEFAULT_ROOM, 5 * PAGE
    head, body, data = (STREAM * 11)[:room], (STREAM * 2)[:more], STREAM[-16:]
    with CTR.open() as cipher:
        op = cipher.op
        assert op.send(head, MSG_MORE) == room
        ring.submit([Request(OP_SEND, op.fd, body, op_flags=MSG_MORE, data=OTHER)])
        assert ring.completions() == []
        got = op.recv(room)
        told_of_room = ring.completions()
        assert op.send(data, MSG_MORE) == len(data)
        assert [(c.data, c.result) for c in told_of_room or ring.wait(1)] == [(OTHER, more)]
        got += op.recv(more + len(data))
    rest = body + data if told_of_room else data + body
    assert got == skciphers.crypt(CTR.name, CTR.key, bytes(16), head + rest)
