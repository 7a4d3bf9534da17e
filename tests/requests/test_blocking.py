"""Calls that wait, and what ends the wait: data, room, a signal. (Timeouts do not: tests/errors/test_getsockopt.py.)"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.afalg import Skcipher, cmsg, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT, ALG_SET_OP, MSG_DONTWAIT, MSG_MORE, SOL_ALG
from tests.errors.raises import outcome, raises_errno
from tests.errors.subjects import AEAD, SKCIPHER, Subject, each_queued_type
from tests.need import need
from tests.oracle import skciphers
from tests.requests.calls import Call
from tests.requests.model import DEFAULT_ROOM
from tests.requests.subjects import CTR, STREAM

ROOM = DEFAULT_ROOM


# Waiting for data ----------------------------------------------------------------------------------------------------


@each_queued_type
@pytest.mark.parametrize("begun", [False, True], ids=["fresh", "begun"])
def test_recv_waits_for_the_end_of_the_message(subject: Subject, begun: bool) -> None:
    """It sleeps on a socket that has no request, or an unfinished one, and the send that ends it wakes it up.

    Source: af_alg_wait_for_data.
    """
    with subject.open() as transform:
        op, message = transform.op, subject.message
        if begun:
            op.sendmsg([message[:7]], subject.control, MSG_MORE)
        with Call(op.recv, len(subject.answer)) as reader:
            reader.waits(op)
            op.sendmsg([message[7:] if begun else message], b"" if begun else subject.control)
            assert reader.result() == subject.result


@each_queued_type
def test_recv_of_more_than_the_result_waits_for_the_next_message(subject: Subject) -> None:
    """Having written the first result it wants more; the next message, with an IV of its own, completes it.

    Source: skcipher_recvmsg loops while msg_data_left.
    """
    with subject.open() as transform:
        op, result = transform.op, subject.answer
        subject.begin(op)
        with Call(op.recv, 2 * len(result)) as reader:
            reader.waits(op)
            subject.begin(op)
            assert reader.result() == result + result


def test_recv_wakes_up_for_a_whole_block_and_not_before() -> None:
    """Of an unfinished message it takes blocks: 15 bytes are none, the 16th makes one (min of af_alg_wait_for_data)."""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        with Call(op.recv, 16) as reader:
            op.sendmsg([SKCIPHER.message[:9]], SKCIPHER.control, MSG_MORE)
            op.send(SKCIPHER.message[9:15], MSG_MORE)
            reader.waits(op)
            op.send(SKCIPHER.message[15:16], MSG_MORE)
            assert reader.result() == SKCIPHER.answer[:16]


def recv_of_three_sends() -> tuple[int, bytes]:
    """Receive 48 bytes of which 17 come first, then 30, then one; return what recv says, and a buffer of 64."""
    with need(Skcipher, "ecb(aes)", CTR.key) as cipher:
        op, buffer = cipher.op, bytearray(b"?" * 64)
        op.sendmsg([], set_op(ALG_OP_ENCRYPT), MSG_MORE)
        with Call(op.recvmsg, [memoryview(buffer)[:48]]) as reader:
            for size, at in ((17, 0), (30, 17)):
                reader.waits(op)
                op.send(STREAM[at : at + size], MSG_MORE)
            op.send(STREAM[47:48])
            return reader.result().size, bytes(buffer)


@pytest.mark.fixed_by("2f90facc7b94", "crypto: algif_skcipher - rewind rounded output bytes")
def test_recv_goes_on_behind_the_blocks_it_has_written() -> None:
    """Of 17 bytes it takes a block, of 47 the next, and of 48 the last, without a gap between them.

    Source: _skcipher_recvmsg.
    """
    blocks = skciphers.crypt("ecb(aes)", CTR.key, b"", STREAM[:48])
    size, got = recv_of_three_sends()
    assert got[:17] != blocks[:16] + b"?", "recv left a gap behind the first block"
    assert (size, got) == (48, blocks + b"?" * 16)


def test_recv_says_how_many_blocks_it_has_written() -> None:
    """Also where it loses its place: behind the odd byte that it left in the queue, and so a block less in the end.

    It may neither give anything else, nor touch what it says it has not written.
    Source: iov_iter_revert in _skcipher_recvmsg.
    """
    blocks = skciphers.crypt("ecb(aes)", CTR.key, b"", STREAM[:48])
    with_a_gap = (32, blocks[:16] + b"?" + blocks[16:32] + b"?" * 31)
    assert recv_of_three_sends() in ((48, blocks + b"?" * 16), with_a_gap)


def test_aead_recv_waits_until_there_is_no_more_to_come() -> None:
    """An AEAD message is one piece: however much of it there is, recv waits for its end (_aead_recvmsg)."""
    with AEAD.open() as aead:
        op = aead.op
        with Call(op.recv, len(AEAD.answer)) as reader:
            op.sendmsg([AEAD.message], AEAD.control, MSG_MORE)
            reader.waits(op)
            op.send(b"")
            assert reader.result() == AEAD.result


def test_two_readers_share_what_comes() -> None:
    """Both wait; what is sent goes to one of them, and the next to the other. Nothing is lost or given twice.

    Source: af_alg_wait_for_data.
    """
    with SKCIPHER.open() as cipher:
        op = cipher.op
        with Call(op.recv, 32) as one, Call(op.recv, 32) as other:
            one.waits(op)
            other.waits(op)
            SKCIPHER.begin(op)
            # Taken by the time there is room for a message of its own.
            while error := outcome(lambda: SKCIPHER.begin(op)):
                assert error == errno.EINVAL
            assert one.result() == other.result() == SKCIPHER.result


@each_queued_type
def test_recv_waits_over_a_send_that_fails(subject: Subject) -> None:
    """A send whose control data is refused brings nothing, and wakes nobody for good (af_alg_wait_for_data)."""
    with subject.open() as transform:
        op = transform.op
        with Call(op.recv, len(subject.answer)) as reader:
            reader.waits(op)
            with raises_errno(errno.EINVAL):
                op.sendmsg([subject.message], cmsg(SOL_ALG, ALG_SET_OP, bytes(4), length=4))
            reader.waits(op)
            subject.begin(op)
            assert reader.result() == subject.result


# Waiting for room ----------------------------------------------------------------------------------------------------


def crypted(data: bytes) -> bytes:
    """Return what a fresh op socket of CTR makes of the data: its IV is zero."""
    return skciphers.crypt(CTR.name, CTR.key, bytes(16), data)


DATA = STREAM * 20


def test_send_waits_for_room_and_recv_makes_it() -> None:
    """Each recv of a page or more lets the writer go on; all the data comes out once and in order.

    Source: af_alg_wmem_wakeup.
    """
    with CTR.open() as cipher:
        op = cipher.op
        op.send(b"", MSG_MORE)
        with Call(op.send, DATA) as writer:
            writer.waits(op)
            got = b"".join(op.recv(size) for size in (4096, 65536, 8192, 131072))
            got += op.recv(len(DATA) - len(got))
            assert writer.result() == len(DATA)
        assert got == crypted(DATA)


def test_room_of_less_than_a_page_is_not_enough() -> None:
    """16 bytes less in a full queue, and the writer still waits, a non-waiting one is EAGAIN; a page lets it go on.

    Source: af_alg_writable, include/crypto/if_alg.h.
    """
    with CTR.open() as cipher:
        op = cipher.op
        assert op.send(DATA[:ROOM], MSG_MORE) == ROOM
        with Call(op.send, b"x" * 16, MSG_MORE) as writer:
            writer.waits(op)
            assert op.recv(16) == crypted(DATA[:16])
            writer.waits(op)
            assert op.recv(4080) == crypted(DATA[:4096])[16:]
            assert writer.result() == 16
        # What is left of the page that the writer began.
        assert op.send(b"x" * 4096, MSG_MORE | MSG_DONTWAIT) == 4080
        with raises_errno(errno.EAGAIN):
            op.send(b"x", MSG_MORE | MSG_DONTWAIT)


@each_queued_type
def test_closing_the_last_descriptor_frees_what_is_queued(subject: Subject) -> None:
    """A full queue goes with its socket, and the next socket has all the room again (skcipher_sock_destruct)."""
    with subject.open() as transform:
        for _ in range(3):
            with transform.tfm.accept() as op:
                assert op.send(DATA, MSG_MORE | MSG_DONTWAIT) == ROOM


# Signals -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def signalled() -> Iterator[int]:
    """Give a descriptor that becomes readable when a handler of SIGUSR1 has run, in whatever thread."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write_end)
    yield read_end
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGUSR1, before)
    os.close(read_end)
    os.close(write_end)


