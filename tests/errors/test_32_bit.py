"""The calls of a 32-bit program: the same answers, from structures of another shape (net/compat.c)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import termios
from collections.abc import Iterator

import pytest

from tests.afalg import Pipe, Socket, compat, sockaddr_alg
from tests.afalg import constants as c
from tests.afalg.aio import IOCB_CMD_PREAD, IOCB_CMD_PREADV
from tests.afalg.compat import Compat, converted, words
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE, MSG_TRUNC
from tests.doctor import absence
from tests.errors import probes
from tests.errors.limits import SetLimit
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject, each_keyed_type, each_queued_type, socket_of
from tests.need import lacking, need_32_bit
from tests.splice.files import tmpfs_file

NOWHERE = 0xFFFFE000
"""An address no 32-bit program can use."""


@pytest.fixture
def program() -> Iterator[Compat]:
    need_32_bit()
    with Compat() as view:
        yield view


def tfm_of(program: Compat, subject: Subject) -> int:
    """Return a tfm socket with its key, or skip the test where the kernel lacks the algorithm."""
    subject.open().close()
    tfm = program.call(compat.SOCKET, c.AF_ALG, c.SOCK_SEQPACKET | c.SOCK_CLOEXEC, 0)
    address = sockaddr_alg(subject.type_, subject.name)
    program.call(compat.BIND, tfm, program.place(address), len(address))
    key = subject.key or b""
    program.call(compat.SETSOCKOPT, tfm, c.SOL_ALG, c.ALG_SET_KEY, program.place(key), len(key))
    if subject is AEAD:
        program.call(compat.SETSOCKOPT, tfm, c.SOL_ALG, c.ALG_SET_AEAD_AUTHSIZE, 0, 16)
    return tfm


@each_keyed_type
def test_whole_request(program: Compat, subject: Subject) -> None:
    """From socket to recvmsg, the published result (net/compat.c)."""
    result = subject.result or b""
    with Socket(tfm_of(program, subject)) as tfm, Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
        data = program.place(subject.message)
        message = program.message(data, len(subject.message), converted(subject.control))
        assert program.call(compat.SENDMSG, op.fd, message, 0) == len(subject.message)
        into = program.place(bytes(len(result)))
        assert program.call(compat.RECVMSG, op.fd, program.message(into, len(result)), 0) == len(result)
        assert program.read(into, len(result)).hex() == result.hex()
        subject.works(op)


@returns("cmsg-malformed", "cmsg-iv-short", "cmsg-iv-length", "cmsg-op-short", "cmsg-unknown", "send-op-value")
@each_queued_type
@pytest.mark.parametrize(
    "control",
    [
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_IV, b"\x10\0"), id="iv-short"),
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_IV, b"\x10\0\0\0" + bytes(8)), id="iv-length"),
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_OP, b"\1\0"), id="op-short"),
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_OP, b"\2\0\0\0"), id="op-value"),
        pytest.param(compat.cmsg(c.SOL_ALG, 99, bytes(4)), id="unknown"),
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_OP, bytes(4), length=8), id="below-its-header"),
        pytest.param(compat.cmsg(c.SOL_ALG, c.ALG_SET_OP, bytes(4), length=400), id="beyond-the-end"),
    ],
)
def test_control_data_that_is_refused(program: Compat, subject: Subject, control: bytes) -> None:
    """EINVAL of af_alg_cmsg_send, or of cmsghdr_from_user_compat_to_kern (net/compat.c) for an impossible header."""
    with Socket(tfm_of(program, subject)) as tfm, Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
        message = program.message(program.place(b"x"), 1, control)
        with raises_errno(errno.EINVAL):
            program.call(compat.SENDMSG, op.fd, message, 0)
        subject.works(op)


@returns("bind-address-generic", "setkey-fault", "send-fault", "sendmsg-generic")
def test_pointers_to_nowhere(program: Compat) -> None:
    """EFAULT of get_compat_msghdr (net/compat.c) and of each copy in crypto/af_alg.c; key and op stay usable."""
    with Socket(tfm_of(program, SKCIPHER)) as tfm:
        calls = {
            "address": (compat.BIND, tfm.fd, NOWHERE, 88),
            "key": (compat.SETSOCKOPT, tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, NOWHERE, 16),
        }
        with Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
            control = converted(SKCIPHER.control)
            header = program.place(b"".join(word.to_bytes(4, "little") for word in (0, 0, NOWHERE, 1, 0, 0, 0)))
            calls["data"] = (compat.SENDMSG, op.fd, program.message(NOWHERE, 16, control), 0)
            calls["header"] = (compat.SENDMSG, op.fd, NOWHERE, 0)
            calls["iovec"] = (compat.SENDMSG, op.fd, header, 0)
            for what in ("data", "header", "iovec", "address"):
                with raises_errno(errno.EFAULT, why=what):
                    program.call(*calls[what])
            SKCIPHER.works(op)
        with raises_errno(errno.EFAULT, why="key"):
            program.call(*calls["key"])
        with tfm.accept() as op:
            SKCIPHER.works(op)


@returns("authsize-refused", "setkey-refused", "setsockopt-unknown", "setsockopt-generic", "getsockopt")
def test_options_that_are_refused(program: Compat) -> None:
    """alg_setsockopt answers as to a 64-bit program; AF_ALG has no getsockopt (do_sock_getsockopt, net/socket.c)."""
    with Socket(tfm_of(program, AEAD)) as tfm:
        value = program.place(bytes(16))
        for option, length, error in (
            (c.ALG_SET_AEAD_AUTHSIZE, 17, errno.EINVAL),
            (c.ALG_SET_AEAD_AUTHSIZE, -1, errno.EINVAL),
            (c.ALG_SET_KEY_BY_KEY_SERIAL, 3, errno.EINVAL if probes.has_key_serials() else errno.ENOPROTOOPT),
            (99, 4, errno.ENOPROTOOPT),
        ):
            with raises_errno(error, why=f"option {option} of {length} bytes"):
                program.call(compat.SETSOCKOPT, tfm.fd, c.SOL_ALG, option, value, length)
        with raises_errno(errno.EOPNOTSUPP):
            program.call(compat.GETSOCKOPT, tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, value, program.place(bytes(4)))
        with tfm.accept() as op:
            AEAD.works(op)
    with Socket(tfm_of(program, SKCIPHER)) as tfm:
        with raises_errno(errno.EINVAL):
            program.call(compat.SETSOCKOPT, tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, value, 15)
        program.call(compat.SETSOCKOPT, tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, program.place(SKCIPHER.key or b""), 16)
        with tfm.accept() as op:
            SKCIPHER.works(op)


@returns("setsockopt-generic")
@pytest.mark.parametrize("option", [socket.SO_RCVTIMEO, socket.SO_SNDTIMEO], ids=["receive", "send"])
def test_timeval_of_a_timeout(program: Compat, option: int) -> None:
    """Two words of 4 bytes, where other programs have 8; both see the same time (sock_set_timeout, net/core/sock.c)."""
    timeval = words(1, 500000)
    with socket_of("skcipher-op") as op:
        program.call(compat.SETSOCKOPT, op.fd, c.SOL_SOCKET, option, program.place(timeval), 8)
        assert op.getsockopt(option, 16) == words(1, 500000, size=8)
        value, length = program.place(bytes(16)), program.place(words(16))
        program.call(compat.GETSOCKOPT, op.fd, c.SOL_SOCKET, option, value, length)
        assert program.word(length) == 8
        assert program.read(value, 8) == timeval
        with raises_errno(errno.EINVAL):
            program.call(compat.SETSOCKOPT, op.fd, c.SOL_SOCKET, option, program.place(timeval), 7)
        program.call(compat.SETSOCKOPT, op.fd, c.SOL_SOCKET, option, program.place(bytes(8)), 8)


@returns("sendmsg-generic")
@each_keyed_type
def test_control_data_shorter_than_a_header_is_einval(program: Compat, subject: Subject) -> None:
    """A 64-bit program's is taken for control data without a message; of this one's nothing is left to convert.

    Source: cmsghdr_from_user_compat_to_kern, net/compat.c.
    """
    with subject.open() as transform:
        for length in (1, 4, 11):
            message = program.message(program.place(b"x"), 1, bytes(length))
            with raises_errno(errno.EINVAL, why=f"{length} bytes"):
                program.call(compat.SENDMSG, transform.op.fd, message, 0)
        subject.works(transform.op)


@returns("sendmsg-generic")
@each_queued_type
def test_control_data_without_memory_is_enomem(program: Compat, subject: Subject, set_limit: SetLimit) -> None:
    """And ENOBUFS for a 64-bit program's, which is copied elsewhere (cmsghdr_from_user_compat_to_kern)."""
    with subject.open() as transform:
        data = program.place(subject.message)
        message = program.message(data, len(subject.message), converted(subject.control))
        transform.op  # noqa: B018 - accepts the op socket
        set_limit(16)
        with raises_errno(errno.ENOMEM):
            program.call(compat.SENDMSG, transform.op.fd, message, 0)
        with raises_errno(errno.ENOBUFS):
            transform.op.sendmsg([subject.message], subject.control)
        set_limit(20480)
        program.call(compat.SENDMSG, transform.op.fd, message, 0)
        subject.finish(transform.op)


