"""accept(2) and accept4(2): who gives op sockets; a refusal leaves no half-made one behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_MORE, SOCK_CLOEXEC, SOCK_NONBLOCK
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, HASH, RNG, SKCIPHER, Subject, each_keyed_type, each_type, socket_of


def still_free(tfm: Socket, subject: Subject) -> None:
    """A tfm socket that counts no op socket takes a key (or says that it has none), and gives op sockets."""
    if subject.key is not None:
        tfm.set_key(subject.key)
    tfm.bind(subject.type_, subject.name)
    if subject.key is not None:
        tfm.set_key(subject.key)
    with tfm.accept() as op:
        subject.works(op)


@returns("accept-unbound")
def test_unbound_socket_is_einval() -> None:
    """af_alg_accept (crypto/af_alg.c) refuses a tfm socket without a type, whatever the flags."""
    with socket_of("unbound") as tfm:
        for flags in (0, SOCK_CLOEXEC, SOCK_NONBLOCK):
            with raises_errno(errno.EINVAL):
                tfm.accept(flags)


@returns("not-on-op")
@pytest.mark.parametrize("subject", [SKCIPHER, AEAD, RNG], ids=lambda subject: subject.type_)
def test_op_socket_is_eopnotsupp(subject: Subject) -> None:
    """Of all op sockets only those of a hash can be cloned (sock_no_accept of the other proto_ops)."""
    with subject.open() as transform:
        with raises_errno(errno.EOPNOTSUPP):
            transform.op.accept()
        subject.works(transform.op)


@returns("accept-address")
@each_type
def test_asking_for_an_address_is_econnaborted(subject: Subject) -> None:
    """There is none to give (net/socket.c). The op socket that was made for it is gone again."""
    with subject.open() as transform:
        for _ in range(3):
            with raises_errno(errno.ECONNABORTED):
                transform.tfm.accept(address=True)
        still_free(transform.tfm, subject)


@returns("accept-address")
def test_clone_with_an_address_is_econnaborted() -> None:
    """do_accept (net/socket.c): sock_no_getname has no address to give; the hash that was to be cloned goes on."""
    with HASH.open() as h:
        h.op.send(HASH.message[:7], MSG_MORE)
        with raises_errno(errno.ECONNABORTED):
            h.op.accept(address=True)
        h.op.send(HASH.message[7:])
        HASH.finish(h.op)


@returns("accept-generic")
@pytest.mark.parametrize("flags", [1, 0x8000, 0x80000000, SOCK_CLOEXEC | 2])
def test_unknown_flags_are_einval(flags: int) -> None:
    """accept4(2) knows SOCK_CLOEXEC and SOCK_NONBLOCK alone (__sys_accept4, net/socket.c); no user is counted."""
    with SKCIPHER.open() as cipher:
        with raises_errno(errno.EINVAL):
            cipher.tfm.accept(flags - (1 << 32) if flags >> 31 else flags)
        still_free(cipher.tfm, SKCIPHER)


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@returns("accept-generic")
@each_type
def test_out_of_file_descriptors_is_emfile(subject: Subject) -> None:
    """accept(2): a descriptor is reserved before af_alg_accept counts, so the key can still be set afterwards."""
    with subject.open() as transform:
        with no_more_descriptors(), raises_errno(errno.EMFILE):
            transform.tfm.accept()
        still_free(transform.tfm, subject)


@returns("accept-generic")
def test_clone_without_a_file_descriptor_is_emfile() -> None:
    """The descriptor comes before hash_accept (__sys_accept4_file, net/socket.c): the message just goes on."""
    with HASH.open() as h:
        h.op.send(HASH.message[:7], MSG_MORE)
        with no_more_descriptors(), raises_errno(errno.EMFILE):
            h.op.accept()
        h.op.send(HASH.message[7:])
        HASH.finish(h.op)
        h.op.close()
        still_free(h.tfm, HASH)


@returns("hash-nokey")
def test_clone_of_a_hash_without_a_key_is_enokey() -> None:
    """hash_accept_nokey (crypto/algif_hash.c) calls hash_check_key first; once there is a key, both sockets work."""
    with HASH.open_without_key() as h:
        with raises_errno(errno.ENOKEY):
            h.op.accept()
        h.tfm.set_key(HASH.key or b"")
        with h.op.accept() as clone:
            HASH.works(clone)
        HASH.works(h.op)


@each_type
def test_nonblock_and_cloexec_are_taken(subject: Subject) -> None:
    """accept4(2): the flags are the new descriptor's, and are not inherited from the tfm socket."""
    with subject.open() as transform, transform.tfm.accept(SOCK_NONBLOCK | SOCK_CLOEXEC) as op:
        assert fcntl.fcntl(op.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert fcntl.fcntl(op.fd, fcntl.F_GETFL) & os.O_NONBLOCK
        subject.works(op)
    with subject.open() as transform, transform.tfm.accept(0) as op:
        assert not fcntl.fcntl(op.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert not fcntl.fcntl(op.fd, fcntl.F_GETFL) & os.O_NONBLOCK


@each_keyed_type
def test_accept_never_waits(subject: Subject) -> None:
    """There is no peer to wait for: any number of op sockets, each with requests of its own.

    Source: af_alg_accept, crypto/af_alg.c.
    """
    with subject.open() as transform:
        ops = [transform.tfm.accept() for _ in range(20)]
        for op in ops:
            subject.begin(op)
        for op in reversed(ops):
            subject.finish(op)
            op.close()
        still_free(transform.tfm, subject)
