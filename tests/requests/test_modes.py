"""Messages in pieces: which modes go on where the last piece ended, and which begin anew."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.requests.subjects import STREAM

KEY = bytes(range(7, 39))
IV = bytes(range(0x50, 0x70))

# Name, bytes of key, of IV, and that the mode works on at a time (chunksize).
Mode = tuple[str, int, int, int]

CARRY: list[Mode] = [
    ("ecb(aes)", 16, 0, 16),
    ("cbc(aes)", 32, 16, 16),
    ("ctr(aes)", 24, 16, 16),
    ("lrw(aes)", 32, 16, 16),
    ("pcbc(aes)", 16, 16, 16),
    ("cfb(aes)", 16, 16, 16),
    ("ofb(aes)", 16, 16, 16),
    ("cbc(des3_ede)", 24, 8, 8),
    ("ctr(blowfish)", 16, 8, 8),
]
RESTART: list[Mode] = [
    ("chacha20", 32, 16, 64),
    ("xchacha20", 32, 32, 64),
    ("xchacha12", 32, 32, 64),
    ("rfc3686(ctr(aes))", 20, 8, 16),
]
ONE_PIECE: list[Mode] = [
    ("xts(aes)", 32, 16, 16),
    ("cts(cbc(aes))", 16, 16, 16),
    ("essiv(cbc(aes),sha256)", 32, 16, 16),
]

GOES_ON = pytest.mark.fixed_by("5aa58c3a572b", "crypto: algif_aead - snapshot IV for async AEAD requests")

OPERATIONS = {"encrypt": ALG_OP_ENCRYPT, "decrypt": ALG_OP_DECRYPT}
STREAM_MODES = ("ctr", "cfb", "ofb", "chacha20", "xchacha", "rfc3686")


def modes(modes: list[Mode]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mode", modes, ids=lambda mode: mode[0])


operations = pytest.mark.parametrize("operation", OPERATIONS)
ways = pytest.mark.parametrize("way", ["several-recvs", "several-sends"])


def opened(mode: Mode) -> Skcipher:
    return need(Skcipher, mode[0], KEY[: mode[1]])


def expected(mode: Mode, operation: str, data: bytes) -> bytes:
    name, key, iv, _ = mode
    return skciphers.crypt(name, KEY[:key], IV[:iv], data, decrypt=operation == "decrypt")


def control(mode: Mode, operation: str) -> bytes:
    return set_op(OPERATIONS[operation]) + (set_iv(IV[: mode[2]]) if mode[2] else b"")


def pieces_of(mode: Mode) -> list[int]:
    """Return lengths of pieces: whole chunks but for the last, which a stream mode takes in part."""
    chunk = mode[3]
    return [chunk, 3 * chunk, 2 * chunk, chunk + chunk // 2 if mode[0].startswith(STREAM_MODES) else chunk]


def in_pieces(op: Socket, mode: Mode, operation: str, way: str) -> list[bytes]:
    """Put a message through the socket, and return what came out for each piece."""
    sizes = pieces_of(mode)
    if way == "several-recvs":
        op.sendmsg([STREAM[: sum(sizes)]], control(mode, operation))
        return [op.recv(size) for size in sizes]
    op.sendmsg([], control(mode, operation), MSG_MORE)
    got, at = [], 0
    for size in sizes:
        op.send(STREAM[at : at + size], MSG_MORE if at + size < sum(sizes) else 0)
        got.append(op.recv(size))
        at += size
    return got


@modes(CARRY)
@operations
@ways
def test_pieces_are_those_of_the_whole(mode: Mode, operation: str, way: str) -> None:
    """What one piece leaves in the IV is where the next goes on (crypto_skcipher's contract for chunks)."""
    with opened(mode) as cipher:
        got = in_pieces(cipher.op, mode, operation, way)
    assert b"".join(got) == expected(mode, operation, STREAM[: sum(pieces_of(mode))])


@modes(RESTART)
@operations
@ways
def test_each_piece_begins_with_the_same_iv(mode: Mode, operation: str, way: str) -> None:
    """These do not write their counter back: a program must not split their messages, nor go on without a new IV.

    Source: ctx->iv in crypto/algif_skcipher.c.
    """
    with opened(mode) as cipher:
        got = in_pieces(cipher.op, mode, operation, way)
    at = 0
    for size, piece in zip(pieces_of(mode), got, strict=True):
        assert piece == expected(mode, operation, STREAM[at : at + size])
        at += size


@modes(ONE_PIECE)
@operations
@ways
def test_the_first_piece_and_a_new_iv_are_right(mode: Mode, operation: str, way: str) -> None:
    """Modes of whole messages: each piece is one, and what it leaves in the IV is the implementation's business.

    Source: _skcipher_recvmsg.
    """
    with opened(mode) as cipher:
        got = in_pieces(cipher.op, mode, operation, way)
        assert got[0] == expected(mode, operation, STREAM[: pieces_of(mode)[0]])
        assert [len(piece) for piece in got] == pieces_of(mode)
        assert in_pieces(cipher.op, mode, operation, way)[0] == got[0]


@modes([mode for mode in CARRY if not mode[0].startswith(("ecb", *STREAM_MODES))])
def test_a_refused_length_costs_the_message_and_nothing_else(mode: Mode) -> None:
    """Blocks and a half are EINVAL at recv; with an IV of its own the next message is as if that had not been.

    Source: af_alg_pull_tsgl.
    """
    size = 2 * mode[3]
    with opened(mode) as cipher:
        cipher.op.sendmsg([STREAM[: size + 3]], control(mode, "encrypt"))
        with raises_errno(errno.EINVAL):
            cipher.op.recv(size + 3)
        with raises_errno(errno.EAGAIN):
            cipher.op.recv(size, MSG_DONTWAIT)
        cipher.op.sendmsg([STREAM[:size]], control(mode, "encrypt"))
        assert cipher.op.recv(size) == expected(mode, "encrypt", STREAM[:size])


def test_a_partial_block_of_a_stream_ends_with_its_message() -> None:
    """20 bytes of ctr use two blocks of keystream, and the next message begins with the third.

    Source: NIST SP 800-38A, 6.5.
    """
    mode: Mode = ("ctr(aes)", 16, 16, 16)
    with opened(mode) as cipher:
        cipher.op.sendmsg([STREAM[:20]], control(mode, "encrypt"))
        assert cipher.op.recv(20) == expected(mode, "encrypt", STREAM[:20])
        cipher.op.send(STREAM[:20])
        assert cipher.op.recv(20) == expected(mode, "encrypt", bytes(32) + STREAM[:20])[32:]


def test_the_direction_may_change_from_message_to_message() -> None:
    """Control data without an IV leaves it as it is: decryption goes on with the last block of ciphertext.

    Source: af_alg_sendmsg.
    """
    mode: Mode = ("cbc(aes)", 16, 16, 16)
    with opened(mode) as cipher:
        cipher.op.sendmsg([STREAM[:32]], control(mode, "encrypt"))
        first = cipher.op.recv(32)
        cipher.op.sendmsg([STREAM[:32]], set_op(ALG_OP_DECRYPT))
        again = skciphers.crypt("cbc(aes)", KEY[:16], first[-16:], STREAM[:32], decrypt=True)
        assert (first, cipher.op.recv(32)) == (expected(mode, "encrypt", STREAM[:32]), again)


@pytest.mark.parametrize("name", ["gcm(aes)", "ccm(aes)", "authenc(hmac(sha256),cbc(aes))"])
@operations
def test_aead_message_in_sends_split_anywhere(name: str, operation: str) -> None:
    """AAD, text and tag have no borders of their own: MSG_MORE joins whatever pieces they come in."""
    from tests.afalg import authenc_key

    key = authenc_key(KEY[:20], KEY[:16]) if name.startswith("authenc") else KEY[:16]
    iv = {"gcm(aes)": IV[:12], "ccm(aes)": b"\x03" + IV[1:12] + bytes(4)}.get(name, IV[:16])
    aad, text = STREAM[:13], STREAM[20:68]
    sealed = aeads.seal(name, key, iv, aad, text, 16)
    data, result = (aad + text, aad + sealed) if operation == "encrypt" else (aad + sealed, aad + text)
    begin = set_op(OPERATIONS[operation]) + set_iv(iv) + set_assoclen(len(aad))
    with need(Aead, name, key, 16) as aead:
        for first in range(0, len(data) + 1, 3):
            for second in range(first, len(data) + 1, 17):
                aead.op.sendmsg([data[:first]], begin, MSG_MORE)
                aead.op.send(data[first:second], MSG_MORE)
                aead.op.send(data[second:])
                assert aead.op.recv(len(result)) == result, f"split at {first} and {second}"


def test_aead_messages_one_after_another_have_ivs_of_their_own() -> None:
    """With control data each; 20 of them on one socket, the directions taking turns (af_alg_sendmsg)."""
    with need(Aead, "gcm(aes)", KEY[:16]) as aead:
        for number in range(20):
            iv, aad, text = number.to_bytes(12, "big"), STREAM[: number % 5], STREAM[number : 3 * number]
            sealed = aeads.seal("gcm(aes)", KEY[:16], iv, aad, text, 16)
            assert aead.encrypt(text, aad, iv) == sealed
            assert aead.decrypt(sealed, aad, iv) == text


@pytest.mark.parametrize("name", ["sha256", "sha512", "hmac(sha256)", "cmac(aes)"])
def test_clones_of_clones_go_their_own_ways(name: str) -> None:
    """accept on a hash op socket, from sockets with more and more data, all of them open at once and used in turns.

    Source: hash_accept.
    """
    key = KEY[:16] if "(" in name else None
    with need(Hash, name, key) as tfm:
        message = {tfm.op: b""}
        for number in range(16):
            parent = list(message)[number // 2]
            clone = parent.accept()
            message[clone] = message[parent]
            for at, sock in enumerate(message):
                piece = STREAM[7 * at : 7 * at + 5 * number + 1]
                sock.send(piece, MSG_MORE)
                message[sock] += piece
        for sock in [*list(message)[1::2], *list(message)[::2]]:
            sock.send(b"")
            assert sock.recv(64) == hashes.digest(name, message[sock], key)
            sock.close()


@pytest.mark.parametrize(
    "name",
    [
        "gcm(aes)",
        "ccm(aes)",
        "rfc7539(chacha20,poly1305)",
        pytest.param("authenc(hmac(sha256),cbc(aes))", marks=GOES_ON),
        pytest.param("authencesn(hmac(sha256),cbc(aes))", marks=GOES_ON),
    ],
)
@operations
def test_aead_message_without_an_iv_has_the_one_before(name: str, operation: str) -> None:
    """What was set stays set, whether the message has other control data or none; no algorithm writes to it.

    CBC did, and so the next message of authenc went on where the last one had ended.
    Source: memcpy of ctx->iv in _aead_recvmsg.
    """
    from tests.afalg import authenc_key

    key = authenc_key(KEY[:20], KEY[:16]) if name.startswith("authenc") else KEY[: 32 if "chacha" in name else 16]
    iv = {"ccm(aes)": b"\x03" + IV[1:12] + bytes(4)}.get(name, IV[: 16 if name.startswith("authenc") else 12])
    aad, text = STREAM[:8], STREAM[20:68]
    sealed = aeads.seal(name, key, iv, aad, text, 16)
    data, result = (aad + text, aad + sealed) if operation == "encrypt" else (aad + sealed, aad + text)
    wrong = None
    if name.startswith("authenc"):
        # Where CBC goes on: the last block of ciphertext. Decrypted with that IV, the first block alone differs.
        last = sealed[32:48]
        turned = bytes(a ^ b ^ c for a, b, c in zip(text[:16], iv, last, strict=True)) + text[16:]
        wrong = aad + (aeads.seal(name, key, last, aad, text, 16) if operation == "encrypt" else turned)
    begin = set_op(OPERATIONS[operation]) + set_assoclen(len(aad))
    with need(Aead, name, key, 16) as aead:
        for control in (begin + set_iv(iv), begin, b""):
            aead.op.sendmsg([data], control)
            got = aead.op.recv(len(result))
            assert got != wrong, "the IV went on behind the message before"
            assert got == result
