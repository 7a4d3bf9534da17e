"""Calls on op sockets, with every allocation and every copy from and to user space failing in turn.

What a failure costs is the request, at most: the socket closes, and a fresh one of the same tfm works.
"""

from __future__ import annotations

import errno
import hmac
import select
from collections.abc import Callable

import pytest

from tests.afalg import Aead, Rng, Skcipher, Socket, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT, ALG_SET_DRBG_ENTROPY, MSG_MORE
from tests.afalg.many import recvmmsg, sendmmsg
from tests.doctor import absence
from tests.errors import probes
from tests.errors.leaks import option_memory
from tests.errors.raises import outcome
from tests.errors.returns import returns
from tests.errors.subjects import (
    HASH,
    QUEUED,
    SKCIPHER,
    Subject,
    each_keyed_type,
    each_queued_type,
)
from tests.faults.inject import CONTROL, COPIES, NO_MEMORY, Ended, Injector, Story
from tests.faults.ops import walk_op
from tests.need import lacking, need
from tests.oracle import aeads, skciphers

BOTH = NO_MEMORY | COPIES
SEND = BOTH | CONTROL


@returns("send-no-memory", "send-no-page", "send-fault", "hash-no-memory", "hash-fault")
@each_keyed_type
@pytest.mark.parametrize("flags", [0, MSG_MORE], ids=["whole", "more"])
def test_send(inject: Injector, subject: Subject, flags: int) -> None:
    """What was taken before the failure is at most the message; all memory is given back when the socket closes.

    Source: af_alg_sendmsg.
    """

    def story(op: Socket) -> Story:
        ended = yield lambda: subject.begin(op, flags)
        if not ended.errno and not flags:
            subject.finish(op)

    assert walk_op(inject, subject, story, SEND) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("send-fault-append")
@each_queued_type
def test_append(inject: Injector, subject: Subject) -> None:
    """A second send that fills the page of the first. When it fails, the first is as it was.

    Source: af_alg_sendmsg, ctx->merge.
    """
    head, tail = subject.message[:9], subject.message[9:]

    def story(op: Socket) -> Story:
        op.sendmsg([head], subject.control, MSG_MORE)
        ended = yield lambda: op.send(tail)
        if ended.errno:
            op.send(tail)
        subject.finish(op)

    assert walk_op(inject, subject, story, BOTH) == {0, errno.EFAULT}


@returns("send-no-memory", "send-no-page", "send-fault")
@each_queued_type
def test_long_send(inject: Injector, subject: Subject) -> None:
    """Pages that were filled before the failure count: the call returns their bytes.

    Source: ``copied ?: err`` in af_alg_sendmsg.
    """
    data = bytes(3 * 4096 + 100)

    def story(op: Socket) -> Story:
        ended = yield lambda: op.sendmsg([data], subject.control, MSG_MORE)
        assert ended.errno or ended.value in (4096, 2 * 4096, 3 * 4096, len(data))
        if not ended.errno and ended.value < len(data):
            assert outcome(lambda: op.send(b"x")) == errno.EINVAL, "a short send has ended the message"

    assert walk_op(inject, subject, story, SEND) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("hash-fault")
def test_long_hash(inject: Injector) -> None:
    """Several batches of 16 pages: a failure ends the message, and the next one is a new one.

    Source: ALG_MAX_PAGES in hash_sendmsg.
    """
    data = bytes(40 * 4096)

    def story(op: Socket) -> Story:
        ended = yield lambda: op.send(data)
        assert ended.errno or 0 < ended.value <= len(data)
        HASH.works(op)

    assert walk_op(inject, HASH, story, BOTH) == {0, errno.EFAULT}


@pytest.mark.parametrize("step", ["send", "finish", "recv", "recv-nothing"])
@returns("hash-no-memory", "hash-recv-no-memory", "hash-recv-fault")
def test_hash_in_parts(inject: Injector, step: str) -> None:
    """A message in two parts, and a digest of nothing. After a failure the message is as it was before, or ended.

    Source: hash_sendmsg, hash_recvmsg.
    """
    acts: dict[str, Callable[[Socket], object]] = {
        "send": lambda op: op.send(HASH.message[9:]),
        "finish": lambda op: op.send(b""),
        "recv": lambda op: op.recv(32),
        "recv-nothing": lambda op: op.recv(32),
    }
    before = {"send": HASH.message[:9], "recv-nothing": b""}.get(step, HASH.message)

    def story(op: Socket) -> Story:
        if step != "recv-nothing":
            op.send(before, MSG_MORE)
        ended = yield lambda: acts[step](op)
        if ended.errno:
            assert op.recv(32) in (digest(before), digest(b""))
        elif step == "recv":
            assert ended.value == HASH.result
        elif step in ("send", "finish"):
            HASH.finish(op)
        HASH.works(op)

    seen = walk_op(inject, HASH, story, BOTH)
    # A part that is sent while the digest's memory is already there takes none (Linux 6.5 and later).
    assert seen >= {0, errno.EFAULT} or seen >= {0, errno.ENOMEM}


