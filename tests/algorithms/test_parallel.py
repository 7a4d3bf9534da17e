"""Op sockets of one tfm that work at the same time: what a request computes with is its own.

A buffer that a template keeps in the tfm is shared by all its requests, and right as long as they come one after the
other: so it was in vmac (Linux kernel commit bb2964810233, "crypto: vmac - separate tfm and request context").
Kernels give the processor away between the pages of a request, so long ones meet even on one processor; best with two
(--vm-cpus 2).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket, Transform, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_MORE
from tests.algorithms import catalogue
from tests.algorithms.cases import each_template
from tests.algorithms.catalogue import AeadRow, HashRow, Row, SkcipherRow
from tests.algorithms.data import PAGE, data, longest
from tests.algorithms.independent import need_independent_requests
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.algorithms.test_drivers import check_drivers
from tests.need import need
from tests.oracle import aeads, hashes, skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

Work = Callable[[Socket], None]

THREADS = 3
ROUNDS = 4


def together(transform: Transform, works: list[Work]) -> None:
    """Have each do its work several times in a thread and on an op socket of its own; raise what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Work) -> None:
        try:
            with transform.tfm.accept() as op:
                barrier.wait(20)
                for _ in range(ROUNDS):
                    work(op)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def check_together(type_: str, row: Row, make: Callable[[str], Transform], works: list[Work]) -> None:
    """Do it with every driver."""

    def check(driver: str) -> None:
        with make(driver) as transform:
            together(transform, works)

    check_drivers(type_, row.name, check)


@pytest.mark.deadline(30)
@each_template(catalogue.HASHES)
def test_hashes_of_one_key(row: HashRow) -> None:
    """Each op socket has a request of its own behind its context (hash_accept_parent_nokey, crypto/algif_hash.c)."""
    need(Hash, row.name).close()
    key = data(f"{row.name} key", row.keys[-1]) if row.keys else None
    messages = [b"\x42" + data(f"message {i}", min(6 * PAGE + i, longest(row.name))) for i in range(THREADS)]

    def worker(message: bytes) -> Work:
        digest = hashes.digest(row.name, message, key)

        def work(op: Socket) -> None:
            op.send(message[: len(message) // 2], MSG_MORE)
            op.send(message[len(message) // 2 :])
            assert op.recv(64) == digest, "another's digest"

        return work

    check_together("hash", row, lambda driver: Hash(driver, key), [worker(message) for message in messages])


@pytest.mark.deadline(30)
@each_template([row for row in catalogue.SKCIPHERS if not row.one_way])
def test_ciphers_of_one_key(row: SkcipherRow) -> None:
    """One of them decrypts. Each recv has a request of its own (af_alg_alloc_areq, crypto/af_alg.c)."""
    need(Skcipher, row.name).close()
    need_independent_requests(row.name)
    key, size = data(f"{row.name} key", row.keys[-1]), min(6 * PAGE, longest(row.name) // 16 * 16)

    def worker(number: int) -> Work:
        iv, plaintext = data(f"iv {number}", row.iv), data(f"message {number}", size)
        ciphertext = skciphers.crypt(row.name, key, iv, plaintext)
        operation = ALG_OP_DECRYPT if number == 1 else ALG_OP_ENCRYPT
        source, result = (ciphertext, plaintext) if number == 1 else (plaintext, ciphertext)

        def work(op: Socket) -> None:
            op.sendmsg([source], set_op(operation) + (set_iv(iv) if row.iv else b""))
            assert op.recv(size) == result, "another's result"

        return work

    check_together("skcipher", row, lambda driver: Skcipher(driver, key), [worker(i) for i in range(THREADS)])


@pytest.mark.deadline(30)
@each_template([row for row in catalogue.AEADS if row.generates_iv_for is None])
def test_aeads_of_one_key(row: AeadRow) -> None:
    """One of them decrypts; each has an IV and AAD of its own (af_alg_alloc_areq, crypto/af_alg.c)."""
    need(Aead, row.name).close()
    key, tag, size = key_of(row, row.keys[-1]), row.tags[-1], min(6 * PAGE, longest(row.name) // 16 * 16)

    def worker(number: int) -> Work:
        iv, plaintext = iv_of(row.name, row.iv, f"iv {number}"), data(f"message {number}", size)
        aad = aad_of(row, key, default_aad(row), iv)
        sealed = aeads.seal(row.name, key, iv, aad, plaintext, tag)
        operation = ALG_OP_DECRYPT if number == 1 else ALG_OP_ENCRYPT
        source, result = (sealed, plaintext) if number == 1 else (plaintext, sealed)
        control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if row.iv else b"")

        def work(op: Socket) -> None:
            op.sendmsg([aad, source], control)
            assert op.recv(len(aad + result)) == aad + result, "another's result"

        return work

    check_together("aead", row, lambda driver: Aead(driver, key, tag), [worker(i) for i in range(THREADS)])
