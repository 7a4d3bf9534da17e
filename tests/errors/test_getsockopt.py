"""getsockopt(2) and the options of SOL_SOCKET: what can be asked, and what has an effect."""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from tests.afalg import DeadlineExpired
from tests.afalg import constants as c
from tests.afalg.buffers import set_send_buffer
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.errors.raises import ENOTSUPP, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import SKCIPHER, Subject, each_queued_type, each_socket, socket_of
from tests.oracle import skciphers

SO_RESERVE_MEM = 73
SO_ZEROCOPY = 60
TIMEVAL_1_MS = (0).to_bytes(8, sys.byteorder) + (1000).to_bytes(8, sys.byteorder)


@returns("getsockopt")
@each_socket
def test_nothing_of_alg_can_be_read_back(kind: str) -> None:
    """No key, no tag size, no IV; EOPNOTSUPP for any level that is not the socket layer's own.

    Source: do_sock_getsockopt in net/socket.c.
    """
    with socket_of(kind) as sock:
        for level in (c.SOL_ALG, 0, 6, 41, 270):
            for option in range(9):
                with raises_errno(errno.EOPNOTSUPP, why=f"level {level}, option {option}"):
                    sock.getsockopt(option, 64, level=level)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (socket.SO_TYPE, c.SOCK_SEQPACKET),
        (socket.SO_DOMAIN, c.AF_ALG),
        (socket.SO_PROTOCOL, 0),
        (socket.SO_ERROR, 0),
        (socket.SO_ACCEPTCONN, 0),
    ],
    ids=["type", "domain", "protocol", "error", "acceptconn"],
)
def test_what_the_socket_layer_tells(option: int, value: int) -> None:
    """socket(7): sk_getsockopt (net/core/sock.c) answers for every kind of AF_ALG socket, bound or not."""
    for kind in ("unbound", "hash-tfm", "hash-op", "aead-nokey"):
        with socket_of(kind) as sock:
            assert int.from_bytes(sock.getsockopt(option), sys.byteorder) == value, kind


@returns("getsockopt")
def test_peer_name_is_enotconn_and_unknown_options_enoprotoopt() -> None:
    """sk_getsockopt (net/core/sock.c): SO_PEERNAME fails with sock_no_getname; an unknown option is ENOPROTOOPT."""
    with socket_of("skcipher-op") as op:
        with raises_errno(errno.ENOTCONN, errno.EOPNOTSUPP):
            op.getsockopt(28, 128)  # SO_PEERNAME
        with raises_errno(errno.ENOPROTOOPT):
            op.getsockopt(9999)


@returns("setsockopt-generic")
def test_zerocopy_is_not_supported() -> None:
    """Linux 6.1 gives user space's EOPNOTSUPP where 5.10 gave the kernel's own ENOTSUPP."""
    for kind in ("unbound", "hash-tfm", "skcipher-op"):
        with socket_of(kind) as sock, raises_errno(errno.EOPNOTSUPP, ENOTSUPP):
            sock.setsockopt(SO_ZEROCOPY, (1).to_bytes(4, sys.byteorder), level=c.SOL_SOCKET)


@returns("setsockopt-generic")
def test_memory_cannot_be_reserved() -> None:
    """SO_RESERVE_MEM is for protocols that account their memory; before Linux 5.17 it is unknown."""
    with socket_of("skcipher-op") as op, raises_errno(errno.EOPNOTSUPP, errno.ENOPROTOOPT):
        op.setsockopt(SO_RESERVE_MEM, (4096).to_bytes(4, sys.byteorder), level=c.SOL_SOCKET)


@returns("wait-for-data-signal")
@each_queued_type
def test_receive_timeout_is_ignored(subject: Subject) -> None:
    """af_alg_wait_for_data waits MAX_SCHEDULE_TIMEOUT, whatever SO_RCVTIMEO of socket(7) says."""
    with subject.open() as transform:
        transform.op.setsockopt(socket.SO_RCVTIMEO, TIMEVAL_1_MS, level=c.SOL_SOCKET)
        with pytest.raises(DeadlineExpired):
            transform.op.recv(16, seconds=0.2)
        subject.works(transform.op)


@returns("wait-for-room-signal")
@each_queued_type
def test_send_timeout_is_ignored(subject: Subject) -> None:
    """af_alg_wait_for_wmem waits MAX_SCHEDULE_TIMEOUT, whatever SO_SNDTIMEO of socket(7) says."""
    with subject.open() as transform:
        set_send_buffer(transform.op, 4096)
        transform.op.setsockopt(socket.SO_SNDTIMEO, TIMEVAL_1_MS, level=c.SOL_SOCKET)
        transform.op.send(bytes(4096), MSG_MORE)
        with pytest.raises(DeadlineExpired):
            transform.op.send(bytes(16), seconds=0.2)


@returns("wait-for-room")
@each_queued_type
def test_send_buffer_is_the_room_of_a_request(subject: Subject) -> None:
    """Rounded down to pages, at least one (af_alg_sndbuf)."""
    with subject.open() as transform:
        set_send_buffer(transform.op, 4096)
        assert transform.op.send(bytes(8192), MSG_DONTWAIT | MSG_MORE) == 4096
    with subject.open() as transform:
        set_send_buffer(transform.op, 20000)
        assert int.from_bytes(transform.op.getsockopt(socket.SO_SNDBUF), sys.byteorder) == 20000
        assert transform.op.send(bytes(65536), MSG_DONTWAIT | MSG_MORE) == 16384


def test_receive_buffer_does_not_limit_a_skcipher() -> None:
    """Its requests are done in pieces, one recv long (skcipher_recvmsg, af_alg_readable)."""
    expected = skciphers.crypt(SKCIPHER.name, SKCIPHER.key or b"", bytes(16), bytes(65536))
    with SKCIPHER.open() as cipher:
        cipher.op.setsockopt(socket.SO_RCVBUF, (1).to_bytes(4, sys.byteorder), level=c.SOL_SOCKET)
        assert cipher.encrypt(bytes(65536), bytes(16)) == expected
