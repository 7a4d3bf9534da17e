"""The RIPEMD hashes no library has: 128, 256 and 320 bits (Dobbertin, Bosselaers, Preneel, 1996)."""

from __future__ import annotations

import struct
from collections.abc import Callable

_M = 0xFFFFFFFF
_ORDER_LEFT = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8),
    (3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12),
    (1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2),
    (4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13),
)
_ORDER_RIGHT = (
    (5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12),
    (6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2),
    (15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13),
    (8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14),
    (12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11),
)
_SHIFT_LEFT = (
    (11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    (7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12),
    (11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5),
    (11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12),
    (9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6),
)
_SHIFT_RIGHT = (
    (8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6),
    (9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11),
    (9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5),
    (15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8),
    (8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11),
)
_K_LEFT = (0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_K_RIGHT = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0)
_K_RIGHT_SHORT = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0)
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
_START_RIGHT = (0x76543210, 0xFEDCBA98, 0x89ABCDEF, 0x01234567, 0x3C2D1E0F)
# Which word the two lines exchange after each round of RIPEMD-256 and of RIPEMD-320.
_EXCHANGED = {4: (0, 1, 2, 3), 5: (1, 3, 0, 2, 4)}
_FUNCTIONS: tuple[Callable[[int, int, int], int], ...] = (
    lambda x, y, z: x ^ y ^ z,
    lambda x, y, z: x & y | ~x & z,
    lambda x, y, z: (x | ~y) ^ z,
    lambda x, y, z: x & z | y & ~z,
    lambda x, y, z: x ^ (y | ~z),
)


def ripemd(bits: int, data: bytes) -> bytes:
    """Return the digest of 128, 256 or 320 bits."""
    width = 5 if bits == 320 else 4
    left, right = list(_START[:width]), list(_START_RIGHT[:width])
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + struct.pack("<Q", 8 * len(data))
    for at in range(0, len(padded), 64):
        words = struct.unpack("<16I", padded[at : at + 64])
        if bits == 128:
            left = _compress_128(left, words)
        else:
            left, right = _compress_double(left, right, words)
    state = left if bits == 128 else left + right
    return struct.pack(f"<{len(state)}I", *state)


def _compress_128(state: list[int], words: tuple[int, ...]) -> list[int]:
    a, b = list(state), list(state)
    for i in range(4):
        a = _round(a, words, i, left=True)
        b = _round(b, words, i, left=False)
    return [(state[i] + a[(i + 1) % 4] + b[(i + 2) % 4]) & _M for i in (1, 2, 3, 0)]


def _compress_double(left: list[int], right: list[int], words: tuple[int, ...]) -> tuple[list[int], list[int]]:
    a, b = list(left), list(right)
    for i in range(len(left)):
        a = _round(a, words, i, left=True)
        b = _round(b, words, i, left=False)
        at = _EXCHANGED[len(left)][i]
        a[at], b[at] = b[at], a[at]
    return (
        [(x + y) & _M for x, y in zip(left, a, strict=True)],
        [(x + y) & _M for x, y in zip(right, b, strict=True)],
    )


def _round(state: list[int], words: tuple[int, ...], i: int, *, left: bool) -> list[int]:
    """Sixteen steps of one line; four words for RIPEMD-128 and -256, five for -320."""
    short = len(state) == 4
    order, shifts = (_ORDER_LEFT, _SHIFT_LEFT) if left else (_ORDER_RIGHT, _SHIFT_RIGHT)
    if left:
        function, constant = _FUNCTIONS[i], _K_LEFT[i]
    elif short:
        function, constant = _FUNCTIONS[3 - i], _K_RIGHT_SHORT[i]
    else:
        function, constant = _FUNCTIONS[4 - i], _K_RIGHT[i]
    for word, shift in zip(order[i], shifts[i], strict=True):
        a, b, c, d, *rest = state
        total = (a + (function(b, c, d) & _M) + words[word] + constant) & _M
        total = (total << shift | total >> (32 - shift)) & _M
        if rest:
            e = rest[0]
            state = [e, (total + e) & _M, b, (c << 10 | c >> 22) & _M, d]
        else:
            state = [d, total, b, c]
    return state
