"""VMAC with a 64-bit tag over AES (Krovetz and Dai, draft-krovetz-vmac-01), which no library has."""

from __future__ import annotations

import struct

from tests.oracle.blocks import cipher

_M64 = (1 << 64) - 1
_M126 = (1 << 126) - 1
_P127 = (1 << 127) - 1
_P64 = (1 << 64) - 257
_POLY_MASK = 0x1FFFFFFF1FFFFFFF1FFFFFFF1FFFFFFF
_BLOCK = 128


def vmac64(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """Return the 8-byte tag, big endian.

    Args:
        key: of AES.
        nonce: 16 bytes, the highest bit clear; its lowest bit chooses the half of the encrypted nonce.
    """
    block = cipher("aes", key)

    def derive(label: int, count: int) -> bytes:
        return b"".join(block.encrypt(bytes([label]) + bytes(14) + bytes([i])) for i in range(count))

    nh_key = struct.unpack(">16Q", derive(0x80, 8))
    poly_key = int.from_bytes(derive(0xC0, 1), "big") & _POLY_MASK
    l3_key = _l3_key(derive(0xE0, 8))
    hashed = _l3(_l2(data, nh_key, poly_key), l3_key, 8 * (len(data) % _BLOCK))
    pad = block.encrypt(nonce[:15] + bytes([nonce[15] & 0xFE]))
    half = pad[8:] if nonce[15] & 1 else pad[:8]
    return ((int.from_bytes(half, "big") + hashed) & _M64).to_bytes(8, "big")


def _l2(data: bytes, nh_key: tuple[int, ...], poly_key: int) -> int:
    """NH of each 128 bytes, then the polynomial over the results."""
    state = 1
    pieces = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)] or [b""]
    for i, piece in enumerate(pieces):
        hashed = _nh(piece + bytes(-len(piece) % 16), nh_key) & _M126 if data else 0
        state = ((poly_key if i == 0 else state * poly_key) + hashed) % _P127
    return state


def _nh(piece: bytes, key: tuple[int, ...]) -> int:
    words = struct.unpack(f"<{len(piece) // 8}Q", piece)
    total = 0
    for i in range(0, len(words), 2):
        total += ((words[i] + key[i]) & _M64) * ((words[i + 1] + key[i + 1]) & _M64)
    return total & ((1 << 128) - 1)


def _l3_key(stream: bytes) -> tuple[int, int]:
    """Two numbers below 2^64 - 257; the pairs that hold a larger one are passed over."""
    for at in range(0, len(stream), 16):
        first, second = struct.unpack(">2Q", stream[at : at + 16])
        if first < _P64 and second < _P64:
            return first, second
    raise AssertionError("no usable key in this many bytes: the odds are 2^-400")


def _l3(value: int, key: tuple[int, int], bits: int) -> int:
    value = (value + (bits << 64)) % _P127
    high, low = divmod(value, (1 << 64) - (1 << 32))
    return ((high + key[0]) % _P64) * ((low + key[1]) % _P64) % _P64
