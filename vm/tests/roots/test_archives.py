"""Roots as archives that a kernel unpacks: names, modes and links as they are on the disk, and where they go."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.base import arch
from vm.roots import archives, build


def tree(place: Path) -> Path:
    """Make a tree of everything that a root has, and a name that is not UTF-8."""
    for name in ("usr/bin/run", "usr/lib/python3/x.py", "lib/too.py", "etc/hosts"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "usr/bin/run").chmod(0o755)
    (place / "sbin").symlink_to("usr/sbin")
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    return place


def unpacked(archive: Path, into: Path) -> Path:
    """Unpack an archive by another program."""
    into.mkdir()
    with archive.open("rb") as file:
        subprocess.run(["busybox", "cpio", "-idu"], stdin=file, cwd=into, check=True, capture_output=True)
    return into


def listed(archive: Path) -> list[list[str]]:
    with archive.open("rb") as file:
        said = subprocess.run(["busybox", "cpio", "-tv"], stdin=file, capture_output=True, text=True, check=True)
    return [line.split() for line in said.stdout.splitlines()]


def test_what_is_packed_comes_out(tmp_path: Path) -> None:
    archives.pack(tree(tmp_path / "tree"), tmp_path / "a")
    out = unpacked(tmp_path / "a", tmp_path / "out")
    assert (out / "usr/bin/run").read_text() == "usr/bin/run"
    assert (out / "sbin").readlink() == Path("usr/sbin")
    modes = {words[-1]: words[0] for words in listed(tmp_path / "a") if "->" not in words}
    assert modes["usr/bin/run"] == "-rwxr-xr-x"
    assert modes["tmp"] == "drwxrwxrwt"


def test_directories_come_before_what_is_in_them(tmp_path: Path) -> None:
    """The kernel makes none by itself."""
    archives.pack(tree(tmp_path / "tree"), tmp_path / "a", "usr/lib/modules/6.1")
    names = [words[-1] for words in listed(tmp_path / "a") if "->" not in words]
    assert names[0] == "usr/lib/modules/6.1"
    for number, name in enumerate(names[1:], 1):
        assert name.rpartition("/")[0] in names[:number], name


def test_the_roots_links_are_not_replaced_by_directories(tmp_path: Path) -> None:
    archives.pack(tree(tmp_path / "tree"), tmp_path / "a")
    names = [words[-1] for words in listed(tmp_path / "a")]
    assert "usr/lib/too.py" in names
    assert "lib/too.py" not in names


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        archives.pack(tree(tmp_path / f"tree-{name}"), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_archive_of_a_root_is_what_its_image_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    made = build.Root(tmp_path / "x86_64-0123", arch.default())
    made.directory.mkdir()
    source = tree(tmp_path / "tree")
    (source / "lib/too.py").rename(source / "usr/lib/too.py")
    (source / "lib").rmdir()
    build.pack(source, made.image, "-all-time", "0")
    first = archives.root(made)
    out = unpacked(first, tmp_path / "out")
    assert (out / "usr/lib/too.py").read_text() == "lib/too.py"
    assert archives.root(made) == first, "made once"
    assert not first.with_name("tree").exists()
