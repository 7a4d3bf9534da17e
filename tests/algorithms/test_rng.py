"""Every random number generator: what can be checked of bytes that nobody can foretell."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from tests import vectors
from tests.afalg import Rng
from tests.afalg.constants import ALG_SET_DRBG_ENTROPY, RNG_MAX_READ
from tests.algorithms import catalogue
from tests.algorithms.cases import chosen
from tests.algorithms.catalogue import RngRow
from tests.algorithms.data import data
from tests.doctor import absence
from tests.errors.raises import raises_errno
from tests.need import lacking, need
from tests.oracle import drbg, x931

pytestmark = pytest.mark.usefixtures("everything_loaded")

every_rng = pytest.mark.parametrize("row", catalogue.RNGS, ids=lambda row: row.name)


@every_rng
def test_two_reads_differ_and_neither_is_zero(row: RngRow) -> None:
    """Each recv is a crypto_rng_generate of its own into a cleared buffer (_rng_recvmsg, crypto/algif_rng.c)."""
    for size in row.seeds:
        with need(Rng, row.name, seed_of(row, size)) as rng:
            first, second = rng.read(32), rng.read(32)
        assert len(first) == len(second) == 32
        assert first != second
        assert bytes(32) not in (first, second)


@every_rng
def test_every_length_of_read(row: RngRow) -> None:
    """What is asked for, up to 128 bytes (MAXSIZE in crypto/algif_rng.c); a longer buffer is cut."""
    with need(Rng, row.name, seed_of(row, row.seeds[-1])) as rng:
        for size in (0, 1, 15, 16, 17, 64, 127, RNG_MAX_READ):
            assert len(rng.read(size)) == size
        for size in (RNG_MAX_READ + 1, 4096):
            assert len(rng.read(size)) == RNG_MAX_READ


@pytest.mark.parametrize("row", [row for row in catalogue.RNGS if not row.repeats], ids=lambda row: row.name)
def test_two_instances_with_one_seed_differ(row: RngRow) -> None:
    """Every generator worth the name adds entropy of its own (NIST SP 800-90A; crypto/drbg.c)."""
    seed, reads = seed_of(row, row.seeds[-1]), []
    for _ in range(2):
        with need(Rng, row.name, seed) as rng:
            reads.append(rng.read(64))
    assert reads[0] != reads[1]
    assert [len(read) for read in reads] == [64, 64]


@pytest.mark.parametrize("row", [row for row in catalogue.RNGS if row.repeats], ids=lambda row: row.name)
def test_output_that_follows_from_the_seed(row: RngRow) -> None:
    """Over several reads, and over two op sockets, which share the state of their tfm.

    Source: rng_accept_parent, crypto/algif_rng.c.
    """
    for size in row.seeds:
        seed = seed_of(row, size)
        with need(Rng, row.name, seed) as rng, rng.tfm.accept() as other:
            got = rng.read(16) + other.recv(32) + rng.read(80)
            assert got.hex() == x931.generate(seed, 128).hex(), f"seed of {size} bytes"


@every_rng
def test_reading_before_seeding(row: RngRow) -> None:
    """crypto/drbg.c and ansi_cprng.c say EINVAL, generators that seed themselves give bytes: algif_rng.c asks none."""
    with need(Rng, row.name) as rng:
        if row.needs_seed:
            with raises_errno(errno.EINVAL):
                rng.read(16)
        else:
            read = rng.read(16)
            assert len(read) == 16
            assert read != bytes(16)


@pytest.mark.parametrize("row", [row for row in catalogue.RNGS if row.refused], ids=lambda row: row.name)
def test_refused_seed_lengths_are_einval(row: RngRow) -> None:
    """A seed is a block of V and an AES key at least (cprng_reset, crypto/ansi_cprng.c), by way of rng_setkey."""
    with need(Rng, row.name) as rng:
        for size in row.refused:
            with raises_errno(errno.EINVAL):
                rng.tfm.set_key(data("seed", size))


@pytest.mark.parametrize(
    "vector",
    [vector for vector in vectors.rngs() if vector.name == "ansi_cprng" and not vector.skip],
    ids=lambda vector: vector.id,
)
def test_seed_gives_the_published_answer(vector: vectors.RngVector) -> None:
    """ANSI X9.31, A.2.4, with AES: the seed is V, the key and, where there is one, DT (crypto/ansi_cprng.c)."""
    with need(Rng, vector.name, vector.entropy) as rng:
        assert rng.read(len(vector.expected)).hex() == vector.expected.hex()


@pytest.mark.parametrize(
    "vector",
    # What fits into one read, of generators that take entropy but once.
    [v for v in vectors.rngs() if v.name != "ansi_cprng" and not any(v.reseeds) and len(v.expected) <= RNG_MAX_READ],
    ids=lambda vector: vector.id,
)
def test_drbg_with_given_entropy_gives_the_published_answer(vector: vectors.RngVector) -> None:
    """ALG_SET_DRBG_ENTROPY; the seed is the personalization string, what is sent the next read's additional input."""
    with fed(vector.name, vector.entropy, vector.personalization) as rng:
        got = b""
        for additional in vector.additional:
            if additional:
                rng.op.send(additional)
            got = rng.read(len(vector.expected))
        assert got.hex() == vector.expected.hex()


