"""The format bzImage: what its header says, and the kernel inside, for QEMU to load as it is.

The offsets are those of the kernel's Documentation/arch/x86/boot.rst. QEMU enters an ELF kernel by the note of the Xen
PVH protocol (CONFIG_PVH), which distribution kernels have. That skips the boot sector code, the decompressor and with
it the randomisation of addresses (KASLR).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_64_BIT, _32_BIT = 62, 3
# setup_sects, payload_offset, payload_length. The protected-mode part follows the setup sectors and the boot sector; a
# setup_sects of 0 means 4.
_SETUP_SECTS = 0x1F1
_PAYLOAD = 0x248
# include/xen/interface/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY, the address where PVH enters the kernel.
_PHYS32_ENTRY = 18
_PT_NOTE = 4


def read(file: BinaryIO, header: bytes) -> tuple[int, str] | None:
    """Return the machine's number in ELF files and the kernel's version string; None for another format.

    Args:
        file: the image.
        header: its first 4 KiB.
    """
    if header[0x1FE:0x200] != b"\x55\xaa" or header[0x202:0x206] != b"HdrS":
        return None
    # Bit 0 of xloadflags (XLF_KERNEL_64), since boot protocol 2.12.
    only_32 = _number(header, 0x206) >= 0x20C and not _number(header, 0x236) & 1
    # kernel_version: offset of a NUL-terminated string, less 0x200; 0 when there is none.
    start = _number(header, 0x20E)
    file.seek(start + 0x200)
    version = file.read(512).split(b"\0")[0].decode("ascii", "replace") if start else ""
    return _32_BIT if only_32 else _64_BIT, version


def payload(data: bytes) -> bytes:
    """Return the compressed kernel inside the image ``data``.

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


def can_be_entered(elf: bytes) -> bool:
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


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 2], "little")


def _notes(segment: bytes) -> list[tuple[bytes, int]]:
    found = []
    position = 0
    while position + 12 <= len(segment):
        name_size, value_size, kind = struct.unpack_from("<III", segment, position)
        name = segment[position + 12 : position + 12 + name_size].rstrip(b"\0")
        found.append((name, kind))
        position += 12 + (name_size + 3) // 4 * 4 + (value_size + 3) // 4 * 4
    return found
