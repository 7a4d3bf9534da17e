"""Block ciphers by the kernel's name, each as two functions over whole blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.oracle import cast6, gcrypt, libcrypto, nessie, small, twofish
from tests.oracle.bits import blocks_of


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
    if name in _SPECIAL:
        return _SPECIAL[name](key)
    library = _GCRYPT.get(name, {}).get(len(key))
    if library is None:
        raise LookupError(f"no oracle for {name} with a key of {len(key)} bytes")
    return _from_gcrypt(library, _SIZES.get(name, 16), key)


_GCRYPT: dict[str, dict[int, str]] = {
    "aes": {16: "AES", 24: "AES192", 32: "AES256"},
    "camellia": {16: "CAMELLIA128", 24: "CAMELLIA192", 32: "CAMELLIA256"},
    "des": {8: "DES"},
    "des3_ede": {24: "3DES"},
    "twofish": {16: "TWOFISH128", 32: "TWOFISH"},
    "sm4": {16: "SM4"},
    "seed": {16: "SEED"},
    "blowfish": dict.fromkeys(range(4, 57), "BLOWFISH"),
}

_SIZES = {"des": 8, "des3_ede": 8, "blowfish": 8}


def _from_gcrypt(library: str, size: int, key: bytes) -> Block:
    return Block(
        size,
        lambda data: gcrypt.ecb(library, key, data),
        lambda data: gcrypt.ecb(library, key, data, decrypt=True),
        lambda iv, data: gcrypt.cbc(library, key, iv, data),
    )


def _serpent(key: bytes) -> Block:
    """Serpent pads a short key with one bit and zeros to 32 bytes (Anderson, Biham, Knudsen, section 4)."""
    return _from_gcrypt("SERPENT256", 16, key if len(key) == 32 else (key + b"\1").ljust(32, b"\0"))


def _tnepres(key: bytes) -> Block:
    """Serpent with the bytes of key and block in reverse order, as it was first implemented."""
    inner = _serpent(key[::-1])

    def turned(call: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        return lambda data: b"".join(
            piece[::-1] for piece in blocks_of(call(b"".join(piece[::-1] for piece in blocks_of(data, 16))), 16)
        )

    return Block(16, turned(inner.encrypt), turned(inner.decrypt))


def _cast5(key: bytes) -> Block:
    """libgcrypt takes only 16-byte keys, cryptography (imported when needed: it is slow to) all of them."""
    if len(key) == 16:
        return _from_gcrypt("CAST5", 8, key)
    from cryptography.hazmat.decrepit.ciphers.algorithms import CAST5
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    ecb = Cipher(CAST5(key), modes.ECB())
    return Block(8, lambda data: ecb.encryptor().update(data), lambda data: ecb.decryptor().update(data))


def _aria(key: bytes) -> Block:
    name = f"ARIA-{8 * len(key)}-ECB"
    return Block(
        16, lambda data: libcrypto.ecb(name, key, data), lambda data: libcrypto.ecb(name, key, data, decrypt=True)
    )


def _twofish(key: bytes) -> Block:
    """libgcrypt has no 24-byte keys."""
    if len(key) in _GCRYPT["twofish"]:
        return _from_gcrypt(_GCRYPT["twofish"][len(key)], 16, key)
    return _per_block(16, *twofish.functions(key))


def _per_block(size: int, encrypt: Callable[[bytes], bytes], decrypt: Callable[[bytes], bytes]) -> Block:
    """Return a cipher from functions over one block."""
    return Block(
        size,
        lambda data: b"".join(encrypt(piece) for piece in blocks_of(data, size)),
        lambda data: b"".join(decrypt(piece) for piece in blocks_of(data, size)),
    )


def _cast6(key: bytes) -> Block:
    rounds = cast6.schedule(key)
    return Block(
        16,
        lambda data: b"".join(cast6.crypt(rounds, piece, decrypt=False) for piece in blocks_of(data, 16)),
        lambda data: b"".join(cast6.crypt(rounds, piece, decrypt=True) for piece in blocks_of(data, 16)),
    )


def _null(key: bytes) -> Block:
    return Block(1, bytes, bytes)


class _Single(Protocol):
    def __call__(self, key: bytes, block: bytes, *, decrypt: bool) -> bytes: ...


def _one_by_one(single: _Single) -> Callable[[bytes], Block]:
    def make(key: bytes) -> Block:
        return Block(
            8,
            lambda data: b"".join(single(key, piece, decrypt=False) for piece in blocks_of(data, 8)),
            lambda data: b"".join(single(key, piece, decrypt=True) for piece in blocks_of(data, 8)),
        )

    return make


_SPECIAL: dict[str, Callable[[bytes], Block]] = {
    "serpent": _serpent,
    "tnepres": _tnepres,
    "aria": _aria,
    "twofish": _twofish,
    "anubis": lambda key: _per_block(16, *nessie.anubis(key)),
    "khazad": lambda key: _per_block(8, *nessie.khazad(key)),
    "cast5": _cast5,
    "cast6": _cast6,
    "cipher_null": _null,
    "fcrypt": _one_by_one(small.fcrypt),
    "tea": _one_by_one(small.tea),
    "xtea": _one_by_one(small.xtea),
    "xeta": _one_by_one(small.xeta),
}
