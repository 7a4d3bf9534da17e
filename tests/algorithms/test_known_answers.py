"""Published known answers, through the socket."""

from __future__ import annotations

import pytest

from tests import vectors
from tests.afalg import Aead, Hash, Skcipher
from tests.need import need


@pytest.mark.parametrize("vector", vectors.hashes(), ids=lambda vector: vector.id)
def test_digest_is_the_published_one(vector: vectors.HashVector) -> None:
    with need(Hash, vector.name, vector.key) as h:
        assert h.digest(vector.message).hex() == vector.digest.hex()


@pytest.mark.parametrize("vector", vectors.skciphers(), ids=lambda vector: vector.id)
def test_skcipher_encrypts_and_decrypts_as_published(vector: vectors.SkcipherVector) -> None:
    with need(Skcipher, vector.name, vector.key) as cipher:
        assert cipher.encrypt(vector.plaintext, vector.iv).hex() == vector.ciphertext.hex()
        assert cipher.decrypt(vector.ciphertext, vector.iv).hex() == vector.plaintext.hex()


@pytest.mark.parametrize("vector", vectors.aeads(), ids=lambda vector: vector.id)
def test_aead_encrypts_and_decrypts_as_published(vector: vectors.AeadVector) -> None:
    with need(Aead, vector.name, vector.key, len(vector.tag)) as aead:
        sealed = aead.encrypt(vector.plaintext, vector.aad, vector.iv)
        assert sealed.hex() == (vector.ciphertext + vector.tag).hex()
        assert aead.decrypt(sealed, vector.aad, vector.iv).hex() == vector.plaintext.hex()
