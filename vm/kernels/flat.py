"""Images that a loader copies into memory as they are: told by a few bytes at the begin, their version by its text.

arm64 and RISC-V: Documentation/arch/arm64/booting.rst and arch/riscv/boot-image-header.rst, magic2 at 56. arm: the
magic of a zImage at 0x24 (arch/arm/boot/compressed/head.S). s390x: "S390EP" at 0x10008 (arch/s390/boot/head.S).
ppc64el: an ELF file, as the kernel's linker leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from vm.kernels import unpack

_MAGIC = (
    (0x38, b"ARM\x64", 183),
    (0x38, b"RSC\x05", 243),
    (0x24, b"\x18\x28\x6f\x01", 40),
    (0x10008, b"S390EP", 22),
    # EI_CLASS 2, EI_DATA 1, e_machine 21 (EM_PPC64).
    (0x00, b"\x7fELF\x02\x01", 21),
)
_ELF_MACHINE = 0x12
# linux_banner (init/version.c).
_BANNER = re.compile(rb"Linux version (\d[\x20-\x7e]*)")


def read(file: BinaryIO, header: bytes) -> tuple[int, str] | None:
    """Return the machine's number in ELF files and the kernel's version string; None for another format.

    Args:
        file: the image.
        header: its first 4 KiB.
    """
    machine = _machine(file)
    if machine is None or (header.startswith(b"\x7fELF") and header[_ELF_MACHINE : _ELF_MACHINE + 2] != b"\x15\0"):
        return None
    file.seek(0)
    data = file.read()
    for content in (data, *_inner(data)):
        if found := _BANNER.search(content):
            return machine, found[1].decode()
    return machine, ""


def payload(_data: bytes) -> bytes:
    """Return nothing: QEMU loads these images as they are."""
    raise ValueError("not unpacked on the host")


def can_be_entered(_elf: bytes) -> bool:
    """Say no."""
    return False


def _machine(file: BinaryIO) -> int | None:
    for offset, magic, machine in _MAGIC:
        file.seek(offset)
        if file.read(len(magic)) == magic:
            return machine
    return None


def _inner(data: bytes) -> Iterator[bytes]:
    """Give what is compressed inside of ``data``: the kernel behind its decompressor."""
    for magic in unpack.MAGIC:
        position = data.find(magic)
        while position >= 0:
            if (content := unpack.attempt(data[position:])) is not None:
                yield content
            position = data.find(magic, position + 1)
