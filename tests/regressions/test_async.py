"""Bugs of algorithms that complete later: cryptd's queue when it is full, pcrypt when its processors change."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Aead, Hash, Skcipher, aio, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.need import need, need_aio
from tests.oracle import aeads, hashes, skciphers
from tests.regressions.cryptd import ENCRYPT, IV, KEY, TAG, Call, Filler, before_the_kernel

TEXT = bytes(range(64))
SEALED = aeads.seal("authenc(hmac(sha256),cbc(aes))", KEY, IV, b"", TEXT, TAG)
BY_CMAC = aeads.seal("authenc(cmac(aes),cbc(aes))", KEY, IV, b"", TEXT, 16)
DECRYPT = set_op(ALG_OP_DECRYPT) + set_assoclen(0) + set_iv(IV)
CPUMASK = Path("/sys/kernel/pcrypt/pencrypt/parallel_cpumask")


@pytest.mark.fixed_by("96feb73def02", "crypto: authenc - Correctly pass EINPROGRESS back up to the caller")
@pytest.mark.deadline(60)
def test_authenc_second_half_may_backlog() -> None:
    """When the hash was done and the queue full, decryption was begun as if the caller could not wait.

    Source: CRYPTO_TFM_REQ_MAY_BACKLOG, crypto/authenc.c. By CMAC: of an HMAC 6.16 makes no cryptd (EEXIST of its bind,
    hmac-shash in crypto/hmac.c), and 6.18 has no sha256-generic.
    """
    name = "authenc(cryptd(cmac(aes-generic)),cryptd(cbc(aes-generic)))"
    with need(Aead, name, KEY, 16) as aead, Filler() as filler:
        ops = [aead.tfm.accept() for _ in range(3)]
        for op in ops:
            op.sendmsg([BY_CMAC], DECRYPT)
        with before_the_kernel():
            first = Call(ops[0], lambda: ops[0].recv(len(TEXT)))
            filler.fill()
            # They make the queue longer than it may be, so that it is full when the first hash is done.
            others = [Call(op, lambda op=op: op.recv(len(TEXT))) for op in ops[1:]]  # type: ignore[misc]
        assert [call.result() for call in (first, *others)] == [TEXT] * 3
        for op in ops:
            op.close()


@pytest.mark.fixed_by("915b692e6cb7", "crypto: pcrypt - Fix handling of MAY_BACKLOG requests", cve="CVE-2026-43493")
@pytest.mark.deadline(60)
def test_pcrypt_over_backlogged_child() -> None:
    """That it waits for room was taken for an error and passed on, while the request was still to be done.

    Source: -EBUSY in crypto/pcrypt.c.
    """
    name = "pcrypt(authenc(hmac(sha256-generic),cryptd(cbc(aes-generic))))"
    waiting = "authenc(hmac(sha256-generic),cryptd(cbc(aes-generic)))"
    with need(Aead, name, KEY) as aead, need(Aead, waiting, KEY) as other, Filler() as filler:
        ops = [*(other.tfm.accept() for _ in range(4)), aead.tfm.accept()]
        for op in ops:
            op.sendmsg([TEXT], ENCRYPT)
        # Each processor has a queue of its own: pcrypt gives its child the request on the one whose queue is full.
        with parallel_on(min(os.sched_getaffinity(0))):
            with before_the_kernel():
                filler.fill()
                calls = [Call(op, lambda op=op: op.recv(len(SEALED))) for op in ops]  # type: ignore[misc]
            assert [call.result() for call in calls] == [SEALED] * 5
        for op in ops:
            op.close()


@contextlib.contextmanager
def parallel_on(processor: int) -> Iterator[None]:
    """Have pcrypt do its work on one processor (parallel_cpumask: kernel document core-api/padata.rst)."""
    before = CPUMASK.read_text()
    CPUMASK.write_text(f"{1 << processor:x}")
    try:
        yield
    finally:
        CPUMASK.write_text(before)


@pytest.mark.fixed_by("ef0579b64e93", "crypto: ahash - Fix EINPROGRESS notification callback", cve="CVE-2017-7618")
@pytest.mark.deadline(60)
def test_hash_request_is_backlogged() -> None:
    """Being told that there is room now was taken for the end of the request (-EINPROGRESS in crypto/ahash.c)."""
    with need(Hash, "cryptd(sha256-generic)") as h, Filler() as filler:
        with before_the_kernel():
            filler.fill()
            sent = Call(h.op, lambda: h.op.send(b"abc"))
        assert sent.result() == 3
        assert h.op.recv(32) == hashes.digest("sha256", b"abc")


@pytest.mark.deadline(60)
def test_xts_over_backlogged_child() -> None:
    """That its cipher waits for room was an error to it.

    Linux kernel commit 51c082514c2d ("crypto: xts - Handle EBUSY correctly"), CVE-2023-53494; all packages have it.
    """
    key = bytes(range(32))
    # Where asynchronous algorithms are hidden from AF_ALG, asking for xts of one is EINVAL.
    need(Skcipher, "cryptd(ecb(aes-generic))").close()
    with need(Skcipher, "xts(cryptd(ecb(aes-generic)))", key) as cipher, Filler() as filler:
        cipher.op.sendmsg([TEXT], set_op(ALG_OP_ENCRYPT) + set_iv(IV))
        with before_the_kernel():
            filler.fill()
            call = Call(cipher.op, lambda: cipher.op.recv(len(TEXT)))
        assert call.result() == skciphers.crypt("xts(aes)", key, IV, TEXT)


@pytest.mark.deadline(60)
def test_aio_is_told_that_the_queue_is_full() -> None:
    """Nobody waits for a request by AIO: one that finds no room is refused, and the next one is done.

    Linux kernel commit cbdad1f246dd ("crypto: algif_aead - Do not set MAY_BACKLOG on the async path"): it was taken
    and lost.
    """
    with need(Aead, "cryptd(authenc(hmac(sha256-generic),cbc(aes-generic)))", KEY) as aead, Filler() as filler:
        with need_aio() as context:
            buffer = bytearray(len(SEALED))
            request = aio.Iocb(aead.op.fd, aio.IOCB_CMD_PREAD, buffer)
            aead.op.sendmsg([TEXT], ENCRYPT)
            with before_the_kernel():
                filler.fill()
                context.submit([request])
                (event,) = context.events(1, 1, seconds=0)
            assert event.result in (-errno.ENOSPC, -errno.EBUSY)
        aead.op.sendmsg([TEXT], ENCRYPT)
        assert aead.op.recv(len(SEALED)) == SEALED


@pytest.mark.fixed_by(
    "662f2f13e66d", "crypto: pcrypt - Call crypto layer directly when padata_do_parallel() return -EBUSY",
    cve="CVE-2024-56690",
)  # fmt: skip
@pytest.mark.deadline(60)
def test_pcrypt_during_cpumask_change() -> None:
    """What came meanwhile was refused with EAGAIN, or before Linux 6.7 (CVE-2023-52813) never came back."""
    encrypt_while_processors_change("pcrypt(authenc(hmac(sha256-generic),cbc(aes-generic)))", ())


@pytest.mark.fixed_by(
    "ed459fe31937", "crypto: pcrypt - restore callback for non-parallel fallback", cve="CVE-2026-64312"
)
@pytest.mark.deadline(60)
def test_pcrypt_over_async_child_during_cpumask_change() -> None:
    """What was not queued completed as if it had been: by a function that was never set.

    Source: pcrypt_aead_encrypt, crypto/pcrypt.c.
    """
    name = "pcrypt(authenc(hmac(sha256-generic),cryptd(cbc(aes-generic))))"
    encrypt_while_processors_change(name, (errno.EAGAIN,))


def encrypt_while_processors_change(name: str, refusals: tuple[int, ...]) -> None:
    """Encrypt as long as another thread writes pcrypt's mask of processors; every result must be right.

    A write has pcrypt refuse work until all processors have seen it, and sleeps meanwhile. It goes on until several
    requests began and ended within a write, which a busy host may take some time for.

    Args:
        refusals: errnos of another bug that count as no answer.
    """
    with need(Aead, name, KEY) as aead:
        mask, enough = CPUMASK.read_text(), threading.Event()
        # Odd while a write is being made.
        turn, inside = 0, 0

        def change() -> None:
            nonlocal turn
            while turn < 1000 and not (enough.is_set() and turn >= 100):
                turn += 1
                CPUMASK.write_text(mask)
                turn += 1

        changer = threading.Thread(target=change)
        changer.start()
        try:
            while changer.is_alive():
                before = turn
                aead.op.sendmsg([TEXT], ENCRYPT)
                try:
                    assert aead.op.recv(len(SEALED)) == SEALED
                except OSError as error:
                    if error.errno not in refusals:
                        raise
                inside += before % 2 == 1 and turn == before
                if inside >= 10:
                    enough.set()
        finally:
            enough.set()
            changer.join()
