"""io_uring on AF_ALG sockets: many op sockets by one request, and options by commands."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator

import pytest

from tests.afalg import Socket, set_op
from tests.afalg.constants import (
    ALG_OP_ENCRYPT,
    ALG_SET_AEAD_AUTHSIZE,
    ALG_SET_IV,
    ALG_SET_KEY,
    MSG_DONTWAIT,
    MSG_MORE,
    SO_SNDBUF,
    SOL_ALG,
    SOL_SOCKET,
)
from tests.afalg.memory import Memory
from tests.afalg.uring import (
    ACCEPT_MULTISHOT,
    OP_ACCEPT,
    OP_SEND_ZC,
    OP_URING_CMD,
    SOCKET_GETSOCKNAME,
    SOCKET_GETSOCKOPT,
    SOCKET_SETSOCKOPT,
    SOCKET_SIOCINQ,
    SOCKET_SIOCOUTQ,
    Completion,
    Request,
    Ring,
    socket_command,
)
from tests.errors.raises import name_of, outcome
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject, each_keyed_type, each_type
from tests.need import need_ring
from tests.requests.rings import SO_TYPE, done, need_multishot_accept, need_operation, need_socket_commands

SO_PROTOCOL, SO_DOMAIN = 38, 39
KEY = SKCIPHER.key or b""
ENTRIES = 2
"""Of a ring whose completion queue has twice as many."""


# Multishot accept ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_ring() -> Iterator[Ring]:
    """Give a ring that is full soon: nothing else stops a request that never waits."""
    need_multishot_accept()
    with need_ring(ENTRIES) as ring:
        yield ring


def accepted(ring: Ring, sock: Socket) -> list[Completion]:
    """Accept until the kernel says that no more will come, and return all it said."""
    ring.submit([Request(OP_ACCEPT, sock.fd, priority=ACCEPT_MULTISHOT)], wait=1)
    found = ring.completions()
    while found[-1].more:
        found += ring.wait(1)
    assert all(completion.more for completion in found[:-1])
    return found


@each_type
def test_multishot_accept_gives_op_sockets_until_the_ring_is_full(subject: Subject, small_ring: Ring) -> None:
    """IORING_ACCEPT_MULTISHOT, Linux 5.19: accept never waits here, so only the completion queue ends it.

    The last socket is in a completion that did not fit and says that no more will come. Each of them works.
    """
    with subject.open() as transform:
        found = accepted(small_ring, transform.tfm)
        assert len(found) > 2 * ENTRIES, "stopped with room in the queue"
        for completion in found:
            with Socket(completion.result) as op:
                subject.works(op)


def test_multishot_accept_gives_clones(small_ring: Ring) -> None:
    """Of the op socket of a hash: each has what was sent so far, and goes its own way (hash_accept)."""
    with HASH.open() as tfm:
        tfm.op.send(HASH.message[:9], MSG_MORE)
        clones = [Socket(completion.result) for completion in accepted(small_ring, tfm.op)]
        for op in (*clones, tfm.op):
            op.send(HASH.message[9:])
            HASH.finish(op)
            op.close()


def test_multishot_accept_ends_with_the_descriptors(small_ring: Ring) -> None:
    """EMFILE in the last completion; what came before it works (RLIMIT_NOFILE, getrlimit(2))."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with SKCIPHER.open() as cipher, open(os.devnull) as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 3, limits[1]))
        try:
            *found, last = accepted(small_ring, cipher.tfm)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (last.result, last.more) == (-errno.EMFILE, False)
        assert len(found) == 2
        for completion in found:
            with Socket(completion.result) as op:
                SKCIPHER.works(op)


def test_multishot_accept_of_what_cannot_accept(small_ring: Ring) -> None:
    """EOPNOTSUPP of an op socket that is no hash, EINVAL of a socket without an algorithm: once, and no more.

    Source: sock_no_accept, af_alg_accept.
    """
    with SKCIPHER.open() as cipher, Socket.create() as unbound:
        for sock, error in ((cipher.op, errno.EOPNOTSUPP), (unbound, errno.EINVAL)):
            (completion,) = accepted(small_ring, sock)
            assert (completion.result, completion.more) == (-error, False)
        SKCIPHER.works(cipher.op)


# Options by commands -------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(ring: Ring) -> Ring:
    """Give a ring where sockets know commands (IORING_OP_URING_CMD on them came with Linux 6.7)."""
    need_socket_commands()
    return ring


@pytest.mark.parametrize("option", [SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_SNDBUF], ids=lambda option: f"{option}")
@pytest.mark.parametrize("role", ["tfm", "op"])
def test_getsockopt_gives_what_the_call_does(role: str, option: int, commands: Ring) -> None:
    """SOCKET_URING_OP_GETSOCKOPT, at level SOL_SOCKET; the completion has the value's length."""
    value = bytearray(b"?" * 8)
    with SKCIPHER.open() as cipher:
        sock = cipher.tfm if role == "tfm" else cipher.op
        assert done(commands, socket_command(SOCKET_GETSOCKOPT, sock.fd, SOL_SOCKET, option, value)) == 4
        assert value == sock.getsockopt(option) + b"????"


@each_keyed_type
def test_key_by_a_command(subject: Subject, commands: Ring) -> None:
    """SOCKET_URING_OP_SETSOCKOPT takes ALG_SET_KEY as setsockopt(2) does."""
    with subject.open_without_key() as transform:
        key = socket_command(SOCKET_SETSOCKOPT, transform.tfm.fd, SOL_ALG, ALG_SET_KEY, subject.key or b"")
        assert done(commands, key) == 0
        subject.works(transform.op)
        assert done(commands, key) == -errno.EBUSY


