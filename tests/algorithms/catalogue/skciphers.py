"""Every skcipher AF_ALG may offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.algorithms.catalogue.ciphers import CIPHERS, Cipher

Chaining = Literal["none", "continues", "restarts", "unspecified"]


@dataclass(frozen=True)
class SkcipherRow:
    """One skcipher.

    Attributes:
        iv: bytes of IV, 0 for none.
        keys: key lengths that are exercised.
        refused: key lengths that must be EINVAL.
        unit: a message has a whole number of so many bytes, else EINVAL.
        minimum: fewer bytes than this are EINVAL.
        chunk: a partial request stops at a multiple of so many bytes.
        chaining: what a second request without an IV does. ``continues``: as if the message had gone on;
            ``restarts``: from the IV last sent; ``none``: has no IV; ``unspecified``: the implementations
            differ, and nothing documents which is right.
        one_way: decryption needs what encryption does not give back (kw).
    """

    name: str
    iv: int
    keys: tuple[int, ...]
    refused: tuple[int, ...]
    unit: int
    minimum: int
    chunk: int
    chaining: Chaining
    one_way: bool = False


def rows() -> Iterator[SkcipherRow]:
    """Yield every row."""
    for cipher in CIPHERS.values():
        yield from _over(cipher)
    yield SkcipherRow("chacha20", 16, (32,), (0, 16, 31, 33), 1, 0, 64, "restarts")
    yield SkcipherRow("xchacha20", 32, (32,), (0, 16, 31, 33), 1, 0, 64, "restarts")
    yield SkcipherRow("xchacha12", 32, (32,), (0, 16, 31, 33), 1, 0, 64, "restarts")
    yield SkcipherRow("salsa20", 8, (16, 32), (0, 15, 24, 33), 1, 0, 64, "restarts")
    for name in ("xchacha12,aes", "xchacha20,aes", "xchacha12,twofish"):
        yield SkcipherRow(f"adiantum({name})", 32, (32,), (0, 16, 31, 33), 1, 16, 16, "restarts")
    yield SkcipherRow("hctr2(aes)", 32, (16, 24, 32), (0, 15, 33), 1, 16, 16, "restarts")
    yield SkcipherRow("xctr(aes)", 16, (16, 24, 32), (0, 15, 33), 1, 0, 16, "restarts")
    # Its keystream's position lives in the tfm or the request, depending on the kernel.
    yield SkcipherRow("arc4", 0, (1, 5, 16, 256), (0, 257), 1, 0, 1, "unspecified")
    yield SkcipherRow("ecb(arc4)", 0, (1, 5, 16, 256), (0, 257), 1, 0, 1, "unspecified")


def _over(cipher: Cipher) -> Iterator[SkcipherRow]:
    """Yield every mode that makes sense over one block cipher."""
    name, block, keys, refused = cipher.name, cipher.block, cipher.keys, cipher.refused
    yield SkcipherRow(f"ecb({name})", 0, keys, refused, block, 0, block, "none")
    for mode in ("cbc", "pcbc"):
        yield SkcipherRow(f"{mode}({name})", block, keys, refused, block, 0, block, "continues")
    for mode in ("cfb", "ofb") if block == 1 else ("ctr", "cfb", "ofb"):
        yield SkcipherRow(f"{mode}({name})", block, keys, refused, 1, 0, block, "continues")
    yield SkcipherRow(f"cts(cbc({name}))", block, keys, refused, 1, block, block, "unspecified")
    if block == 16:
        yield from _over_long(name, keys, refused)
    if 32 in keys or name == "blowfish":
        essiv = f"essiv(cbc({name}),sha256)"
        yield SkcipherRow(essiv, block, keys, refused, block, 0, block, "unspecified")


def _over_long(name: str, keys: tuple[int, ...], refused: tuple[int, ...]) -> Iterator[SkcipherRow]:
    """Yield the modes that need blocks of 16 bytes."""
    twice = tuple(2 * length for length in keys)
    odd = tuple(length for length in (2 * keys[0] + 1, 2 * keys[-1] + 2) if length not in twice)
    yield SkcipherRow(f"xts({name})", 16, twice, odd, 1, 16, 16, "unspecified")
    longer = tuple(length + 16 for length in keys)
    shifted = tuple(length + 16 for length in refused)
    yield SkcipherRow(f"lrw({name})", 16, longer, (0, *shifted), 16, 0, 16, "continues")
    nonced = tuple(length + 4 for length in keys)
    shifted = tuple(length + 4 for length in refused if length)
    yield SkcipherRow(f"rfc3686(ctr({name}))", 8, nonced, (0, 3, *shifted), 1, 0, 16, "restarts")
    yield SkcipherRow(f"kw({name})", 8, keys, refused, 8, 16, 8, "unspecified", one_way=True)
