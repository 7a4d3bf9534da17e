"""Results received into a file that is mapped shared: they are the file's, also once its pages are gone."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg.memory import PAGE
from tests.afalg.uring import OP_READ, Request, Ring
from tests.doctor import absence
from tests.errors.subjects import HASH, Subject, each_keyed_type
from tests.need import lacking
from tests.requests.rings import done

PAGES = 24
FILESYSTEM = "ext4"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, timeout=60, capture_output=True, text=True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Give a directory of a file system with a disk behind it: one that writes pages back only if they are dirty."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    made = run("/usr/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image))
    assert made.returncode == 0, made.stderr
    if run("mount", "-o", "loop", str(image), str(place)).returncode:
        known = Path("/proc/filesystems").read_text()
        assert FILESYSTEM not in known.split(), "the image cannot be mounted"
        lacking(absence.DISK)
    yield place
    run("umount", str(place))


def again(place: Path) -> None:
    """Unmount and mount again: what is read then comes from the disk."""
    assert run("umount", str(place)).returncode == 0
    assert run("mount", "-o", "loop", str(place.with_name("image")), str(place)).returncode == 0


@pytest.mark.deadline(30)
@pytest.mark.parametrize("way", ["recv", "io_uring"])
@each_keyed_type
def test_result_reaches_the_file(subject: Subject, way: str, mounted: Path, ring: Ring) -> None:
    """Into pages that were clean and only read before: written to behind the program's back, they must become dirty.

    Kernel document core-api/pin_user_pages.rst, "FOLL_WRITE" and the dirtying of file-backed pages.
    """
    file, offset = mounted / "file", 3 * PAGE - 7
    message = subject.message if subject is HASH else bytes(i * 7 % 251 for i in range(16 * PAGE + 32))
    expected = subject.answer_to(message)
    file.write_bytes(b"\x55" * (PAGES * PAGE))
    again(mounted)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), PAGES * PAGE, mmap.MAP_SHARED) as memory:
        assert memory[::PAGE] == b"\x55" * PAGES
        view = memoryview(memory)
        target = view[offset : offset + len(expected)]
        with subject.open() as transform:
            transform.op.sendmsg([message], subject.control)
            if way == "recv":
                assert transform.op.recvmsg([target]).size == len(expected)
            else:
                assert done(ring, Request(OP_READ, transform.op.fd, target)) == len(expected)
        target.release()
        view.release()
    again(mounted)
    content = file.read_bytes()
    assert content[offset : offset + len(expected)] == expected
    assert content[:offset].strip(b"\x55") == content[offset + len(expected) :].strip(b"\x55") == b""
