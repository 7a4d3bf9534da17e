"""Generators with entropy from user space, for validation: ALG_SET_DRBG_ENTROPY and additional input.

Source: Linux kernel commit 77ebdabe8de7 ("crypto: af_alg - add extra parameters for DRBG interface") (in v5.10).
Only kernels with CONFIG_CRYPTO_USER_API_RNG_CAVP have it, which distributions leave out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Pointer, Rng, Socket
from tests.afalg.constants import ALG_SET_DRBG_ENTROPY, MSG_DONTWAIT, MSG_MORE
from tests.afalg.memory import PROT_NONE, Memory
from tests.afalg.privileges import NAMESPACE_ROOT, NET_ADMIN, PLAIN_USER, ROOT, SYS_ADMIN, Identity
from tests.algorithms.modules import no_autoload
from tests.doctor import absence
from tests.errors import probes
from tests.errors.kernel_memory import lost
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.need import lacking, need, run_as
from tests.oracle.drbg import HmacDrbg

NAME = "drbg_nopr_hmac_sha256"

# NIST CAVP, drbgvectors_no_reseed/HMAC_DRBG.rsp, [SHA-256], first count: the second 1024 bits that are asked for.
ENTROPY = bytes.fromhex("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488")
NONCE = bytes.fromhex("659ba96c601dc69fc902940805ec0ca8")
RETURNED = bytes.fromhex(
    "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89"
    "d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1"
    "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668"
    "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8"
)


@pytest.fixture
def rng() -> Rng:
    """Give a generator without a seed, or skip the test where it cannot take entropy."""
    generator = need(Rng, NAME)
    if not probes.has_drbg_entropy():
        generator.close()
        lacking(absence.DRBG_ENTROPY, errno.ENOPROTOOPT)
    return generator


@pytest.fixture
def seeded(rng: Rng) -> Iterator[Rng]:
    """Give a generator with the published entropy and an empty seed."""
    with rng:
        give_entropy(rng)
        rng.tfm.set_key(b"")
        yield rng


@pytest.fixture
def expected() -> HmacDrbg:
    """Return the same, computed here."""
    return HmacDrbg("sha256", ENTROPY + NONCE)


@pytest.fixture
def nowhere() -> Iterator[Pointer]:
    """Give 48 bytes that can be neither read nor written."""
    with Memory(0, PROT_NONE) as memory:
        yield memory.pointer(0, 48)


def give_entropy(rng: Rng, entropy: bytes | Pointer = ENTROPY + NONCE) -> None:
    rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, entropy)


def test_output_is_the_published_one(seeded: Rng) -> None:
    """Entropy first, then the seed, which is the personalisation string; the test discards the first output.

    Source: NIST CAVP DRBGVS; rng_setentropy, crypto/algif_rng.c.
    """
    seeded.op.recv(128)
    assert seeded.op.recv(128).hex() == RETURNED.hex()


def test_additional_input_is_used_once(rng: Rng) -> None:
    """What a send leaves is mixed into the next output alone, and the last of several sends counts.

    Source: rng_test_sendmsg, rng_reset_addtl.
    """
    expected = HmacDrbg("sha256", ENTROPY + NONCE + b"personal")
    with rng:
        give_entropy(rng)
        rng.tfm.set_key(b"personal")
        op = rng.op
        op.send(b"forgotten", MSG_MORE)
        assert op.send(bytes(range(128)), MSG_DONTWAIT) == 128
        assert op.recv(64) == expected.generate(64, bytes(range(128)))
        assert op.recv(40) == expected.generate(40)
        assert op.send(b"") == 0
        assert op.recv(200) == expected.generate(128), "more than 128 bytes at once"
        assert op.recv(0) == b""


@returns("entropy-not-allowed")
@pytest.mark.parametrize("who", [ROOT, SYS_ADMIN, NET_ADMIN, PLAIN_USER, NAMESPACE_ROOT], ids=lambda who: who.name)
def test_entropy_needs_cap_sys_admin(rng: Rng, who: Identity) -> None:
    """EACCES, where other interfaces say EPERM; of the initial user namespace (rng_setentropy, crypto/algif_rng.c)."""
    with rng:
        allowed = who in (ROOT, SYS_ADMIN)
        assert run_as(who, lambda: outcome(lambda: give_entropy(rng))) == (0 if allowed else errno.EACCES)
        if not allowed:
            give_entropy(rng)
        rng.tfm.set_key(b"")
        assert rng.op.recv(32) == HmacDrbg("sha256", ENTROPY + NONCE).generate(32)


@returns("entropy-refused")
def test_entropy_is_set_once(rng: Rng) -> None:
    """Entropy of no bytes is none: it may be set after (rng_setentropy, crypto/algif_rng.c)."""
    with rng:
        give_entropy(rng, b"")
        give_entropy(rng)
        for again in (ENTROPY, b""):
            with raises_errno(errno.EINVAL):
                give_entropy(rng, again)
        rng.tfm.bind("rng", NAME)
        give_entropy(rng)
        rng.tfm.set_key(b"")
        assert rng.op.recv(32) == HmacDrbg("sha256", ENTROPY + NONCE).generate(32)


@returns("entropy-refused")
def test_entropy_that_is_refused_leaves_none(rng: Rng, expected: HmacDrbg, nowhere: Pointer) -> None:
    """rng_setentropy (crypto/algif_rng.c): beyond MAXSIZE EMSGSIZE, unreadable EFAULT; the next try is the first."""
    with rng:
        with raises_errno(errno.EMSGSIZE):
            give_entropy(rng, bytes(129))
        with raises_errno(errno.EFAULT):
            give_entropy(rng, nowhere)
        give_entropy(rng)
        rng.tfm.set_key(b"")
        assert rng.op.recv(32) == expected.generate(32)


@returns("rng-test-send")
def test_additional_input_that_is_refused(seeded: Rng, expected: HmacDrbg, nowhere: Pointer) -> None:
    """Too long a one leaves what was there, an unreadable one leaves none (rng_test_sendmsg, crypto/algif_rng.c)."""
    op = seeded.op
    op.send(b"first")
    with raises_errno(errno.EMSGSIZE):
        op.send(bytes(129))
    assert op.recv(32) == expected.generate(32, b"first")
    op.send(b"second")
    with raises_errno(errno.EFAULT):
        op.send(nowhere)
    assert op.recv(32) == expected.generate(32)


@returns("rng-recv-fault")
def test_output_that_cannot_be_written_is_lost(seeded: Rng, expected: HmacDrbg, nowhere: Pointer) -> None:
    """And the additional input with it (rng_test_recvmsg, crypto/algif_rng.c)."""
    seeded.op.send(b"additional")
    with raises_errno(errno.EFAULT):
        seeded.op.recvmsg([nowhere])
    expected.generate(48, b"additional")
    assert seeded.op.recv(32) == expected.generate(32)


@returns("not-on-op")
def test_socket_for_validation_does_nothing_else(seeded: Rng, expected: HmacDrbg) -> None:
    """algif_rng_test_ops (crypto/algif_rng.c) has sock_no_accept and sock_no_bind; the state is not touched."""
    for call in (seeded.op.accept, lambda: seeded.op.bind("rng", NAME)):
        with raises_errno(errno.EOPNOTSUPP):
            call()
    assert seeded.op.recv(32) == expected.generate(32)


@pytest.mark.fixed_by("c0d36727bf39", "crypto: rng - Ensure set_ent is always present", cve="CVE-2025-40109")
def test_entropy_for_a_generator_that_takes_none() -> None:
    """The option has no effect there; kernels without the fix jump to address 0.

    Source: rng_setentropy, set_ent of struct rng_alg.
    """
    with need(Rng, "jitterentropy_rng") as rng:
        if not probes.has_drbg_entropy():
            lacking(absence.DRBG_ENTROPY, errno.ENOPROTOOPT)
        give_entropy(rng)
        first, second = rng.op.recv(16), rng.op.recv(16)
        assert len(first) == len(second) == 16
        assert first != second


@pytest.mark.deadline(60)
def test_generator_for_validation_gives_back_what_it_was_given(rng: Rng, nowhere: Pointer) -> None:
    """Entropy goes with the tfm socket (rng_release), additional input with the op socket or with the next one."""

    def used() -> None:
        with Rng(NAME) as generator:
            give_entropy(generator)
            outcome(lambda: give_entropy(generator, nowhere))
            generator.tfm.set_key(b"")
            for data in (b"additional", b"other"):
                generator.op.send(data)
            with generator.tfm.accept() as op:
                op.send(b"input that is used")
                op.recv(16)
                outcome(lambda: op.send(nowhere))

    with rng:
        assert lost(used) == []
        give_entropy(rng)
        rng.tfm.set_key(b"")
        rng.op.recv(128)
        assert rng.op.recv(128) == RETURNED


def test_generator_that_there_is_not_takes_nothing() -> None:
    """rng_bind makes its own context before it looks for the algorithm (crypto/algif_rng.c)."""

    def refused() -> None:
        assert outcome(lambda: Socket.bound("rng", "drbg_of_nobody").close()) == errno.ENOENT

    need(Rng, NAME).close()
    with no_autoload():
        assert lost(refused) == []
    with need(Rng, NAME) as rng:
        rng.tfm.set_key(b"")
        assert len({bytes(16), rng.op.recv(16), rng.op.recv(16)}) == 3
