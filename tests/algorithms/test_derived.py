"""Sizes that a template takes from what it is made of: tag, IV, unit of length; with parts that differ from the usual.

Where one is wrong the result has another length, or bytes of the caller's buffer stay as they were.
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Skcipher, Socket, set_assoclen, set_iv, set_op
from tests.afalg import constants as c
from tests.algorithms import catalogue
from tests.algorithms.cases import each_way, every
from tests.algorithms.catalogue import AeadRow, SkcipherRow
from tests.algorithms.data import cut, data
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

_AES = (16, 32)

ODD = [
    AeadRow("authenc(crc32c,cbc(aes))", 16, _AES, (1, 4), (5,), authkey=4, unit=16),
    AeadRow("authenc(crc32c,ctr(aes))", 16, _AES, (1, 4), (5,), authkey=4),
    AeadRow("authenc(xxhash64,ctr(aes))", 16, _AES, (4, 8), (9,), authkey=8),
    AeadRow("authenc(cmac(aes),cbc(aes))", 16, _AES, (4, 16), (17,), authkey=16, unit=16),
    AeadRow("authenc(hmac(sha256),chacha20)", 16, (32,), (32,), (33,), authkey=32),
    AeadRow("authenc(hmac(sha256),xts(aes))", 16, (32, 64), (32,), (33,), authkey=32, minimum=16),
    AeadRow("authenc(hmac(sha256),cts(cbc(aes)))", 16, _AES, (32,), (33,), authkey=32, minimum=16),
    AeadRow("authenc(hmac(sha256),ecb(aes))", 0, _AES, (32,), (33,), authkey=32, unit=16),
    AeadRow("authencesn(crc32c,cbc(aes))", 16, _AES, (4,), (5,), authkey=4, aads=(8, 12), unit=16),
    AeadRow("authencesn(hmac(sha256),ctr(aes))", 16, _AES, (32,), (33,), authkey=32, aads=(8, 12)),
    AeadRow("rfc4106(gcm(camellia))", 8, (20, 36), (16,), (17,), aads=(16, 20), iv_in_aad=True),
    AeadRow("rfc4543(gcm(camellia))", 8, (20, 36), (16,), (17,), aads=(16, 20), iv_in_aad=True),
    AeadRow("rfc4309(ccm(camellia))", 8, (19, 35), (16,), (17,), aads=(16, 20), iv_in_aad=True),
]
"""Parts of a tag of 4 or 8 bytes, stream ciphers, ciphers without an IV or with a least length."""


def sealed_in(row: AeadRow, key: bytes, size: int, tag: int) -> tuple[bytes, bytes, bytes]:
    """Return AAD, IV and what must come out after the AAD."""
    iv = iv_of(row.name, row.iv)
    aad = aad_of(row, key, default_aad(row), iv)
    return aad, iv, aeads.seal(row.name, key, iv, aad, cut(size), tag)


def gives(op: Socket, operation: int, sent: tuple[bytes, bytes], iv: bytes, expected: bytes) -> None:
    """Make a request with a buffer that is longer than the result, twice over other bytes: the result, and no more."""
    aad, source = sent
    control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
    for filler in (b"\x5a", b"\xa5"):
        op.sendmsg([aad, source], control)
        buffer = bytearray(filler * (len(expected) + 64))
        got = op.recvmsg([buffer], flags=c.MSG_DONTWAIT)
        assert got.size == len(expected)
        assert bytes(buffer) == expected + filler * 64


def seals_and_opens(row: AeadRow, op: Socket, key: bytes, size: int, tag: int) -> None:
    aad, iv, sealed = sealed_in(row, key, size, tag)
    gives(op, c.ALG_OP_ENCRYPT, (aad, cut(size)), iv, aad + sealed)
    gives(op, c.ALG_OP_DECRYPT, (aad, sealed), iv, aad + cut(size))


@each_way([row for row in catalogue.AEADS if row.generates_iv_for is None])
def test_tag_that_nobody_set_is_the_longest(row: AeadRow) -> None:
    """crypto_aead_init_tfm: authsize is that of the algorithm, maxauthsize, which a template takes from its parts."""
    need(Aead, row.name, None, row.tags[-1]).close()
    key = key_of(row, row.keys[-1])
    with Socket.bound("aead", row.name) as tfm:
        tfm.set_key(key)
        with tfm.accept() as op:
            for size in (row.minimum, 48):
                seals_and_opens(row, op, key, max(size // row.unit * row.unit, row.minimum), row.tags[-1])


@every(ODD)
def test_aead_of_unusual_parts(row: AeadRow) -> None:
    """Every length of key, its own longest tag and shorter ones, lengths around a block; one more of tag is EINVAL.

    Source: crypto_authenc_create, crypto/authenc.c.
    """
    need(Aead, row.name, None, row.tags[-1]).close()
    for length in row.keys:
        key = key_of(row, length)
        for tag in (None, *row.tags):
            with Socket.bound("aead", row.name) as tfm:
                tfm.set_key(key)
                for refused in row.refused_tags:
                    with raises_errno(errno.EINVAL, why=f"tag of {refused} bytes"):
                        tfm.set_authsize(refused)
                if tag is not None:
                    tfm.set_authsize(tag)
                with tfm.accept() as op:
                    for size in sorted({max(n // row.unit * row.unit, row.minimum) for n in (0, 1, 16, 17, 33, 48)}):
                        seals_and_opens(row, op, key, size, tag or row.tags[-1])


CIPHERS = [
    SkcipherRow("cts(cbc(des3_ede))", 8, (24,), (), 1, 8, 8, "unspecified"),
    SkcipherRow("rfc3686(ctr(twofish))", 8, (20, 36), (), 1, 0, 16, "restarts"),
    SkcipherRow("adiantum(xchacha12,camellia)", 32, (32,), (), 1, 16, 16, "restarts"),
    SkcipherRow("adiantum(xchacha20,serpent)", 32, (32,), (), 1, 16, 16, "restarts"),
]


@every(CIPHERS)
def test_cipher_of_unusual_parts(row: SkcipherRow) -> None:
    """Its IV has the length that the template makes of its parts'; one byte more or less is EINVAL.

    Source: af_alg_sendmsg compares with ivsize.
    """
    need(Skcipher, row.name).close()
    for length in row.keys:
        key, iv = data(f"{row.name} key", length), data(f"{row.name} iv", row.iv)
        with need(Skcipher, row.name, key) as cipher:
            for size in (row.iv - 1, row.iv + 1):
                with raises_errno(errno.EINVAL, why=f"IV of {size} bytes"):
                    cipher.op.sendmsg([cut(16)], set_op(c.ALG_OP_ENCRYPT) + set_iv(bytes(size)))
            for size in (max(row.minimum, 1), 16, 17, 31, 33, 100):
                message = cut(max(size, row.minimum))
                result = skciphers.crypt(row.name, key, iv, message)
                assert cipher.encrypt(message, iv) == result, f"{len(message)} bytes"
                assert cipher.decrypt(result, iv) == message, f"{len(message)} bytes, decrypting"
