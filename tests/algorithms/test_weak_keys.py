"""Keys that a cipher's documents call weak: AF_ALG takes them, outside of FIPS mode.

It never sets CRYPTO_TFM_REQ_FORBID_WEAK_KEYS (include/linux/crypto.h), which would have DES and XTS refuse them. Data
that was encrypted with such a key has to be readable for ever, and a check that moves into the default would lose it.
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Skcipher
from tests.algorithms.data import cut, data
from tests.doctor.absence import fips_mode
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import skciphers

# FIPS PUB 74, section 3.6; NIST SP 800-67 (revision 2), section 3.3.2.
WEAK = ("0101010101010101", "fefefefefefefefe", "e0e0e0e0f1f1f1f1", "1f1f1f1f0e0e0e0e")
SEMI_WEAK = (
    ("01fe01fe01fe01fe", "fe01fe01fe01fe01"),
    ("1fe01fe00ef10ef1", "e01fe01ff10ef10e"),
    ("01e001e001f101f1", "e001e001f101f101"),
    ("1ffe1ffe0efe0efe", "fe1ffe1ffe0efe0e"),
    ("011f011f010e010e", "1f011f010e010e01"),
    ("e0fee0fef1fef1fe", "fee0fee0fef1fef1"),
)
TEXT = cut(64)


@pytest.mark.parametrize("key", WEAK)
def test_weak_key_of_des_undoes_itself(key: str) -> None:
    """Its 16 round keys are equal, so that encryption is decryption (FIPS PUB 74, section 3.6)."""
    with need(Skcipher, "ecb(des)", bytes.fromhex(key)) as cipher:
        sealed = cipher.encrypt(TEXT)
        assert sealed.hex() == skciphers.crypt("ecb(des)", bytes.fromhex(key), b"", TEXT).hex()
        assert cipher.encrypt(sealed) == TEXT


@pytest.mark.parametrize("pair", SEMI_WEAK, ids="-".join)
def test_semi_weak_keys_of_des_undo_each_other(pair: tuple[str, str]) -> None:
    """What one encrypted the other's encryption decrypts (FIPS PUB 74, section 3.6)."""
    for one, other in (pair, pair[::-1]):
        with need(Skcipher, "ecb(des)", bytes.fromhex(one)) as cipher:
            sealed = cipher.encrypt(TEXT)
            assert sealed.hex() == skciphers.crypt("ecb(des)", bytes.fromhex(one), b"", TEXT).hex()
        with Skcipher("ecb(des)", bytes.fromhex(other)) as cipher:
            assert cipher.encrypt(sealed) == TEXT


@pytest.mark.parametrize("driver", ["ecb(des3_ede)", "ecb(des3_ede-generic)"])
@pytest.mark.parametrize("equal", ["first-two", "last-two", "all"])
def test_triple_des_of_equal_keys_is_des(driver: str, equal: str) -> None:
    """EDE with two neighbours equal is DES by the third (NIST SP 800-67, section 3.3.2).

    crypto_des3_ede_verify_key (include/crypto/internal/des.h) refuses it when told to, and in FIPS mode, when the
    three are not all different.
    """
    one, other = data("des a", 8), data("des b", 8)
    key, single = {
        "first-two": (one + one + other, other),
        "last-two": (other + one + one, other),
        "all": (3 * one, one),
    }[equal]
    with need(Skcipher, driver, data("des of three", 24)) as cipher:
        if fips_mode():
            with raises_errno(errno.EINVAL):
                cipher.tfm.set_key(key)
            return
        cipher.tfm.set_key(key)
        sealed = cipher.encrypt(TEXT)
        assert sealed.hex() == skciphers.crypt("ecb(des)", single, b"", TEXT).hex()
        assert cipher.decrypt(sealed) == TEXT


@pytest.mark.parametrize(
    "name", ["xts(aes)", "xts(ecb(twofish-generic))", "xts(camellia)", "xts(serpent)", "xts(twofish)"]
)
def test_xts_key_of_equal_halves_is_taken(name: str) -> None:
    """xts_verify_key (include/crypto/xts.h) refuses it when told to, and in FIPS mode (NIST SP 800-38E).

    IEEE 1619 itself does not: tests/policy/test_fips.py has the refusal.
    """
    half, iv, text = data("xts half", 16), data("xts iv", 16), cut(48)
    with need(Skcipher, name, data("xts key", 32)) as cipher:
        if fips_mode():
            with raises_errno(errno.EINVAL):
                cipher.tfm.set_key(2 * half)
            return
        cipher.tfm.set_key(2 * half)
        sealed = cipher.encrypt(text, iv)
        of_cipher = name.replace("ecb(twofish-generic)", "twofish")
        assert sealed.hex() == skciphers.crypt(of_cipher, 2 * half, iv, text).hex()
        assert cipher.decrypt(sealed, iv) == text
