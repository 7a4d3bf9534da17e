"""Digests by the kernel's name of the hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tests.oracle import bits, blocks, checksums, gcrypt, poly, ripemd, skciphers, vmac
from tests.oracle.bits import blocks_of, xor
from tests.oracle.names import parse


def digest(name: str, data: bytes, key: bytes | None = None) -> bytes:
    """Return what the kernel's hash ``name`` gives for ``data``; ``key`` is None when none was set.

    Raises:
        LookupError: there is no oracle for this name.
    """
    parsed = parse(name)
    if parsed.parts and parsed.head in _TEMPLATES:
        return _TEMPLATES[parsed.head](parsed.parts[0].text, key or b"", data)
    if name in _KEYED:
        return _KEYED[name](data, key)
    if name not in _PLAIN or key is not None:
        raise LookupError(f"no oracle for the hash {name}{' with a key' if key is not None else ''}")
    return _PLAIN[name](data)


def block_size(name: str) -> int:
    """Return the bytes of an input block of an unkeyed hash, the B of RFC 2104."""
    if name.startswith("blake2b"):
        return 128
    return _BLOCK_SIZES.get(name, 64)


def _hashlib(name: str) -> Callable[[bytes], bytes]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).digest()


def _gcrypt(name: str, size: int = 64) -> Callable[[bytes], bytes]:
    """A hash of libgcrypt, cut to its first ``size`` bytes."""
    return lambda data: gcrypt.digest(name, data)[:size]


def _tiger(size: int) -> Callable[[bytes], bytes]:
    """Tiger as the kernel had it: each 64-bit word big endian, as in its first publication."""
    return lambda data: b"".join(word[::-1] for word in blocks_of(gcrypt.digest("TIGER", data), 8))[:size]


def _ripemd(width: int) -> Callable[[bytes], bytes]:
    return lambda data: ripemd.ripemd(width, data)


def _blake2b(size: int) -> Callable[[bytes, bytes | None], bytes]:
    return lambda data, key: hashlib.blake2b(data, digest_size=size, key=key or b"").digest()


def _blake2s(size: int) -> Callable[[bytes, bytes | None], bytes]:
    return lambda data, key: hashlib.blake2s(data, digest_size=size, key=key or b"").digest()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _hmac(inner: str, key: bytes, data: bytes) -> bytes:
    """RFC 2104, over any hash of this module."""
    size = block_size(inner)
    if len(key) > size:
        key = digest(inner, key)
    padded = key.ljust(size, b"\0")
    ipad, opad = (bytes(byte ^ pad for byte in padded) for pad in (0x36, 0x5C))
    return digest(inner, opad + digest(inner, ipad + data))


def _cmac(inner: str, key: bytes, data: bytes) -> bytes:
    """NIST SP 800-38B: CBC-MAC whose last block is masked by a subkey."""
    block = blocks.cipher(inner, key)
    polynomial = {8: 0x1B, 16: 0x87}[block.size]

    def double(value: bytes) -> bytes:
        shifted = int.from_bytes(value, "big") << 1
        if shifted >> (8 * block.size):
            shifted ^= (1 << (8 * block.size)) | polynomial
        return shifted.to_bytes(block.size, "big")

    once = double(block.encrypt(bytes(block.size)))
    return _masked_mac(block, data, once, double(once))


def _xcbc(inner: str, key: bytes, data: bytes) -> bytes:
    """RFC 3566: as CMAC, with three keys made by encrypting constants."""
    outer = blocks.cipher(inner, key)
    block_key, whole, padded = (outer.encrypt(bytes([i]) * 16) for i in (1, 2, 3))
    return _masked_mac(blocks.cipher(inner, block_key), data, whole, padded)


def _masked_mac(block: blocks.Block, data: bytes, whole: bytes, padded: bytes) -> bytes:
    cut = max(len(data) - 1, 0) // block.size * block.size
    head, last = data[:cut], data[cut:]
    mask = whole
    if len(last) < block.size:
        last, mask = (last + b"\x80").ljust(block.size, b"\0"), padded
    return skciphers.cbc_encrypt(block, bytes(block.size), head + xor(last, mask))[-block.size :]


def _cbcmac(inner: str, key: bytes, data: bytes) -> bytes:
    """CBC-MAC with zero padding, as CCM uses it (RFC 3610 2.2); of nothing it is zero."""
    block = blocks.cipher(inner, key)
    data += bytes(-len(data) % block.size)
    return (bytes(block.size) + skciphers.cbc_encrypt(block, bytes(block.size), data))[-block.size :]


_PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "md4": _gcrypt("MD4"),
    "md5": _hashlib("md5"),
    "sha1": _hashlib("sha1"),
    "sha224": _hashlib("sha224"),
    "sha256": _hashlib("sha256"),
    "sha384": _hashlib("sha384"),
    "sha512": _hashlib("sha512"),
    "sha3-224": _hashlib("sha3_224"),
    "sha3-256": _hashlib("sha3_256"),
    "sha3-384": _hashlib("sha3_384"),
    "sha3-512": _hashlib("sha3_512"),
    "sm3": _gcrypt("SM3"),
    "rmd128": _ripemd(128),
    "rmd160": _gcrypt("RIPEMD160"),
    "rmd256": _ripemd(256),
    "rmd320": _ripemd(320),
    "tgr128": _tiger(16),
    "tgr160": _tiger(20),
    "tgr192": _tiger(24),
    "wp256": _gcrypt("WHIRLPOOL", 32),
    "wp384": _gcrypt("WHIRLPOOL", 48),
    "wp512": _gcrypt("WHIRLPOOL", 64),
    "streebog256": _gcrypt("STRIBOG256"),
    "streebog512": _gcrypt("STRIBOG512"),
    "crct10dif": checksums.crct10dif,
    "crc64-rocksoft": checksums.crc64_rocksoft,
    # The first 32 bytes of the message are the one-time key.
    "poly1305": lambda data: poly.poly1305(data[:32], data[32:]),
}

_KEYED: dict[str, Callable[[bytes, bytes | None], bytes]] = {
    "crc32": checksums.crc32,
    "crc32c": checksums.crc32c,
    "xxhash64": checksums.xxhash64,
    "michael_mic": lambda data, key: checksums.michael_mic(data, key or b""),
    "ghash": lambda data, key: bits.ghash(key or b"", _padded(data)),
    "polyval": lambda data, key: bits.polyval(key or b"", _padded(data)),
    "nhpoly1305": lambda data, key: poly.nhpoly1305(key or b"", data),
    "digest_null": lambda _data, _key: b"",
    "blake2b-160": _blake2b(20),
    "blake2b-256": _blake2b(32),
    "blake2b-384": _blake2b(48),
    "blake2b-512": _blake2b(64),
    "blake2s-128": _blake2s(16),
    "blake2s-160": _blake2s(20),
    "blake2s-224": _blake2s(28),
    "blake2s-256": _blake2s(32),
    # The first 16 bytes of the message are the nonce.
    "vmac64(aes)": lambda data, key: vmac.vmac64(key or b"", data[:16], data[16:]),
}

_TEMPLATES: dict[str, Callable[[str, bytes, bytes], bytes]] = {
    "hmac": _hmac,
    "cmac": _cmac,
    "xcbc": _xcbc,
    "cbcmac": _cbcmac,
}

_BLOCK_SIZES = {
    "sha384": 128,
    "sha512": 128,
    "sha3-224": 144,
    "sha3-256": 136,
    "sha3-384": 104,
    "sha3-512": 72,
    "poly1305": 16,
    "xxhash64": 32,
    "crc32": 1,
    "crc32c": 1,
}
