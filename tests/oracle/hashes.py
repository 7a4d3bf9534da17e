"""Digests by the kernel's name of the hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tests.oracle import blocks, gcrypt, modes


def digest(name: str, data: bytes, key: bytes | None = None) -> bytes:
    """Return what the kernel's hash ``name`` gives for ``data``; ``key`` is None for an unkeyed hash.

    Raises:
        LookupError: there is no oracle for this name.
    """
    template, _, inner = name.rstrip(")").partition("(")
    if inner:
        if template not in _TEMPLATES:
            raise LookupError(f"no oracle for the hash {name}")
        return _TEMPLATES[template](inner, key or b"", data)
    if key is not None or name not in _PLAIN:
        raise LookupError(f"no oracle for the hash {name}{' with a key' if key is not None else ''}")
    return _PLAIN[name](data)


def block_size(name: str) -> int:
    """Return the block size in bytes of an unkeyed hash that HMAC is defined over (RFC 2104)."""
    return _BLOCK_SIZES.get(name, 64)


def _hashlib(name: str) -> Callable[[bytes], bytes]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).digest()


def _gcrypt(name: str) -> Callable[[bytes], bytes]:
    return lambda data: gcrypt.digest(name, data)


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

    subkey = double(block.encrypt(bytes(block.size)))
    cut = max(len(data) - 1, 0) // block.size * block.size
    head, last = data[:cut], data[cut:]
    if len(last) < block.size:
        last = (last + b"\x80").ljust(block.size, b"\0")
        subkey = double(subkey)
    return modes.cbc_encrypt(block, bytes(block.size), head + modes.xor(last, subkey))[-block.size :]


_PLAIN: dict[str, Callable[[bytes], bytes]] = {
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
}

_TEMPLATES: dict[str, Callable[[str, bytes, bytes], bytes]] = {"hmac": _hmac, "cmac": _cmac}

_BLOCK_SIZES = {
    "sha384": 128,
    "sha512": 128,
    "sha3-224": 144,
    "sha3-256": 136,
    "sha3-384": 104,
    "sha3-512": 72,
}
