"""ChaCha of any number of rounds, many blocks at once.

Every state word is one long integer with a 64-bit lane for each block, so that a round over all blocks
costs as much as a round over one.
"""

from __future__ import annotations

import struct
from array import array

_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_ROUND = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def keystream(key: bytes, iv: bytes, length: int, rounds: int = 20) -> bytes:
    """Return ``length`` bytes of ChaCha keystream.

    Args:
        key: 32 bytes.
        iv: 16 bytes, the words 12 to 15 of the state: a 32-bit counter, little endian, and the nonce.
    """
    count = max(1, -(-length // 64))
    ones = _ones(count)
    counter, *nonce = struct.unpack("<4I", iv)
    counters = sum(((counter + i) & 0xFFFFFFFF) << (64 * i) for i in range(count))
    words = [*_CONSTANTS, *struct.unpack("<8I", key), 0, *nonce]
    start = [word * ones for word in words]
    start[12] = counters
    mask = 0xFFFFFFFF * ones
    state = _rounds(list(start), rounds, mask)
    out = array("I", bytes(64 * count))
    for i, (word, initial) in enumerate(zip(state, start, strict=True)):
        lanes = ((word + initial) & mask).to_bytes(8 * count, "little")
        out[i::16] = array("I", lanes)[::2]
    return out.tobytes()[:length]


def hchacha(key: bytes, nonce: bytes, rounds: int = 20) -> bytes:
    """Return the 32-byte subkey HChaCha derives from a key and 16 bytes (draft-irtf-cfrg-xchacha 2.2)."""
    words = [*_CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    state = _rounds(words, rounds, 0xFFFFFFFF)
    return struct.pack("<8I", *state[:4], *state[12:])


def xchacha_keystream(key: bytes, iv: bytes, length: int, rounds: int = 20) -> bytes:
    """Return XChaCha keystream.

    Args:
        iv: the kernel's 32 bytes: a 24-byte nonce and a 64-bit block counter, little endian.
    """
    return keystream(hchacha(key, iv[:16], rounds), iv[24:] + iv[16:24], length, rounds)


def _ones(count: int) -> int:
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")


def _rounds(x: list[int], rounds: int, mask: int) -> list[int]:
    for _ in range(rounds // 2):
        for a, b, c, d in _ROUND:
            for into, plus, mixed, left in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[into] = (x[into] + x[plus]) & mask
                value = x[mixed] ^ x[into]
                x[mixed] = ((value << left) | (value >> (32 - left))) & mask
    return x
