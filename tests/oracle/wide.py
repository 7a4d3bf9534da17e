"""Wide-block ciphers, in which every bit of the result depends on every bit of the message."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle import chacha, poly
from tests.oracle.bits import polyval, xor
from tests.oracle.blocks import Block, cipher

_MASK = (1 << 128) - 1


def adiantum(rounds: int, name: str, key: bytes, tweak: bytes, data: bytes, decrypt: bool) -> bytes:
    """Adiantum (Crowley and Biggers, "Adiantum: length-preserving encryption for entry-level processors").

    Args:
        rounds: of XChaCha, 12 or 20.
        name: of the block cipher, which takes a 32-byte key.
        key: 32 bytes.
        tweak: 32 bytes.
        data: at least 16 bytes.
    """
    derived = chacha.xchacha_keystream(key, b"\1".ljust(32, b"\0"), 32 + 16 + 1088, rounds)
    block, header_key, hash_key = cipher(name, derived[:32]), derived[32:48], derived[48:]

    def hashed(bulk: bytes) -> int:
        header = (8 * len(bulk)).to_bytes(16, "little") + tweak
        return poly.evaluate(header_key, header) + int.from_bytes(poly.nhpoly1305(hash_key, bulk), "little")

    bulk, right = data[:-16], int.from_bytes(data[-16:], "little")
    middle = ((right + hashed(bulk)) & _MASK).to_bytes(16, "little")
    turned = block.decrypt(middle) if decrypt else block.encrypt(middle)
    nonce = (middle if decrypt else turned) + b"\1".ljust(16, b"\0")
    bulk = xor(bulk, chacha.xchacha_keystream(key, nonce, len(bulk), rounds))
    right = (int.from_bytes(turned, "little") - hashed(bulk)) & _MASK
    return bulk + right.to_bytes(16, "little")


def hctr2(
    block: Block,
    tweak: bytes,
    data: bytes,
    decrypt: bool,
    xctr_stream: Callable[[Block, bytes, int], bytes],
) -> bytes:
    """HCTR2 (Crowley, Huckleberry and Biggers, "Length-preserving encryption with HCTR2").

    Args:
        tweak: 32 bytes.
        data: at least 16 bytes.
    """
    hash_key, whitening = (block.encrypt(i.to_bytes(16, "little")) for i in (0, 1))

    def hashed(rest: bytes) -> bytes:
        uneven = len(rest) % 16 != 0
        length = (2 * 8 * len(tweak) + (3 if uneven else 2)).to_bytes(16, "little")
        if uneven:
            rest = rest + b"\1"
            rest += bytes(-len(rest) % 16)
        return polyval(hash_key, length + tweak + rest)

    first, rest = data[:16], data[16:]
    masked = xor(first, hashed(rest))
    turned = block.decrypt(masked) if decrypt else block.encrypt(masked)
    start = xor(xor(masked, turned), whitening)
    rest = xor(rest, xctr_stream(block, start, len(rest)))
    return xor(turned, hashed(rest)) + rest
