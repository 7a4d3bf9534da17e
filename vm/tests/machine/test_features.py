"""What a QEMU was built with is found out before guests are booted by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.machine import features
from vm.machine.qemu import command_line
from vm.machine.vm import Vm
from vm.tests.archive import bzimage
from vm.tests.harness import Project

ARCH = arch.default()
NEEDED = [device.format(bus=ARCH.bus) for device in features.NEEDED]
ALL = "\n".join(f'name "{device}", bus virtio-bus' for device in NEEDED)
NO_SANDBOX = 'case "$*" in *-sandbox*) echo "There is no option group \'sandbox\'" >&2; exit 1;; esac'

MakeQemu = Callable[..., str]


@pytest.fixture
def make_qemu(tmp_path: Path) -> MakeQemu:
    """Return a function that makes a QEMU which lists devices, and does what a script says before."""

    def make(devices: str = ALL, body: str = "") -> str:
        (tmp_path / "devices").write_text(devices + "\n")
        path = tmp_path / "qemu"
        path.write_text(f'#!/bin/sh\n{body}\ncase "$*" in *help) cat {tmp_path}/devices;; esac\n')
        path.chmod(0o755)
        features.probe.cache_clear()
        return str(path)

    return make


def test_the_qemu_of_this_machine_has_it_all() -> None:
    """Its own words are understood, and its options are right."""
    assert features.probe(ARCH) == features.Features(sandbox=True, shares=True, generation=True)
    assert features.probe(ARCH).missing == ""


@pytest.mark.parametrize("device", NEEDED)
def test_a_device_that_guests_need_and_qemu_lacks_is_named(make_qemu: MakeQemu, device: str) -> None:
    qemu = make_qemu("\n".join(line for line in ALL.splitlines() if f'"{device}"' not in line))
    with pytest.raises(UsageError, match=f"qemu has no device {device}, which .*; give another QEMU by --qemu"):
        features.probe(ARCH, qemu)


def test_a_qemu_that_says_why_it_lists_nothing_is_quoted(make_qemu: MakeQemu) -> None:
    qemu = make_qemu(body="echo 'qemu: cannot load libvirglrenderer.so' >&2; exit 127")
    with pytest.raises(UsageError, match=r"\(qemu: cannot load libvirglrenderer.so\); give another"):
        features.probe(ARCH, qemu)


def test_a_qemu_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_text("#!/no/such/interpreter\n")
    (tmp_path / "qemu").chmod(0o755)
    with pytest.raises(UsageError, match=r"cannot run .*qemu: No such file or directory; give another QEMU"):
        features.probe(ARCH, str(tmp_path / "qemu"))
    with pytest.raises(UsageError, match="no-such-qemu is not installed"):
        features.probe(ARCH, "no-such-qemu")


def test_a_qemu_without_a_sandbox_runs_guests_without_and_says_so(make_qemu: MakeQemu, tmp_path: Path) -> None:
    found = features.probe(ARCH, make_qemu(body=NO_SANDBOX))
    assert not found.sandbox
    assert "no sandbox" in found.missing
    image = tmp_path / "bzImage"
    image.write_bytes(bzimage("6.1.0-fake"))
    vm = Vm("v", "6.1", "", str(image), None, "tcg", 512, 2, 30.0, "/", sandbox=found.sandbox)
    assert "-sandbox" not in command_line(vm, tmp_path, 5, 6)
    assert "-sandbox" in command_line(dataclasses.replace(vm, sandbox=True), tmp_path, 5, 6)


def test_a_qemu_without_9p_is_no_trouble(make_qemu: MakeQemu) -> None:
    assert not features.probe(ARCH, make_qemu()).shares
    assert features.probe(ARCH, make_qemu(f'{ALL}\nname "virtio-9p-{ARCH.bus}", bus virtio-bus')).shares


def test_only_machines_that_are_saved_have_a_number_of_their_generation_where_qemu_has_one(
    make_qemu: MakeQemu, tmp_path: Path
) -> None:
    assert not features.probe(ARCH, make_qemu()).generation
    assert features.probe(ARCH, make_qemu(f'{ALL}\nname "vmgenid"')).generation
    image = tmp_path / "bzImage"
    image.write_bytes(bzimage("6.1.0-fake"))
    vm = Vm("v", "6.1", "", str(image), None, "tcg", 512, 2, 30.0, "/", resumes=True)
    for has in (False, True):
        words = command_line(dataclasses.replace(vm, generation=has), tmp_path, 5, 6, 7)
        assert ("vmgenid,guid=auto" in words) == has
        assert "virtserialport,chardev=wake,name=vm.wake" in words
    assert "vmgenid,guid=auto" not in command_line(dataclasses.replace(vm, generation=True), tmp_path, 5, 6)


def test_a_run_by_9p_ends_with_one_line_where_qemu_has_none(project: Project, make_qemu: MakeQemu) -> None:
    qemu = make_qemu(body='case "$*" in *isa-debug-exit*) exit 33;; esac')
    project.tests("def test_a(): pass\n")
    run = project.run("--root=host", fake=None, qemu=qemu)
    assert run.status == 4
    assert "QEMU has no 9p here" in run.output
    assert "Traceback" not in run.output
