"""sendmmsg(2) and recvmmsg(2): each message is a send or recv of its own, up to the first that fails."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import set_op
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.afalg.many import recvmmsg, sendmmsg
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import (
    HASH,
    RNG,
    SKCIPHER,
    SOCKETS,
    Subject,
    each_keyed_type,
    each_queued_type,
    each_type,
    socket_of,
)


def test_every_message_to_a_hash_is_whole() -> None:
    """The digest of the last is what is read; with MSG_MORE they are parts of one."""
    with HASH.open() as h:
        assert sendmmsg(h.op, [(b"something else", b""), (HASH.message, b"")]) == [14, len(HASH.message)]
        HASH.finish(h.op)
        assert sendmmsg(h.op, [(HASH.message[:3], b""), (HASH.message[3:], b"")], MSG_MORE) == [
            3,
            len(HASH.message) - 3,
        ]
        HASH.finish(h.op)


@each_queued_type
def test_second_message_is_refused_and_the_first_counts(subject: Subject) -> None:
    """A queue takes one message at a time: the call says 1, and the error is lost (sendmmsg(2))."""
    with subject.open() as transform:
        assert sendmmsg(transform.op, [(subject.message, subject.control), (b"more", b"")]) == [len(subject.message)]
        subject.finish(transform.op)
        parts = [(subject.message[:3], subject.control), (subject.message[3:], b"")]
        assert sendmmsg(transform.op, parts, MSG_MORE) == [3, len(subject.message) - 3]
        transform.op.send(b"")
        subject.finish(transform.op)


@returns("send-op-value")
@each_queued_type
def test_first_message_decides_the_error(subject: Subject) -> None:
    """sendmmsg(2): an error is returned only if no message was sent; the second is not looked at."""
    with subject.open() as transform:
        with raises_errno(errno.EINVAL):
            sendmmsg(transform.op, [(b"x", set_op(2)), (subject.message, subject.control)])
        subject.works(transform.op)


@returns("not-on-tfm", "rng-send")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm") or k == "rng-op"])
def test_sending_to_a_socket_that_takes_no_data_is_eopnotsupp(kind: str) -> None:
    """sock_no_sendmsg of tfm (alg_proto_ops) and rng op sockets (algif_rng_ops), sock_no_recvmsg of the former."""
    with socket_of(kind) as sock:
        with raises_errno(errno.EOPNOTSUPP):
            sendmmsg(sock, [(b"x", b"")])
        if kind != "rng-op":
            with raises_errno(errno.EOPNOTSUPP):
                recvmmsg(sock, [16])


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_without_a_key_is_enokey(subject: Subject) -> None:
    """sendmmsg(2) and recvmmsg(2) end in the _nokey proto_ops, whose hash_check_key or the like refuses."""
    with subject.open_without_key() as transform:
        with raises_errno(errno.ENOKEY):
            sendmmsg(transform.op, [(subject.message, subject.control)])
        with raises_errno(errno.ENOKEY):
            recvmmsg(transform.op, [16])
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


@each_type
def test_no_messages_at_all(subject: Subject) -> None:
    """sendmmsg(2) and recvmmsg(2) with vlen 0 return 0 and do not call the socket (net/socket.c)."""
    with subject.open() as transform:
        assert sendmmsg(transform.op, []) == []
        assert recvmmsg(transform.op, []) == []
        subject.works(transform.op)


def test_reading_a_hash_twice_gives_the_digest_of_nothing() -> None:
    """hash_recvmsg frees the result; the next one begins with crypto_ahash_init and ends at once."""
    with HASH.open() as h:
        (nothing,) = recvmmsg(h.op, [32])
        HASH.begin(h.op)
        assert recvmmsg(h.op, [32, 32]) == [HASH.result, nothing]


@returns("wait-for-data")
def test_reading_a_cipher_goes_on_from_part_to_part() -> None:
    """Up to what there is: the third would wait, so the call ends with two (recvmmsg(2))."""
    result = SKCIPHER.result or b""
    with SKCIPHER.open() as cipher:
        SKCIPHER.begin(cipher.op)
        assert recvmmsg(cipher.op, [16, 16, 16], MSG_DONTWAIT) == [result[:16], result[16:]]
        with raises_errno(errno.EAGAIN):
            recvmmsg(cipher.op, [16], MSG_DONTWAIT)
        SKCIPHER.works(cipher.op)


def test_each_message_of_an_rng_has_a_limit_of_its_own() -> None:
    """_rng_recvmsg (crypto/algif_rng.c) cuts each recv to MAXSIZE, 128 bytes."""
    with RNG.open() as rng:
        assert [len(part) for part in recvmmsg(rng.op, [200, 16])] == [128, 16]
