"""The oracles, against published answers and against a second library."""

from __future__ import annotations

from typing import Any

import pytest

from tests import vectors
from tests.algorithms import catalogue
from tests.algorithms.keys import iv_of, key_of
from tests.oracle import aeads, hashes, skciphers
from tests.selftests.answers import KEY, MESSAGE, Vector, differences, disagreements

PUBLISHED = [
    *vectors.hashes(all_files=True),
    *vectors.skciphers(all_files=True),
    *vectors.aeads(all_files=True),
    *vectors.rngs(),
]


@pytest.mark.parametrize("vector", PUBLISHED, ids=lambda vector: vector.id)
def test_oracle_gives_the_published_answer(vector: Vector) -> None:
    assert differences(vector) == []


@pytest.mark.parametrize("row", catalogue.HASHES, ids=lambda row: row.name)
def test_every_hash_has_an_oracle(row: catalogue.HashRow) -> None:
    keys: list[bytes | None] = [bytes(range(1, 256))[:size].ljust(size, b"k") for size in row.keys]
    for key in keys or [None]:
        assert len(hashes.digest(row.name, MESSAGE, key)) == row.digest


@pytest.mark.parametrize("row", catalogue.SKCIPHERS, ids=lambda row: row.name)
def test_every_skcipher_has_an_oracle_that_inverts_itself(row: catalogue.SkcipherRow) -> None:
    message = MESSAGE[: 1000 // max(row.unit, 1) // 16 * 16 * row.unit][:960]
    for size in row.keys:
        key, iv = bytes(range(1, 256))[:size].ljust(size, b"k"), MESSAGE[: row.iv]
        encrypted = skciphers.crypt(row.name, key, iv, message)
        back = skciphers.kw_header(row.name, key, message) if row.one_way else iv
        assert skciphers.crypt(row.name, key, back, encrypted, decrypt=True) == message
        assert encrypted != message or "cipher_null" in row.name


@pytest.mark.parametrize("row", catalogue.AEADS, ids=lambda row: row.name)
def test_every_aead_has_an_oracle(row: catalogue.AeadRow) -> None:
    name = row.generates_iv_for or row.name
    for size in row.keys:
        sealed = aeads.seal(name, key_of(row, size), iv_of(name, row.iv), MESSAGE[:16], MESSAGE[:64], row.tags[-1])
        assert len(sealed) == 64 + row.tags[-1]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 100, 1000])
def test_aes_modes_agree_with_another_library(size: int) -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    iv, message = MESSAGE[:16], MESSAGE[:size]
    other: dict[str, Any] = {"ctr(aes)": modes.CTR(iv)}
    if size % 16 == 0:
        other |= {"cbc(aes)": modes.CBC(iv), "ecb(aes)": modes.ECB()}
    if size >= 16:
        other["xts(aes)"] = modes.XTS(iv)
    for name, mode in other.items():
        key = KEY + KEY[::-1] if name == "xts(aes)" else KEY
        expected = Cipher(algorithms.AES(key), mode).encryptor().update(message)
        assert skciphers.crypt(name, key, iv, message) == expected, name


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 100, 1000])
@pytest.mark.parametrize("aad", [0, 1, 20])
def test_aeads_agree_with_another_library(size: int, aad: int) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

    message, header, nonce = MESSAGE[:size], MESSAGE[:aad], MESSAGE[:12]
    others = {
        "gcm(aes)": (nonce, AESGCM(KEY).encrypt(nonce, message, header)),
        "rfc7539(chacha20,poly1305)": (nonce, ChaCha20Poly1305(KEY).encrypt(nonce, message, header)),
        "ccm(aes)": (b"\2" + nonce + bytes(3), AESCCM(KEY).encrypt(nonce, message, header)),
    }
    for name, (iv, expected) in others.items():
        assert aeads.seal(name, KEY, iv, header, message, 16) == expected, name


def test_own_code_without_published_answers_agrees_with_another_library() -> None:
    assert disagreements() == []


def test_oracle_says_when_it_has_no_answer() -> None:
    with pytest.raises(LookupError):
        hashes.digest("no-such-hash", b"")
    with pytest.raises(LookupError):
        skciphers.crypt("cbc(no-such-cipher)", b"", b"", b"")
    with pytest.raises(LookupError):
        aeads.seal("no-such-aead", b"", b"", b"", b"", 16)
