"""A recv with room for less than the kernel has to give, of every size; then one with room for all: nothing is lost.

What a request is worth less than a whole one is a rule of its type: skcipher_recvmsg cuts to whole chunks, aead_recvmsg
cuts the payload but neither AAD nor tag (crypto/algif_skcipher.c, crypto/algif_aead.c).
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Skcipher, Socket, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.errors.raises import outcome, raises_errno
from tests.need import need
from tests.oracle import aeads, skciphers
from tests.requests.traits import traits

KEY, CHUNK, TAG = bytes(range(16)), 16, 16
DATA = bytes(i * 7 % 251 for i in range(400))
IV = bytes(range(0x40, 0x50))

BOTH = pytest.mark.parametrize("operation", [ALG_OP_ENCRYPT, ALG_OP_DECRYPT], ids=["encrypt", "decrypt"])
CIPHERS = pytest.mark.parametrize("name", ["cbc(aes)", "ctr(aes)", "ecb(aes)"])
LENGTHS = (0, 1, 15, 16, 17, 31, 32, 33, 48)
FEW = (0, 1, 16, 33)


@pytest.fixture
def thorough(pytestconfig: pytest.Config) -> bool:
    """Tell whether there is time for every size."""
    return bool(pytestconfig.getoption("thorough", False))


def rooms(whole: int, edges: tuple[int, ...], thorough: bool) -> list[int]:
    """Return sizes of a first buffer, 1 to ``whole``: every one, or those one off an edge, a block or the end."""
    near = {edge + step for edge in (0, *edges, CHUNK, whole) for step in (-1, 0, 1)}
    return [room for room in range(1, whole + 1) if thorough or room in near]


def cipher_request(name: str, operation: int, size: int) -> tuple[bytes, bytes, bytes]:
    """Return control data, what is sent and what must come."""
    iv = b"" if name.startswith("ecb") else IV
    result = skciphers.crypt(name, KEY, iv, DATA[:size])
    control = set_op(operation) + (set_iv(iv) if iv else b"")
    return (control, DATA[:size], result) if operation == ALG_OP_ENCRYPT else (control, result, DATA[:size])


def nothing(op: Socket, size: int) -> None:
    """Read with room for less than a chunk: EINVAL, or, in kernels before commit 8eceab19eba9, nothing."""
    got: list[bytes] = []
    error = outcome(lambda: got.append(op.recv(size, MSG_DONTWAIT)))
    assert (error, got) in ((errno.EINVAL, []), (0, [b""])), f"room for {size} bytes"


@BOTH
@CIPHERS
def test_cipher_with_room_for_a_part(name: str, operation: int, thorough: bool) -> None:
    """Whole chunks as far as there is room, the rest later: every size of a first recv, over messages of several.

    Source: _skcipher_recvmsg.
    """
    with need(Skcipher, name, KEY) as cipher:
        for whole in (16, 32, 80):
            control, source, expected = cipher_request(name, operation, whole)
            for room in rooms(whole, (2 * CHUNK, 4 * CHUNK), thorough):
                cipher.op.sendmsg([source], control)
                first = room // CHUNK * CHUNK
                if first:
                    assert cipher.op.recv(room, MSG_DONTWAIT) == expected[:first], f"room for {room} of {whole} bytes"
                else:
                    nothing(cipher.op, room)
                if first < whole:
                    got = cipher.op.recv(whole - first, MSG_DONTWAIT)
                    assert got == expected[first:], f"the rest, after room for {room} of {whole} bytes"
                with raises_errno(errno.EAGAIN):
                    cipher.op.recv(1, MSG_DONTWAIT)


@BOTH
@CIPHERS
def test_cipher_with_room_for_a_part_of_a_message_that_goes_on(name: str, operation: int) -> None:
    """With MSG_MORE nothing but whole chunks comes, however much room there is."""
    control, source, expected = cipher_request(name, operation, 80)
    with need(Skcipher, name, KEY) as cipher:
        for sent in (16, 17, 31, 33, 48, 79):
            for room in (1, 15, 16, 17, 32, 47, 100):
                cipher.op.sendmsg([source[:sent]], control, MSG_MORE)
                first = min(sent, room) // CHUNK * CHUNK
                if first:
                    assert cipher.op.recv(room, MSG_DONTWAIT) == expected[:first], f"{sent} sent, room for {room}"
                else:
                    nothing(cipher.op, room)
                cipher.op.send(source[sent:])
                assert cipher.op.recv(80 - first) == expected[first:], f"{sent} sent, room for {room}, then the rest"


def aead_key(name: str) -> bytes:
    return authenc_key(bytes(range(32)), KEY) if name.startswith("authenc") else KEY


def aead_iv(name: str) -> bytes:
    return {"gcm": IV[:12], "ccm": b"\2" + IV[:12] + bytes(3)}.get(name.partition("(")[0], IV)


AEADS = pytest.mark.parametrize("name", ["gcm(aes)", "ccm(aes)", "authenc(hmac(sha256),ctr(aes))"])


@AEADS
@pytest.mark.parametrize("assoclen", [0, 1, 20])
def test_sealing_with_room_for_a_part(name: str, assoclen: int, thorough: bool) -> None:
    """Of less than AAD and tag EINVAL, and all is there still; else as much payload as fits is sealed, the rest waits.

    Without AAD the rest is a message of its own; with, its first bytes would be that, and fewer of them are EINVAL.
    Source: _aead_recvmsg, ``usedpages < outlen``.
    """
    key, iv, aad = aead_key(name), aead_iv(name), DATA[300 : 300 + assoclen]
    control = set_op(ALG_OP_ENCRYPT) + set_iv(iv) + set_assoclen(assoclen)
    with need(Aead, name, key, TAG) as aead:
        for size in LENGTHS if thorough else FEW:
            plaintext, whole = DATA[:size], assoclen + size + TAG
            for room in rooms(whole, (assoclen, assoclen + TAG, assoclen + TAG + CHUNK), thorough):
                with aead.tfm.accept() as op:
                    op.sendmsg([aad, plaintext], control)
                    if room < assoclen + TAG:
                        with raises_errno(errno.EINVAL, why=f"room for {room} of {whole} bytes"):
                            op.recv(room, MSG_DONTWAIT)
                    fits = room if room >= assoclen + TAG else whole
                    part = fits - assoclen - TAG
                    expected = aad + aeads.seal(name, key, iv, aad, plaintext[:part], TAG)
                    assert op.recv(fits, MSG_DONTWAIT) == expected, f"room for {room} of {whole} bytes"
                    rest = plaintext[part:]
                    if rest:
                        seals_the_rest(op, name, iv_of_the_rest(name, iv, part), rest, assoclen)


def iv_of_the_rest(name: str, iv: bytes, part: int) -> bytes:
    """Return the IV of a message whose control data has none, behind one of ``part`` bytes of plaintext.

    It is the one before; on kernels where an aead's IV goes on (see Traits) what CTR has left: a block is a count.
    """
    if not (name.startswith("authenc") and traits().aead_iv_goes_on):
        return iv
    blocks = -(-part // CHUNK)
    return ((int.from_bytes(iv, "big") + blocks) % (1 << 128)).to_bytes(len(iv), "big")


def seals_the_rest(op: Socket, name: str, iv: bytes, rest: bytes, assoclen: int) -> None:
    """Read what is left of a message: as one with as much AAD as before, EINVAL where it is shorter than that."""
    if assoclen > len(rest):
        with raises_errno(errno.EINVAL):
            op.recv(len(rest) + TAG, MSG_DONTWAIT)
        return
    aad, plaintext = rest[:assoclen], rest[assoclen:]
    expected = aad + aeads.seal(name, aead_key(name), iv, aad, plaintext, TAG)
    assert op.recv(len(expected), MSG_DONTWAIT) == expected, f"the last {len(rest)} bytes"


@AEADS
@pytest.mark.parametrize("assoclen", [0, 1, 20])
def test_opening_with_room_for_a_part(name: str, assoclen: int, thorough: bool) -> None:
    """No plaintext without all of it: EBADMSG, since what fits does not end with the tag (_aead_recvmsg).

    Room for less than the AAD is EINVAL, and all is there still, but on the kernels that try with it (see Traits).
    """
    key, iv, aad = aead_key(name), aead_iv(name), DATA[300 : 300 + assoclen]
    control = set_op(ALG_OP_DECRYPT) + set_iv(iv) + set_assoclen(assoclen)
    with need(Aead, name, key, TAG) as aead:
        for size in LENGTHS if thorough else FEW:
            sealed, whole = aeads.seal(name, key, iv, aad, DATA[:size], TAG), assoclen + size
            for room in rooms(whole, (assoclen, assoclen + size - TAG), thorough):
                with aead.tfm.accept() as op:
                    op.sendmsg([aad, sealed], control)
                    if room < whole:
                        error = errno.EINVAL if room < assoclen else errno.EBADMSG
                        with raises_errno(error, why=f"room for {room} of {whole} bytes"):
                            op.recv(room, MSG_DONTWAIT)
                    if room == whole or (room < assoclen and traits().short_open_keeps):
                        got = op.recv(whole, MSG_DONTWAIT)
                        assert got == aad + DATA[:size], f"after room for {room} of {whole} bytes"
