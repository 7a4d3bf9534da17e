"""Poly1305 and the hashes of Adiantum built on it."""

from __future__ import annotations

import struct

from tests.oracle.bits import blocks_of

_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
_PRIME = (1 << 130) - 5
_CHUNK = 1024


def poly1305(key: bytes, data: bytes) -> bytes:
    """Return the 16-byte Poly1305 of ``data`` under a 32-byte one-time key (RFC 8439 2.5)."""
    total = evaluate(key[:16], data) + int.from_bytes(key[16:], "little")
    return (total % (1 << 128)).to_bytes(16, "little")


def evaluate(r: bytes, data: bytes) -> int:
    """Return Poly1305's polynomial at ``r`` (16 bytes, not yet clamped), before the one-time pad is added."""
    point = int.from_bytes(r, "little") & _CLAMP
    state = 0
    for block in blocks_of(data, 16):
        state = (state + int.from_bytes(block + b"\1", "little")) * point % _PRIME
    return state


def nhpoly1305(key: bytes, data: bytes) -> bytes:
    """Return the 16-byte NHPoly1305 of ``data``: NH over each 1024 bytes, Poly1305 over the NH hashes.

    Args:
        key: 1088 bytes, 16 for Poly1305 and 1072 for NH (Adiantum, section 2 and appendix).
    """
    hashes = b"".join(_nh(key[16:], chunk) for chunk in blocks_of(data, _CHUNK))
    return (evaluate(key[:16], hashes) % (1 << 128)).to_bytes(16, "little")


def _nh(key: bytes, chunk: bytes) -> bytes:
    """Return the 32-byte NH of at most 1024 bytes, zero-padded to units of 16."""
    chunk += bytes(-len(chunk) % 16)
    words = struct.unpack(f"<{len(chunk) // 4}I", chunk)
    keys = struct.unpack(f"<{len(key) // 4}I", key)
    sums = []
    for offset in range(0, 16, 4):
        total = 0
        for i in range(0, len(words), 4):
            a, b, c, d = (
                (words[i + j] + keys[offset + i + j]) & 0xFFFFFFFF for j in range(4)
            )  # pairs are two words apart
            total += a * c + b * d
        sums.append(total & 0xFFFFFFFFFFFFFFFF)
    return struct.pack("<4Q", *sums)
