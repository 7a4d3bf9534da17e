"""CAST-256, which no library here has (RFC 2612)."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path

_M = 0xFFFFFFFF


def schedule(key: bytes) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the rotation and masking keys of the twelve quad-rounds, for a key of 16 to 32 bytes."""
    kappa = list(struct.unpack(">8I", key.ljust(32, b"\0")))
    rounds: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    mask, rotation = 0x5A827999, 19
    for i in range(24):
        for j in range(8):
            # RFC 2612 2.4: the forward octave, which uses its words from H down to A.
            target, source = (6 - j) % 8, (7 - j) % 8
            kappa[target] ^= _f(j % 3 + 1, kappa[source], mask, rotation)
            mask, rotation = (mask + 0x6ED9EBA1) & _M, (rotation + 17) % 32
        if i % 2:
            a, b, c, d, e, f, g, h = kappa
            rounds.append(((a & 31, c & 31, e & 31, g & 31), (h, f, d, b)))
    return rounds


def crypt(rounds: list[tuple[tuple[int, ...], tuple[int, ...]]], block: bytes, *, decrypt: bool) -> bytes:
    """Return one 16-byte block en- or decrypted (RFC 2612 2.5)."""
    words = list(struct.unpack(">4I", block))
    order = list(range(12))
    for position, i in enumerate(reversed(order) if decrypt else order):
        forward = position < 6
        _quad(words, *rounds[i], forward)
    return struct.pack(">4I", *words)


def _quad(words: list[int], rotation: tuple[int, ...], mask: tuple[int, ...], forward: bool) -> None:
    """Q of the first half, or its mirror QBAR of the second."""
    steps = ((2, 3, 1, 0), (1, 2, 2, 1), (0, 1, 3, 2), (3, 0, 1, 3))
    for target, source, kind, i in steps if forward else reversed(steps):
        words[target] ^= _f(kind, words[source], mask[i], rotation[i])


def _f(kind: int, data: int, mask: int, rotation: int) -> int:
    """The three round functions of RFC 2612 2.2."""
    s1, s2, s3, s4 = _boxes()
    if kind == 1:
        value = (mask + data) & _M
    elif kind == 2:
        value = mask ^ data
    else:
        value = (mask - data) & _M
    value = (value << rotation | value >> (32 - rotation)) & _M
    a, b, c, d = s1[value >> 24], s2[value >> 16 & 255], s3[value >> 8 & 255], s4[value & 255]
    if kind == 1:
        return (((a ^ b) - c) + d) & _M
    if kind == 2:
        return (((a - b) + c) ^ d) & _M
    return (((a + b) ^ c) - d) & _M


@functools.cache
def _boxes() -> list[tuple[int, ...]]:
    data = json.loads((Path(__file__).parent / "sboxes.json").read_text())["cast"]
    return [struct.unpack(">256I", bytes.fromhex("".join(data[f"s{i}"]))) for i in (1, 2, 3, 4)]
