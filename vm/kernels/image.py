"""What a kernel image file says about itself: reading the header of a bzImage, and naming what is none.

The offsets are those of the kernel's Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import UsageError

HEADER_BYTES = 0x1000
WANTED = "an x86-64 bzImage (arch/x86/boot/bzImage of a build, /boot/vmlinuz-* of a system)"

ELF_MACHINES = {
    3: "i386", 8: "mips", 20: "powerpc", 21: "powerpc64", 22: "s390", 40: "arm", 43: "sparc64",
    62: "x86-64", 183: "arm64", 243: "riscv", 258: "loongarch",
}  # fmt: skip

# (offset, bytes there, what such a file is): images of other architectures, and what is taken for an image.
OTHERS = (
    (0x38, b"ARM\x64", "an arm64 kernel image"),
    (0x38, b"RSC\x05", "a RISC-V kernel image"),
    (0x24, b"\x18\x28\x6f\x01", "an arm kernel image (zImage)"),
    (0x04, b"zimg", "an EFI zboot image, which arm64, RISC-V and LoongArch use"),
    (0x00, b"\x27\x05\x19\x56", "a U-Boot image (uImage)"),
    (0x00, b"\xd0\x0d\xfe\xed", "a device tree or FIT image"),
    (0x00, b"\x1f\x8b", "gzip data (an initrd, or an image of another architecture)"),
    (0x00, b"\xfd7zXZ\x00", "xz data"),
    (0x00, b"\x28\xb5\x2f\xfd", "zstd data (an initrd?)"),
    (0x00, b"070701", "a cpio archive (an initrd)"),
    (0x00, b"!<arch>\n", "a package or an ar archive; unpack it first, or give its version"),
    (0x00, b"QFI\xfb", "a disk image"),
)


@dataclass(frozen=True)
class Image:
    """The header of a bzImage.

    Attributes:
        path: the file.
        version: the whole version string: ``6.1.0-50-amd64 (debian-kernel@…) #1 SMP …``.
    """

    path: Path
    version: str

    @property
    def release(self) -> str:
        """``uname -r`` of this kernel: the version string's first word."""
        return (self.version.split() or [""])[0]


def read(path: Path) -> Image:
    """Read the header of the bzImage ``path``.

    Raises:
        UsageError: it cannot be read, is no kernel image, or is one of another architecture.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file; expected {WANTED}")
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            if header[0x1FE:0x200] != b"\x55\xaa" or header[0x202:0x206] != b"HdrS":
                raise UsageError(f"{path} is {_describe(header)}; expected {WANTED}")
            if _number(header, 0x206, 2) >= 0x20C and not _number(header, 0x236, 2) & 1:
                # Bit 0 of xloadflags (XLF_KERNEL_64), since boot protocol 2.12.
                raise UsageError(f"{path} is a 32-bit x86 kernel (i386); expected {WANTED}")
            # kernel_version: offset of a NUL-terminated string, less 0x200; 0 when there is none.
            start = _number(header, 0x20E, 2)
            file.seek(start + 0x200)
            version = file.read(512).split(b"\0")[0].decode("ascii", "replace") if start else ""
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; expected {WANTED}") from error
    found = Image(path, version)
    # It becomes the name of files and tests.
    if not re.fullmatch(r"\d[A-Za-z0-9._+~-]*", found.release):
        raise UsageError(f"{path} has a boot header without a kernel's version ({found.release!r}); expected {WANTED}")
    return found


def _number(header: bytes, offset: int, size: int) -> int:
    return int.from_bytes(header[offset : offset + size], "little")


def _describe(header: bytes) -> str:
    if not header:
        return "an empty file"
    if header.startswith(b"\x7fELF"):
        order = "big" if header[5:6] == b"\x02" else "little"
        machine = int.from_bytes(header[18:20], order)  # type: ignore[arg-type]
        return f"an ELF file for {ELF_MACHINES.get(machine, f'machine {machine}')} (vmlinux?), no boot image"
    for offset, magic, what in OTHERS:
        if header[offset : offset + len(magic)] == magic:
            return what
    return "no kernel image"
