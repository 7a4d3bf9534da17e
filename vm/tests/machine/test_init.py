"""Process 1: what a guest needs is there, though it lies below what the guest has of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base import process
from vm.machine import init
from vm.machine.vm import Vm


@pytest.fixture
def hidden() -> Iterator[Path]:
    """Return a directory that the guest hides."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="vm-init-"))
    yield path
    shutil.rmtree(path)


def machine(cwd: str = "/") -> Vm:
    return Vm(
        name="x-1", kernel="x", release="6.1", image=None, modules=None, accelerator="tcg", memory=64, cpus=1,
        boot_deadline=1.0, cwd=cwd,
    )  # fmt: skip


def kept(cwd: str = "/") -> list[str]:
    return init._kept_paths(machine(cwd), Path("/nonexistent"))


@pytest.fixture
def nixos(hidden: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have modprobe and all programs below a link in a directory that is covered, as /run/current-system is."""
    store = hidden / "outside/system"
    (store / "sw/bin").mkdir(parents=True)
    (hidden / "current-system").symlink_to(store)
    programs = hidden / "current-system/sw/bin"
    find = process.find
    monkeypatch.setattr(process, "find", lambda name: f"{programs}/modprobe" if name == "modprobe" else find(name))
    monkeypatch.setenv("PATH", f"{programs}:/nonexistent:{hidden}/wrappers:/usr/bin:/bin")
    return programs


def test_programs_below_a_link_in_what_is_covered_are_there_by_that_name(nixos: Path) -> None:
    assert str(nixos) in kept()
    script = init.render(machine(), Path("/nonexistent"))
    assert "exec @modprobe@ -d".replace("@modprobe@", f"{nixos}/modprobe") in script
    number = next(line.split("<")[0].split()[1] for line in script.splitlines() if line.endswith(f"<{nixos}"))
    assert f"mkdir -p {nixos} && mount --bind /proc/self/fd/{number} {nixos}; exec {number}<&-" in script


def test_a_directory_of_the_path_that_does_not_exist_is_passed_over(nixos: Path, hidden: Path) -> None:
    """To open one that is not there ends the shell, and with it the machine."""
    assert not any("wrappers" in path or "nonexistent" in path for path in kept())
    (hidden / "wrappers").mkdir()
    assert f"{hidden}/wrappers" in kept()


def test_programs_give_way_where_there_are_too_many(hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [hidden / f"bin{number}" for number in range(9)]
    for place in places:
        place.mkdir()
    monkeypatch.setenv("PATH", ":".join([*map(str, places), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]))
    found = kept()
    assert len(found) == init._MOST_KEPT
    # The project itself may be there as well, and its Python: they come first.
    ours = [path for path in found if path.startswith(f"{hidden}/")]
    assert ours == [f"{hidden}/bin{number}" for number in range(len(ours))]
    assert ours


def test_a_working_directory_behind_a_link_is_there_by_both_names(hidden: Path) -> None:
    (hidden / "real").mkdir()
    (hidden / "link").symlink_to("real")
    assert {f"{hidden}/real", f"{hidden}/link"} <= set(kept(f"{hidden}/link"))


def test_the_script_is_one_that_a_shell_understands(nixos: Path, hidden: Path) -> None:
    (hidden / "init").write_text(init.render(machine(), hidden))
    subprocess.run(["sh", "-n", str(hidden / "init")], check=True, timeout=30)