@pytest.mark.parametrize("request_", [termios.FIONREAD, termios.TIOCOUTQ, 0x8905, 0xDEAD], ids=hex)
@returns("not-a-call")
def test_ioctl_is_refused(program: Compat, request_: int) -> None:
    """ENOTTY where the 32-bit entry knows no such request, and does not ask the socket.

    Source: compat_sock_ioctl, net/socket.c.
    """
    with socket_of("skcipher-op") as op, raises_errno(errno.EOPNOTSUPP, errno.ENOTTY):
        program.call(compat.IOCTL, op.fd, request_, program.place(bytes(64)))


# Calls that have another shape ---------------------------------------------------------------------------------------


@each_keyed_type
def test_whole_request_by_socketcall(program: Compat, subject: Subject) -> None:
    """The one call that 32-bit programs had for all sockets; accept(2) among them, without flags."""
    subject.open().close()
    address, key, result = sockaddr_alg(subject.type_, subject.name), subject.key or b"", subject.result or b""
    with Socket(program.socketcall(compat.SYS_SOCKET, c.AF_ALG, c.SOCK_SEQPACKET | c.SOCK_CLOEXEC, 0)) as tfm:
        program.socketcall(compat.SYS_BIND, tfm.fd, program.place(address), len(address))
        program.socketcall(compat.SYS_SETSOCKOPT, tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, program.place(key), len(key))
        with Socket(program.socketcall(compat.SYS_ACCEPT, tfm.fd, 0, 0)) as op:
            message = program.message(program.place(subject.message[:3]), 3, converted(subject.control))
            assert program.socketcall(compat.SYS_SENDMSG, op.fd, message, MSG_MORE) == 3
            rest = program.place(subject.message[3:])
            program.socketcall(compat.SYS_SEND, op.fd, rest, len(subject.message) - 3, 0)
            into = program.place(bytes(len(result)))
            assert program.socketcall(compat.SYS_RECV, op.fd, into, len(result), 0) == len(result)
            assert program.read(into, len(result)).hex() == result.hex()


