"""Bugs that take many requests, several threads or several processes, in numbers that a bad kernel did not stand."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.afalg import (
    Aead,
    Hash,
    Pipe,
    Skcipher,
    Socket,
    authenc_key,
    netlink,
    set_assoclen,
    set_iv,
    set_op,
    splice,
)
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_MORE, SPLICE_F_MORE
from tests.afalg.proc import implementations
from tests.doctor import absence
from tests.errors.raises import outcome, raises_errno
from tests.errors.threads import wait_until_inside_a_call
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.splice.files import tmpfs_file

KEY, IV = bytes(range(16)), bytes(16)
START = set_op(ALG_OP_ENCRYPT) + set_iv(IV)


@pytest.mark.fixed_by("4f0414e54e4d", "crypto: algif_skcipher - Load TX SG list after waiting", cve="CVE-2017-13215")
def test_a_reader_that_waited_gets_what_came_meanwhile() -> None:
    """The list of what was sent was looked up before the wait, and had been freed when it ended.

    Source: crypto/algif_skcipher.c.
    """
    data = bytes(range(256)) * 32
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        cipher.op.sendmsg([data[:16]], START, MSG_MORE)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(cipher.op.recv(len(data))))
        reader.start()
        wait_until_inside_a_call(reader, cipher.op)
        cipher.op.send(data[16:])
        reader.join()
        assert got == [skciphers.crypt("cbc(aes)", KEY, IV, data)]


@pytest.mark.fixed_by("bb2964810233", "crypto: vmac - separate tfm and request context")
@pytest.mark.parametrize("name", ["vmac64(aes)", "cmac(aes)"])
@pytest.mark.deadline(30)
def test_two_processes_hash_by_one_key_at_the_same_time(name: str) -> None:
    """The state of the message was kept beside the key, for all to write to (crypto/vmac.c)."""

    def hash_many(transform: Hash, letter: bytes) -> None:
        message = bytes(16) + letter * 240
        expected = hashes.digest(name, message, KEY)
        with transform.tfm.accept() as op:
            for _ in range(200):
                op.send(message[:100], MSG_MORE)
                op.send(message[100:])
                assert op.recv(len(expected)) == expected, "a digest was wrong"

    with need(Hash, name, KEY) as transform:
        child = os.fork()
        if child == 0:
            try:
                hash_many(transform, b"c")
                os._exit(0)
            finally:
                os._exit(1)
        try:
            hash_many(transform, b"p")
        finally:
            status = os.waitpid(child, 0)[1]
        assert status == 0, "a digest of the child was wrong"


def test_a_key_is_derived_by_thousands_of_requests() -> None:
    """PBKDF2 (RFC 8018, 5.2) of one block is a chain of HMACs: one wrong or late answer spoils it all."""
    password, salt, rounds = b"passwordPASSWORD", b"salt" * 4, 1000
    with need(Hash, "hmac(sha256)", password) as h:
        block = h.digest(salt + (1).to_bytes(4, "big"))
        derived = int.from_bytes(block, "big")
        for _ in range(rounds - 1):
            h.op.send(block)
            block = h.op.recv(32)
            derived ^= int.from_bytes(block, "big")
    assert derived.to_bytes(32, "big") == hashlib.pbkdf2_hmac("sha256", password, salt, rounds)


@pytest.mark.parametrize("way", ["sent", "spliced"])
@pytest.mark.parametrize("name", ["gcm(aes)", "ccm(aes)"])
def test_aad_of_64_kib_less_a_block(name: str, way: str) -> None:
    """CCM writes lengths up to 65279 in two bytes and longer ones in six (RFC 3610, 2.2)."""
    iv = bytes(range(12)) if name == "gcm(aes)" else bytes([3, *range(12)]) + bytes(3)
    aad, text = bytes(range(256)) * 255 + bytes(240), bytes(range(100))
    with need(Aead, name, KEY) as aead:
        aead.op.sendmsg([aad[:30000]], set_op(ALG_OP_ENCRYPT) + set_assoclen(len(aad)) + set_iv(iv), MSG_MORE)
        if way == "sent":
            aead.op.send(aad[30000:], MSG_MORE)
        else:
            with tmpfs_file(aad[30000:]) as file, Pipe() as pipe:
                size = splice(file, pipe.write_end, len(aad) - 30000, offset_in=0)
                assert splice(pipe.read_end, aead.op, size, SPLICE_F_MORE) == size == len(aad) - 30000
        aead.op.send(text)
        sealed = aeads.seal(name, KEY, iv, aad, text, 16)
        assert aead.op.recv(len(aad) + len(sealed)) == aad + sealed


@pytest.mark.fixed_by("d76c68109f37", "crypto: pcrypt - fix freeing pcrypt instances", cve="CVE-2017-18075")
@pytest.mark.deadline(60)
def test_pcrypt_instances_are_made_and_freed_again_and_again(
    crypto: netlink.CryptoNetlink, request: pytest.FixtureRequest
) -> None:
    """Each was freed by a pointer into its middle; since Linux 6.6 a work queue does it later (CVE-2023-53799).

    Since 6.12 the maker may be told ELIBBAD of an instance whose self-test is not finished; it is there all the same.
    """
    # The portable drivers became wrappers of lib/crypto one by one, in Linux 6.16 and later.
    sha256 = "sha256-generic" if binds("hash", "sha256-generic") else "sha256-lib"
    aes = "aes-generic" if binds("skcipher", "ecb(aes-generic)") else "aes-lib"
    driver = f"pcrypt(authenc(hmac({sha256}),cbc({aes})))"
    made = netlink.alg("authenc(hmac(sha256),cbc(aes))", driver, 3, 0x1F)
    if driver in {entry.driver for entry in implementations()}:
        assert removed(crypto, made) == 0
    for turn in range(200 if request.config.option.thorough else 20):
        answer = outcome(lambda: crypto.request(netlink.CRYPTO_MSG_NEWALG, made))
        if turn == 0 and answer == errno.ENOENT:
            pytest.skip(str(absence.of_algorithm("aead", driver)))
        assert answer in (0, errno.ELIBBAD)
        assert driver in {entry.driver for entry in implementations()}
        assert removed(crypto, made) == 0
    assert driver not in {entry.driver for entry in implementations()}


def binds(type_: str, name: str) -> bool:
    with Socket.create() as tfm:
        return outcome(lambda: tfm.bind(type_, name)) == 0


def removed(crypto: netlink.CryptoNetlink, made: bytes) -> int:
    """Remove an algorithm once its self-test lets go of it; return the errno."""
    end = time.monotonic() + 20
    while (answer := outcome(lambda: crypto.request(netlink.CRYPTO_MSG_DELALG, made))) == errno.EBUSY:
        assert time.monotonic() < end, "it is in use for good"
    return answer


@pytest.mark.deadline(60)
def test_killed_bind_leaves_no_larval(crypto: netlink.CryptoNetlink) -> None:
    """Whoever removed what was not ready, freed it for the thread that made it.

    Linux kernel commit 21d4120ec6f5 ("crypto: user - prevent operating on larval algorithms"). A race: the moments
    of death are drawn by a fixed seed.
    """
    chance = random.Random(7)
    driver = "cbc(camellia-generic)"
    wanted = netlink.alg("cbc(camellia)", driver)
    need(Skcipher, "ecb(camellia)").close()
    for _ in range(40):
        child = os.fork()
        if child == 0:
            try:
                with netlink.CryptoNetlink() as own:
                    own.request(netlink.CRYPTO_MSG_NEWALG, wanted)
            finally:
                os._exit(0)
        for _ in range(chance.randrange(40)):
            os.sched_yield()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answer = outcome(lambda: crypto.request(netlink.CRYPTO_MSG_DELALG, netlink.alg("", driver)))
        assert answer in (0, errno.ENOENT, errno.EBUSY)
    with need(Skcipher, "cbc(camellia)", KEY) as cipher:
        assert cipher.encrypt(bytes(16), IV) == skciphers.crypt("cbc(camellia)", KEY, IV, bytes(16))


@pytest.mark.deadline(60)
def test_concurrent_first_binds_wait_for_one_larval() -> None:
    """Those who came while it was made waited for it, and some were told that there is none.

    Races of Linux 6.12.13, 6.12.23 and 6.12.34 between the lookup of algorithms and their tests. Instances are made
    by whoever binds them first: these names are used nowhere else.
    """
    need(Aead, "authenc(hmac(sha256),cbc(aes))").close()
    for inner in ("sha1", "sha384", "md5"):
        name = f"authenc(hmac({inner}),cts(cbc(aes)))"
        need(Hash, f"hmac({inner})").close()
        need(Skcipher, "cts(cbc(aes))").close()
        answers = at_once([lambda name=name: Socket.bound("aead", name).close() for _ in range(8)])
        assert set(answers) in ({0}, {errno.ENOENT}), f"{name}: {answers}"
        assert answers[0] == 0, f"{name} is no algorithm"
        key = authenc_key(KEY, KEY)
        with need(Aead, name, key, 16) as aead:
            assert aead.encrypt(bytes(40), b"", IV) == aeads.seal(name, key, IV, b"", bytes(40), 16)


@pytest.mark.deadline(30)
def test_a_key_set_while_others_send_without_one() -> None:
    """The check for a key looked at the socket's context without its lock.

    Mended in Linux 4.5 ("crypto: algif_skcipher - Fix race condition in skcipher_check_key", and the like of hashes).
    """
    for _ in range(20):
        with need(Skcipher, "cbc(aes)") as cipher:
            ops = [cipher.tfm.accept() for _ in range(4)]
            senders = [lambda op=op: op.sendmsg([bytes(16)], START) for op in ops]
            *answers, last = at_once([*senders, lambda: cipher.tfm.set_key(KEY)])
            assert set(answers) <= {0, errno.ENOKEY}
            assert last in (0, errno.EBUSY)
            for op, answer in zip(ops, answers, strict=True):
                if answer == 0:
                    assert op.recv(16) == skciphers.crypt("cbc(aes)", KEY, IV, bytes(16))
                op.close()


@pytest.mark.deadline(30)
def test_op_sockets_opened_and_closed_by_several_threads() -> None:
    """Counting them took the wrong lock, or none.

    Linux kernel commits 37f96694cf73 ("crypto: af_alg - Use bh_lock_sock in sk_destruct") and 34c86f4c4a7b
    ("crypto: af_alg - fix use-after-free in af_alg_accept() due to bh_lock_sock()").
    """
    with need(Hash, "hmac(sha256)", KEY) as h:

        def open_and_close() -> None:
            for _ in range(100):
                h.tfm.accept().close()

        assert at_once([open_and_close] * 4) == [0] * 4
        h.tfm.set_key(KEY + KEY)
        assert h.digest(b"abc") == hashes.digest("hmac(sha256)", b"abc", KEY + KEY)


def test_a_message_of_nothing_after_more_was_promised() -> None:
    """The end of a message may bring no data; when it failed, its list was given back twice.

    Linux kernel commit 24c890dd712f ("crypto: algif_hash - Remove bogus SGL free on zero-length error path",
    CVE-2024-26824).
    """
    with need(Hash, "sha256") as h:
        for _ in range(50):
            h.op.send(b"abc", MSG_MORE)
            h.op.send(b"")
            assert h.op.recv(32) == hashes.digest("sha256", b"abc")


def test_binding_what_a_template_cannot_take_leaves_it_usable() -> None:
    """A template that took the wrong kind of algorithm used it as what it is not.

    Linux kernel commit 48a992727d82 ("crypto: mcryptd - Check mcryptd algorithm compatibility", CVE-2016-10147).
    """
    need(Hash, "hmac(sha256)").close()
    for type_, name in (("hash", "hmac(cbc(aes))"), ("skcipher", "cbc(sha256)"), ("aead", "gcm(sha256)")):
        with raises_errno(errno.ENOENT, errno.EINVAL):
            Socket.bound(type_, name).close()
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        assert cipher.encrypt(bytes(16), IV) == skciphers.crypt("cbc(aes)", KEY, IV, bytes(16))


def at_once(calls: list[Callable[[], object]]) -> list[int]:
    """Make each call in a thread of its own, all begun together; return the errno of each, 0 of those that worked."""
    gate = threading.Barrier(len(calls))
    answers = [-1] * len(calls)

    def run(at: int) -> None:
        gate.wait(20)
        answers[at] = outcome(calls[at])

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
