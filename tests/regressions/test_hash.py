"""Bugs of algif_hash."""

from __future__ import annotations

import pytest

from tests.afalg import Hash
from tests.afalg.constants import MSG_MORE
from tests.need import need
from tests.oracle import hashes


def test_the_digest_of_nothing_can_be_asked_for_again_and_again() -> None:
    """A recv without a send begins and ends a message of its own (Linux kernel commit a8348bca2944)."""
    nothing = hashes.digest("sha256", b"")
    with need(Hash, "sha256") as h:
        assert [h.op.recv(32), h.op.recv(32)] == [nothing, nothing]
        h.op.send(b"abc")
        assert [h.op.recv(32), h.op.recv(32)] == [hashes.digest("sha256", b"abc"), nothing]


@pytest.mark.fixed_by("8acf7a106326", "crypto: algif_hash - Fix result clobbering in recvmsg")
def test_a_recv_ends_a_message_that_had_more_to_come() -> None:
    """The state was initialized anew before the digest was taken: it was that of nothing (hash_recvmsg)."""
    with need(Hash, "sha256") as h:
        h.op.send(b"ab", MSG_MORE)
        h.op.send(b"c", MSG_MORE)
        assert h.op.recv(32) == hashes.digest("sha256", b"abc"), "the digest of a message with more to come is wrong"
        assert h.digest(b"next") == hashes.digest("sha256", b"next")


@pytest.mark.fixed_by("b6d972f68983", "crypto: af_alg/hash: Fix recvmsg() after sendmsg(MSG_MORE)")
def test_a_recv_ends_a_message_of_nothing_that_had_more_to_come() -> None:
    """A send of no bytes set nothing up, and the recv after it used what was not there (hash_sendmsg, hash_recvmsg)."""
    with need(Hash, "sha256") as h:
        h.op.send(b"", MSG_MORE)
        assert h.op.recv(32) == hashes.digest("sha256", b"")
        assert h.digest(b"next") == hashes.digest("sha256", b"next")


@pytest.mark.fixed_by(
    "4afa5f961792", "crypto: algif_hash - Only export and import on sockets with data", cve="CVE-2016-8646"
)
def test_the_clone_of_a_hash_without_data_is_a_fresh_one() -> None:
    """A state that never was could not be exported, and was (hash_accept)."""
    with need(Hash, "sha256") as h, h.op.accept() as clone:
        clone.send(b"abc")
        assert clone.recv(32) == hashes.digest("sha256", b"abc"), "the clone did not begin with nothing"
        assert h.digest(b"other") == hashes.digest("sha256", b"other")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129])
def test_a_clone_continues_where_its_original_was(length: int) -> None:
    """Partial blocks were lost between export and import, for drivers that buffer them outside of the state.

    Linux kernel commits b2df03ed4052 ("crypto: algif_hash - fix double free in hash_accept", CVE-2025-38079) and
    the block-only ahash of 6.16; neither shows with the software drivers, which is how it should stay.
    """
    start = bytes(range(length))
    with need(Hash, "sha256") as h:
        h.op.send(start, MSG_MORE)
        with h.op.accept() as clone:
            clone.send(b"one")
            h.op.send(b"two")
            assert clone.recv(32) == hashes.digest("sha256", start + b"one")
            assert h.op.recv(32) == hashes.digest("sha256", start + b"two")