@each_keyed_type
def test_buffers_of_readv_and_writev(program: Compat, subject: Subject) -> None:
    """A struct compat_iovec has two words of 4 bytes (lib/iov_iter.c, copy_compat_iovec_from_user)."""
    result = subject.result or b""
    with subject.open() as transform:
        op = transform.op
        op.sendmsg([], subject.control, MSG_MORE)
        parts = [subject.message[:5], b"", subject.message[5:]]
        vector = program.vector(*((program.place(part), len(part)) for part in parts))
        assert program.call(compat.WRITEV, op.fd, vector, 3) == len(subject.message)
        into = program.place(bytes(len(result)))
        vector = program.vector((into, 7), (into + 7, len(result) - 7))
        assert program.call(compat.READV, op.fd, vector, 2) == len(result)
        assert program.read(into, len(result)) == result


@pytest.mark.parametrize(
    ("number", "width"),
    [(compat.RECVMMSG, 4), (compat.RECVMMSG_TIME64, 8)],
    ids=["time32", "time64"],
)
@returns("recvmsg-generic")
def test_arrays_of_messages(program: Compat, number: int, width: int) -> None:
    """sendmmsg and recvmmsg, the latter with a timeout of either width (sendmmsg(2), recvmmsg(2))."""
    message, result = SKCIPHER.message, SKCIPHER.result or b""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        first = (program.place(message[:3]), 3, converted(SKCIPHER.control))
        rest = (program.place(message[3:]), len(message) - 3, b"")
        sent = program.messages(first, rest)
        assert program.call(compat.SENDMMSG, op.fd, sent, 2, MSG_MORE) == 2
        assert program.lengths(sent, 2) == [3, len(message) - 3]
        op.send(b"")
        into = program.place(bytes(32))
        got = program.messages((into, 16, b""), (into + 16, 16, b""))
        if outcome(lambda: program.call(number, op.fd, got, 0, MSG_DONTWAIT, 0)) == errno.ENOSYS:
            lacking(absence.COMPAT_TIME, errno.ENOSYS)
        ten_seconds, negative = (program.place(words(value, 0, size=width)) for value in (10, -1))
        for pointer, error in ((NOWHERE, errno.EFAULT), (negative, errno.EINVAL)):
            with raises_errno(error):
                program.call(number, op.fd, got, 2, MSG_DONTWAIT, pointer)
        assert program.call(number, op.fd, got, 2, MSG_DONTWAIT, ten_seconds) == 2
        assert program.lengths(got, 2) == [16, 16]
        assert program.read(into, 32) == result
        SKCIPHER.works(op)


