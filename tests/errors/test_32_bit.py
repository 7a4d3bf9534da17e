"""The calls of a 32-bit program: the same answers, from structures of another shape (net/compat.c)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Socket, compat, sockaddr_alg
from tests.afalg import constants as c
from tests.afalg.compat import Compat, converted
from tests.afalg.constants import MSG_TRUNC
from tests.afalg.seccomp import has_32_bit_entry
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject, each_keyed_type, each_queued_type

NOWHERE = 0xFFFFE000
"""An address no 32-bit program can use."""


@pytest.fixture
def program() -> Iterator[Compat]:
    if not has_32_bit_entry():
        pytest.skip("kernel has no 32-bit system calls")
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
    """From socket to recvmsg, the published result."""
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
    with Socket(tfm_of(program, subject)) as tfm, Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
        message = program.message(program.place(b"x"), 1, control)
        with raises_errno(errno.EINVAL):
            program.call(compat.SENDMSG, op.fd, message, 0)
        subject.works(op)


@returns("bind-address-generic", "setkey-fault", "send-fault", "sendmsg-generic")
def test_pointers_to_nowhere(program: Compat) -> None:
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


def test_flags_of_a_short_receive(program: Compat) -> None:
    """msg_flags comes back at the 32-bit place."""
    with Socket(tfm_of(program, HASH)) as tfm, Socket(program.call(compat.ACCEPT4, tfm.fd, 0, 0, 0)) as op:
        op.send(HASH.message)
        into = program.place(bytes(8))
        message = program.message(into, 8)
        assert program.call(compat.RECVMSG, op.fd, message, 0) == 8
        assert program.read(into, 8) == (HASH.result or b"")[:8]
        assert int.from_bytes(program.read(message + 24, 4), "little") & MSG_TRUNC
