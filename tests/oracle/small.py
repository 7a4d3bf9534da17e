"""Small old block ciphers that no library here has."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path

_M = 0xFFFFFFFF
_DELTA = 0x9E3779B9


def fcrypt(key: bytes, block: bytes, *, decrypt: bool) -> bytes:
    """fcrypt of AFS's rxkad: a Feistel cipher of 16 rounds, 8-byte block and 56-bit key in 8 bytes."""
    bits = int.from_bytes(key, "big")
    value = 0
    for byte in bits.to_bytes(8, "big"):
        value = value << 7 | byte >> 1  # the lowest bit of each byte is parity
    keys = []
    for _ in range(16):
        keys.append(value & _M)
        value = value >> 11 | (value & 0x7FF) << 45
    left, right = struct.unpack(">2I", block)
    order = reversed(range(16)) if decrypt else range(16)
    for i in order:
        if i % 2 == 0:
            left ^= _fcrypt_f(right ^ keys[i])
        else:
            right ^= _fcrypt_f(left ^ keys[i])
    return struct.pack(">2I", left, right)


def tea(key: bytes, block: bytes, *, decrypt: bool) -> bytes:
    """TEA (Wheeler and Needham, 1994), 32 cycles, words in the kernel's little-endian order."""
    k = struct.unpack("<4I", key)
    y, z = struct.unpack("<2I", block)
    for i in range(32, 0, -1) if decrypt else range(1, 33):
        total = _DELTA * i & _M
        if decrypt:
            z = (z - ((y << 4) + k[2] ^ y + total ^ (y >> 5) + k[3])) & _M
            y = (y - ((z << 4) + k[0] ^ z + total ^ (z >> 5) + k[1])) & _M
        else:
            y = (y + ((z << 4) + k[0] ^ z + total ^ (z >> 5) + k[1])) & _M
            z = (z + ((y << 4) + k[2] ^ y + total ^ (y >> 5) + k[3])) & _M
    return struct.pack("<2I", y, z)


def xtea(key: bytes, block: bytes, *, decrypt: bool) -> bytes:
    """XTEA (Needham and Wheeler, 1997), 32 cycles, words in the kernel's little-endian order."""
    return _xtea(key, block, decrypt, lambda v, total, k: ((v << 4 ^ v >> 5) + v) ^ (total + k))


def xeta(key: bytes, block: bytes, *, decrypt: bool) -> bytes:
    """XTEA as it was once misread: addition and XOR in another order, kept for compatibility."""
    return _xtea(key, block, decrypt, lambda v, total, k: (v << 4 ^ v >> 5) + (v ^ total) + k)


def arc4(key: bytes, data: bytes) -> bytes:
    """ARCFOUR, the stream cipher of 1994; libgcrypt refuses its short keys."""
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) & 255
        box[i], box[j] = box[j], box[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) & 255
        j = (j + box[i]) & 255
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) & 255])
    return bytes(out)


def _xtea(key: bytes, block: bytes, decrypt: bool, mix: Callable[[int, int, int], int]) -> bytes:
    k = struct.unpack("<4I", key)
    y, z = struct.unpack("<2I", block)
    for i in reversed(range(32)) if decrypt else range(32):
        before, after = _DELTA * i & _M, _DELTA * (i + 1) & _M
        if decrypt:
            z = (z - mix(y, after, k[after >> 11 & 3])) & _M
            y = (y - mix(z, before, k[before & 3])) & _M
        else:
            y = (y + mix(z, before, k[before & 3])) & _M
            z = (z + mix(y, after, k[after >> 11 & 3])) & _M
    return struct.pack("<2I", y, z)


def _fcrypt_f(value: int) -> int:
    boxes = _fcrypt_boxes()
    a, b, c, d = value.to_bytes(4, "big")
    # Each S-box's byte lands at its own rotation of the word.
    return boxes[0][a] << 3 ^ _left(boxes[1][b], 27) ^ boxes[2][c] << 11 ^ boxes[3][d] << 19


def _left(value: int, count: int) -> int:
    return (value << count | value >> (32 - count)) & _M


@functools.cache
def _fcrypt_boxes() -> list[bytes]:
    data = json.loads((Path(__file__).parent / "sboxes.json").read_text())["fcrypt"]
    return [bytes.fromhex("".join(data[f"s{i}"])) for i in range(4)]