@pytest.mark.parametrize("command", [IOCB_CMD_PREAD, IOCB_CMD_PREADV], ids=["pread", "preadv"])
@each_queued_type
def test_kernel_aio(program: Compat, subject: Subject, command: int) -> None:
    """Pointers of 4 bytes to requests that look the same, and buffers in vectors that do not (io_submit(2))."""
    result = subject.result or b""
    with subject.open() as transform, aio(program) as context:
        subject.begin(transform.op)
        into = program.place(bytes(len(result)))
        whole = (into, len(result))
        if command == IOCB_CMD_PREADV:
            whole = (program.vector((into, 7), (into + 7, len(result) - 7)), 2)
        requests = program.iocb(transform.op.fd, command, *whole, data=77)
        assert program.call(compat.IO_SUBMIT, context, 1, requests) == 1
        event, timeout = program.place(bytes(32)), program.place(words(20, 0, size=8))
        assert program.call(compat.IO_PGETEVENTS_TIME64, context, 1, 1, event, timeout) == 1
        assert (program.word(event, 8), program.word(event + 16, 8)) == (77, len(result))
        assert program.read(into, len(result)) == result
        subject.works(transform.op)


@contextlib.contextmanager
def aio(program: Compat) -> Iterator[int]:
    """Give an AIO context of the 32-bit program, or skip the test."""
    at = program.place(bytes(4))
    try:
        program.call(compat.IO_SETUP, 4, at)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        lacking(absence.AIO, errno.ENOSYS)
    context = int.from_bytes(program.read(at, 4), "little")
    try:
        yield context
    finally:
        program.call(compat.IO_DESTROY, context)


@each_queued_type
def test_vmsplice_and_splice(program: Compat, subject: Subject) -> None:
    """Buffers of the program through a pipe into the socket, and the result through it out (vmsplice(2), splice(2))."""
    message, result = subject.message, subject.result or b""
    with subject.open() as transform, Pipe() as pipe:
        op = transform.op
        op.sendmsg([], subject.control, MSG_MORE)
        vector = program.vector((program.place(message[:5]), 5), (program.place(message[5:]), len(message) - 5))
        assert program.call(compat.VMSPLICE, pipe.write_end, vector, 2, 0) == len(message)
        assert program.call(compat.SPLICE, pipe.read_end, 0, op.fd, 0, len(message), 0) == len(message)
        subject.finish(op)
        subject.begin(op)
        assert program.call(compat.SPLICE, op.fd, 0, pipe.write_end, 0, len(result), 0) == len(result)
        assert os.read(pipe.read_end, len(result)) == result
        subject.works(op)


def test_offset_of_sendfile(program: Compat) -> None:
    """The offset of the 32-bit sendfile(2) is four bytes (compat_off_t in fs/read_write.c): what lies behind stays."""
    with HASH.open() as h, tmpfs_file(b"header" + HASH.message) as file:
        offset = program.place(words(6) + b"\xff" * 4)
        assert program.call(compat.SENDFILE, h.op.fd, file, offset, len(HASH.message)) == len(HASH.message)
        assert program.read(offset, 8) == words(6 + len(HASH.message)) + b"\xff" * 4
        HASH.finish(h.op)


def test_flags_of_a_short_receive(program: Compat) -> None:
    """msg_flags comes back at the 32-bit place."""
    with Socket(tfm_of(program, HASH)) as tfm, Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
        op.send(HASH.message)
        into = program.place(bytes(8))
        message = program.message(into, 8)
        assert program.call(compat.RECVMSG, op.fd, message, 0) == 8
        assert program.read(into, 8) == (HASH.result or b"")[:8]
        assert int.from_bytes(program.read(message + 24, 4), "little") & MSG_TRUNC
