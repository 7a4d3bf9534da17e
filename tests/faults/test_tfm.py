"""Calls on tfm sockets, with every allocation and every copy from user space failing in turn."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Rng, Socket, authenc_key
from tests.afalg.constants import ALG_SET_DRBG_ENTROPY, ALG_SET_KEY_BY_KEY_SERIAL, MSG_MORE
from tests.doctor import absence
from tests.errors import probes
from tests.errors.leaks import option_memory
from tests.errors.raises import outcome
from tests.errors.returns import returns
from tests.errors.subjects import (
    AEAD,
    HASH,
    Subject,
    each_keyed_type,
    each_type,
)
from tests.faults.inject import COPIES, DESCRIPTORS, LOOKUP, NO_MEMORY, Injector, Story
from tests.faults.ops import walk_op
from tests.need import lacking, need, need_key


@returns("socket-no-memory")
def test_socket(inject: Injector) -> None:
    """ENOMEM for the socket itself, ENFILE for inode and file (net/socket.c)."""

    def story() -> Story:
        ended = yield Socket.create
        with ended.value or Socket.create() as sock:
            sock.bind("hash", "sha256")

    assert errno.ENOMEM in inject.walk(story, NO_MEMORY | DESCRIPTORS)


@returns("bind-no-memory", "bind-address-generic", "bind-algorithm-missing")
@each_type
def test_bind(inject: Injector, subject: Subject) -> None:
    """A failed bind leaves the socket unbound, and the next one works (alg_bind)."""
    subject.open().close()

    def story() -> Story:
        with Socket.create() as tfm:
            ended = yield lambda: tfm.bind(subject.type_, subject.name)
            if ended.errno:
                assert outcome(tfm.accept) == errno.EINVAL, "not unbound"
                tfm.bind(subject.type_, subject.name)
            works(subject, tfm)

    assert inject.walk(story, NO_MEMORY | COPIES | LOOKUP) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("bind-no-memory")
@each_type
def test_bind_again(inject: Injector, subject: Subject) -> None:
    """A failed bind of a bound socket leaves what was bound, key and all (alg_bind swaps last)."""
    with subject.open():

        def story() -> Story:
            with subject.open() as transform:
                ended = yield lambda: transform.tfm.bind(subject.type_, subject.name)
                if not ended.errno and subject.key is not None:
                    transform.tfm.set_key(subject.key)
                subject.works(transform.op)

        assert errno.ENOMEM in inject.walk(story, NO_MEMORY | COPIES | LOOKUP)


@returns("setkey-no-memory", "setkey-fault")
@each_keyed_type
def test_key(inject: Injector, subject: Subject) -> None:
    """After a failure the socket has its old key, which is the same, or none, and takes it again (alg_setkey)."""

    def story() -> Story:
        with subject.open() as transform:
            idle = option_memory(transform.tfm)
            yield lambda: transform.tfm.set_key(subject.key or b"")
            assert option_memory(transform.tfm) == idle
            if outcome(lambda: transform.tfm.set_key(subject.key or b"")) == 0:
                works(subject, transform.tfm)

    assert inject.walk(story, NO_MEMORY | COPIES) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("setkey-no-memory", "setkey-fault")
@pytest.mark.parametrize("kind", ["authenc(hmac(sha256),cbc(aes))"])
def test_key_of_nested_algorithms(inject: Injector, kind: str) -> None:
    """Key blobs are taken apart and given to the inner algorithms, which may need memory of their own.

    Source: crypto_authenc_setkey.
    """
    blob = authenc_key(bytes(32), bytes(16))
    need(Aead, kind, blob).close()

    def story() -> Story:
        with Aead(kind, blob) as aead:
            yield lambda: aead.tfm.set_key(blob)
            aead.tfm.set_key(blob)
            with aead.tfm.accept():
                pass

    assert inject.walk(story, NO_MEMORY | COPIES) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("setkey-no-memory", "setkey-fault")
def test_seed(inject: Injector) -> None:
    """alg_setkey and crypto_rng_reset (crypto/rng.c): whatever failed, the next seed is taken and bytes come."""
    need(Rng, "stdrng", b"").close()

    def story() -> Story:
        with Rng("stdrng", b"") as rng:
            yield lambda: rng.tfm.set_key(b"personal")
            rng.tfm.set_key(b"personal")
            assert len(rng.op.recv(16)) == 16

    assert inject.walk(story, NO_MEMORY | COPIES) >= {0, errno.ENOMEM, errno.EFAULT}


def test_authsize(inject: Injector) -> None:
    """The size is the option's length; nothing is copied, and no memory taken (alg_setsockopt, aead_setauthsize)."""

    def story() -> Story:
        with AEAD.open() as aead:
            yield lambda: aead.tfm.set_authsize(16)
            AEAD.works(aead.op)

    assert inject.walk(story, {}) == {0}


