"""What FIPS mode (``fips=1``) leaves, and what it takes away; source: crypto/testmgr.c and where else fips_enabled is.

Versions differ in what they approve of: here stands what all of them agree on.
"""

from __future__ import annotations

_APPROVED_DRBG = "sha256", "sha512", "hmac_sha256", "hmac_sha512", "ctr_aes128", "ctr_aes192", "ctr_aes256"

APPROVED = frozenset(
    (
        *("sha1", "sha224", "sha256", "sha384", "sha512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"),
        *(f"hmac(sha{size})" for size in ("1", "224", "256", "384", "512", "3-224", "3-256", "3-384", "3-512")),
        *("cmac(aes)", "crc32c", "crct10dif"),
        *("ecb(aes)", "cbc(aes)", "ctr(aes)", "xts(aes)", "cts(cbc(aes))", "rfc3686(ctr(aes))", "ecb(cipher_null)"),
        *("essiv(cbc(aes),sha256)", "kw(aes)"),
        *("gcm(aes)", "ccm(aes)", "rfc4106(gcm(aes))", "rfc4309(ccm(aes))"),
        *(f"authenc(hmac({hash_}),cbc(aes))" for hash_ in ("sha1", "sha256", "sha512")),
        *(f"authenc(hmac({hash_}),rfc3686(ctr(aes)))" for hash_ in ("sha1", "sha256", "sha384", "sha512")),
        *("stdrng", "jitterentropy_rng"),
        *(f"drbg_{prediction}_{core}" for prediction in ("pr", "nopr") for core in _APPROVED_DRBG),
    )
)
"""Names that a kernel in FIPS mode has like any other, when it is built with them."""

NOT_APPROVED = (
    ("hash", "md5"),
    ("hash", "rmd160"),
    ("hash", "blake2b-256"),
    ("hash", "hmac(md5)"),
    ("hash", "xcbc(aes)"),
    ("skcipher", "chacha20"),
    ("skcipher", "cbc(camellia)"),
    ("skcipher", "ecb(des)"),
    ("skcipher", "lrw(aes)"),
    ("skcipher", "xts(serpent)"),
    ("aead", "aegis128"),
    ("aead", "rfc7539(chacha20,poly1305)"),
    ("rng", "ansi_cprng"),
)
"""Some that it has not, whatever it is built with."""

SHORTEST_HMAC_KEY = 112 // 8
"""Bytes; a shorter key is EINVAL (crypto/hmac.c)."""


def refuses_key(name: str, size: int) -> bool:
    """Tell whether FIPS mode refuses keys of ``size`` bytes for an algorithm, in some version at least."""
    if name.startswith("hmac("):
        return size < SHORTEST_HMAC_KEY
    return name.startswith("xts(") and size not in (32, 64)
