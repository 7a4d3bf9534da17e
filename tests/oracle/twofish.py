"""Twofish (Schneier and others, 1998), for the 24-byte keys libgcrypt does not take."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence

_M = 0xFFFFFFFF
_Q0 = ("817D6F320B59ECA4", "ECB81235F4A6709D", "BA5E6D90C8F32471", "D7F4126E9B3085CA")
_Q1 = ("28BDF76E31940AC5", "1E2B4C376DA5F908", "4C75169A0ED82B3F", "B951C3DE647F208A")
_RS = (
    (0x01, 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E),
    (0xA4, 0x56, 0x82, 0xF3, 0x1E, 0xC6, 0x68, 0xE5),
    (0x02, 0xA1, 0xFC, 0xC1, 0x47, 0xAE, 0x3D, 0x19),
    (0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E, 0x03),
)
_MDS = ((0x01, 0xEF, 0x5B, 0x5B), (0x5B, 0xEF, 0xEF, 0x01), (0xEF, 0x5B, 0x01, 0xEF), (0xEF, 0x01, 0xEF, 0x5B))
# Which permutation byte i goes through before the key words 3 to 0 are mixed in, and at the end.
_ORDER = ((1, 0, 0, 1), (1, 1, 0, 0), (0, 1, 0, 1), (0, 0, 1, 1), (1, 0, 1, 0))

Function = Callable[[bytes], bytes]


def functions(key: bytes) -> tuple[Function, Function]:
    """Return encryption and decryption of one block, for a key of 16, 24 or 32 bytes."""
    count = len(key) // 8
    words = struct.unpack(f"<{2 * count}I", key)
    secret = [_reed_solomon(key[8 * i : 8 * i + 8]) for i in range(count)][::-1]
    subkeys: list[int] = []
    for i in range(20):
        a = _h(2 * i * 0x01010101, words[0::2])
        b = _left(_h((2 * i + 1) * 0x01010101, words[1::2]), 8)
        subkeys += [(a + b) & _M, _left((a + 2 * b) & _M, 9)]

    def rounds(block: bytes, order: list[int], into: list[int], out: list[int], decrypt: bool) -> bytes:
        a, b, c, d = (word ^ k for word, k in zip(struct.unpack("<4I", block), into, strict=True))
        for r in order:
            t0, t1 = _h(a, secret), _h(_left(b, 8), secret)
            f0, f1 = (t0 + t1 + subkeys[2 * r + 8]) & _M, (t0 + 2 * t1 + subkeys[2 * r + 9]) & _M
            if decrypt:
                c, d = _left(c, 1) ^ f0, _left(d ^ f1, 31)
            else:
                c, d = _left(c ^ f0, 31), _left(d, 1) ^ f1
            a, b, c, d = c, d, a, b
        return struct.pack("<4I", *(word ^ k for word, k in zip((c, d, a, b), out, strict=True)))

    first, last = subkeys[:4], subkeys[4:8]
    forward, backward = list(range(16)), list(range(15, -1, -1))
    return (
        lambda block: rounds(block, forward, first, last, False),
        lambda block: rounds(block, backward, last, first, True),
    )


def _left(value: int, count: int) -> int:
    return (value << count | value >> (32 - count)) & _M


def _h(value: int, words: list[int] | tuple[int, ...]) -> int:
    """The function h: permutations and key words, then the MDS matrix (section 4.3.2)."""
    parts = list(value.to_bytes(4, "little"))
    for level in range(len(words) - 1, -1, -1):
        key = words[level].to_bytes(4, "little")
        order = _ORDER[3 - level]
        parts = [_q()[order[i]][parts[i]] ^ key[i] for i in range(4)]
    parts = [_q()[_ORDER[4][i]][parts[i]] for i in range(4)]
    return _product(_MDS, parts, 0x169)


def _reed_solomon(part: bytes) -> int:
    return _product(_RS, part, 0x14D)


def _product(matrix: Sequence[Sequence[int]], vector: Sequence[int], modulus: int) -> int:
    """Return a matrix times a vector over GF(256) by ``modulus``, as a little-endian number."""
    result = 0
    for i, row in enumerate(matrix):
        for factor, part in zip(row, vector, strict=True):
            result ^= _times(factor, part, modulus) << (8 * i)
    return result


@functools.cache
def _times(left: int, right: int, modulus: int) -> int:
    result = 0
    while left:
        if left & 1:
            result ^= right
        right = right << 1 ^ (modulus if right & 0x80 else 0)
        left >>= 1
    return result


@functools.cache
def _q() -> tuple[bytes, bytes]:
    return _permutation(_Q0), _permutation(_Q1)


def _permutation(boxes: tuple[str, ...]) -> bytes:
    """The permutations q0 and q1, from four 4-bit boxes each (section 4.3.5)."""
    t = [[int(digit, 16) for digit in box] for box in boxes]
    out = []
    for value in range(256):
        a, b = value >> 4, value & 15
        for first, second in ((0, 1), (2, 3)):
            mixed = a ^ (b >> 1 | b << 3 & 8) ^ a << 3 & 8
            a, b = t[first][a ^ b], t[second][mixed & 15]
        out.append(b << 4 | a)
    return bytes(out)
