"""Every hash, against an independent implementation."""

from __future__ import annotations

import errno
import itertools

import pytest

from tests.afalg import Hash
from tests.afalg.constants import MSG_MORE, MSG_TRUNC
from tests.algorithms import catalogue
from tests.algorithms.cases import each_way, every
from tests.algorithms.catalogue import HashRow
from tests.algorithms.catalogue.fips import refuses_key
from tests.algorithms.data import PAGE, cut, data, lengths, longest
from tests.doctor.absence import fips_mode
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import hashes

pytestmark = pytest.mark.usefixtures("everything_loaded")

every_hash = every(catalogue.HASHES)
every_way = each_way(catalogue.HASHES)


@every_hash
def test_digest_of_every_length(row: HashRow, thorough: bool) -> None:
    """On one op socket, so that each digest also shows that the one before left nothing behind.

    Source: hash_sendmsg, hash_recvmsg.
    """
    key = key_of(row)
    with need(Hash, row.name, key) as h:
        for size in lengths(row.name, 1, row.prefix, row.block, longest(row.name), thorough=thorough):
            check_digest(row, h.digest(cut(size)), cut(size), key, f"of {size} bytes")


@every_way
def test_message_split_into_sends(row: HashRow) -> None:
    """However MSG_MORE cuts the message, the digest is that of the whole."""
    key, block = key_of(row), row.block
    message = cut(3 * max(block, 16) + 7)
    size = len(message)
    cuts = [[1], [block], [block - 1, block + 1], [block, 2 * block], [size - 1], list(range(0, size, 13))]
    with need(Hash, row.name, key) as h:
        for places in cuts:
            edges = [0, *sorted({place for place in places if 0 < place < size}), size]
            for start, end in itertools.pairwise(edges[:-1]):
                h.op.send(message[start:end], MSG_MORE)
            h.op.send(message[edges[-2] :])
            check_digest(row, h.op.recv(64), message, key, f"split at {edges[1:-1]}")
        h.op.send(message, MSG_MORE)
        h.op.send(b"")
        check_digest(row, h.op.recv(64), message, key, "ended by an empty send")
        h.op.send(message, MSG_MORE)
        check_digest(row, h.op.recv(64), message, key, "ended by recv (hash_recvmsg)")


@each_way([row for row in catalogue.HASHES if row.digest > 1])
def test_short_recv_cuts_the_digest_and_drops_the_rest(row: HashRow) -> None:
    """MSG_TRUNC says so; the next recv begins anew, with the digest of nothing."""
    key, message = key_of(row), cut(max(100, row.prefix))
    with need(Hash, row.name, key) as h:
        h.op.send(message)
        buffer = bytearray(row.digest - 1)
        got = h.op.recvmsg([buffer])
        assert (got.size, got.flags & MSG_TRUNC) == (row.digest - 1, MSG_TRUNC)
        assert bytes(buffer) == hashes.digest(row.name, message, key)[:-1]
        h.op.send(message)
        buffer = bytearray(row.digest + 5)
        got = h.op.recvmsg([buffer])
        assert (got.size, got.flags & MSG_TRUNC) == (row.digest, 0)
        if not row.prefix:
            check_digest(row, h.op.recv(64), b"", key, "of nothing, after the digest was read")


@every_way
def test_clone_and_original_continue_apart(row: HashRow) -> None:
    """accept(2) on an op socket copies the state: both go on from there, neither sees the other's data."""
    key, block = key_of(row), row.block
    for at in sorted({0, 1, block - 1, block, block + 1, 2 * block, min(PAGE, longest(row.name))}):
        head = cut(max(at, row.prefix)) if at else b""
        start = head or cut(row.prefix)
        left, right = start + data("left", 64), start + data("right", 100)
        with need(Hash, row.name, key) as h:
            if head:
                h.op.send(head, MSG_MORE)
            with h.op.accept() as clone:
                clone.send(right[len(head) :])
                h.op.send(left[len(head) :])
                check_digest(row, h.op.recv(64), left, key, f"original, cloned after {len(head)} bytes")
                check_digest(row, clone.recv(64), right, key, f"clone, made after {len(head)} bytes")


@every_way
def test_op_sockets_of_one_tfm_do_not_disturb_each_other(row: HashRow) -> None:
    """Each has a state of its own, the key in common (struct hash_ctx, crypto/algif_hash.c)."""
    key, messages = key_of(row), [cut(row.prefix) + data(f"message {i}", 2 * row.block + 9) for i in range(3)]
    at = row.prefix + row.block + 1
    with need(Hash, row.name, key) as h, h.tfm.accept() as second, h.tfm.accept() as third:
        ops = list(zip((h.op, second, third), messages, strict=True))
        for op, message in ops:
            op.send(message[:at], MSG_MORE)
        for op, message in reversed(ops):
            op.send(message[at:])
        for op, message in ops:
            check_digest(row, op.recv(64), message, key, "of one of three op sockets")


@every([row for row in catalogue.HASHES if row.keys])
def test_every_key_length_that_is_taken_or_refused(row: HashRow) -> None:
    """Accepted keys give the oracle's digest; what the algorithm's setkey refuses is EINVAL (crypto/ahash.c)."""
    message = cut(5 * row.block + row.prefix + 3)
    for size in keys_taken(row):
        key = data(f"{row.name} key", size)
        with need(Hash, row.name, key) as h:
            check_digest(row, h.digest(message), message, key, f"with a key of {size} bytes")
    with need(Hash, row.name) as h:
        for size in row.refused:
            with raises_errno(errno.EINVAL):
                h.tfm.set_key(bytes(size))


@each_way([row for row in catalogue.HASHES if row.keys])
def test_without_its_key(row: HashRow) -> None:
    """A key that is needed is missed by send and recv alike; one that is optional has a default.

    Source: CRYPTO_ALG_OPTIONAL_KEY.
    """
    with need(Hash, row.name) as h:
        if row.needs_key:
            with raises_errno(errno.ENOKEY):
                h.op.send(b"data")
            with raises_errno(errno.ENOKEY):
                h.op.recv(64)
        else:
            check_digest(row, h.digest(cut(1000)), cut(1000), None, "without a key")


@every([row for row in catalogue.HASHES if not row.keys])
def test_key_for_a_hash_without_one_is_enosys(row: HashRow) -> None:
    """ahash_nosetkey (crypto/ahash.c) or shash_no_setkey (crypto/shash.c) stands in for the setkey that is missing."""
    with need(Hash, row.name) as h, raises_errno(errno.ENOSYS):
        h.tfm.set_key(bytes(16))


def keys_taken(row: HashRow) -> list[int]:
    """Return the key lengths that this kernel takes: FIPS mode has fewer."""
    return [size for size in row.keys if not (fips_mode() and refuses_key(row.name, size))]


def key_of(row: HashRow) -> bytes | None:
    """Return a key of the longest length that every kernel takes, None for a hash without."""
    return data(f"{row.name} key", row.keys[-1]) if row.keys else None


def check_digest(row: HashRow, got: bytes, message: bytes, key: bytes | None, which: str) -> None:
    """Compare with the oracle, and say which of a test's digests was wrong."""
    expected = hashes.digest(row.name, message, key)
    assert len(expected) == row.digest
    assert got.hex() == expected.hex(), f"{row.name} {which}"
