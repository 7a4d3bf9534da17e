"""The formats by which kernels are compressed."""

from __future__ import annotations

import bz2
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Callable


def unpack(packed: bytes) -> bytes | None:
    """Return what ``packed`` decompresses to, told by its first bytes; None for a format nothing here knows."""
    for magic, decompress in _FORMATS:
        if packed.startswith(magic):
            return decompress(packed)
    return None


def attempt(packed: bytes) -> bytes | None:
    """Do the same where bytes only look like the begin of something compressed; None also for what is damaged."""
    try:
        return unpack(packed)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
        return None


def _by_program(*command: str) -> Callable[[bytes], bytes | None]:
    def decompress(packed: bytes) -> bytes | None:
        if shutil.which(command[0]) is None:
            return None
        # The kernel's build appends the unpacked size, which the program calls trailing garbage: not an error.
        answer = subprocess.run(command, input=packed, capture_output=True, timeout=120)
        return answer.stdout or None

    return decompress


def _xz(packed: bytes) -> bytes:
    # One stream only: the size is appended after it.
    return lzma.LZMADecompressor().decompress(packed)


_FORMATS: tuple[tuple[bytes, Callable[[bytes], bytes | None]], ...] = (
    (b"\xfd7zXZ\0", _xz),
    (b"\x1f\x8b", lambda packed: zlib.decompressobj(31).decompress(packed)),
    (b"BZh", lambda packed: bz2.BZ2Decompressor().decompress(packed)),
    (b"\x28\xb5\x2f\xfd", _by_program("zstd", "-dc")),
    (b"\x02\x21\x4c\x18", _by_program("lz4", "-dc")),
)
MAGIC = tuple(magic for magic, _ in _FORMATS)
"""How they begin."""