def interrupt(thread: threading.Thread, signalled: int) -> None:
    """Send SIGUSR1 to the thread and return when its handler has run."""
    assert thread.ident is not None
    signal.pthread_kill(thread.ident, signal.SIGUSR1)
    ready = select.poll()
    ready.register(signalled, select.POLLIN)
    assert ready.poll(20_000), "the signal's handler has not run"
    os.read(signalled, 64)


@each_queued_type
@pytest.mark.parametrize("restarts", [True, False], ids=["SA_RESTART", "no-SA_RESTART"])
def test_signal_during_a_wait_for_data(subject: Subject, restarts: bool, signalled: int) -> None:
    """signal(7): with SA_RESTART the wait goes on, without it the call is EINTR and has taken nothing."""
    signal.siginterrupt(signal.SIGUSR1, not restarts)
    with subject.open() as transform:
        op = transform.op
        with Call(op.recv, len(subject.answer)) as reader:
            reader.waits(op)
            interrupt(reader.thread, signalled)
            if restarts:
                reader.waits(op)
                subject.begin(op)
                assert reader.result() == subject.result
            else:
                with raises_errno(errno.EINTR):
                    reader.result()
                subject.works(op)


@pytest.mark.parametrize("restarts", [True, False], ids=["SA_RESTART", "no-SA_RESTART"])
def test_signal_during_a_wait_for_room(restarts: bool, signalled: int) -> None:
    """The same for a send that has taken nothing yet (signal(7))."""
    signal.siginterrupt(signal.SIGUSR1, not restarts)
    with CTR.open() as cipher:
        op = cipher.op
        assert op.send(DATA[:ROOM], MSG_MORE) == ROOM
        with Call(op.send, DATA[ROOM : ROOM + 100], MSG_MORE) as writer:
            writer.waits(op)
            interrupt(writer.thread, signalled)
            if restarts:
                writer.waits(op)
            else:
                with raises_errno(errno.EINTR):
                    writer.result()
            assert op.recv(4096) == crypted(DATA[:4096])
            if restarts:
                assert writer.result() == 100
        size = ROOM - 4096 + (96 if restarts else 0)
        assert op.recv(size) == crypted(DATA[: 4096 + size])[4096:]


