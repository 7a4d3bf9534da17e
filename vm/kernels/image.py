"""Read architecture and version from the header of a kernel image, and say what a file is that has no such header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from vm.base.arch import ARCHITECTURES, Architecture
from vm.base.errors import UsageError
from vm.kernels import bzimage, flat

HEADER_BYTES = 0x1000
WANTED = f"{', '.join(row.image_name for row in ARCHITECTURES)}: arch/… of a build, /boot/vmlinuz-* of a system"
# Those without a row are known by name only.
ELF_MACHINES = {
    8: "mips", 20: "ppc", 43: "sparc64", 258: "loongarch",
    **{number: row.name for row in ARCHITECTURES for number in row.elf},
}  # fmt: skip

# (offset, bytes there, what such a file is): images of other architectures, and what is taken for an image.
OTHERS = (
    (0x04, b"zimg", "an EFI zboot image, which is not read: give the Image it was made of"),
    (0x00, b"\x27\x05\x19\x56", "a U-Boot image (uImage)"),
    (0x00, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
    (0x00, b"\x1f\x8b", "gzip data (an initrd, or an image of another architecture)"),
    (0x00, b"\xfd7zXZ\x00", "xz data"),
    (0x00, b"\x28\xb5\x2f\xfd", "zstd data (an initrd?)"),
    (0x00, b"070701", "a cpio archive (an initrd)"),
    (0x00, b"!<arch>\n", "a package or an ar archive; unpack it first, or give its version"),
    (0x00, b"QFI\xfb", "a disk image"),
)


class Reader(Protocol):
    """What a module for a format of images has, with the arguments and results of vm/kernels/bzimage.py."""

    def read(self, file: BinaryIO, header: bytes) -> tuple[int, str] | None: ...
    def payload(self, data: bytes) -> bytes: ...
    def can_be_entered(self, elf: bytes) -> bool: ...


READERS: dict[str, Reader] = {"bzimage": bzimage, "flat": flat}
"""By the name that the table of architectures has for the format."""


@dataclass(frozen=True)
class Image:
    """What a kernel image says.

    Attributes:
        path: the file.
        architecture: whose it is.
        version: the whole version string: ``6.1.0-50-amd64 (debian-kernel@…) #1 SMP …``.
    """

    path: Path
    architecture: Architecture
    version: str

    @property
    def release(self) -> str:
        """``uname -r`` of this kernel: the version string's first word."""
        return (self.version.split() or [""])[0]


def read(path: Path) -> Image:
    """Read the header of the kernel image ``path``.

    Raises:
        UsageError: it cannot be read, is no kernel image, or is one of another architecture.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file; expected {WANTED}")
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            answers = (reader.read(file, header) for reader in READERS.values())
            machine, version = next(filter(None, answers), (0, ""))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; expected {WANTED}") from error
    architecture = next((row for row in ARCHITECTURES if machine in row.elf), None)
    if architecture is None:
        what = f"a kernel image for {_machine(machine)}" if machine else _describe(header)
        raise UsageError(f"{path} is {what}; expected {WANTED}")
    found = Image(path, architecture, version)
    # It becomes the name of files and tests.
    if not re.fullmatch(r"\d[A-Za-z0-9._+~-]*", found.release):
        raise UsageError(f"{path} has a boot header without a kernel's version ({found.release!r}); expected {WANTED}")
    return found


def _machine(number: int) -> str:
    return ELF_MACHINES.get(number, f"machine {number}")


def _describe(header: bytes) -> str:
    if not header:
        return "an empty file"
    if header.startswith(b"\x7fELF"):
        order = "big" if header[5:6] == b"\x02" else "little"
        machine = int.from_bytes(header[18:20], order)  # type: ignore[arg-type]
        return f"an ELF file for {_machine(machine)} (vmlinux?), no boot image"
    for offset, magic, what in OTHERS:
        if header[offset : offset + len(magic)] == magic:
            return what
    return "no kernel image"
