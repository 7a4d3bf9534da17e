"""The kernel inside an image, for QEMU to load as it is: decompressing it in an emulated guest takes seconds."""

from __future__ import annotations

import hashlib
import lzma
import struct
import zlib
from pathlib import Path

from vm.base import cache
from vm.base.files import identity
from vm.kernels.image import READERS, Reader
from vm.kernels.unpack import unpack


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


def _write(directory: Path, image: Path, reader: Reader) -> None:
    # An empty entry remembers that there is nothing to be had.
    try:
        elf = unpack(reader.payload(image.read_bytes()))
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error, struct.error):
        return
    if elf is not None and reader.can_be_entered(elf):
        (directory / "vmlinux").write_bytes(elf)
