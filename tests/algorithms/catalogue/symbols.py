"""Which options of the kernel's configuration each algorithm needs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from tests.oracle.names import Name, parse


@dataclass(frozen=True)
class Gone:
    """Why kernels of some versions lack an algorithm: since which they have it, or until which they had."""

    because: str
    since: str = ""
    until: str = ""


_NO_STATE = Gone("needs a hash whose state can be copied out, which it is no longer for this one", until="6.16")

GONE = {
    "hmac(md4)": _NO_STATE,
    "hmac(xxhash64)": _NO_STATE,
    **{f"hmac(blake2b-{bits})": _NO_STATE for bits in (160, 256, 384, 512)},
    **{
        f"{mode}(cipher_null{end}": Gone("the null cipher is no block cipher any more since Linux 7.2", until="7.2")
        for mode, end in (
            ("cbcmac", ")"),
            ("cbc", ")"),
            ("pcbc", ")"),
            ("cfb", ")"),
            ("ofb", ")"),
            ("cts(cbc", "))"),
        )
    },
    "arc4": Gone("called ecb(arc4) before Linux 6.8", since="6.8"),
    **{
        f"drbg_{prediction}_{core}": Gone("removed in Linux 6.6", until="6.6")
        for prediction in ("pr", "nopr")
        for core in ("sha1", "hmac_sha1")
    },
}
"""Algorithms that kernels lack although every option they need is set, and why."""


def symbols(name: str) -> tuple[str, ...]:
    """Return the options (without ``CONFIG_``) of a name and of all its parts.

    Of two names of one option, ``A|B``, each is enough.

    Raises:
        KeyError: a part has no option here; a new algorithm needs one.
    """
    return tuple(sorted(_symbols(parse(name))))


def symbols_of_parts(name: str) -> tuple[str, ...]:
    """Return the options of those parts of a name that have some: drivers have none of their own."""
    found, rest = set(), [parse(name)]
    while rest:
        part = rest.pop()
        with contextlib.suppress(KeyError):
            found |= _symbols(Name(part.head, part.head))
        rest += part.parts
    return tuple(sorted(found))


def _symbols(name: Name) -> set[str]:
    if name.head == "drbg_nopr_hmac_sha512":
        # The only one that Linux 7.2 has, without an option of its own.
        return {"CRYPTO_DRBG|CRYPTO_DRBG_HMAC"}
    if name.head.startswith("drbg_"):
        return {"CRYPTO_DRBG_CTR" if "_ctr_" in name.head else _DRBG["_hmac_" in name.head]}
    if name.text == "fips(ansi_cprng)":
        return {"CRYPTO_ANSI_CPRNG", "CRYPTO_FIPS"}
    own = _SYMBOLS[name.head]
    names = own if isinstance(own, tuple) else (own,)
    return {"|".join(f"CRYPTO_{each}" for each in names)}.union(*(_symbols(part) for part in name.parts))


_DRBG = {False: "CRYPTO_DRBG_HASH", True: "CRYPTO_DRBG_HMAC"}

_SYMBOLS: dict[str, str | tuple[str, ...]] = {
    # templates
    "adiantum": "ADIANTUM",
    "authenc": "AUTHENC",
    "authencesn": "AUTHENC",
    "cbc": "CBC",
    "cbcmac": "CCM",
    "ccm": "CCM",
    "cfb": "CFB",
    "cmac": "CMAC",
    "cryptd": "CRYPTD",
    "ctr": "CTR",
    "cts": "CTS",
    "ecb": "ECB",
    "echainiv": "ECHAINIV",
    "essiv": "ESSIV",
    "gcm": "GCM",
    "hctr2": "HCTR2",
    "hmac": "HMAC",
    "krb5enc": "KRB5ENC",
    "kw": "KEYWRAP",
    "lrw": "LRW",
    "ofb": "OFB",
    "pcbc": "PCBC",
    "pcrypt": "PCRYPT",
    "rfc3686": "CTR",
    "rfc4106": "GCM",
    "rfc4309": "CCM",
    "rfc4543": "GCM",
    "rfc7539": "CHACHA20POLY1305",
    "rfc7539esp": "CHACHA20POLY1305",
    "seqiv": "SEQIV",
    "vmac64": "VMAC",
    "xcbc": "XCBC",
    "xctr": "XCTR",
    "xts": "XTS",
    # ciphers
    "aegis128": "AEGIS128",
    "aes": "AES",
    "anubis": "ANUBIS",
    "arc4": "ARC4",
    "aria": "ARIA",
    "blowfish": "BLOWFISH",
    "camellia": "CAMELLIA",
    "cast5": "CAST5",
    "cast6": "CAST6",
    "chacha20": "CHACHA20",
    "cipher_null": "NULL",
    "des": "DES",
    "des3_ede": "DES",
    "fcrypt": "FCRYPT",
    "khazad": "KHAZAD",
    "salsa20": "SALSA20",
    "seed": "SEED",
    "serpent": "SERPENT",
    "sm4": "SM4_GENERIC",
    "tea": "TEA",
    # Serpent in the wrong byte order went with Linux 5.12, its option stayed.
    "tnepres": "TNEPRES",
    "twofish": "TWOFISH",
    "xchacha12": "CHACHA20",
    "xchacha20": "CHACHA20",
    "xeta": "TEA",
    "xtea": "TEA",
    # hashes
    **{f"blake2b-{bits}": "BLAKE2B" for bits in (160, 256, 384, 512)},
    **{f"blake2s-{bits}": "BLAKE2S" for bits in (128, 160, 224, 256)},
    "crc32": "CRC32",
    "crc32c": "CRC32C",
    "crc64-rocksoft": "CRC64_ROCKSOFT",
    "crct10dif": "CRCT10DIF",
    "digest_null": "NULL",
    "ghash": "GHASH",
    "md4": "MD4",
    "md5": "MD5",
    "michael_mic": "MICHAEL_MIC",
    "nhpoly1305": "NHPOLY1305",
    "poly1305": "POLY1305",
    "polyval": "POLYVAL",
    "rmd128": "RMD128",
    "rmd160": "RMD160",
    "rmd256": "RMD256",
    "rmd320": "RMD320",
    "sha1": "SHA1",
    "sha224": "SHA256",
    "sha256": "SHA256",
    "sha3-224": "SHA3",
    "sha3-256": "SHA3",
    "sha3-384": "SHA3",
    "sha3-512": "SHA3",
    "sha384": "SHA512",
    "sha512": "SHA512",
    # Of 6.1 to 6.12 the first is a library that only drivers of sm3 select.
    "sm3": ("SM3", "SM3_GENERIC"),
    "streebog256": "STREEBOG",
    "streebog512": "STREEBOG",
    "tgr128": "TGR192",
    "tgr160": "TGR192",
    "tgr192": "TGR192",
    "wp256": "WP512",
    "wp384": "WP512",
    "wp512": "WP512",
    "xxhash64": "XXHASH",
    # random number generators
    "ansi_cprng": "ANSI_CPRNG",
    "jitterentropy_rng": "JITTERENTROPY",
    "stdrng": "DRBG",
}
