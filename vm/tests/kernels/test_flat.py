"""Images of other architectures: what they are of, and their version, packed or not."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.kernels import image

BANNER = b"Linux version 6.12.1-test (me@here) (gcc) #1 SMP\n\0"
SIGNS = {
    "aarch64": (0x38, b"ARM\x64"),
    "riscv64": (0x38, b"RSC\x05"),
    "armv7l": (0x24, b"\x18\x28\x6f\x01"),
    "s390x": (0x10008, b"S390EP"),
    "ppc64le": (0, b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x15\0"),
}


def made(path: Path, name: str, content: bytes) -> Path:
    offset, sign = SIGNS[name]
    data = bytearray(0x10010)
    data[offset : offset + len(sign)] = sign
    path.write_bytes(bytes(data) + content)
    return path


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_architecture_and_version_are_read(tmp_path: Path, name: str, pack: object) -> None:
    # Bytes that only look like something compressed come before.
    content = b"\x1f\x8b noise" + pack(b"\0" * 5000 + BANNER)  # type: ignore[operator]
    found = image.read(made(tmp_path / "Image", name, content))
    assert (found.architecture.name, found.release) == (name, "6.12.1-test")


@pytest.mark.parametrize("name", SIGNS)
def test_an_image_without_a_version_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="without a kernel's version"):
        image.read(made(tmp_path / "Image", name, b"Linux version of nobody"))


def test_an_elf_file_of_a_machine_without_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x08\x00" + BANNER)
    with pytest.raises(UsageError, match="mips"):
        image.read(path)


def test_people_call_architectures_by_either_name() -> None:
    assert arch.asked("arm64") is arch.asked("aarch64") is not None
    assert arch.asked("source") is None
