"""ENOMEM at every place that takes memory of the socket, by net.core.optmem_max: sock_kmalloc refuses beyond it."""

from __future__ import annotations

import errno

from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.errors.leaks import option_memory
from tests.errors.limits import SetLimit
from tests.errors.raises import name_of, outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import HASH, SKCIPHER, Subject, each_keyed_type, each_queued_type, each_type


@returns("setkey-no-memory")
@each_keyed_type
def test_key_is_enomem_and_keeps_the_old_one(subject: Subject, set_limit: SetLimit) -> None:
    """alg_setkey takes the copy of the key by sock_kmalloc, before the tfm hears of it."""
    with subject.open() as transform:
        set_limit(1)
        with raises_errno(errno.ENOMEM):
            transform.tfm.set_key(subject.key or b"")
        set_limit(20480)
        subject.works(transform.op)


@returns("accept-no-memory", "hash-accept-no-memory", "skcipher-accept-no-memory", "aead-accept-no-memory")
@returns("rng-accept-no-memory", "skcipher-accept-no-iv", "aead-accept-no-iv")
@each_type
def test_accept_is_enomem_until_its_context_fits(subject: Subject, set_limit: SetLimit) -> None:
    """Each size in turn: ENOMEM and nothing left behind, or a socket that works.

    Source: hash_accept_parent_nokey and its like.
    """
    with subject.open() as transform:
        seen = set()
        for size in [1, 8, 17, 31, *range(32, 200, 8), *range(200, 2000, 100)]:
            set_limit(size)
            got = outcome(lambda: transform.tfm.accept().close())
            assert got in (0, errno.ENOMEM), f"{name_of(got)} with {size} bytes"
            seen.add(got)
        assert seen == {0, errno.ENOMEM}
        set_limit(20480)
        transform.tfm.bind(subject.type_, subject.name)
        if subject.key is not None:
            transform.tfm.set_key(subject.key)
        subject.works(transform.op)


@returns("accept-no-memory", "hash-accept-no-memory", "skcipher-accept-no-memory", "aead-accept-no-memory")
@each_keyed_type
def test_accept_without_a_key_is_enomem(subject: Subject, set_limit: SetLimit) -> None:
    """hash_, skcipher_ and aead_accept_parent_nokey: no context, and no op socket counted: bind and key still work."""
    with subject.open_without_key() as transform:
        set_limit(1)
        with raises_errno(errno.ENOMEM):
            transform.tfm.accept()
        set_limit(20480)
        transform.tfm.bind(subject.type_, subject.name)
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


@returns("hash-clone-no-memory")
def test_clone_is_enomem_and_leaves_the_hash_as_it_was(set_limit: SetLimit) -> None:
    """hash_accept exports the state; af_alg_accept has no memory for the clone's context, and the original goes on."""
    with HASH.open() as h:
        h.op.send(HASH.message[:9], MSG_MORE)
        set_limit(16)
        with raises_errno(errno.ENOMEM):
            h.op.accept()
        set_limit(20480)
        h.op.send(HASH.message[9:])
        HASH.finish(h.op)


@returns("hash-no-memory")
def test_end_of_a_clone_is_enomem_and_the_clone_closes(set_limit: SetLimit) -> None:
    """A clone has no memory for its digest yet; its origin, which shares none with it, goes on (hash_alloc_result)."""
    with HASH.open() as h:
        h.op.send(HASH.message, MSG_MORE)
        with h.op.accept() as clone:
            set_limit(16)
            with raises_errno(errno.ENOMEM):
                clone.send(b"")
            set_limit(20480)
            HASH.works(clone)
        h.op.send(b"")
        HASH.finish(h.op)


@returns("send-no-memory")
@each_queued_type
def test_send_is_enomem_and_another_try_works(subject: Subject, set_limit: SetLimit) -> None:
    """The list of pages takes 4088 bytes at once (af_alg_alloc_tsgl)."""
    with subject.open() as transform:
        op = transform.op
        set_limit(4000)
        for flags in (0, MSG_MORE, MSG_DONTWAIT):
            with raises_errno(errno.ENOMEM):
                op.sendmsg([subject.message], subject.control, flags)
        set_limit(20480)
        subject.works(op)


@returns("recv-no-memory", "recv-no-memory-list", "recv-no-memory-output")
@each_queued_type
def test_recv_is_enomem_at_every_step_and_keeps_the_request(subject: Subject, set_limit: SetLimit) -> None:
    """Each limit in turn, with output in several buffers: ENOMEM and another try, or the result.

    Source: af_alg_alloc_areq, af_alg_get_rsgl.
    """
    size = len(subject.result or b"")
    with subject.open() as transform:
        op = transform.op
        idle = option_memory(op)
        seen = set()
        for limit in range(4500, 12000, 60):
            set_limit(20480)
            subject.begin(op)
            set_limit(limit)
            parts = [bytearray(5), bytearray(11), bytearray(size - 16)]
            got = outcome(lambda parts=parts: op.recvmsg(parts))  # type: ignore[misc]
            assert got in (0, errno.ENOMEM), f"{name_of(got)} with {limit} bytes"
            seen.add(got)
            set_limit(20480)
            if got:
                subject.finish(op)
            else:
                assert b"".join(parts) == subject.result
            assert option_memory(op) == idle, f"not given back, with {limit} bytes"
        assert seen == {0, errno.ENOMEM}


@returns("hash-no-memory", "hash-recv-no-memory")
def test_digest_is_enomem_and_the_next_is_right(set_limit: SetLimit) -> None:
    """hash_alloc_result (crypto/algif_hash.c) takes the digest's memory by sock_kmalloc, in sendmsg and in recvmsg."""
    with HASH.open() as h:
        h.op  # noqa: B018 - accepts the op socket
        set_limit(16)
        with raises_errno(errno.ENOMEM):
            h.op.send(HASH.message)
        with raises_errno(errno.ENOMEM):
            h.op.recv(32)
        set_limit(20480)
        HASH.works(h.op)
        h.op.send(HASH.message, MSG_MORE)
        set_limit(16)
        got: list[bytes] = []
        error = outcome(lambda: got.append(h.op.recv(32)))
        set_limit(20480)
        # Linux 6.6 and later take the memory when a message begins; before, the message is still open.
        assert (error, got) in ((0, [HASH.result]), (errno.ENOMEM, []))
        if error:
            HASH.finish(h.op)
        HASH.works(h.op)


@returns("skcipher-state-no-memory")
def test_part_of_a_stream_is_enomem_or_right(set_limit: SetLimit) -> None:
    """The state between two parts takes memory where it is kept (algif_skcipher_export)."""
    message, result = SKCIPHER.message, SKCIPHER.result or b""
    with SKCIPHER.open() as cipher:
        seen = set()
        for limit in range(4500, 9000, 100):
            set_limit(20480)
            cipher.op.sendmsg([message], SKCIPHER.control, MSG_MORE)
            set_limit(limit)
            got: list[bytes] = []
            error = outcome(lambda got=got: got.append(cipher.op.recv(16)))  # type: ignore[misc]
            seen.add(error)
            assert (error, got) in ((errno.ENOMEM, []), (0, [result[:16]])), f"with {limit} bytes"
            set_limit(20480)
            cipher.op.send(b"")
            rest = cipher.op.recv(16)
            assert rest == (result[:16] if error else result[16:])
            if error:
                cipher.op.recv(16)
        assert seen == {0, errno.ENOMEM}
