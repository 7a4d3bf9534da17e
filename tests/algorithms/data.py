"""Test data: the same in every run, and different for every use."""

from __future__ import annotations

import functools
import hashlib
import random


def data(label: str, size: int) -> bytes:
    """Return ``size`` bytes that look random and are fixed by ``label``."""
    return hashlib.shake_128(label.encode()).digest(size)


@functools.cache
def message() -> bytes:
    """Return the message all lengths are cut from: 64 KiB and a bit.

    Its first bit is clear, as VMAC wants of a nonce.
    """
    return b"\x42" + data("message", 66000)


def cut(size: int) -> bytes:
    """Return the first ``size`` bytes of the message."""
    return message()[:size]


PAGE = 4096
LONG = 16 * PAGE + 1
"""One byte more than the kernel takes from user space at a time."""


def lengths(label: str, unit: int, minimum: int, block: int, longest: int, *, thorough: bool = False) -> list[int]:
    """Return the lengths worth trying: nothing, one, around a block, around a page, past 16 pages, and random ones.

    Args:
        label: chooses the random ones.
        unit: every length is a multiple of it.
        minimum: none is below it.
        block: bytes of a block.
        longest: none is above it.
        thorough: more random ones.
    """
    wanted = {0, 1, block - 1, block, block + 1, 3 * block + 5, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 77, LONG}
    chance = random.Random(label)
    wanted |= {chance.randrange(min(longest, 2 * PAGE)) for _ in range(40 if thorough else 2)}
    rounded = {max(length, minimum) // unit * unit for length in wanted}
    return sorted(length for length in rounded if minimum <= length <= longest)


# Computed block by block in Python, which an emulated guest does some hundred times a second.
_SLOW = ("fcrypt", "tea", "xtea", "xeta", "tnepres", "cast5", "cipher_null")
_SLOWEST = ("anubis", "khazad", "cast6")


def longest(name: str) -> int:
    """Return how long a message the oracle of ``name`` can take: some are plain Python."""
    if any(slow in name for slow in _SLOWEST):
        return 300
    if any(slow in name for slow in _SLOW):
        return 700
    if name.startswith(("aegis", "pcbc", "kw", "lrw", "rmd", "nh")) or ("aria" in name and "ctr" not in name):
        return PAGE + 1
    if name.startswith(
        ("crc", "ghash", "polyval", "hctr2", "adiantum", "cfb", "ofb", "hmac(rmd", "hmac(xx", "michael")
    ):
        return PAGE + 77
    return LONG
