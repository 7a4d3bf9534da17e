"""Checksums the kernel offers as hashes; all results little endian."""

from __future__ import annotations

import functools
import zlib

from tests.oracle.bits import blocks_of

_M32 = 0xFFFFFFFF
_M64 = (1 << 64) - 1
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)


def crc32(data: bytes, key: bytes | None = None) -> bytes:
    """CRC-32 without the inversions before and after; ``key`` is the 4-byte seed, 0 by default."""
    seed = int.from_bytes(key or b"", "little")
    return (zlib.crc32(data, seed ^ _M32) ^ _M32).to_bytes(4, "little")


def crc32c(data: bytes, key: bytes | None = None) -> bytes:
    """CRC-32C (RFC 3720 appendix B.4), inverted at the end; ``key`` is the 4-byte seed, all ones by default."""
    state = _M32 if key is None else int.from_bytes(key, "little")
    return (_reflected(0x82F63B78, state, data) ^ _M32).to_bytes(4, "little")


def crc64_rocksoft(data: bytes) -> bytes:
    """CRC-64 of NVMe (Rocksoft parameters): polynomial 0xAD93D23594C93659 reflected, inverted at both ends."""
    return (_reflected(0x9A6C9329AC4BC9B5, _M64, data) ^ _M64).to_bytes(8, "little")


def crct10dif(data: bytes) -> bytes:
    """CRC-16 of the T10 data integrity field: polynomial 0x8BB7, seed 0."""
    table, state = _table16(0x8BB7), 0
    for byte in data:
        state = (state << 8 & 0xFFFF) ^ table[state >> 8 ^ byte]
    return state.to_bytes(2, "little")


def xxhash64(data: bytes, key: bytes | None = None) -> bytes:
    """XXH64 (xxHash specification 0.1.1); ``key`` is the 8-byte seed, 0 by default."""
    seed = int.from_bytes(key or b"", "little")
    rest = data
    if len(data) >= 32:
        lanes = [(seed + start) & _M64 for start in (_P1 + _P2, _P2, 0, -_P1)]
        whole = len(data) // 32 * 32
        rest = data[whole:]
        for at in range(0, whole, 32):
            for i in range(4):
                word = int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little")
                lanes[i] = _xxh_round(lanes[i], word)
        value = sum(_left(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True)) & _M64
        for lane in lanes:
            value = ((value ^ _xxh_round(0, lane)) * _P1 + _P4) & _M64
    else:
        value = (seed + _P5) & _M64
    return _xxh_finish((value + len(data)) & _M64, rest).to_bytes(8, "little")


def michael_mic(data: bytes, key: bytes) -> bytes:
    """Michael, the integrity check of TKIP (IEEE 802.11-2016 12.5.2.3.3)."""
    left, right = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:], "little")
    padded = data + b"\x5a" + bytes(4 + -(len(data) + 5) % 4)
    for word in blocks_of(padded, 4):
        left ^= int.from_bytes(word, "little")
        right ^= _left32(left, 17)
        left = (left + right) & _M32
        right ^= (left & 0xFF00FF00) >> 8 | (left & 0x00FF00FF) << 8
        left = (left + right) & _M32
        right ^= _left32(left, 3)
        left = (left + right) & _M32
        right ^= _left32(left, 30)
        left = (left + right) & _M32
    return left.to_bytes(4, "little") + right.to_bytes(4, "little")


def _left(value: int, count: int) -> int:
    return (value << count | value >> (64 - count)) & _M64


def _left32(value: int, count: int) -> int:
    return (value << count | value >> (32 - count)) & _M32


def _xxh_round(lane: int, word: int) -> int:
    return _left((lane + word * _P2) & _M64, 31) * _P1 & _M64


def _xxh_finish(value: int, rest: bytes) -> int:
    while len(rest) >= 8:
        value ^= _xxh_round(0, int.from_bytes(rest[:8], "little"))
        value = (_left(value, 27) * _P1 + _P4) & _M64
        rest = rest[8:]
    if len(rest) >= 4:
        value ^= int.from_bytes(rest[:4], "little") * _P1 & _M64
        value = (_left(value, 23) * _P2 + _P3) & _M64
        rest = rest[4:]
    for byte in rest:
        value = _left(value ^ (byte * _P5 & _M64), 11) * _P1 & _M64
    value = (value ^ value >> 33) * _P2 & _M64
    value = (value ^ value >> 29) * _P3 & _M64
    return value ^ value >> 32


def _reflected(polynomial: int, state: int, data: bytes) -> int:
    table = _table(polynomial)
    for byte in data:
        state = state >> 8 ^ table[(state ^ byte) & 255]
    return state


@functools.cache
def _table(polynomial: int) -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        return value

    return tuple(entry(byte) for byte in range(256))


@functools.cache
def _table16(polynomial: int) -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & 0x8000 else 0)) & 0xFFFF
        return value

    return tuple(entry(byte << 8) for byte in range(256))