@pytest.mark.parametrize("restarts", [True, False], ids=["SA_RESTART", "no-SA_RESTART"])
def test_signal_after_a_part_was_taken_ends_the_send(restarts: bool, signalled: int) -> None:
    """It returns what it has taken, whatever the flag: send(2) never restarts with a part done."""
    signal.siginterrupt(signal.SIGUSR1, not restarts)
    with CTR.open() as cipher:
        op = cipher.op
        with Call(op.send, DATA) as writer:
            writer.waits(op)
            interrupt(writer.thread, signalled)
            assert writer.result() == ROOM
        assert op.recv(ROOM) == crypted(DATA[:ROOM])


@each_queued_type
def test_signal_after_a_part_was_given_ends_the_recv(subject: Subject, signalled: int) -> None:
    """It returns the result it has written, and does not wait for the rest (signal(7))."""
    signal.siginterrupt(signal.SIGUSR1, False)
    with subject.open() as transform:
        op = transform.op
        subject.begin(op)
        with Call(op.recv, len(subject.answer) + 100) as reader:
            reader.waits(op)
            interrupt(reader.thread, signalled)
            assert reader.result() == subject.result


# Not waiting ---------------------------------------------------------------------------------------------------------


@each_queued_type
def test_descriptor_that_does_not_wait(subject: Subject) -> None:
    """O_NONBLOCK is MSG_DONTWAIT for every call: read, write, and those that would wait in the middle."""
    with subject.open() as transform:
        op, result = transform.op, subject.answer
        os.set_blocking(op.fd, False)
        for call in (lambda: op.recv(16), lambda: os.read(op.fd, 16), lambda: os.readv(op.fd, [bytearray(16)])):
            with raises_errno(errno.EAGAIN):
                call()
        subject.begin(op)
        assert op.recv(len(result) + 50) == result
        assert os.write(op.fd, DATA) == ROOM
        with raises_errno(errno.EINVAL):
            op.send(b"x")


def test_descriptor_made_not_to_wait_while_one_waits() -> None:
    """O_NONBLOCK is for later calls: the one that waits goes on waiting."""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        with Call(op.recv, 32) as reader:
            reader.waits(op)
            os.set_blocking(op.fd, False)
            with raises_errno(errno.EAGAIN):
                op.recv(32)
            SKCIPHER.begin(op)
            assert reader.result() == SKCIPHER.result
