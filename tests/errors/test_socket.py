"""socket(2) and socketpair(2): types, protocols, limits."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket

import pytest

from tests.afalg import Socket
from tests.afalg.constants import AF_ALG, SOCK_NONBLOCK, SOCK_SEQPACKET
from tests.errors.raises import raises_errno
from tests.errors.returns import returns

OTHER_TYPES = {"stream": 1, "dgram": 2, "raw": 3, "rdm": 4, "dccp": 6, "packet": 10}


@returns("socket-type")
@pytest.mark.parametrize("type_", OTHER_TYPES.values(), ids=OTHER_TYPES.keys())
def test_type_other_than_seqpacket_is_esocktnosupport(type_: int) -> None:
    """Whatever the protocol, which is looked at afterwards (alg_create)."""
    for protocol in (0, 1):
        with raises_errno(errno.ESOCKTNOSUPPORT, why=f"protocol {protocol}"):
            Socket.create(type_, protocol)


@returns("socket-generic")
@pytest.mark.parametrize("type_", [11, 15, 0x400000 | SOCK_SEQPACKET])
def test_type_that_no_family_has_is_einval(type_: int) -> None:
    """socket(2): __sock_create (net/socket.c) refuses from SOCK_MAX on, __sys_socket an unknown flag."""
    with raises_errno(errno.EINVAL):
        Socket.create(type_)


@returns("socket-protocol")
@pytest.mark.parametrize("protocol", [1, 255, 256, 0x7FFFFFFF, -1])
def test_protocol_is_eprotonosupport(protocol: int) -> None:
    """alg_create (crypto/af_alg.c) knows protocol 0 alone."""
    with raises_errno(errno.EPROTONOSUPPORT):
        Socket.create(protocol=protocol)


@returns("socket-generic")
def test_out_of_file_descriptors_is_emfile() -> None:
    """socket(2) with RLIMIT_NOFILE used up (getrlimit(2)): sock_map_fd in net/socket.c."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with raises_errno(errno.EMFILE):
            Socket.create()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nonblock_and_cloexec_are_taken() -> None:
    """socket(2): SOCK_NONBLOCK and SOCK_CLOEXEC in the type are flags of the descriptor."""
    with Socket.create(SOCK_SEQPACKET | SOCK_NONBLOCK) as tfm:
        assert fcntl.fcntl(tfm.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert fcntl.fcntl(tfm.fd, fcntl.F_GETFL) & os.O_NONBLOCK


@returns("not-a-call")
def test_socketpair_is_eopnotsupp() -> None:
    """alg_proto_ops (crypto/af_alg.c) has sock_no_socketpair."""
    with raises_errno(errno.EOPNOTSUPP):
        socket.socketpair(AF_ALG, SOCK_SEQPACKET)
