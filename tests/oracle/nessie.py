"""Anubis and Khazad (Barreto and Rijmen, NESSIE submissions, tweaked versions), which no library has.

Both are involutions but for the order of their round keys: decryption is encryption with the keys turned round.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tests.oracle.bits import xor

_P = (3, 15, 14, 0, 5, 4, 11, 12, 13, 10, 9, 6, 7, 8, 2, 1)
_Q = (9, 14, 5, 6, 10, 2, 3, 12, 15, 0, 4, 13, 7, 11, 1, 8)
_ANUBIS_MATRIX = (1, 2, 4, 6)
_KHAZAD_MATRIX = (1, 3, 4, 5, 6, 8, 11, 7)
_KEY_MATRIX = (1, 2, 6, 8)
_KHAZAD_ROUNDS = 8

Function = Callable[[bytes], bytes]


def anubis(key: bytes) -> tuple[Function, Function]:
    """Return encryption and decryption of one 16-byte block; the key has 16 to 40 bytes, a multiple of 4."""
    keys = _anubis_keys(key)
    turned = [keys[-1], *(_theta4(k) for k in keys[-2:0:-1]), keys[0]]
    return (lambda block: _anubis(keys, block)), (lambda block: _anubis(turned, block))


def khazad(key: bytes) -> tuple[Function, Function]:
    """Return encryption and decryption of one 8-byte block; the key has 16 bytes."""
    before, last = key[:8], key[8:]
    keys = []
    for r in range(_KHAZAD_ROUNDS + 1):
        constant = _sbox()[8 * r : 8 * r + 8]
        before, last = last, xor(xor(_multiply(_substitute(last), _KHAZAD_MATRIX), constant), before)
        keys.append(last)
    turned = [keys[-1], *(_multiply(k, _KHAZAD_MATRIX) for k in keys[-2:0:-1]), keys[0]]
    return (lambda block: _khazad(keys, block)), (lambda block: _khazad(turned, block))


def _khazad(keys: list[bytes], block: bytes) -> bytes:
    state = xor(block, keys[0])
    for key in keys[1:-1]:
        state = xor(_multiply(_substitute(state), _KHAZAD_MATRIX), key)
    return xor(_substitute(state), keys[-1])


def _anubis(keys: list[bytes], block: bytes) -> bytes:
    state = xor(block, keys[0])
    for key in keys[1:-1]:
        state = xor(_theta4(_transpose(_substitute(state))), key)
    return xor(_transpose(_substitute(state)), keys[-1])


def _anubis_keys(key: bytes) -> list[bytes]:
    """Key evolution and key selection (Anubis, section 3.6 and 3.7)."""
    rows = [key[at : at + 4] for at in range(0, len(key), 4)]
    rounds = 8 + len(rows)
    keys = []
    for r in range(rounds + 1):
        keys.append(_select(rows))
        moved = [bytes(rows[(i - j) % len(rows)][j] for j in range(4)) for i in range(len(rows))]
        rows = [_multiply(_substitute(row), _ANUBIS_MATRIX) for row in moved]
        rows[0] = xor(rows[0], _sbox()[4 * r : 4 * r + 4])
    return keys


def _select(rows: list[bytes]) -> bytes:
    """Return a round key: column j of the state is a polynomial in its row's factor (Horner's rule)."""
    substituted = [_substitute(row) for row in rows]
    words = []
    for j in range(4):
        word = [0, 0, 0, 0]
        for row in reversed(substituted):
            word = [row[j] ^ _times(value, factor) for value, factor in zip(word, _KEY_MATRIX, strict=True)]
        words.append(bytes(word))
    return b"".join(words)


def _transpose(state: bytes) -> bytes:
    return bytes(state[4 * (i % 4) + i // 4] for i in range(16))


def _theta4(state: bytes) -> bytes:
    return b"".join(_multiply(state[at : at + 4], _ANUBIS_MATRIX) for at in range(0, 16, 4))


def _multiply(row: bytes, matrix: tuple[int, ...]) -> bytes:
    """Return a row times the Hadamard matrix whose entry (i, j) is ``matrix[i ^ j]``."""
    size = len(row)
    out = []
    for j in range(size):
        value = 0
        for i in range(size):
            value ^= _times(row[i], matrix[i ^ j])
        out.append(value)
    return bytes(out)


@functools.cache
def _times(value: int, factor: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1."""
    result = 0
    while factor:
        if factor & 1:
            result ^= value
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
        factor >>= 1
    return result


def _substitute(state: bytes) -> bytes:
    return state.translate(_sbox())


@functools.cache
def _sbox() -> bytes:
    """The S-box of both ciphers, three layers of two 4-bit boxes with their halves' halves exchanged between."""
    return bytes(_entry(value) for value in range(256))


def _entry(value: int) -> int:
    high, low = _P[value >> 4], _Q[value & 15]
    high, low = high & 12 | low >> 2, (high & 3) << 2 | low & 3
    high, low = _Q[high], _P[low]
    high, low = high & 12 | low >> 2, (high & 3) << 2 | low & 3
    return _P[high] << 4 | _Q[low]
