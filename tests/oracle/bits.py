"""Arithmetic of bytes and of polynomials over GF(2), on Python's big integers.

A loop over bytes is slow in an emulated guest; one operation on a long integer is not.
"""

from __future__ import annotations


def xor(left: bytes, right: bytes) -> bytes:
    """Return the XOR of two equally long strings."""
    value = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return value.to_bytes(len(left), "big")


def blocks_of(data: bytes, size: int) -> list[bytes]:
    """Return ``data`` cut into pieces of ``size`` bytes, the last as long as is left."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def carryless(left: int, right: int) -> int:
    """Return the product of two polynomials over GF(2), at most 128 bits each.

    The bits are spread out to one a byte, where an ordinary product cannot carry from one into the next:
    each byte of it counts at most 128 ones, and its lowest bit is their sum modulo 2.
    """
    product = _spread(left) * _spread(right)
    digits = (product & _LOWEST) | _ASCII
    return int(digits.to_bytes(_WIDTH, "big"), 2)


def reduce128(value: int, low: int = 0x87) -> int:
    """Return a polynomial modulo x^128 + low, where ``low`` is of small degree (0x87: x^7 + x^2 + x + 1)."""
    while value >> 128:
        value = carryless(value >> 128, low) ^ (value & _MASK128)
    return value


def multiply128(left: int, right: int) -> int:
    """Return the product in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, bit i the coefficient of x^i."""
    return reduce128(carryless(left, right))


def reverse128(value: int) -> int:
    """Return 128 bits in reverse order."""
    return int(format(value, "0128b")[::-1], 2)


def ghash(key: bytes, data: bytes) -> bytes:
    """Return GHASH of whole 16-byte blocks (NIST SP 800-38D 6.4), whose first bit is the coefficient of 1."""
    h = reverse128(int.from_bytes(key, "big"))
    state = 0
    for block in blocks_of(data, 16):
        state = multiply128(state ^ reverse128(int.from_bytes(block, "big")), h)
    return reverse128(state).to_bytes(16, "big")


def polyval(key: bytes, data: bytes) -> bytes:
    """Return POLYVAL of whole 16-byte blocks, by its relation to GHASH (RFC 8452 appendix A)."""
    # mulX_GHASH: in the reversed bit order of GHASH this is a doubling.
    doubled = reduce128(reverse128(int.from_bytes(key[::-1], "big")) << 1)
    turned = b"".join(block[::-1] for block in blocks_of(data, 16))
    return ghash(reverse128(doubled).to_bytes(16, "big"), turned)[::-1]


_MASK128 = (1 << 128) - 1
_WIDTH = 256
_LOWEST = int.from_bytes(b"\x01" * _WIDTH, "big")
_ASCII = int.from_bytes(b"0" * _WIDTH, "big")


def _spread(value: int) -> int:
    return int.from_bytes(format(value, "b").encode(), "big") & _LOWEST
