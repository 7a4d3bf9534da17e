"""QEMU's command line: what QEMU itself makes of it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from vm.base import arch
from vm.machine import init, qemu
from vm.machine.vm import Vm
from vm.tests.archive import bzimage

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
    console = qemu._console(machine(mode="command"), directory)
    run = subprocess.run(
        [program, "-machine", "isapc", "-accel", "tcg", "-S", "-display", "none", "-monitor", "stdio", *console],
        input="quit\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (directory / "console.log").exists()


def test_a_machine_is_of_its_kernels_architecture(tmp_path: Path) -> None:
    """A made-up row is enough: virtme-ng is asked for its machine, and nothing of this host's architecture is left."""
    serial = ("-device", "sclpconsole,chardev=console")
    row = dataclasses.replace(
        arch.default(), virtme="s390x", bus="ccw", serial=serial, console="ttysclp0", console_arguments=("console=x",),
        kernel_arguments=(), nmi_arguments=(), profiles={"tcg": arch.Profile("s390-ccw-virtio", "max")},
    )  # fmt: skip
    image = tmp_path / "image"
    image.write_bytes(bzimage("6.1.0-fake"))
    vm = machine(architecture=row, image=str(image), mode="shell")
    words = qemu.command_line(vm, tmp_path, 5, 6)
    told = words[words.index("-append") + 1].split()
    assert [word for word in words if word.endswith("-pci")] == []
    assert [word for word in words if word.startswith("virtio-")][-2:] == ["virtio-rng-ccw", "virtio-serial-ccw"]
    assert words.count(serial[1]) == 1, "virtme-ng has one of its own"
    assert [words[at + 1] for at, word in enumerate(words) if word in ("-machine", "-M")] == ["s390-ccw-virtio"]
    assert [word for word in told if word.startswith(("console=", "earlyprintk", "unknown_nmi"))] == ["console=x"]
    assert "</dev/ttysclp0 >/dev/ttysclp0" in init.render(vm, tmp_path)


def test_a_machine_is_read_as_it_was_written(tmp_path: Path) -> None:
    vm = machine(cpus=2, kernel_arguments=["quiet"])
    vm.save(tmp_path)
    assert Vm.load(tmp_path) == vm