@returns("recv-no-memory", "recv-no-memory-list", "recv-no-memory-output", "recv-fault")
@returns("hash-recv-no-memory", "hash-recv-fault")
@each_keyed_type
def test_recv(inject: Injector, subject: Subject) -> None:
    """Output in three buffers: the whole result, or an error and everything given back (af_alg_get_rsgl)."""
    size = len(subject.result or b"")

    def story(op: Socket) -> Story:
        idle = option_memory(op)
        subject.begin(op)
        parts = [bytearray(5), bytearray(11), bytearray(size - 16)]
        ended = yield lambda: op.recvmsg(parts)
        if not ended.errno:
            assert b"".join(parts) == subject.result
            assert option_memory(op) == idle

    seen = walk_op(inject, subject, story, BOTH)
    assert seen >= {0, errno.EFAULT}
    assert errno.ENOMEM in seen or subject is HASH


@returns("rng-generate", "rng-recv-fault")
@pytest.mark.parametrize("name", ["jitterentropy_rng", "stdrng"])
def test_random(inject: Injector, name: str) -> None:
    """_rng_recvmsg (crypto/algif_rng.c): a failed generate or copy is the call's alone, the next recv is whole."""
    with need(Rng, name, b"") as rng:
        assert rng.op

        def story() -> Story:
            ended = yield lambda: rng.op.recv(32)
            assert ended.errno or len(ended.value) == 32
            assert len(rng.op.recv(32)) == 32

        assert inject.walk(story, BOTH) >= {0, errno.EFAULT}


@returns("rng-test-send")
@pytest.mark.parametrize("step", ["send", "recv"])
def test_random_for_validation(inject: Injector, step: str) -> None:
    """Additional input of a generator with entropy set: a failed send leaves none (rng_test_sendmsg)."""
    need(Rng, "stdrng", b"").close()
    if not probes.has_drbg_entropy():
        lacking(absence.DRBG_ENTROPY, errno.ENOPROTOOPT)

    def story() -> Story:
        with Rng("stdrng") as rng:
            rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, bytes(128))
            rng.tfm.set_key(b"")
            op = rng.op
            if step == "recv":
                op.send(b"additional")
            ended = yield (lambda: op.send(b"additional")) if step == "send" else (lambda: op.recv(16))
            assert ended.errno or ended.value == 10 or len(ended.value) == 16
            assert op.send(b"more") == 4
            assert len(op.recv(16)) == 16

    assert inject.walk(story, BOTH) >= {0, errno.EFAULT}


@returns("skcipher-state-no-memory", "recv-no-memory-list")
def test_part_of_a_stream(inject: Injector) -> None:
    """A cipher's output while its input is open; the state between two parts takes memory of its own.

    Source: algif_skcipher_export.
    """

    def story(op: Socket) -> Story:
        op.sendmsg([SKCIPHER.message], SKCIPHER.control, MSG_MORE)
        ended = yield lambda: op.recv(16)
        assert ended.errno or ended.value == (SKCIPHER.result or b"")[:16]
        op.send(b"")
        if not ended.errno:
            assert op.recv(16) == (SKCIPHER.result or b"")[16:]

    assert walk_op(inject, SKCIPHER, story, BOTH) >= {0, errno.ENOMEM}


# Each of them goes through memory of its own: a copy, a bounce buffer, a request to an inner algorithm.
CIPHERS = ["cts(cbc(aes))", "xts(aes)", "lrw(aes)", "adiantum(xchacha12,aes)", "hctr2(aes)", "essiv(cbc(aes),sha256)"]
KEY_SIZES = {"xts(aes)": 64, "lrw(aes)": 32, "adiantum(xchacha12,aes)": 32}


@returns("skcipher-refuses")
@pytest.mark.parametrize("name", CIPHERS)
def test_ciphers_with_memory_of_their_own(inject: Injector, name: str) -> None:
    """Buffers that are not aligned, in parts smaller than a block, which the cipher has to bring together.

    Source: skcipher_next_slow in crypto/skcipher.c.
    """
    iv_size = 32 if name.startswith(("adiantum", "hctr2")) else 16
    key = bytes(range(KEY_SIZES.get(name, 16)))
    control = set_op(ALG_OP_ENCRYPT) + set_iv(bytes(iv_size))
    message = bytes(range(100))
    if name.startswith(("essiv", "lrw")):
        message = message[:96]
    with need(Skcipher, name, key) as cipher:
        right = skciphers.crypt(name, key, bytes(iv_size), message)

        def story() -> Story:
            with cipher.tfm.accept() as op:
                op.sendmsg([message], control)
                parts = [bytearray(5), bytearray(11), bytearray(len(message) - 16)]
                ended = yield lambda: op.recvmsg(parts)
                assert ended.errno or b"".join(parts) == right

        assert inject.walk(story, BOTH) >= {0, errno.ENOMEM}