@pytest.mark.parametrize(
    "row", [row for row in catalogue.RNGS if row.name.startswith("drbg")], ids=lambda row: row.name
)
def test_drbg_with_given_entropy_follows_the_standard(row: RngRow) -> None:
    """NIST SP 800-90A: reads of any size, with additional input and without, which counts for one read only.

    Two op sockets share the state of their tfm, not what was sent.
    """
    entropy, personalization = data("entropy", 96), data("personalization", 33)
    with fed(row.name, entropy, personalization) as rng, rng.tfm.accept() as other:
        oracle = drbg.Drbg(row.name, entropy, personalization)
        other.send(b"for the other op socket")
        for size, additional in ((16, b""), (RNG_MAX_READ, data("additional", RNG_MAX_READ)), (1, b""), (77, b"x")):
            if additional:
                rng.op.send(additional)
            assert rng.read(size).hex() == oracle.generate(size, additional).hex(), f"{size} bytes"
        assert other.recv(64).hex() == oracle.generate(64, b"for the other op socket").hex()
        assert other.recv(64).hex() == oracle.generate(64).hex()


def fed(name: str, entropy: bytes, personalization: bytes) -> Rng:
    """Return a generator that takes all its entropy from us, or skip the test."""
    rng = need(Rng, name)
    try:
        rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, entropy)
    except OSError as error:
        rng.close()
        if error.errno == errno.ENOPROTOOPT:
            lacking(absence.DRBG_ENTROPY, errno.ENOPROTOOPT)
        raise
    rng.tfm.set_key(personalization)
    return rng


def seed_of(row: RngRow, size: int) -> bytes:
    return data(f"{row.name} seed", size)


@pytest.mark.deadline(60)
@chosen(
    catalogue.RNGS,
    lambda row: not row.name.startswith("drbg") or row.name in ("drbg_pr_sha256", "drbg_nopr_ctr_aes128"),
)
def test_reads_at_the_same_time(row: RngRow) -> None:
    """Of several op sockets of one tfm, which share its state under a lock: no two give the same bytes.

    Of a generator whose output follows from the seed they are, together, what one reader would get (16 bytes are one
    step of it). Source: rng_accept_parent shares the generator, crypto/algif_rng.c.
    """
    reads, readers, size = 24, 3, 16
    end = None if row.repeats else time.monotonic() + 1
    seed = seed_of(row, row.seeds[-1])
    got: list[bytes] = []
    with need(Rng, row.name, seed) as rng:
        barrier = threading.Barrier(readers)

        def read() -> None:
            with rng.tfm.accept() as op:
                barrier.wait(20)
                for _ in range(reads):
                    got.append(op.recv(size, seconds=20))
                    if end and time.monotonic() > end:
                        break

        threads = [threading.Thread(target=read) for _ in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(got) == reads * readers if row.repeats else len(got) >= readers
    assert {len(part) for part in got} == {size}
    assert len(set(got)) == len(got), "two readers got the same"
    if row.repeats:
        whole = x931.generate(seed, size * len(got))
        assert set(got) == {whole[at : at + size] for at in range(0, len(whole), size)}
