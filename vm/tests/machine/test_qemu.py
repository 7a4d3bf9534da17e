"""QEMU's command line: what QEMU itself makes of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vm.machine import qemu
from vm.machine.vm import Vm

QEMU = "qemu-system-x86_64"


def machine(**changes: object) -> Vm:
    settings: dict[str, object] = {
        "name": "x-1", "kernel": "x", "release": "", "image": None, "modules": None, "accelerator": "tcg",
        "memory": 64, "cpus": 1, "boot_deadline": 1.0, "cwd": "/",
    }  # fmt: skip
    return Vm(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["plain", "with, commas,", "with spaces", "with=path=x,id=y"])
def test_the_console_is_where_it_should_be_whatever_the_name_of_the_directory(tmp_path: Path, name: str) -> None:
    program = shutil.which(QEMU)
    assert program is not None, "installed with the project"
    directory = tmp_path / name
    directory.mkdir()
    console = qemu._terminal(machine(mode="command"), directory)
    run = subprocess.run(
        [program, "-machine", "isapc", "-accel", "tcg", "-S", "-display", "none", "-monitor", "stdio", *console],
        input="quit\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (directory / "console.log").exists()
