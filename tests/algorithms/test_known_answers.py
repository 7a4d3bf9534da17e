"""Published known answers, through the socket: the suite's own few, and a sample of big collections."""

from __future__ import annotations

import errno

import pytest

from tests import vectors
from tests.afalg import Aead, Hash, Skcipher
from tests.algorithms.catalogue.fips import refuses_key
from tests.algorithms.independent import need_independent_requests
from tests.doctor.absence import fips_mode
from tests.errors.raises import raises_errno
from tests.need import need
from tests.vectors import AeadVector, HashVector, SkcipherVector, packages
from tests.vectors.readers import Refusal

pytestmark = pytest.mark.usefixtures("everything_loaded")


@pytest.mark.parametrize("vector", vectors.hashes(), ids=lambda vector: vector.id)
def test_digest_is_the_published_one(vector: HashVector) -> None:
    """What the vectors in tests/vectors say; each file names its source (FIPS 180-4, RFC 4231, RFC 4493 and others)."""
    check_digest(vector)


@pytest.mark.parametrize("vector", vectors.skciphers(), ids=lambda vector: vector.id)
def test_skcipher_encrypts_and_decrypts_as_published(vector: SkcipherVector) -> None:
    """Both directions of the vectors in tests/vectors; each file names its source (NIST SP 800-38A, RFC 3394, …)."""
    check_cipher(vector)


@pytest.mark.parametrize("vector", vectors.aeads(), ids=lambda vector: vector.id)
def test_aead_encrypts_and_decrypts_as_published(vector: AeadVector) -> None:
    """Sealing and opening of the vectors in tests/vectors; each file names its source (RFC 3610, the GCM paper, …)."""
    check_aead(vector)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("name", packages.names("hash"))
def test_collected_digests(name: str, thorough: bool) -> None:
    """NIST's CAVP, RFCs and Wycheproof, by way of tests/vectors/packages.py; so are the next two."""
    need(Hash, name).close()
    for answer in packages.answers("hash", name, everything=thorough):
        assert isinstance(answer, HashVector)
        check_digest(answer)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("name", packages.names("skcipher"))
def test_collected_ciphertexts(name: str, thorough: bool) -> None:
    """A wrapped key that is not authentic is EBADMSG (NIST SP 800-38F)."""
    need(Skcipher, name).close()
    need_independent_requests(name)
    for answer in packages.answers("skcipher", name, everything=thorough):
        if isinstance(answer, Refusal) and isinstance(answer.vector, SkcipherVector):
            with need(Skcipher, name, answer.vector.key) as cipher, raises_errno(errno.EBADMSG):
                cipher.decrypt(answer.vector.ciphertext, answer.vector.iv)
        else:
            assert isinstance(answer, SkcipherVector)
            check_cipher(answer)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("name", packages.names("aead"))
def test_collected_seals(name: str, thorough: bool) -> None:
    """Among them those that must not be opened, which are EBADMSG.

    Source: -EBADMSG of crypto_aead_decrypt, include/crypto/aead.h.
    """
    need(Aead, name).close()
    for answer in packages.answers("aead", name, everything=thorough):
        if isinstance(answer, Refusal) and isinstance(answer.vector, AeadVector):
            vector = answer.vector
            with need(Aead, name, vector.key, len(vector.tag)) as aead, raises_errno(errno.EBADMSG):
                aead.decrypt(vector.ciphertext + vector.tag, vector.aad, vector.iv)
        else:
            assert isinstance(answer, AeadVector)
            check_aead(answer)


def check_digest(vector: HashVector) -> None:
    """Compare one digest; of a key that FIPS mode refuses, see that it does."""
    if fips_mode() and refuses_key(vector.name, len(vector.key or b"")):
        with need(Hash, vector.name) as h, raises_errno(errno.EINVAL):
            h.tfm.set_key(vector.key or b"")
        return
    with need(Hash, vector.name, vector.key) as h:
        assert h.digest(vector.message).hex() == vector.digest.hex(), vector.id


def check_cipher(vector: SkcipherVector) -> None:
    """Encrypt and decrypt once. Wrapping a key starts from a fixed value, and gives no IV to compare."""
    with need(Skcipher, vector.name, vector.key) as cipher:
        assert cipher.encrypt(vector.plaintext, vector.iv).hex() == vector.ciphertext.hex(), vector.id
        got = cipher.decrypt(vector.ciphertext, vector.iv)
        assert got.hex() == vector.plaintext.hex(), f"{vector.id}, decrypting"


def check_aead(vector: AeadVector) -> None:
    """Seal and open once."""
    with need(Aead, vector.name, vector.key, len(vector.tag)) as aead:
        sealed = aead.encrypt(vector.plaintext, vector.aad, vector.iv)
        assert sealed.hex() == (vector.ciphertext + vector.tag).hex(), vector.id
        opened = aead.decrypt(sealed, vector.aad, vector.iv)
        assert opened.hex() == vector.plaintext.hex(), f"{vector.id}, decrypting"
