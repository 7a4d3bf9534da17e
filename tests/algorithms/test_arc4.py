"""ARC4, whose requests are independent of each other or pieces of one stream, depending on the kernel."""

from __future__ import annotations

import pytest

from tests.afalg import Skcipher, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_MORE
from tests.algorithms.data import cut, data
from tests.algorithms.independent import goes_on, need_independent_requests
from tests.need import need
from tests.oracle import small

pytestmark = pytest.mark.usefixtures("everything_loaded")

SIZES = (1, 16, 31, 300)


@pytest.mark.parametrize("size", [1, 5, 16, 256])
@pytest.mark.parametrize("name", ["arc4", "ecb(arc4)"])
def test_requests_restart_the_keystream_or_go_on_with_it(name: str, size: int) -> None:
    """Over op sockets of one tfm, both directions: all of one kind. A new tfm begins at the beginning.

    Source: crypto/arc4.c.
    """
    key, message = data(f"arc4 {size}", size), cut(sum(SIZES))
    whole = small.arc4(key, message)
    for _ in range(2):
        with need(Skcipher, name, key) as cipher, cipher.tfm.accept() as other:
            at = 0
            for turn, length in enumerate(SIZES):
                piece = message[at : at + length]
                op, operation = (cipher.op, ALG_OP_ENCRYPT) if turn % 2 else (other, ALG_OP_DECRYPT)
                op.sendmsg([piece], set_op(operation))
                expected = whole[at : at + length] if goes_on(name) else small.arc4(key, piece)
                assert op.recv(length) == expected, f"{length} bytes at {at}"
                at += length


@pytest.mark.parametrize("name", ["arc4", "ecb(arc4)"])
def test_one_message_in_pieces_is_one_stream(name: str) -> None:
    """Of MSG_MORE and of recvs that take a part: the keystream's position goes on until the message has ended.

    It is kept between the parts in the op socket (algif_skcipher_export, since v6.8: "crypto:
    algif_skcipher - Fix stream cipher chaining"); before it was in the tfm all the time.
    """
    key = data("arc4 in pieces", 16)
    for sends, recvs in (
        ((300,), (1, 2, 3, 294)),
        ((1, 1, 298), (300,)),
        ((100, 100, 100), (50, 250)),
        ((5, 295), (4, 1, 295)),
        ((64, 64, 64, 108), (128, 1, 171)),
    ):
        message = cut(sum(sends))
        whole = small.arc4(key, message)
        with need(Skcipher, name, key) as cipher:
            assert in_pieces(cipher, message, sends, recvs) == whole, f"sends of {sends}, recvs of {recvs}"


@pytest.mark.parametrize("name", ["arc4", "ecb(arc4)"])
def test_part_is_read_before_the_rest_is_sent(name: str) -> None:
    """Send, receive, send, receive: with MSG_MORE one message, whose end lets the next begin anew."""
    key, message = data("arc4 by turns", 16), cut(120)
    whole = small.arc4(key, message + message)
    with need(Skcipher, name, key) as cipher:
        for turn in range(2):
            got = b""
            for at, more in ((0, MSG_MORE), (40, MSG_MORE), (80, 0)):
                cipher.op.sendmsg([message[at : at + 40]], set_op(ALG_OP_ENCRYPT), more)
                got += cipher.op.recv(15) + cipher.op.recv(25)
            assert got == (whole[120 * turn : 120 * turn + 120] if goes_on(name) else whole[:120]), f"message {turn}"


@pytest.mark.parametrize("name", ["arc4", "ecb(arc4)"])
def test_op_sockets_keep_their_places(name: str) -> None:
    """Two that are read in turn, each in the middle of its message; where requests are independent at all.

    Source: algif_skcipher_export.
    """
    need(Skcipher, name, b"any key").close()
    need_independent_requests(name)
    key, messages = data("arc4 of two", 16), (cut(90), cut(190)[100:])
    with need(Skcipher, name, key) as cipher, cipher.tfm.accept() as other:
        ops = (cipher.op, other)
        got = [b"", b""]
        for op, message in zip(ops, messages, strict=True):
            op.sendmsg([message], set_op(ALG_OP_ENCRYPT))
        for _ in range(3):
            for number, op in enumerate(ops):
                got[number] += op.recv(30)
        assert got == [small.arc4(key, message) for message in messages]


def in_pieces(cipher: Skcipher, message: bytes, sends: tuple[int, ...], recvs: tuple[int, ...]) -> bytes:
    """Send a message in several pieces, then receive it in several."""
    at = 0
    for number, size in enumerate(sends):
        control = set_op(ALG_OP_ENCRYPT) if not number else b""
        cipher.op.sendmsg([message[at : at + size]], control, MSG_MORE if number < len(sends) - 1 else 0)
        at += size
    return b"".join(cipher.op.recv(size) for size in recvs)
