"""Block ciphers by the kernel's name, each as two functions over whole blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle import gcrypt


@dataclass(frozen=True)
class Block:
    """A keyed block cipher.

    Attributes:
        size: of a block, in bytes.
        encrypt, decrypt: any number of whole blocks, each on its own (ECB).
        cbc: ``cbc(iv, data)`` encrypts in CBC mode, when the library has it; else None.
    """

    size: int
    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]
    cbc: Callable[[bytes, bytes], bytes] | None = None


def cipher(name: str, key: bytes) -> Block:
    """Return the block cipher the kernel calls ``name`` under ``key``.

    Raises:
        LookupError: there is no oracle for it, or not for a key of this length.
    """
    library = _GCRYPT.get(name, {}).get(len(key))
    if library is None:
        raise LookupError(f"no oracle for {name} with a key of {len(key)} bytes")
    return _from_gcrypt(library, _SIZES.get(name, 16), key)


_GCRYPT: dict[str, dict[int, str]] = {
    "aes": {16: "AES", 24: "AES192", 32: "AES256"},
    "camellia": {16: "CAMELLIA128", 24: "CAMELLIA192", 32: "CAMELLIA256"},
    "des": {8: "DES"},
    "des3_ede": {24: "3DES"},
    "serpent": {16: "SERPENT128", 24: "SERPENT192", 32: "SERPENT256"},
    "twofish": {16: "TWOFISH128", 32: "TWOFISH"},
    "sm4": {16: "SM4"},
    "seed": {16: "SEED"},
    "cast5": {16: "CAST5"},
    "blowfish": dict.fromkeys(range(4, 57), "BLOWFISH"),
}

_SIZES = {"des": 8, "des3_ede": 8, "cast5": 8, "blowfish": 8}


def _from_gcrypt(library: str, size: int, key: bytes) -> Block:
    return Block(
        size,
        lambda data: gcrypt.ecb(library, key, data),
        lambda data: gcrypt.ecb(library, key, data, decrypt=True),
        lambda iv, data: gcrypt.cbc(library, key, iv, data),
    )
