"""Templates over parts that complete later: what is done after the part is done, in a thread of the kernel, is right.

cryptd makes any part asynchronous (crypto/cryptd.c): the template returns -EINPROGRESS, and its completion functions do
the rest (gcm_hash_assoc_done and so on). Linux 7.2 hides asynchronous algorithms from AF_ALG.
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket
from tests.afalg.constants import MSG_DONTWAIT
from tests.algorithms import catalogue
from tests.algorithms.data import cut, data
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

CTR, CBC, ECB = "ctr(aes-generic)", "cbc(aes-generic)", "ecb(aes-generic)"
LATER_CTR, LATER_CBC, LATER_ECB = f"cryptd({CTR})", f"cryptd({CBC})", f"cryptd({ECB})"
HMAC, LATER_HMAC = "hmac(sha256-generic)", "cryptd(hmac(sha256-generic))"

AEADS = [
    ("gcm(aes)", f"gcm_base({LATER_CTR},ghash-generic)"),
    ("gcm(aes)", f"gcm_base({CTR},cryptd(ghash-generic))"),
    ("rfc4106(gcm(aes))", f"rfc4106(gcm_base({LATER_CTR},ghash-generic))"),
    ("rfc4543(gcm(aes))", f"rfc4543(gcm_base({CTR},cryptd(ghash-generic)))"),
    ("ccm(aes)", f"ccm_base({LATER_CTR},cbcmac(aes-generic))"),
    ("rfc4309(ccm(aes))", f"rfc4309(ccm_base({LATER_CTR},cbcmac(aes-generic)))"),
    ("authenc(hmac(sha256),cbc(aes))", f"authenc({HMAC},{LATER_CBC})"),
    ("authenc(hmac(sha256),cbc(aes))", f"authenc({LATER_HMAC},{CBC})"),
    ("authencesn(hmac(sha256),cbc(aes))", f"authencesn({HMAC},{LATER_CBC})"),
    ("authencesn(hmac(sha256),cbc(aes))", f"authencesn({LATER_HMAC},{CBC})"),
    ("essiv(authenc(hmac(sha256),cbc(aes)),sha256)", f"essiv(authenc({HMAC},{LATER_CBC}),sha256-generic)"),
]
CIPHERS = [
    ("cts(cbc(aes))", f"cts({LATER_CBC})"),
    ("xts(aes)", f"xts({LATER_ECB})"),
    ("lrw(aes)", f"lrw({LATER_ECB})"),
    ("rfc3686(ctr(aes))", f"rfc3686({LATER_CTR})"),
    ("essiv(cbc(aes),sha256)", f"essiv({LATER_CBC},sha256-generic)"),
]
SIZES = (0, 1, 16, 17, 100, 5000)


@pytest.fixture
def _parts() -> None:
    """Have the parts made, cryptd's first: a kernel that has those has the portable drivers inside as well."""
    for part in (LATER_ECB, LATER_CBC, LATER_CTR, ECB, CBC, CTR):
        need(Skcipher, part).close()
    for part in (LATER_HMAC, HMAC, "cryptd(ghash-generic)", "ghash-generic", "cbcmac(aes-generic)"):
        need(Hash, part).close()


@pytest.mark.deadline(30)
@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(("name", "made"), AEADS, ids=[made for _, made in AEADS])
def test_aead_over_a_part_that_completes_later(name: str, made: str) -> None:
    """It seals, opens what it should and nothing else: each tag size, the key of each length.

    Source: crypto_gcm_encrypt, crypto_ccm_encrypt, crypto_authenc_encrypt, crypto_authenc_esn_encrypt and their
    completion functions.
    """
    row = next(row for row in catalogue.AEADS if row.name == name)
    iv = iv_of(name, row.iv)
    for length in (row.keys[0], row.keys[-1]):
        key = key_of(row, length)
        aad = aad_of(row, key, default_aad(row))
        for tag in {row.tags[0], row.tags[-1]}:
            with need(Aead, made, key, tag) as aead:
                for size in sorted({size // row.unit * row.unit for size in SIZES if size >= row.minimum}):
                    sealed = aeads.seal(name, key, iv, aad, cut(size), tag)
                    assert aead.encrypt(cut(size), aad, iv) == sealed, f"{size} bytes"
                    assert aead.decrypt(sealed, aad, iv) == cut(size), f"{size} bytes, opening"
                    with raises_errno(errno.EBADMSG):
                        aead.decrypt(sealed[:-1] + bytes([sealed[-1] ^ 1]), aad, iv)
                    with raises_errno(errno.EAGAIN):
                        aead.op.recv(16, MSG_DONTWAIT)


@pytest.mark.deadline(30)
@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(("name", "made"), CIPHERS, ids=[made for _, made in CIPHERS])
def test_cipher_over_a_part_that_completes_later(name: str, made: str) -> None:
    """Both ways, at lengths around a block and over pages (crypto_cts_encrypt_done, xts_encrypt_done and the like)."""
    row = next(row for row in catalogue.SKCIPHERS if row.name == name)
    key, iv = data(f"{name} key", row.keys[-1]), iv_of(name, row.iv)
    with need(Skcipher, made, key) as cipher:
        for size in sorted({size // row.unit * row.unit for size in (*SIZES, 31, 33, 48) if size >= row.minimum}):
            if size:
                result = skciphers.crypt(name, key, iv, cut(size))
                assert cipher.encrypt(cut(size), iv) == result, f"{size} bytes"
                assert cipher.decrypt(result, iv) == cut(size), f"{size} bytes, decrypting"


@pytest.mark.usefixtures("_parts")
def test_key_that_an_asynchronous_hash_refuses_is_einval() -> None:
    """And it is without a key still (crypto_ahash_setkey, ahash_set_needkey): GHASH's has 16 bytes."""
    with need(Hash, "cryptd(ghash-generic)") as h:
        for length in (0, 15, 17):
            with raises_errno(errno.EINVAL, why=f"key of {length} bytes"):
                h.tfm.set_key(bytes(length))
        with h.tfm.accept() as op, raises_errno(errno.ENOKEY):
            op.send(bytes(16))


@pytest.mark.usefixtures("_parts")
def test_ccm_takes_no_mac_that_completes_later() -> None:
    """It computes the MAC where it cannot wait: crypto_ccm_create_common asks for one without CRYPTO_ALG_ASYNC."""
    need(Hash, "cryptd(cbcmac(aes-generic))").close()
    need(Aead, f"ccm_base({CTR},cbcmac(aes-generic))").close()
    # EEXIST: to look for another one, the kernel makes cryptd's instance again.
    with raises_errno(errno.ENOENT, errno.EINVAL, errno.EEXIST):
        Socket.bound("aead", f"ccm_base({CTR},cryptd(cbcmac(aes-generic)))").close()
