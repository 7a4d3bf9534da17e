"""Threads and processes on one socket: whatever their order, results are right, and nothing is lost or given twice.

Best with several processors (--vm-cpus 2). What is random has a seed and a time box.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.afalg import (
    Aead,
    DeadlineExpired,
    Hash,
    Pipe,
    Skcipher,
    Socket,
    Transform,
    calls,
    set_assoclen,
    set_iv,
    set_op,
    splice,
)
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.errors.raises import outcome, raises_errno
from tests.errors.subjects import EVERY, HASH, KEYED, SKCIPHER, Subject, each_keyed_type, each_queued_type
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.requests.calls import Call
from tests.requests.subjects import STREAM

KEY, OTHER_KEY, IV = bytes(range(16)), bytes(range(50, 66)), bytes(range(0x60, 0x70))


def time_box(request: pytest.FixtureRequest) -> Callable[[], bool]:
    """Return a function that is true until the time for random work is over."""
    end = time.monotonic() + (20 if request.config.option.thorough else 1)
    return lambda: time.monotonic() < end


def at_once(*calls: Callable[[], None]) -> None:
    """Run the calls in threads that begin together; raise what one of them raised."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], None]) -> None:
        barrier.wait(20)
        call()

    with contextlib.ExitStack() as stack:
        for running in [stack.enter_context(Call(begin, call)) for call in calls]:
            running.result()


# One op socket -------------------------------------------------------------------------------------------------------


def test_threads_that_feed_one_hash() -> None:
    """Each send is one piece (the socket's lock): equal pieces give one digest in whatever order they come.

    Source: lock_sock in hash_sendmsg.
    """
    piece, rounds, threads = STREAM[:1000], 100, 4
    with need(Hash, "sha256") as tfm:
        op = tfm.op
        op.send(b"", MSG_MORE)

        def feed() -> None:
            for _ in range(rounds):
                assert op.send(piece, MSG_MORE) == len(piece)

        at_once(*[feed] * threads)
        op.send(b"")
        assert op.recv(32) == hashes.digest("sha256", piece * rounds * threads)


def test_threads_that_read_one_hash() -> None:
    """Of two that read at once one gets the digest, the other that of nothing, and never anything else.

    Source: lock_sock in hash_recvmsg.
    """
    empty = hashes.digest("hmac(sha256)", b"", HASH.key)
    with HASH.open() as tfm:
        for _ in range(50):
            HASH.begin(tfm.op)
            got: list[bytes] = []
            at_once(*[lambda: got.append(tfm.op.recv(32))] * 2)  # noqa: B023
            assert sorted(got) == sorted([HASH.result or b"", empty])