def test_tag_size_by_a_command(commands: Ring) -> None:
    """It is the length of an option without a value. GCM cuts its tag (NIST SP 800-38D, 7.1)."""
    with AEAD.open() as aead:
        size = socket_command(SOCKET_SETSOCKOPT, aead.tfm.fd, SOL_ALG, ALG_SET_AEAD_AUTHSIZE, b"", 12)
        assert done(commands, size) == 0
        AEAD.begin(aead.op)
        assert aead.op.recv(len(AEAD.answer) - 4) == AEAD.answer[:-4]


def test_buffer_size_by_a_command(commands: Ring) -> None:
    """SOL_SOCKET on an op socket: room for one page, and not for a byte more."""
    smallest = (1).to_bytes(4, sys.byteorder)
    with SKCIPHER.open() as cipher:
        assert done(commands, socket_command(SOCKET_SETSOCKOPT, cipher.op.fd, SOL_SOCKET, SO_SNDBUF, smallest)) == 0
        assert cipher.op.send(bytes(5000), MSG_MORE | MSG_DONTWAIT) == 4096


@pytest.mark.parametrize(
    ("role", "option", "value", "error"),
    [
        pytest.param("tfm", ALG_SET_KEY, b"short", errno.EINVAL, id="wrong-key"),
        pytest.param("tfm", ALG_SET_KEY, None, errno.EFAULT, id="unreadable"),
        pytest.param("tfm", ALG_SET_IV, bytes(16), errno.ENOPROTOOPT, id="no-such-option"),
        pytest.param("op", ALG_SET_KEY, bytes(16), errno.EOPNOTSUPP, id="op-socket"),
    ],
)
def test_refused_option_is_refused_by_a_command(
    role: str, option: int, value: bytes | None, error: int, commands: Ring
) -> None:
    """With the errno of setsockopt(2); a key that is refused takes away the one before, and any good one helps."""
    with SKCIPHER.open() as cipher, Memory(1) as memory:
        memory.protect(0, 0)
        source = memory.pointer(0, 16) if value is None else value
        if role == "op":
            SKCIPHER.works(cipher.op)
        sock = cipher.op if role == "op" else cipher.tfm
        assert name_of(outcome(lambda: sock.setsockopt(option, source))) == name_of(error)
        result = done(commands, socket_command(SOCKET_SETSOCKOPT, sock.fd, SOL_ALG, option, source))
        assert name_of(-result) == name_of(error)
        if role == "tfm":
            assert done(commands, socket_command(SOCKET_SETSOCKOPT, sock.fd, SOL_ALG, ALG_SET_KEY, KEY)) == 0
        SKCIPHER.works(cipher.op)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(SOCKET_SIOCINQ, id="SIOCINQ"),
        pytest.param(SOCKET_SIOCOUTQ, id="SIOCOUTQ"),
        pytest.param(SOCKET_GETSOCKOPT, id="GETSOCKOPT-of-SOL_ALG"),
        pytest.param(99, id="unknown"),
    ],
)
@each_type
def test_command_that_is_not_supported(subject: Subject, command: int, commands: Ring) -> None:
    """EOPNOTSUPP, as of ioctl(2) and getsockopt(2); what waits in the socket is not touched."""
    with subject.open() as transform:
        if subject.result is not None:
            subject.begin(transform.op)
        for sock in (transform.tfm, transform.op):
            request = socket_command(command, sock.fd, SOL_ALG, ALG_SET_KEY, bytearray(32))
            assert name_of(-done(commands, request)) == "EOPNOTSUPP"
        subject.finish(transform.op)


@pytest.mark.parametrize("role", ["tfm", "op"])
def test_socket_has_no_name(role: str, commands: Ring) -> None:
    """SOCKET_URING_OP_GETSOCKNAME: EOPNOTSUPP as of getsockname(2), or because there is no such command."""
    with SKCIPHER.open() as cipher, Memory(1) as memory:
        sock = cipher.tfm if role == "tfm" else cipher.op
        name = Request(
            OP_URING_CMD,
            sock.fd,
            offset=SOCKET_GETSOCKNAME,
            address=memory.address,
            option=memory.pointer(512, 4),
        )
        memory.write(512, (128).to_bytes(4, sys.byteorder))
        assert name_of(-done(commands, name)) == "EOPNOTSUPP"
        assert memory.read(0, 512) == bytes(512)


# Sending without a copy ----------------------------------------------------------------------------------------------


@each_keyed_type
def test_sending_without_a_copy_is_not_supported(subject: Subject, ring: Ring) -> None:
    """IORING_OP_SEND_ZC, Linux 6.0: EOPNOTSUPP of sockets that have no such thing, and nothing is taken."""
    need_operation(ring, OP_SEND_ZC, "SEND_ZC")
    with subject.open() as transform:
        op = transform.op
        op.sendmsg([], subject.control or set_op(ALG_OP_ENCRYPT), MSG_MORE)
        ring.submit([Request(OP_SEND_ZC, op.fd, b"not taken")], wait=1)
        told = ring.completions()
        # Another one says that the buffer is the caller's again.
        while told[-1].more:
            told += ring.wait(1)
        assert told[0].result == -errno.EOPNOTSUPP
        op.send(subject.message)
        subject.finish(op)
