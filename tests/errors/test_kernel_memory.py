"""Every call again and again, in each of the ways that it ends: no memory of the kernel is lost.

An object or a page that one call loses is lost as often as it is made, and shows in /proc/slabinfo or in what no
counter of /proc/vmstat accounts for (kernel_memory.py). References and option memory are checked around every test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.afalg import Pipe, Skcipher, Socket, Transform, netlink, set_assoclen, set_iv, set_op, splice, vmsplice
from tests.afalg.aio import IOCB_CMD_PREAD, Iocb
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.afalg.memory import PAGE, PROT_NONE, Memory
from tests.afalg.netlink import CryptoNetlink
from tests.errors.kernel_memory import lost
from tests.errors.raises import outcome
from tests.errors.subjects import AEAD, AEAD_IV, HASH, KEYED, QUEUED, SKCIPHER, Subject
from tests.need import need, need_aio
from tests.oracle import skciphers, small

Way = Callable[[Subject, Transform], None]
PAGES = 40
"""More than af_alg takes from a program at a time (ALG_MAX_PAGES, 16)."""
REFUSED = {"hash": b"", "skcipher": bytes(15), "aead": bytes(15)}
# The one that other tests use takes longer for a few bytes than all the rest.
GENERATOR = Subject("rng", "drbg_nopr_ctr_aes256", b"", b"", b"", None)


def bound_and_used(subject: Subject, _: Transform) -> None:
    with subject.open() as transform:
        subject.works(transform.op)


def bound_again(subject: Subject, _: Transform) -> None:
    with Socket.bound(subject.type_, subject.name) as tfm:
        if subject in KEYED:
            outcome(lambda: tfm.set_key(REFUSED[subject.type_]))
        outcome(lambda: tfm.set_authsize(99))
        tfm.bind(SKCIPHER.type_, SKCIPHER.name)
        outcome(lambda: tfm.bind(subject.type_, subject.name, 0, 2**31))


def accepted_without_a_key(subject: Subject, _: Transform) -> None:
    with Socket.bound(subject.type_, subject.name) as tfm, tfm.accept() as op:
        outcome(lambda: op.recv(16, MSG_DONTWAIT))
        outcome(lambda: op.send(bytes(16)))
        if subject in KEYED:
            outcome(lambda: tfm.set_key(subject.key or b""))
            subject.works(op)


def requested(subject: Subject, transform: Transform) -> None:
    with transform.tfm.accept() as op:
        subject.works(op)
        subject.works(op)


def refused(subject: Subject, transform: Transform) -> None:
    with transform.tfm.accept() as op:
        for control in (set_op(7), set_iv(bytes(99)), set_assoclen(2**31), set_op(ALG_OP_ENCRYPT)[:-1]):
            outcome(lambda control=control: op.sendmsg([bytes(16)], control, MSG_MORE))
        outcome(lambda: op.recv(1, MSG_DONTWAIT))


def begun(subject: Subject, transform: Transform) -> None:
    for flags in (0, MSG_MORE):
        with transform.tfm.accept() as op:
            subject.begin(op, flags)


def unreadable(subject: Subject, transform: Transform) -> None:
    with transform.tfm.accept() as op, Memory(2, PROT_NONE) as memory:
        for size in (3 * PAGE, PAGE // 2 + 2 * PAGE):
            outcome(lambda size=size: op.sendmsg([memory.pointer(3 * PAGE - size, size)], subject.control))


def unwritable(subject: Subject, transform: Transform) -> None:
    with transform.tfm.accept() as op, Memory(1, PROT_NONE) as memory:
        for offset in (PAGE, PAGE - 8):
            if subject.result is not None:
                subject.begin(op)
            outcome(lambda offset=offset: op.recvmsg([memory.pointer(offset, 200)], flags=MSG_DONTWAIT))
            outcome(lambda: op.recv(4096, MSG_DONTWAIT))


def too_short(subject: Subject, transform: Transform) -> None:
    with transform.tfm.accept() as op:
        subject.begin(op)
        outcome(lambda: op.recv(1, MSG_DONTWAIT))


def from_and_into_own_memory(subject: Subject, transform: Transform) -> None:
    """Whose pages are gone afterwards, unless the kernel still refers to one."""
    with transform.tfm.accept() as op, Memory(PAGES) as memory:
        size = PAGES * PAGE - 64
        memory.write(0, bytes(20))
        op.sendmsg([memory.pointer(0, size)], subject.control)
        op.recvmsg([memory.pointer(0, size + 64)], flags=MSG_DONTWAIT)


def spliced(subject: Subject, transform: Transform) -> None:
    for received in (True, False):
        with transform.tfm.accept() as op, Memory(4) as memory, Pipe() as pipe:
            op.sendmsg([], subject.control, MSG_MORE)
            vmsplice(pipe.write_end, [memory.pointer(16, 3 * PAGE)])
            splice(pipe.read_end, op, 3 * PAGE)
            if received:
                op.recvmsg([memory.pointer(0, 4 * PAGE)], flags=MSG_DONTWAIT)


ALL: list[Way] = [bound_again, accepted_without_a_key, unwritable]
OF_KEYED: list[Way] = [
    bound_and_used,
    requested,
    refused,
    begun,
    unreadable,
    too_short,
    from_and_into_own_memory,
    spliced,
]
PAIRS = [(way, subject) for way in ALL for subject in (*KEYED, GENERATOR)] + [
    (way, each) for way in OF_KEYED for each in KEYED
]
# Every other one by default: each way is among them, and each type but the slow one.
CASES = [
    pytest.param(way, each, id=f"{way.__name__}-{each.type_}", marks=[pytest.mark.thorough] * (place % 2))
    for place, (way, each) in enumerate(PAIRS)
]


@pytest.mark.deadline(30)
@pytest.mark.parametrize(("way", "subject"), CASES)
def test_calls_lose_no_memory(way: Way, subject: Subject) -> None:
    """alg_bind to af_alg_release_parent, crypto/af_alg.c: what a call takes it gives back, however it ends."""
    with subject.open() as transform:
        assert lost(lambda: way(subject, transform)) == []
        still_works(subject, transform)


def still_works(subject: Subject, transform: Transform) -> None:
    """That it loses nothing says little of a kernel that does nothing."""
    with transform.tfm.accept() as op:
        if subject is GENERATOR:
            assert op.recv(16) != op.recv(16)
        else:
            subject.works(op)


@pytest.mark.deadline(30)
def test_clones_of_a_hash_lose_no_memory() -> None:
    """Of a message that is not at its end, and of nothing; used and not (hash_accept)."""

    def clone() -> None:
        with transform.tfm.accept() as op:
            op.accept().close()
            op.send(HASH.message[:7], MSG_MORE)
            with op.accept() as used, op.accept():
                used.send(HASH.message[7:])
                HASH.finish(used)

    with HASH.open() as transform:
        assert lost(clone) == []


@pytest.mark.deadline(30)
def test_forged_messages_lose_no_memory() -> None:
    """EBADMSG ends a request as success does (_aead_recvmsg)."""
    control = set_op(ALG_OP_DECRYPT) + set_iv(AEAD_IV) + set_assoclen(20)

    def forged() -> None:
        with transform.tfm.accept() as op:
            op.sendmsg([bytes(3 * PAGE)], control)
            outcome(lambda: op.recv(3 * PAGE - 16, MSG_DONTWAIT))

    with AEAD.open() as transform:
        assert lost(forged) == []
        still_works(AEAD, transform)


@pytest.mark.deadline(30)
def test_state_of_a_stream_cipher_is_not_lost() -> None:
    """A read of a part keeps the cipher's state in the socket until the end of the message, or its own.

    Source: skcipher_sock_destruct, algif_skcipher_export.
    """

    def begun_and_left() -> None:
        for more in (b"", bytes(16)):
            with cipher.tfm.accept() as op:
                op.sendmsg([bytes(48)], set_op(ALG_OP_ENCRYPT), MSG_MORE)
                op.recv(16, MSG_DONTWAIT)
                op.recv(16, MSG_DONTWAIT)
                if more:
                    op.send(more)
                    op.recv(100, MSG_DONTWAIT)

    with need(Skcipher, "ecb(arc4)", bytes(range(16))) as cipher:
        assert lost(begun_and_left) == []
        with cipher.tfm.accept() as op:
            op.sendmsg([bytes(48)], set_op(ALG_OP_ENCRYPT))
            assert op.recv(48) == small.arc4(bytes(range(16)), bytes(48))


@pytest.mark.deadline(30)
@pytest.mark.parametrize("subject", QUEUED, ids=lambda subject: subject.type_)
def test_asynchronous_reads_lose_no_memory(subject: Subject) -> None:
    """af_alg_async_cb, or whoever completed at once, gives back what af_alg_alloc_areq took."""

    def read() -> None:
        with transform.tfm.accept() as op, Memory(2, PROT_NONE) as memory:
            for offset in (0, 2 * PAGE):
                subject.begin(op)
                request = Iocb(op.fd, IOCB_CMD_PREAD, memory.pointer(offset, len(subject.answer)))
                if outcome(lambda request=request: context.submit([request])) == 0:
                    context.events(1, 1)

    with need_aio() as context, subject.open() as transform:
        assert lost(read) == []
        still_works(subject, transform)


@pytest.mark.deadline(60)
def test_instances_made_and_removed_lose_no_memory(crypto: CryptoNetlink) -> None:
    """crypto_destroy_instance has a work queue free them, since Linux 6.6 (crypto/algapi.c)."""
    need(Skcipher, "ecb(camellia)").close()
    instance = netlink.alg("cbc(camellia)", "cbc(camellia-generic)")

    def made_and_removed() -> None:
        assert outcome(lambda: crypto.request(netlink.CRYPTO_MSG_NEWALG, instance)) == 0
        crypto.request(netlink.CRYPTO_MSG_DELALG, instance)

    outcome(lambda: crypto.request(netlink.CRYPTO_MSG_DELALG, instance))
    assert lost(made_and_removed, 12) == []
    with need(Skcipher, "cbc(camellia)", bytes(16)) as cipher:
        assert cipher.encrypt(bytes(16), bytes(16)) == skciphers.crypt("cbc(camellia)", bytes(16), bytes(16), bytes(16))


@pytest.mark.parametrize(("size", "cache"), [(64, "kmalloc-"), (PAGE, "pages")], ids=["objects", "pages"])
def test_check_sees_what_is_lost(size: int, cache: str) -> None:
    """Of each round something is kept on purpose: a message in a queue, with its list and its page (af_alg_sendmsg)."""
    kept: list[Socket] = []

    def keep() -> None:
        op = transform.tfm.accept()
        op.sendmsg([bytes(size)], SKCIPHER.control, MSG_MORE)
        kept.append(op)

    with SKCIPHER.open() as transform:
        found = lost(keep)
        for op in kept:
            op.close()
    assert [line for line in found if line.startswith(cache)]


@pytest.mark.thorough
@pytest.mark.deadline(60)
def test_seeds_lose_no_memory() -> None:
    """alg_setkey copies the seed; a DRBG that is seeded again gives back what it had (drbg_instantiate)."""

    def seeded() -> None:
        with GENERATOR.open_without_key() as rng:
            for seed in (b"", bytes(48), bytes(65536)):
                outcome(lambda seed=seed: rng.tfm.set_key(seed))
            assert rng.op.recv(16) != rng.op.recv(16)

    assert lost(seeded, 12) == []