@pytest.mark.deadline(30)
def test_writers_and_a_reader_of_one_queue(request: pytest.FixtureRequest) -> None:
    """A send while another waits for room is EBUSY and has taken nothing; all that was taken comes out, in the order
    Source: ctx->write in af_alg_sendmsg.
    in which each of the writers sent it."""
    random_size = random.Random(6)
    more = time_box(request)
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        op = cipher.op
        op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(IV), MSG_MORE)
        writing = threading.Event()
        taken = {0: 0, 128: 0}
        got = bytearray()

        def write(first: int) -> None:
            pattern = bytes(range(first, first + 128))
            while more():
                at, size = taken[first] % 128, random_size.choice([1, 16, 1000, 5000, 70000])
                data = (pattern * (size // 128 + 2))[at : at + size]
                with contextlib.suppress(BlockingIOError):
                    try:
                        taken[first] += op.send(data, MSG_MORE)
                    except OSError as error:
                        if error.errno != errno.EBUSY:
                            raise

        def read() -> None:
            while not writing.is_set() or op.poll() & 1:
                with contextlib.suppress(BlockingIOError):
                    got.extend(op.recv(random_size.choice([16, 4096, 65536]), MSG_DONTWAIT))
                if writing.is_set() and len(got) + 16 > sum(taken.values()):
                    break

        with Call(read) as reader:
            at_once(lambda: write(0), lambda: write(128))
            writing.set()
            reader.result()
        op.send(b"")
        rest = sum(taken.values()) - len(got)
        got += op.recv(rest) if rest else b""
        plain = skciphers.crypt("ctr(aes)", KEY, IV, bytes(got))
    for first in taken:
        own = plain.translate(None, bytes(range(128 - first, 256 - first)))
        pattern = bytes(range(first, first + 128))
        assert len(own) == taken[first]
        assert own == (pattern * (len(own) // 128 + 1))[: len(own)]


@each_queued_type
def test_closing_the_descriptor_of_a_waiting_recv(subject: Subject) -> None:
    """close(2) takes the number; the call has the socket, and goes on when another descriptor feeds it."""
    with subject.open() as transform, Socket(os.dup(transform.op.fd)) as duplicate:
        op = transform.op
        with Call(op.recv, len(subject.result or b"")) as reader:
            reader.waits(op)
            op.close()
            subject.begin(duplicate)
            assert reader.result() == subject.result


@each_queued_type
def test_dup2_over_the_descriptor_of_a_waiting_recv(subject: Subject) -> None:
    """dup2(2): the call goes on with the socket it began with, the number is another socket from now on."""
    with subject.open() as transform, Socket(os.dup(transform.op.fd)) as old, transform.tfm.accept() as new:
        op = transform.op
        with Call(op.recv, len(subject.result or b"")) as reader:
            reader.waits(op)
            os.dup2(new.fd, op.fd)
            subject.begin(op)
            subject.finish(new)
            subject.begin(old)
            assert reader.result() == subject.result


def recv_all(op: Socket, size: int) -> bytes:
    """Receive what a writer sends that may have to wait for room.

    Without MSG_DONTWAIT the two could wait for each other (see below).
    """
    got = b""
    while len(got) < size:
        assert op.poll(20, select.POLLRDNORM), f"{size - len(got)} bytes do not come"
        with contextlib.suppress(BlockingIOError):
            got += op.recv(65536, MSG_DONTWAIT)
    return got


def test_reader_that_asks_for_more_than_the_queue_takes() -> None:
    """recv wakes a writer up when it returns, and a send its reader: each may wait for the other to do so.

    algif_skcipher.c calls af_alg_wmem_wakeup after the last piece only, af_alg_sendmsg af_alg_data_wakeup at its end.
    A signal ends that, recv returns what it has, and nothing is lost. A kernel that wakes them up earlier passes too.
    """
    data = STREAM * 20
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        op = cipher.op
        op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(IV), MSG_MORE)
        with Call(op.send, data) as writer:
            writer.sleeps()
            buffer = bytearray(len(data))
            try:
                size = op.recvmsg([buffer], seconds=0.5).size
            except DeadlineExpired as late:
                size = late.partial
            got = bytes(buffer[:size]) + recv_all(op, len(data) - size)
            assert writer.result() == len(data)
    assert size
    assert got == skciphers.crypt("ctr(aes)", KEY, IV, data)


def test_dup2_over_the_descriptor_of_a_waiting_send() -> None:
    """The writer's data goes to the socket it began with, to the last byte (dup2(2))."""
    data = STREAM * 20
    with need(Skcipher, "ctr(aes)", KEY) as cipher, Socket(os.dup(cipher.op.fd)) as old:
        op = cipher.op
        op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(IV), MSG_MORE)
        with Call(op.send, data) as writer, cipher.tfm.accept() as new:
            writer.waits(op)
            os.dup2(new.fd, op.fd)
            got = recv_all(old, len(data))
            assert writer.result() == len(data)
            with raises_errno(errno.EAGAIN):
                new.recv(16, MSG_DONTWAIT)
        assert got == skciphers.crypt("ctr(aes)", KEY, IV, data)


# Several processes ---------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Run work in a child process and return its id; it exits with 0 unless the work raises."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def sleeps_in_a_call_on(process: int, fd: int) -> bool:
    return calls.descriptor(Path(f"/proc/{process}")) == fd


@each_queued_type
def test_process_that_waits_already_when_another_sends(subject: Subject) -> None:
    """One process reads, another writes, on one op socket over fork(2)."""
    with subject.open() as transform:
        op = transform.op
        child = in_child(lambda: subject.finish(op))
        end = time.monotonic() + 20
        while not sleeps_in_a_call_on(child, op.fd):
            assert time.monotonic() < end, "the child does not wait in recv"
        subject.begin(op)
        assert os.waitpid(child, 0)[1] == 0
        subject.works(op)


@each_keyed_type
@pytest.mark.deadline(30)
def test_processes_that_share_a_tfm(subject: Subject, request: pytest.FixtureRequest) -> None:
    """Two children and their parent accept from it and work, again and again, at the same time (fork(2))."""
    more = time_box(request)

    def work() -> None:
        while more():
            with transform.tfm.accept() as op:
                for _ in range(5):
                    subject.works(op)

    with subject.open() as transform:
        children = [in_child(work) for _ in range(2)]
        try:
            work()
        finally:
            statuses = [os.waitpid(child, 0)[1] for child in children]
        assert statuses == [0, 0]


# One tfm socket ------------------------------------------------------------------------------------------------------


def hash_work(tfm: Transform, number: int) -> None:
    data = STREAM[number : 3 * number % 7000 + number]
    with tfm.tfm.accept() as op:
        op.send(data[:99], MSG_MORE)
        op.send(data[99:])
        assert op.recv(32) == hashes.digest("hmac(sha256)", data, KEY)


def skcipher_work(tfm: Transform, number: int) -> None:
    data = STREAM[number : number + 16 * (number % 300 + 1)]
    with tfm.tfm.accept() as op:
        op.sendmsg([data], set_op(ALG_OP_ENCRYPT) + set_iv(IV))
        assert op.recv(len(data)) == skciphers.crypt("cbc(aes)", KEY, IV, data)


def aead_work(tfm: Transform, number: int) -> None:
    iv, text = number.to_bytes(12, "big"), STREAM[number : 2 * number % 5000 + number]
    with tfm.tfm.accept() as op:
        op.sendmsg([b"AAD", text], set_op(ALG_OP_ENCRYPT) + set_iv(iv) + set_assoclen(3))
        assert op.recv(3 + len(text) + 16) == b"AAD" + aeads.seal("gcm(aes)", KEY, iv, b"AAD", text, 16)


@pytest.mark.parametrize(
    ("kind", "name", "work"),
    [
        pytest.param(Hash, "hmac(sha256)", hash_work, id="hash"),
        pytest.param(Skcipher, "cbc(aes)", skcipher_work, id="skcipher"),
        pytest.param(Aead, "gcm(aes)", aead_work, id="aead"),
    ],
)
@pytest.mark.deadline(30)
def test_threads_that_share_a_tfm(
    kind: type[Transform], name: str, work: Callable[[Transform, int], None], request: pytest.FixtureRequest
) -> None:
    """Op sockets are requests of their own: none has anything of another's data, IV or result.

    Source: struct af_alg_ctx, include/crypto/if_alg.h.
    """
    more = time_box(request)

    def run(first: int) -> None:
        number = first
        while more():
            work(tfm, number % 3000)
            number += 7

    with need(kind, name, KEY) as tfm:
        at_once(*[lambda first=first: run(first) for first in (1, 500, 1500, 2500)])


@each_keyed_type
@pytest.mark.deadline(30)
def test_key_set_against_use(subject: Subject, request: pytest.FixtureRequest) -> None:
    """An op socket accepted without a key gives ENOKEY until there is one; from its first use on the key stays.

    One thread sets the key, one uses such a socket: each time it is refused, or right.
    Source: skcipher_check_key, alg_setsockopt.
    """
    more = time_box(request)
    with subject.open_without_key() as transform:
        while more():
            with transform.tfm.accept() as op:
                errors: list[int] = []

                def set_key() -> None:
                    for _ in range(3):
                        errors.append(outcome(lambda: transform.tfm.set_key(subject.key or b"")))  # noqa: B023

                def use() -> None:
                    while error := outcome(lambda: subject.begin(op)):
                        assert error == errno.ENOKEY
                    subject.finish(op)

                at_once(use, set_key)
                assert errors[0] in (0, errno.EBUSY)
                assert set(errors) <= {0, errno.EBUSY}
                assert errors == sorted(errors), "once in use, it stays in use"
                with raises_errno(errno.EBUSY):
                    transform.tfm.set_key(subject.key or b"")
            transform.tfm.set_key(subject.key or b"")
            # Without a key again: by a new tfm, the only way that every type has.
            transform.close()
            transform.tfm = subject.open_without_key().tfm


@pytest.mark.parametrize("subject", EVERY, ids=lambda subject: subject.type_)
@pytest.mark.deadline(30)
def test_accept_against_close(subject: Subject, request: pytest.FixtureRequest) -> None:
    """The tfm socket's last descriptor goes while others accept from theirs: each op socket that came works.

    Source: af_alg_accept, sock_hold.
    """
    more = time_box(request)
    while more():
        with subject.open() as transform:
            duplicates = [Socket(os.dup(transform.tfm.fd)) for _ in range(2)]
            made: list[Socket] = []

            def accept(tfm: Socket) -> None:
                made.extend(tfm.accept() for _ in range(4))  # noqa: B023
                tfm.close()

            at_once(*[lambda tfm=tfm: accept(tfm) for tfm in duplicates], transform.tfm.close)
        assert len(made) == 8
        for op in made:
            subject.works(op)
            op.close()


@pytest.mark.parametrize("role", ["tfm", "op"])
@pytest.mark.deadline(30)
def test_owner_changed_against_close(role: str, request: pytest.FixtureRequest) -> None:
    """fchown(2) of a socket whose last descriptor is being closed (Linux kernel commit 9060cb719e61)."""
    more = time_box(request)
    with SKCIPHER.open() as cipher:
        while more():
            sock = cipher.tfm.accept() if role == "op" else Socket.bound("skcipher", "cbc(aes)")
            fd = sock.fd
            found: list[int] = []
            at_once(lambda: found.append(outcome(lambda: os.fchown(fd, 0, 0))), sock.close)  # noqa: B023
            assert found[0] in (0, errno.EBADF, errno.ENOENT)
        SKCIPHER.works(cipher.op)


# Everything at once --------------------------------------------------------------------------------------------------


@pytest.mark.deadline(60)
@pytest.mark.parametrize("subject", KEYED, ids=lambda subject: subject.type_)
def test_random_calls_of_many_threads(subject: Subject, request: pytest.FixtureRequest) -> None:
    """Four threads with descriptors of the same sockets call whatever there is. Errors are those the calls may give;
    Source: crypto/af_alg.c, lock_sock.
    afterwards the kernel has not complained, holds nothing, and a request on the same tfm is right."""
    thorough = request.config.option.thorough
    seed = random.SystemRandom().randrange(1 << 32) if thorough else 6
    print(f"seed: {seed}")
    more = time_box(request)
    allowed = {errno.EAGAIN, errno.EBUSY, errno.EINVAL, errno.EBADMSG, errno.EOPNOTSUPP, errno.ENOKEY}

    def run(number: int) -> None:
        choose = random.Random(seed + number)
        own = [Socket(os.dup(op.fd)) for op in ops]
        calls = calls_on(transform.tfm, subject, choose)
        while more():
            error = outcome(lambda: choose.choice(calls)(choose.choice(own)))
            assert error in {0, *allowed}, os.strerror(error)
            if choose.random() < 0.05:
                at = choose.randrange(len(own))
                own[at].close()
                own[at] = Socket(os.dup(choose.choice(ops).fd))
        for op in own:
            op.close()

    with subject.open() as transform:
        ops = [transform.tfm.accept() for _ in range(3)]
        at_once(*[lambda number=number: run(number) for number in range(4)])
        for op in ops:
            op.close()
        subject.works(transform.op)


def calls_on(tfm: Socket, subject: Subject, choose: random.Random) -> list[Callable[[Socket], object]]:
    """Return calls on an op socket, none of which waits."""

    def splice_in(op: Socket) -> None:
        with Pipe() as pipe:
            os.write(pipe.write_end, subject.message)
            splice(pipe.read_end, op, len(subject.message), choose.choice([0, 4]))

    def control(op: Socket) -> None:
        op.sendmsg([], subject.control, MSG_MORE | MSG_DONTWAIT)

    return [
        lambda op: op.sendmsg([subject.message], subject.control, MSG_DONTWAIT),
        lambda op: op.send(STREAM[: choose.choice([0, 1, 16, 5000])], MSG_DONTWAIT),
        lambda op: op.send(STREAM[: choose.choice([0, 7, 4096, 20000])], MSG_MORE | MSG_DONTWAIT),
        control,
        splice_in,
        lambda op: op.recv(choose.choice([0, 5, 16, 100, 30000]), MSG_DONTWAIT),
        lambda op: op.recv(30000, MSG_DONTWAIT),
        lambda op: op.poll(),
        lambda _: tfm.accept().close(),
        lambda op: op.accept().close(),
        lambda _: tfm.set_key(subject.key or b""),
    ]
