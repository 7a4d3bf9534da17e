"""The kernel inside a bzImage, for QEMU to load as it is: decompressing it in an emulated guest takes seconds.

QEMU enters an ELF kernel by the note of the Xen PVH protocol (CONFIG_PVH), which distribution kernels have. That
skips the boot sector code, the decompressor and with it the randomisation of addresses (KASLR).
"""

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

# Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length. The protected-mode part follows
# the setup sectors and the boot sector; a setup_sects of 0 means 4.
_SETUP_SECTS = 0x1F1
_PAYLOAD = 0x248
# include/xen/interface/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY, the address where PVH enters the kernel.
_PHYS32_ENTRY = 18
_PT_NOTE = 4


def cached(image: Path) -> Path | None:
    """Return the ELF file inside the bzImage ``image``, unpacked into the cache when it is not there yet.

    Returns:
        None when QEMU cannot boot it that way: no PVH entry, or a compression that nothing here unpacks.
    """
    key = hashlib.sha256(identity(image).encode()).hexdigest()[:16]
    made = cache.entry(
        cache.cache_dir() / "vmlinux" / f"{image.name}-{key}", lambda temporary: _write(temporary, image)
    )
    file = made / "vmlinux"
    return file if file.exists() else None


def payload(data: bytes) -> bytes:
    """Return the compressed kernel inside the bzImage ``data``.

    Raises:
        ValueError: the header points outside the file.
    """
    if len(data) < _PAYLOAD + 8:
        raise ValueError("too short for a bzImage")
    setup = (data[_SETUP_SECTS] or 4) + 1
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    begin = setup * 512 + offset
    if not length or begin + length > len(data):
        raise ValueError("the payload is outside the file")
    return data[begin : begin + length]


def unpack(packed: bytes) -> bytes | None:
    """Return what ``packed`` decompresses to, told by its first bytes; None for a format nothing here knows."""
    for magic, decompress in _FORMATS:
        if packed.startswith(magic):
            return decompress(packed)
    return None


def has_pvh_entry(elf: bytes) -> bool:
    """Say whether a 64-bit little-endian ELF file has the note by which QEMU enters it."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for index in range(count):
        kind, _, offset, _, _, length, _, _ = struct.unpack_from("<IIQQQQQQ", elf, table + index * size)
        if kind == _PT_NOTE and (b"Xen", _PHYS32_ENTRY) in _notes(elf[offset : offset + length]):
            return True
    return False


def _write(directory: Path, image: Path) -> None:
    # An empty entry remembers that there is nothing to be had.
    try:
        elf = unpack(payload(image.read_bytes()))
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error, struct.error):
        return
    if elf is not None and has_pvh_entry(elf):
        (directory / "vmlinux").write_bytes(elf)


def _notes(segment: bytes) -> list[tuple[bytes, int]]:
    found = []
    position = 0
    while position + 12 <= len(segment):
        name_size, value_size, kind = struct.unpack_from("<III", segment, position)
        name = segment[position + 12 : position + 12 + name_size].rstrip(b"\0")
        found.append((name, kind))
        position += 12 + (name_size + 3) // 4 * 4 + (value_size + 3) // 4 * 4
    return found


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
