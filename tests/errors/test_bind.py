"""bind(2): which algorithms and addresses it refuses."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Hash, Socket, sockaddr_alg
from tests.errors.raises import raises_errno
from tests.need import need


@pytest.mark.parametrize("type_", ["hash", "skcipher", "aead", "rng"])
def test_unknown_algorithm_is_enoent(type_: str) -> None:
    with Socket.create() as tfm, raises_errno(errno.ENOENT):
        tfm.bind(type_, "no-such-algorithm")


def test_unknown_type_is_enoent() -> None:
    with Socket.create() as tfm, raises_errno(errno.ENOENT):
        tfm.bind("nope", "sha256")


@pytest.mark.parametrize("length", [0, 2, 24])
def test_short_address_is_einval(length: int) -> None:
    """The address must reach into the name (alg_bind)."""
    with Socket.create() as tfm, raises_errno(errno.EINVAL):
        tfm.bind_raw(sockaddr_alg("hash", "sha256"), length)


def test_bind_with_an_op_socket_open_is_busy() -> None:
    """Linux kernel commit c840ac6af3f8 ("crypto: af_alg - Disallow bind/setkey/... after accept(2)")."""
    with need(Hash, "sha256") as h:
        h.op  # noqa: B018 - accepts the op socket
        with raises_errno(errno.EBUSY):
            h.tfm.bind("hash", "sha256")
