"""Random sequences of sends and recvs: however data is cut and read, what comes out is what the oracle says.

Errors, readiness and blocking are another matter: tests/requests.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence
from typing import TypeVar

import pytest

from tests.afalg import Aead, Hash, Rng, Skcipher, Socket, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.algorithms import catalogue
from tests.algorithms.cases import chosen
from tests.algorithms.catalogue import AeadRow, HashRow, RngRow, Row, SkcipherRow
from tests.algorithms.data import cut, data
from tests.algorithms.explore import explore
from tests.algorithms.keys import aad_of, iv_of, key_of
from tests.algorithms.models import Clone, HashModel, Message, Recv, Request, Send, SkcipherModel, StreamModel
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers, x931

pytestmark = [pytest.mark.usefixtures("everything_loaded"), pytest.mark.deadline(60)]

# Of each way of working in blocks one; the others are for a thorough run.
TYPICAL = frozenset(
    (
        *("sha256", "sha512", "sha3-256", "hmac(sha256)", "cmac(aes)", "xcbc(aes)", "crc32c", "blake2b-512", "ghash"),
        *("ecb(aes)", "cbc(aes)", "ctr(aes)", "cts(cbc(aes))", "xts(aes)", "chacha20", "rfc3686(ctr(aes))"),
        *("gcm(aes)", "ccm(aes)", "rfc7539(chacha20,poly1305)", "authenc(hmac(sha256),cbc(aes))", "rfc4106(gcm(aes))"),
        *("authencesn(hmac(sha256),cbc(aes))", "aegis128"),
    )
)

_AnyRow = TypeVar("_AnyRow", bound=Row)


def typical(rows: Sequence[_AnyRow]) -> pytest.MarkDecorator:
    """Parametrise over rows, of which a default run takes the typical ones."""
    return chosen(rows, lambda row: row.name in TYPICAL)


@typical([row for row in catalogue.HASHES if not row.prefix])
def test_hash_gives_the_digest_of_what_was_sent(row: HashRow, pytestconfig: pytest.Config) -> None:
    """Any sends, with MSG_MORE or without, recvs and clones, in any order."""
    key = data(f"{row.name} key", row.keys[-1]) if row.keys else None
    with need(Hash, row.name, key) as h:
        from tests.algorithms.strategies import hash_steps

        explore(row.name, hash_steps(row), lambda steps: play_hash(row, key, h.tfm, steps), pytestconfig)


@typical([row for row in catalogue.SKCIPHERS if not row.one_way])
def test_skcipher_gives_one_stream(row: SkcipherRow, pytestconfig: pytest.Config) -> None:
    """Messages cut into any sends and buffers; read in parts, and continued, where the mode can.

    Source: af_alg_sendmsg, _skcipher_recvmsg.
    """
    key = data(f"{row.name} key", row.keys[-1])
    with need(Skcipher, row.name, key) as cipher:
        from tests.algorithms.strategies import skcipher_messages

        def check(messages: list[Message]) -> None:
            with cipher.tfm.accept() as op:
                play_skcipher(row, key, op, messages)

        explore(row.name, skcipher_messages(row), check, pytestconfig)


@typical([row for row in catalogue.AEADS if row.generates_iv_for is None and not row.name.startswith("essiv")])
def test_aead_seals_and_opens(row: AeadRow, pytestconfig: pytest.Config) -> None:
    """Any cuts into sends and buffers; a forgery among the requests disturbs neither the next nor the memory.

    Source: af_alg_sendmsg, _aead_recvmsg.
    """
    key = key_of(row, row.keys[-1])
    with need(Aead, row.name, key, row.tags[-1]) as aead:
        from tests.algorithms.strategies import aead_requests

        def check(requests: list[Request]) -> None:
            with aead.tfm.accept() as op:
                for request in requests:
                    play_aead(row, key, op, request)

        explore(row.name, aead_requests(row), check, pytestconfig)


@pytest.mark.parametrize("row", [row for row in catalogue.RNGS if row.repeats], ids=lambda row: row.name)
def test_generator_gives_one_stream(row: RngRow, pytestconfig: pytest.Config) -> None:
    """Reads of any size, through two op sockets of one tfm, are one after the other in what follows from the seed.

    Source: rng_accept_parent, crypto/algif_rng.c.
    """
    seed = data(f"{row.name} seed", row.seeds[-1])
    need(Rng, row.name).close()
    from tests.algorithms.strategies import reads

    def check(sequence: list[tuple[int, int]]) -> None:
        model = StreamModel(lambda size: x931.generate(seed, size))
        with Rng(row.name, seed) as rng, rng.tfm.accept() as other:
            for op, size in sequence:
                assert (rng.op, other)[op].recv(size).hex() == model.read(size).hex(), f"reading {size} bytes"

    explore(row.name, reads(), check, pytestconfig)


@pytest.mark.parametrize("row", [row for row in catalogue.RNGS if row.name == "stdrng"], ids=lambda row: row.name)
def test_generator_never_repeats_itself(row: RngRow, pytestconfig: pytest.Config) -> None:
    """Reads of any size: each as long as asked for, and no 16 bytes twice (_rng_recvmsg, crypto/algif_rng.c)."""
    with need(Rng, row.name, data("seed", row.seeds[-1])) as rng:
        from tests.algorithms.strategies import reads

        seen: set[bytes] = set()

        def check(sequence: list[tuple[int, int]]) -> None:
            for _, size in sequence:
                got = rng.read(size)
                assert len(got) == size
                assert size < 16 or got[:16] not in seen, "given twice"
                seen.add(got[:16])

        explore(row.name, reads(), check, pytestconfig)


def play_hash(row: HashRow, key: bytes | None, tfm: Socket, steps: list[Send | Recv | Clone]) -> None:
    """Do the same to op sockets and to their models, and compare what they give; at the end of each as well."""
    ops = [(tfm.accept(), HashModel(lambda message: hashes.digest(row.name, message, key)))]
    try:
        for number, step in enumerate(steps):
            op, model = ops[step.op % len(ops)]
            match step:
                case Send():
                    pieces = pieces_of(cut(60000)[977 * number :], step.sizes)
                    op.sendmsg(pieces, flags=MSG_MORE if step.more else 0)
                    model.send(b"".join(pieces), step.more)
                case Recv():
                    assert op.recv(step.size).hex() == model.recv(step.size).hex(), f"step {number}: {step}"
                case Clone() if len(ops) < 4:
                    ops.append((op.accept(), model.clone()))
        for number, (op, model) in enumerate(ops):
            assert op.recv(row.digest).hex() == model.recv(row.digest).hex(), f"op socket {number}, at the end"
    finally:
        for op, _ in ops:
            op.close()


def play_skcipher(row: SkcipherRow, key: bytes, op: Socket, messages: list[Message]) -> None:
    """Send and read messages, and compare every read with the stream it is a part of."""
    source, expected, sent, read = b"", b"", 0, 0
    for number, message in enumerate(messages):
        if message.iv is not None:
            # One call of the oracle for this message and those that go on from it.
            size = sum(m.size for m in itertools.takewhile(lambda m: m.iv is None, messages[number + 1 :]))
            source, sent, read = cut(message.size + size), 0, 0
            iv = data(f"iv {message.iv}", row.iv)
            expected = skciphers.crypt(row.name, key, iv, source, decrypt=message.decrypt)
        control = set_op(ALG_OP_DECRYPT if message.decrypt else ALG_OP_ENCRYPT)
        if message.iv is not None and row.iv:
            control += set_iv(data(f"iv {message.iv}", row.iv))
        model = SkcipherModel(row.chunk)
        for index, sizes in enumerate(message.sends):
            more = index < len(message.sends) - 1
            op.sendmsg(pieces_of(source[sent:], sizes), b"" if index else control, MSG_MORE if more else 0)
            sent += sum(sizes)
            model.send(sum(sizes), more)
            for size in message.reads[index] if message.reads else ():
                if count := model.recv(size):
                    got = op.recv(size, MSG_DONTWAIT)
                    assert got.hex() == expected[read : read + count].hex(), f"message {number}, at byte {read}"
                    read += count
        if model.waiting:
            got = op.recv(model.waiting, MSG_DONTWAIT)
            assert got.hex() == expected[read : read + model.waiting].hex(), f"message {number}, the end from {read}"
            read += model.waiting


def play_aead(row: AeadRow, key: bytes, op: Socket, request: Request) -> None:
    """Seal or open once, and compare every byte of the buffers."""
    iv = iv_of(row.name, row.iv, f"iv {request.iv}")
    aad, plaintext, tag = aad_of(row, key, request.aad, iv), cut(request.text), row.tags[-1]
    sealed = aeads.seal(row.name, key, iv, aad, plaintext, tag)
    source, result = (sealed, plaintext) if request.decrypt else (plaintext, sealed)
    if request.flip is not None:
        source = flipped(source, request.flip)
    control = set_op(ALG_OP_DECRYPT if request.decrypt else ALG_OP_ENCRYPT) + set_assoclen(len(aad))
    control += set_iv(iv) if iv else b""
    send_in_parts(op, aad + source, request, control)
    room = len(aad) + len(result)
    backing = bytearray(b"\xc5" * (room + request.spare))
    targets = targets_of(memoryview(backing), request.targets)
    if request.flip is not None:
        with raises_errno(errno.EBADMSG):
            op.recvmsg(targets, flags=MSG_DONTWAIT)
        assert backing[room:] == b"\xc5" * request.spare
        return
    assert op.recvmsg(targets, flags=MSG_DONTWAIT).size == room
    assert backing.hex() == (aad + result + b"\xc5" * request.spare).hex()


def send_in_parts(op: Socket, whole: bytes, request: Request, control: bytes) -> None:
    edges = [0, *request.cuts, len(whole)]
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        third = (end - start) // request.pieces
        sizes = [third] * (request.pieces - 1) + [end - start - third * (request.pieces - 1)]
        more = MSG_MORE if index < len(edges) - 2 else 0
        op.sendmsg(pieces_of(whole[start:end], sizes), b"" if index else control, more)


def pieces_of(whole: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Return the beginning of ``whole`` in pieces of these sizes."""
    edges = [0, *itertools.accumulate(sizes)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


def targets_of(view: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """Return buffers of these sizes, and one for the rest."""
    edges = [min(edge, len(view)) for edge in (0, *itertools.accumulate(sizes), len(view))]
    return [view[start:end] for start, end in itertools.pairwise(edges)]


def flipped(whole: bytes, bit: int) -> bytes:
    """Return ``whole`` with one bit turned, counted from the end."""
    at = len(whole) - 1 - bit // 8
    return whole[:at] + bytes([whole[at] ^ 1 << bit % 8]) + whole[at + 1 :]
