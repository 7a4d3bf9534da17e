"""Block ciphers: what every template over them is made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cipher:
    """One block cipher.

    Attributes:
        block: bytes.
        keys: key lengths that are exercised, ascending; all that are accepted, or both ends and some between.
        refused: key lengths that must be EINVAL.
    """

    name: str
    block: int
    keys: tuple[int, ...]
    refused: tuple[int, ...]


_AES = (16, 24, 32)
_NOT_AES = (0, 15, 17, 33)

CIPHERS = {
    row.name: row
    for row in (
        Cipher("aes", 16, _AES, _NOT_AES),
        Cipher("aria", 16, _AES, _NOT_AES),
        Cipher("anubis", 16, (16, 20, 40), (0, 15, 41)),
        Cipher("blowfish", 8, (4, 16, 56), (0, 3, 57)),
        Cipher("camellia", 16, _AES, _NOT_AES),
        Cipher("cast5", 8, (5, 10, 11, 16), (0, 4, 17)),
        Cipher("cast6", 16, (16, 20, 32), (0, 15, 17, 33)),
        Cipher("cipher_null", 1, (0,), (1,)),
        Cipher("des", 8, (8,), (0, 7, 9)),
        Cipher("des3_ede", 8, (24,), (0, 16, 25)),
        Cipher("fcrypt", 8, (8,), (0, 7, 9)),
        Cipher("khazad", 8, (16,), (0, 15, 17)),
        Cipher("seed", 16, (16,), (0, 15, 17)),
        Cipher("serpent", 16, (0, 1, 16, 32), (33,)),
        Cipher("sm4", 16, (16,), (0, 15, 17)),
        Cipher("tea", 8, (16,), (0, 15, 17)),
        Cipher("tnepres", 16, (16, 32), (33,)),
        Cipher("twofish", 16, _AES, _NOT_AES),
        Cipher("xeta", 8, (16,), (0, 15, 17)),
        Cipher("xtea", 8, (16,), (0, 15, 17)),
    )
}
