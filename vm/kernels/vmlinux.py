"""The kernel inside an image, for QEMU to load as it is: decompressing it in an emulated guest takes seconds."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from vm.base import cache
from vm.base.files import identity
from vm.kernels.image import READERS, Reader


def cached(image: Path, form: str) -> Path | None:
    """Return the ELF file inside ``image``, unpacked into the cache when it is not there yet.

    Args:
        image: the file.
        form: its format (vm/kernels/image.py).

    Returns:
        None when QEMU cannot boot it that way: no entry for it, or a compression that nothing here unpacks.
    """
    key = hashlib.sha256(identity(image).encode()).hexdigest()[:16]
    made = cache.entry(
        cache.cache_dir() / "vmlinux" / f"{image.name}-{key}", lambda temporary: _write(temporary, image, READERS[form])
    )
    file = made / "vmlinux"
    return file if file.exists() else None


def unpack(packed: bytes) -> bytes | None:
    """Return what ``packed`` decompresses to, told by its first bytes; None for a format nothing here knows."""
    for magic, decompress in _FORMATS:
        if packed.startswith(magic):
            return decompress(packed)
    return None


def _write(directory: Path, image: Path, reader: Reader) -> None:
    # An empty entry remembers that there is nothing to be had.
    try:
        elf = unpack(reader.payload(image.read_bytes()))
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error, struct.error):
        return
    if elf is not None and reader.can_be_entered(elf):
        (directory / "vmlinux").write_bytes(elf)


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
