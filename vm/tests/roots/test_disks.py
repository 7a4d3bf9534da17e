"""The images of the project and of modules: what is in them, and when they are made anew."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vm.base import arch, process
from vm.base.errors import UsageError
from vm.roots import build, disks, parts


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a small project and a cache of our own."""
    root = tmp_path / "a project"
    for name in ("tests/test_one.py", "tests/__pycache__/x.pyc", ".git/config", "results/run/x", "vm/results/model.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(disks, "ROOT", root)
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    return root


# Nothing of it is looked at but its Python, which is the one that runs here.
HERE = parts.Release("here", ".".join(map(str, sys.version_info[:2])), 41)


@dataclass(frozen=True)
class FakeRoot(build.Root):
    """A root that is not there, of the Python that runs here or of another."""

    release: parts.Release = HERE


ROOTS = FakeRoot(Path("/nonexistent"), arch.default())


def listed(image: Path) -> list[str]:
    said = subprocess.run(["unsquashfs", "-lls", image], capture_output=True, text=True, check=True).stdout
    return [line.partition("squashfs-root")[2] for line in said.splitlines() if line.startswith("-")]


def test_guests_see_the_project_at_its_own_path_and_nothing_that_is_hidden_or_made(project: Path) -> None:
    compiled = f"{project}/vm/results/__pycache__/model.cpython-{HERE.python.replace('.', '')}.pyc"
    names = [f"{project}/tests/test_one.py", compiled, f"{project}/vm/results/model.py"]
    assert listed(disks.project([], ROOTS)) == names


def test_what_is_elsewhere_is_shown_at_its_own_path(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/test_two.py").write_text("")
    (tmp_path / "test_three.py").write_text("")
    found = listed(disks.project([tmp_path / "elsewhere", tmp_path / "test_three.py", project / "tests"], ROOTS))
    assert {f"{tmp_path}/elsewhere/test_two.py", f"{tmp_path}/test_three.py"} <= set(found)
    assert len([name for name in found if not name.endswith(".pyc")]) == 4


def test_an_edited_file_is_shown_and_an_image_is_made_once(project: Path) -> None:
    first = disks.project([], ROOTS)
    assert disks.project([], ROOTS) == first
    (project / "tests/test_one.py").write_text("edited")
    second = disks.project([], ROOTS)
    assert second != first
    shown = subprocess.run(
        ["unsquashfs", "-cat", second, f"{project}/tests/test_one.py"[1:]], capture_output=True, check=True
    ).stdout
    assert shown == b"edited"


def test_somebodys_home_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "_MOST_BYTES", 10)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/film").write_text("12345678901")
    with pytest.raises(UsageError, match="name the tests themselves, or give --root host"):
        disks.project([tmp_path / "home"], ROOTS)


def test_the_same_files_make_the_same_bytes(project: Path, tmp_path: Path) -> None:
    build.pack(project, tmp_path / "one")
    build.pack(project, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_without_mksquashfs_its_package_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "find", lambda _name: None)
    with pytest.raises(UsageError, match="install the package squashfs-tools"):
        build.pack(project, tmp_path / "image")


def test_modules_are_packed_once_for_each_kernel(tmp_path: Path) -> None:
    lib = tmp_path / "kernel/lib/modules/6.1"
    (lib / "kernel").mkdir(parents=True)
    (lib / "modules.dep").write_text("")
    (lib / "kernel/x.ko").write_text("module")
    image = disks.modules(tmp_path / "kernel", "6.1")
    assert listed(image) == ["/kernel/x.ko", "/modules.dep"]
    assert disks.modules(tmp_path / "kernel", "6.1") == image