@returns("key-serial-fault", "key-serial-no-memory")
def test_key_by_serial(inject: Injector) -> None:
    """alg_setkey_by_key_serial (crypto/af_alg.c) puts the key on every way out, and the next try sets it."""
    if not probes.has_key_serials():
        lacking(absence.KEY_SERIALS, errno.ENOPROTOOPT)
    with need_key("user", "af-alg-faults", HASH.key or b"") as key:
        users = key.users()

        def story() -> Story:
            with HASH.open_without_key() as h:
                ended = yield lambda: h.tfm.setsockopt(ALG_SET_KEY_BY_KEY_SERIAL, key.option)
                assert key.users() == users, "a reference to the key is left"
                if ended.errno:
                    h.tfm.setsockopt(ALG_SET_KEY_BY_KEY_SERIAL, key.option)
                HASH.works(h.op)

        assert inject.walk(story, NO_MEMORY | COPIES) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("entropy-refused")
def test_entropy(inject: Injector) -> None:
    """A failed attempt has set nothing: the next is not refused as the second (crypto/algif_rng.c)."""
    need(Rng, "stdrng", b"").close()
    if not probes.has_drbg_entropy():
        lacking(absence.DRBG_ENTROPY, errno.ENOPROTOOPT)

    def story() -> Story:
        with Rng("stdrng") as rng:
            ended = yield lambda: rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, bytes(48))
            if ended.errno:
                rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, bytes(48))
            assert outcome(lambda: rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, bytes(48))) == errno.EINVAL

    assert inject.walk(story, NO_MEMORY | COPIES) >= {0, errno.ENOMEM, errno.EFAULT}


def test_getsockopt(inject: Injector) -> None:
    """sk_getsockopt (net/core/sock.c), SO_MEMINFO: a copy that fails is EFAULT and changes nothing."""
    with HASH.open() as h:
        before = option_memory(h.tfm)

        def story() -> Story:
            yield lambda: option_memory(h.tfm)
            assert option_memory(h.tfm) == before

        assert inject.walk(story, COPIES) == {0, errno.EFAULT}


@returns("accept-no-socket", "accept-no-memory", "hash-accept-no-memory", "skcipher-accept-no-memory")
@returns("aead-accept-no-memory", "rng-accept-no-memory", "skcipher-accept-no-iv", "aead-accept-no-iv")
@each_type
def test_accept(inject: Injector, subject: Subject) -> None:
    """A failed accept counts as none: the key can be set again, which live op sockets forbid (af_alg_accept)."""
    with subject.open() as transform:

        def story() -> Story:
            ended = yield transform.tfm.accept
            if ended.value:
                with ended.value as op:
                    subject.works(op)
            if subject.key is not None:
                transform.tfm.set_key(subject.key)
            works(subject, transform.tfm)

        assert errno.ENOMEM in inject.walk(story, NO_MEMORY | DESCRIPTORS)


@returns("accept-no-socket", "accept-no-memory", "hash-accept-no-memory", "skcipher-accept-no-memory")
@returns("aead-accept-no-memory")
@each_keyed_type
def test_accept_without_a_key(inject: Injector, subject: Subject) -> None:
    """af_alg_accept: neither a failure nor an op socket closed unused counts, so bind and key are taken afterwards."""
    with subject.open_without_key() as transform:

        def story() -> Story:
            ended = yield transform.tfm.accept
            if ended.value:
                ended.value.close()
            transform.tfm.bind(subject.type_, subject.name)
            with transform.tfm.accept() as op:
                transform.tfm.set_key(subject.key or b"")
                subject.works(op)
            transform.tfm.bind(subject.type_, subject.name)

        assert errno.ENOMEM in inject.walk(story, NO_MEMORY | DESCRIPTORS)


@returns("hash-clone-state", "hash-clone-no-memory")
@pytest.mark.parametrize("flags", [MSG_MORE, 0], ids=["open", "finished"])
def test_clone(inject: Injector, flags: int) -> None:
    """The origin goes on as if nothing had been (hash_accept in crypto/algif_hash.c)."""

    def story(op: Socket) -> Story:
        op.send(HASH.message[:9], flags)
        ended = yield op.accept
        for one in (op, ended.value):
            if one and flags:
                one.send(HASH.message[9:])
                HASH.finish(one)
        if ended.value:
            ended.value.close()

    assert errno.ENOMEM in walk_op(inject, HASH, story, NO_MEMORY | DESCRIPTORS)


@each_type
def test_close(inject: Injector, subject: Subject) -> None:
    """close(2) of a socket with a request half done cannot fail, whatever else does."""

    def story() -> Story:
        with subject.open() as transform:
            if subject.result is not None:
                subject.begin(transform.op, MSG_MORE)
            assert transform.op
            yield transform.close

    assert inject.walk(story, {}) == {0}


def works(subject: Subject, tfm: Socket) -> None:
    """Give the socket the subject's key and make one request by a fresh op socket."""
    if subject.key is not None:
        tfm.set_key(subject.key)
    with tfm.accept() as op:
        subject.works(op)
