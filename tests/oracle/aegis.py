"""AEGIS-128 (Wu and Preneel, CAESAR submission v1.1), of which libraries have only the later variants."""

from __future__ import annotations

import functools

from tests.oracle.bits import blocks_of

_CONST0 = 0x000101020305080D1522375990E97962
_CONST1 = 0xDB3D18556DC22FF12011314273B528DD


def seal(key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int = 16) -> bytes:
    """Return ciphertext and tag; key and IV have 16 bytes, the tag is cut to its first ``authsize``."""
    state = _start(int.from_bytes(key, "big"), int.from_bytes(iv, "big"))
    for block in blocks_of(aad, 16):
        state = _update(state, int.from_bytes(block.ljust(16, b"\0"), "big"))
    out = b""
    for block in blocks_of(plaintext, 16):
        word = int.from_bytes(block.ljust(16, b"\0"), "big")
        stream = state[1] ^ state[4] ^ state[2] & state[3]
        out += (word ^ stream).to_bytes(16, "big")[: len(block)]
        state = _update(state, word)
    lengths = (8 * len(aad)).to_bytes(8, "little") + (8 * len(plaintext)).to_bytes(8, "little")
    last = state[3] ^ int.from_bytes(lengths, "big")
    for _ in range(7):
        state = _update(state, last)
    tag = state[0] ^ state[1] ^ state[2] ^ state[3] ^ state[4]
    return out + tag.to_bytes(16, "big")[:authsize]


_State = tuple[int, int, int, int, int]


def _start(key: int, iv: int) -> _State:
    state: _State = (key ^ iv, _CONST1, _CONST0, key ^ _CONST0, key ^ _CONST1)
    for _ in range(5):
        state = _update(_update(state, key), key ^ iv)
    return state


def _update(state: _State, message: int) -> _State:
    s0, s1, s2, s3, s4 = state
    return (
        _aes_round(s4) ^ s0 ^ message,
        _aes_round(s0) ^ s1,
        _aes_round(s1) ^ s2,
        _aes_round(s2) ^ s3,
        _aes_round(s3) ^ s4,
    )


def _aes_round(value: int) -> int:
    """SubBytes, ShiftRows and MixColumns (FIPS 197), by one table lookup a byte."""
    tables = _tables()
    result = 0
    for place, byte in enumerate(value.to_bytes(16, "big")):
        result ^= tables[place][byte]
    return result


@functools.cache
def _tables() -> list[list[int]]:
    """For each place of the state: what each byte there becomes, spread over the column it moves to."""
    sbox = _sbox()
    tables = []
    for place in range(16):
        column, row = divmod(place, 4)
        target = (column - row) % 4
        entries = []
        for byte in range(256):
            s = sbox[byte]
            double = s << 1 ^ (0x11B if s & 0x80 else 0)
            spread = (double, s, s, double ^ s)  # rows 0 to 3 for a byte of row 0
            mixed = [spread[(i - row) % 4] for i in range(4)]
            entries.append(int.from_bytes(bytes(mixed), "big") << (8 * (12 - 4 * target)))
        tables.append(entries)
    return tables


def _sbox() -> list[int]:
    """FIPS 197 5.1.1: the inverse in GF(2^8), then an affine map."""
    powers, value = [], 1
    for _ in range(255):
        powers.append(value)
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
    inverse = [0] * 256
    for i, power in enumerate(powers):
        inverse[power] = powers[-i % 255]
    box = []
    for x in inverse:
        turned = x
        for i in range(1, 5):
            turned ^= (x << i | x >> (8 - i)) & 255
        box.append(turned ^ 0x63)
    return box
