"""Op sockets accepted before there was a key, and what counts as a user of a tfm socket.

A tfm socket takes keys and options while none of its op sockets has been used with a key. One accepted without
a key counts as used from its first call that succeeds (af_alg_release_parent, …_check_key).
"""

from __future__ import annotations

import errno
import itertools

import pytest

from tests.afalg.constants import MSG_MORE
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, HASH, QUEUED, Subject, each_keyed_type

OTHER_KEY = bytes(range(200, 216))


def key_of(subject: Subject) -> bytes:
    assert subject.key is not None
    return subject.key


@returns("setsockopt-children")
@each_keyed_type
def test_key_may_change_until_an_op_socket_is_used(subject: Subject) -> None:
    """Any number of times, also with unused op sockets open; the last one counts (alg_setsockopt)."""
    with subject.open_without_key() as transform, transform.tfm.accept() as op, transform.tfm.accept() as other:
        for key in (OTHER_KEY, key_of(subject), OTHER_KEY, key_of(subject)):
            transform.tfm.set_key(key)
        subject.works(op)
        with raises_errno(errno.EBUSY):
            transform.tfm.set_key(OTHER_KEY)
        subject.works(other)
        subject.works(op)


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_refused_use_does_not_count(subject: Subject) -> None:
    """hash_check_key and its like lower nokey_refcnt only with a key: alg_setsockopt still takes one (no EBUSY)."""
    with subject.open_without_key() as transform, transform.tfm.accept() as op:
        for _ in range(3):
            with raises_errno(errno.ENOKEY):
                subject.begin(op)
            with raises_errno(errno.ENOKEY):
                op.recv(16)
        transform.tfm.set_key(key_of(subject))
        subject.works(op)


@returns("setsockopt-children", "bind-children")
@each_keyed_type
@pytest.mark.parametrize("order", list(itertools.permutations(["used", "unused", "keyed"])), ids="-".join)
def test_tfm_is_free_again_when_its_users_are_closed(subject: Subject, order: tuple[str, ...]) -> None:
    """One op socket from before the key and used, one from before and not, one from after: in every order.

    Source: af_alg_release_parent.
    """
    with subject.open_without_key() as transform:
        tfm = transform.tfm
        ops = {"used": tfm.accept(), "unused": tfm.accept()}
        tfm.set_key(key_of(subject))
        ops["keyed"] = tfm.accept()
        subject.works(ops["used"])
        for name in order:
            with raises_errno(errno.EBUSY):
                tfm.bind(subject.type_, subject.name)
            if {"used", "keyed"} & ops.keys():
                with raises_errno(errno.EBUSY, why=f"still open: {', '.join(ops)}"):
                    tfm.set_key(key_of(subject))
            else:
                tfm.set_key(key_of(subject))
            ops.pop(name).close()
        tfm.set_key(key_of(subject))
        tfm.bind(subject.type_, subject.name)
        tfm.set_key(key_of(subject))
        with tfm.accept() as op:
            subject.works(op)


@each_keyed_type
@pytest.mark.parametrize("order", list(itertools.permutations(["tfm", "first", "second"])), ids="-".join)
def test_closing_in_every_order(subject: Subject, order: tuple[str, ...]) -> None:
    """With a request begun on each op socket; those still open go on (af_alg_release_parent in crypto/af_alg.c)."""
    with subject.open_without_key() as transform:
        sockets = {"tfm": transform.tfm, "first": transform.tfm.accept(), "second": transform.tfm.accept()}
        transform.tfm.set_key(key_of(subject))
        for op in (sockets["first"], sockets["second"]):
            op.sendmsg([subject.message[:3]], subject.control, MSG_MORE)
        for name in order:
            sockets.pop(name).close()
            for left in sockets.values():
                if left is not transform.tfm:
                    left.send(subject.message[3:])
                    subject.finish(left)
                    left.sendmsg([subject.message[:3]], subject.control, MSG_MORE)


@returns("setsockopt-children")
def test_clone_of_a_hash_is_a_user() -> None:
    """hash_accept calls af_alg_accept on the tfm socket: a clone is counted there, and its origin may go first."""
    with HASH.open_without_key() as h, h.tfm.accept() as op:
        h.tfm.set_key(key_of(HASH))
        clone = op.accept()
        op.close()
        with raises_errno(errno.EBUSY):
            h.tfm.set_key(OTHER_KEY)
        HASH.works(clone)
        clone.close()
        h.tfm.set_key(OTHER_KEY)


@returns("setsockopt-children")
def test_tag_size_may_change_until_an_op_socket_is_used() -> None:
    """alg_setsockopt: EBUSY once refcnt and nokey_refcnt differ, for ALG_SET_AEAD_AUTHSIZE as for keys."""
    with AEAD.open_without_key() as aead, aead.tfm.accept() as op:
        aead.tfm.set_authsize(4)
        aead.tfm.set_key(key_of(AEAD))
        AEAD.begin(op)
        assert AEAD.result
        assert op.recv(len(AEAD.result) - 12) == AEAD.result[:-12]
        with raises_errno(errno.EBUSY):
            aead.tfm.set_authsize(16)
        AEAD.begin(op)
        assert op.recv(len(AEAD.result) - 12) == AEAD.result[:-12]


@pytest.mark.parametrize("subject", QUEUED, ids=lambda subject: subject.type_)
def test_poll_needs_no_key(subject: Subject) -> None:
    """algif_skcipher_ops_nokey and algif_aead_ops_nokey have af_alg_poll itself, without a check for the key."""
    with subject.open_without_key() as transform:
        assert transform.op.poll() & 5 == 5


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_key_of_a_tfm_is_not_that_of_another(subject: Subject) -> None:
    """Two tfm sockets of one algorithm share nothing (each bind allocates a tfm, alg_bind)."""
    with subject.open() as transform, subject.open_without_key() as other:
        subject.works(transform.op)
        with raises_errno(errno.ENOKEY):
            subject.begin(other.op)
        other.tfm.set_key(OTHER_KEY)
        subject.works(transform.op)
