"""The kernel inside a bzImage: found, unpacked, and only taken when QEMU can enter it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vm.kernels import vmlinux


def elf(note_name: bytes = b"Xen", note_type: int = 18) -> bytes:
    """Return a 64-bit ELF file of one note segment with two notes, the second one the given."""
    notes = b""
    for name, kind in ((b"GNU", 3), (note_name, note_type)):
        notes += struct.pack("<III", len(name) + 1, 4, kind) + name + b"\0" + b"\1\2\3\4"
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14)
    header += struct.pack("<HH", 56, 1) + bytes(6)
    program = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), len(notes), 4)
    return header + program + notes


def bzimage(payload: bytes, length: int | None = None) -> bytes:
    """Return a file with the header fields that lead to ``payload``: two setup sectors, 16 bytes in between."""
    header = bytearray(3 * 512)
    header[0x1F1] = 2
    struct.pack_into("<II", header, 0x248, 16, len(payload) if length is None else length)
    return bytes(header) + bytes(16) + payload + b"more"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))


def cached(tmp_path: Path, data: bytes) -> bytes | None:
    image = tmp_path / "bzImage"
    image.write_bytes(data)
    found = vmlinux.cached(image, "bzimage")
    assert vmlinux.cached(image, "bzimage") == found
    return None if found is None else found.read_bytes()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_the_kernel_comes_out_as_it_went_in(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    # The build appends the unpacked size to all formats.
    packed = compress(elf()) + struct.pack("<I", len(elf()))
    assert cached(tmp_path, bzimage(packed)) == elf()


@pytest.mark.parametrize(
    "data",
    [
        bzimage(lzma.compress(elf(note_type=19))),
        bzimage(lzma.compress(elf(note_name=b"Zen"))),
        bzimage(lzma.compress(b"no ELF file")),
        bzimage(b"a format of its own"),
        bzimage(lzma.compress(elf()), length=1 << 30),
        bzimage(b"\xfd7zXZ\0broken"),
        b"short",
    ],
    ids=["other-note", "other-owner", "no-elf", "unknown-format", "outside", "broken", "short"],
)
def test_what_cannot_be_booted_that_way_is_left_alone(tmp_path: Path, data: bytes) -> None:
    assert cached(tmp_path, data) is None


def test_a_new_image_in_the_same_place_is_another_one(tmp_path: Path) -> None:
    assert cached(tmp_path, b"short") is None
    assert cached(tmp_path, bzimage(lzma.compress(elf()))) == elf()
