"""Every hash AF_ALG may offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.algorithms.catalogue.ciphers import CIPHERS


@dataclass(frozen=True)
class HashRow:
    """One hash.

    Attributes:
        digest: bytes of a digest.
        block: bytes it takes in at a time: where splitting a message is most likely to go wrong.
        keys: key lengths that are exercised; empty for a hash without keys.
        refused: key lengths that must be EINVAL.
        needs_key: without a key every operation is ENOKEY.
        prefix: bytes of the message that are not message: a one-time key, or a nonce.
    """

    name: str
    digest: int
    block: int
    keys: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    needs_key: bool = False
    prefix: int = 0


def rows() -> Iterator[HashRow]:
    """Yield every row, plain hashes first."""
    yield from _PLAIN
    yield from _KEYED
    for inner in _HMAC_INNER:
        around: tuple[int, ...] = (0, 1, inner.block - 1, inner.block, inner.block + 1)
        # Of a message that begins with a key, HMAC's own first block is a part.
        prefix = max(inner.prefix - inner.block, 0)
        around = around[:-1] if prefix else around  # and a long key would be hashed without one
        yield HashRow(f"hmac({inner.name})", inner.digest, inner.block, around, needs_key=True, prefix=prefix)
    for cipher in CIPHERS.values():
        if cipher.block == 1:
            continue
        keys, refused = cipher.keys, cipher.refused
        for template in ("cmac", "cbcmac"):
            name = f"{template}({cipher.name})"
            yield HashRow(name, cipher.block, cipher.block, keys, refused, needs_key=True)
        if cipher.block == 16:
            # The library's xcbc(aes) of Linux 7 takes only 16 bytes, as RFC 3566 has it.
            keys = (16,) if 16 in keys else keys
            yield HashRow(f"xcbc({cipher.name})", 16, 16, keys, refused, needs_key=True)
    yield HashRow("cbcmac(cipher_null)", 1, 1, (0,), (1,), needs_key=True)


_PLAIN = (
    HashRow("md4", 16, 64),
    HashRow("md5", 16, 64),
    HashRow("sha1", 20, 64),
    HashRow("sha224", 28, 64),
    HashRow("sha256", 32, 64),
    HashRow("sha384", 48, 128),
    HashRow("sha512", 64, 128),
    HashRow("sha3-224", 28, 144),
    HashRow("sha3-256", 32, 136),
    HashRow("sha3-384", 48, 104),
    HashRow("sha3-512", 64, 72),
    HashRow("sm3", 32, 64),
    HashRow("rmd128", 16, 64),
    HashRow("rmd160", 20, 64),
    HashRow("rmd256", 32, 64),
    HashRow("rmd320", 40, 64),
    HashRow("tgr128", 16, 64),
    HashRow("tgr160", 20, 64),
    HashRow("tgr192", 24, 64),
    HashRow("wp256", 32, 64),
    HashRow("wp384", 48, 64),
    HashRow("wp512", 64, 64),
    HashRow("streebog256", 32, 64),
    HashRow("streebog512", 64, 64),
    HashRow("crct10dif", 2, 1),
    HashRow("crc64-rocksoft", 8, 1),
    HashRow("poly1305", 16, 16, prefix=32),
)

_KEYED = (
    *(HashRow(f"blake2b-{8 * size}", size, 128, (1, 32, 64), (65,)) for size in (20, 32, 48, 64)),
    *(HashRow(f"blake2s-{8 * size}", size, 64, (1, 16, 32), (33,)) for size in (16, 20, 28, 32)),
    HashRow("crc32", 4, 1, (4,), (0, 3, 5)),
    HashRow("crc32c", 4, 1, (4,), (0, 3, 5)),
    HashRow("xxhash64", 8, 32, (8,), (0, 7, 9)),
    HashRow("michael_mic", 8, 8, (8,), (0, 7, 9), needs_key=True),
    HashRow("ghash", 16, 16, (16,), (0, 15, 17), needs_key=True),
    HashRow("polyval", 16, 16, (16,), (0, 15, 17), needs_key=True),
    HashRow("nhpoly1305", 16, 1024, (1088,), (0, 1087), needs_key=True),
    HashRow("vmac64(aes)", 8, 128, (16,), (0, 15, 17, 24, 32), needs_key=True, prefix=16),
    HashRow("digest_null", 0, 1, (0, 16), needs_key=True),
)

# HMAC is defined over hashes with a block; the checksums, and hashes with a key of their own, are refused.
_HMAC_INNER = (
    *(row for row in _PLAIN if row.block > 1),
    *(row for row in _KEYED if row.name.startswith("blake2") or row.name == "xxhash64"),
)
