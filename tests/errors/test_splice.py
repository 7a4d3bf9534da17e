"""splice(2) and sendfile(2) into and out of sockets that refuse them."""

from __future__ import annotations

import errno
import os

import pytest

from tests.afalg import Pipe, Socket, sendfile, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_DECRYPT, SPLICE_F_NONBLOCK
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, SOCKETS, Subject, each_keyed_type, each_queued_type, socket_of
from tests.splice.files import tmpfs_file


def splice_in(sock: Socket, data: bytes, flags: int = 0) -> int:
    """Write into a pipe and splice that into the socket."""
    with Pipe() as pipe:
        os.write(pipe.write_end, data)
        return splice(pipe.read_end, sock, len(data), flags)


def splice_out(sock: Socket, size: int, flags: int = 0) -> bytes:
    """Splice out of the socket into a pipe and read that."""
    with Pipe() as pipe:
        splice(sock, pipe.write_end, size, flags)
        pipe.close_write()
        return os.read(pipe.read_end, size)


@returns("not-on-tfm", "rng-send")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm") or k == "rng-op"])
def test_into_a_socket_that_takes_no_data_is_eopnotsupp(kind: str) -> None:
    """splice(2), sendfile(2): sock_no_sendmsg of tfm and rng op sockets (sock_no_sendpage before Linux 6.5)."""
    with socket_of(kind) as sock:
        with raises_errno(errno.EOPNOTSUPP):
            splice_in(sock, bytes(16))
        with tmpfs_file(bytes(16)) as file, raises_errno(errno.EOPNOTSUPP):
            sendfile(sock, file, 16)


@returns("not-on-tfm")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm")])
def test_out_of_a_tfm_socket_is_eopnotsupp(kind: str) -> None:
    """sock_splice_read (net/socket.c) ends in sock_no_recvmsg of alg_proto_ops."""
    with socket_of(kind) as sock, raises_errno(errno.EOPNOTSUPP):
        splice_out(sock, 16)


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_without_a_key_is_enokey(subject: Subject) -> None:
    """splice(2) either way ends in the _nokey proto_ops, whose hash_check_key or the like refuses."""
    with subject.open_without_key() as transform:
        with raises_errno(errno.ENOKEY):
            splice_in(transform.op, subject.message)
        with raises_errno(errno.ENOKEY):
            splice_out(transform.op, 16)
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


@returns("send-before-read", "sendpage-before-read")
@each_queued_type
def test_second_message_before_the_first_is_read_is_einval(subject: Subject) -> None:
    """af_alg_sendmsg (before Linux 6.5 af_alg_sendpage): the message is complete and not read; it stays as it is."""
    with subject.open() as transform:
        subject.begin(transform.op)
        with raises_errno(errno.EINVAL):
            splice_in(transform.op, b"more")
        subject.finish(transform.op)


@returns("wait-for-data")
@each_queued_type
def test_nothing_to_read_is_eagain_when_not_waiting(subject: Subject) -> None:
    """af_alg_wait_for_data, with O_NONBLOCK on the socket and SPLICE_F_NONBLOCK on the pipe (splice(2))."""
    with subject.open() as transform:
        os.set_blocking(transform.op.fd, False)
        with raises_errno(errno.EAGAIN):
            splice_out(transform.op, 16, SPLICE_F_NONBLOCK)
        subject.works(transform.op)


@returns("aead-bad-tag", "wait-for-data")
def test_bad_tag_is_ebadmsg_and_leaves_the_pipe_empty() -> None:
    """aead_recvmsg (crypto/algif_aead.c) gives -EBADMSG, and splice puts no page into the pipe."""
    with AEAD.open() as aead, Pipe() as pipe:
        aead.op.sendmsg([bytes(32)], set_op(ALG_OP_DECRYPT) + set_assoclen(0) + set_iv(bytes(12)))
        with raises_errno(errno.EBADMSG):
            splice(aead.op, pipe.write_end, 16)
        os.set_blocking(pipe.read_end, False)
        with raises_errno(errno.EAGAIN):
            os.read(pipe.read_end, 1)
        AEAD.works(aead.op)


@returns("splice-generic")
@each_keyed_type
def test_offset_of_a_socket_is_espipe(subject: Subject) -> None:
    """It has none (splice(2))."""
    with subject.open() as transform, Pipe() as pipe:
        os.write(pipe.write_end, b"data")
        with raises_errno(errno.ESPIPE, errno.EINVAL):
            splice(pipe.read_end, transform.op, 4, offset_out=0)
        with raises_errno(errno.ESPIPE, errno.EINVAL):
            splice(transform.op, pipe.write_end, 4, offset_in=0)
        subject.works(transform.op)


@returns("splice-generic")
@each_keyed_type
def test_without_a_pipe_or_with_unknown_flags_is_einval(subject: Subject) -> None:
    """splice(2): neither end a pipe, or a flag outside SPLICE_F_ALL (fs/splice.c); the socket is not called."""
    with subject.open() as transform, tmpfs_file(bytes(16)) as file, Pipe() as pipe:
        with raises_errno(errno.EINVAL):
            splice(file, transform.op, 16)
        with raises_errno(errno.EINVAL):
            splice(pipe.read_end, transform.op, 16, 0x100)
        subject.works(transform.op)
