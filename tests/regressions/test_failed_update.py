"""A digest that failed must not be read: not an unwritten one, and not that of the message before."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Hash
from tests.afalg.constants import MSG_MORE
from tests.afalg.memory import PROT_NONE, Memory
from tests.errors.raises import raises_errno
from tests.need import need

# It rewrote hash_sendmsg for another purpose, and since then an error throws the digest away.
THROWN_AWAY = pytest.mark.fixed_by("c662b043cdca", "crypto: af_alg/hash: Support MSG_SPLICE_PAGES")

# RFC 6234, section 8.5, and the digest of nothing.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# Poly1305's one-time key and VMAC's nonce come before the message; without them the last step fails.
TOO_SHORT = pytest.mark.parametrize(
    ("name", "key", "size", "error"),
    [("poly1305", None, 31, errno.ENOKEY), ("vmac64(aes)", bytes(16), 15, errno.EINVAL)],
    ids=["poly1305", "vmac64"],
)


@THROWN_AWAY
@TOO_SHORT
def test_digest_whose_last_step_failed_cannot_be_read(name: str, key: bytes | None, size: int, error: int) -> None:
    """The send says why; a receive after it fails as well.

    It gave the buffer for the digest, which nobody had written to: until Linux kernel commit 6f6e309328d5 ("crypto:
    af_alg - zero initialize memory allocated via sock_kmalloc") (in v6.19) not even zeros.
    """
    with need(Hash, name, key) as h:
        with raises_errno(error):
            h.op.send(bytes(size))
        with raises_errno(error, why="recv of a digest that failed"):
            h.op.recv(16)
        assert len(h.digest(bytes(size + 1))) >= 8, "of no use afterwards"


@THROWN_AWAY
def test_failed_send_does_not_bring_the_digest_before_it_back() -> None:
    """Whoever sends again wants another digest: after an unreadable message there is that of nothing.

    Source: hash_free_result.
    """
    with need(Hash, "sha256") as h, Memory(0, PROT_NONE) as memory:
        h.op.send(b"abc")
        with raises_errno(errno.EFAULT):
            h.op.send(memory.pointer(0, 3))
        got = h.op.recv(32).hex()
        assert got != ABC, "the digest before came back"
        assert got == NOTHING
        assert h.digest(b"abc").hex() == ABC


def test_failed_part_ends_the_message() -> None:
    """Parts that are sent after it are another message, which is the same on every kernel.

    Source: ``ctx->more = false`` in hash_sendmsg.
    """
    with need(Hash, "sha256") as h, Memory(0, PROT_NONE) as memory:
        h.op.send(b"xyz", MSG_MORE)
        with raises_errno(errno.EFAULT):
            h.op.send(memory.pointer(0, 3), MSG_MORE)
        assert h.digest(b"abc").hex() == ABC