AEADS = ["ccm(aes)", "authenc(hmac(sha256),cbc(aes))", "rfc7539(chacha20,poly1305)", "rfc4106(gcm(aes))"]


@returns("aead-refuses")
@pytest.mark.parametrize("name", AEADS)
def test_aeads_with_memory_of_their_own(inject: Injector, name: str) -> None:
    """For three odd buffers skcipher_walk (crypto/skcipher.c) and drivers take memory: without it recv is ENOMEM."""
    key = authenc_key(bytes(32), bytes(16)) if name.startswith("authenc") else bytes(32 if "chacha" in name else 16)
    key += bytes(4 if name.startswith("rfc4106") else 0)  # the salt
    iv = b"\x03" + bytes(15) if name in ("ccm(aes)", AEADS[1]) else bytes(12 if "chacha" in name else 8)
    control = set_op(ALG_OP_ENCRYPT) + set_iv(iv) + set_assoclen(16)
    message = bytes(range(16 + 64))
    with need(Aead, name, key) as aead:
        right = aeads.seal(name, key, iv, message[:16], message[16:], 16)

        def story() -> Story:
            with aead.tfm.accept() as op:
                op.sendmsg([message], control)
                parts = [bytearray(13), bytearray(11), bytearray(len(message) - 24 + 16)]
                ended = yield lambda: op.recvmsg(parts)
                assert ended.errno or b"".join(parts)[16:] == right

        assert inject.walk(story, BOTH) >= {0, errno.ENOMEM}


@returns("send-no-memory", "send-no-page", "send-fault")
@each_queued_type
def test_sendmmsg_and_recvmmsg(inject: Injector, subject: Subject) -> None:
    """A failure in the second message hides behind the first, which counts (sendmmsg(2), recvmmsg(2))."""
    half = len(subject.message) // 2
    parts = [(subject.message[:half], subject.control), (subject.message[half:], b"")]

    def sent(op: Socket) -> Story:
        ended = yield lambda: sendmmsg(op, parts, MSG_MORE)
        assert ended.errno or ended.value in ([half], [half, len(subject.message) - half])

    def received(op: Socket) -> Story:
        subject.begin(op)
        ended = yield lambda: recvmmsg(op, [len(subject.result or b"")])
        assert ended.errno or ended.value == [subject.result]

    for story in (sent, received):
        assert walk_op(inject, subject, story, SEND) >= {0, errno.ENOMEM, errno.EFAULT}


@pytest.mark.parametrize("subject", QUEUED, ids=lambda subject: subject.type_)
@pytest.mark.parametrize("way", ["poll", "select", "epoll"])
def test_poll(inject: Injector, subject: Subject, way: str) -> None:
    """Asking changes nothing, whether there is an answer or not (af_alg_poll)."""

    def story(op: Socket) -> Story:
        subject.begin(op)
        with select.epoll(1) as epoll:

            def ask() -> bool:
                if way == "poll":
                    return bool(op.poll())
                if way == "select":
                    return bool(select.select([op], [], [], 0)[0])
                epoll.register(op.fd, select.EPOLLIN)
                return bool(epoll.poll(0))

            ended: Ended = yield ask
        assert ended.errno or ended.value in (True, None)
        subject.finish(op)

    more = {errno.EINVAL: "epoll_wait calls an event array it cannot write invalid"} if way == "epoll" else {}
    assert 0 in walk_op(inject, subject, story, BOTH | more)


@each_keyed_type
def test_nokey_socket(inject: Injector, subject: Subject) -> None:
    """The first call of a socket that was accepted before there was a key (hash_check_key and its like)."""

    def story() -> Story:
        with subject.open_without_key() as transform:
            op = transform.op
            transform.tfm.set_key(subject.key or b"")
            ended = yield lambda: subject.begin(op)
            if not ended.errno:
                subject.finish(op)

    assert inject.walk(story, SEND) >= {0, errno.EFAULT}


def digest(data: bytes) -> bytes:
    """Return what HASH makes of the data, by the C library of Python."""
    return hmac.digest(HASH.key or b"", data, "sha256")
