"""A guest with a root of its own: its disks, its RAM disk, and who gets one."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.machine import init, initramfs, own_root, qemu
from vm.machine.vm import CONFIG_VARIABLE, Vm
from vm.roots import parts

FOREIGN = next(row for row in arch.ARCHITECTURES if row.name == "s390x")


def machine(**changes: object) -> Vm:
    made = Vm("x-1", "x", "6.1", "/k/image", "/cache/kernel", "tcg", cwd="/some where/it's")
    images = {"root": "/c/root,1.squashfs", "project": "/c/p", "modules": "/c/m"}
    own = dataclasses.replace(
        made, images=images, busybox="/c/busybox", python="/usr/bin/python3.13", places=[str(ROOT)]
    )
    return dataclasses.replace(own, **changes)  # type: ignore[arg-type]


def test_the_hosts_root_is_for_its_own_architecture() -> None:
    assert not own_root.wanted("auto", arch.default())
    assert own_root.wanted("image", arch.default())
    assert not own_root.wanted("host", arch.default())
    assert own_root.wanted("auto", FOREIGN)
    with pytest.raises(UsageError, match="do not run on s390x: leave out --root host"):
        own_root.wanted("host", FOREIGN)


def test_packages_make_a_root_of_its_own() -> None:
    extra = own_root.extra(" iwd,bluez, ", "bookworm")
    assert extra == parts.Extra(("bluez", "iwd"), "bookworm")
    assert own_root.wanted("auto", arch.default(), extra)
    with pytest.raises(UsageError, match="leave out --root host"):
        own_root.wanted("host", arch.default(), extra)
    assert own_root.extra("", "") == parts.NOTHING


@pytest.mark.parametrize("row", arch.ARCHITECTURES, ids=lambda row: row.name)
def test_disks_are_read_only_and_known_by_their_serial_number(row: arch.Architecture) -> None:
    words = qemu._disks(machine(architecture=row))
    assert words[:4] == [
        "-drive", "if=none,id=disk-root,file=/c/root,,1.squashfs,format=raw,readonly=on",
        "-device", f"virtio-blk-{row.bus},drive=disk-root,serial=root",
    ]  # fmt: skip
    assert sum("readonly=on" in word for word in words) == 3


@pytest.mark.parametrize("modules", ["/cache/kernel", None], ids=["modules", "built-in"])
def test_scripts_of_a_guest_are_shell(modules: str | None) -> None:
    vm = machine(modules=modules)
    if modules is None:
        del vm.images["modules"]
    for text in (initramfs._init(vm), init.render(vm, Path("/nonexistent"))):
        assert subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True).stderr == ""
    first = initramfs._init(vm)
    assert "mkdir -p .'/some where/it'\"'\"'s'" in first
    assert f"mount --bind {shlex.quote(f'.project{ROOT}')} {shlex.quote(f'.{ROOT}')}" in first
    assert ("usr/lib/modules/6.1" in first) == bool(modules)
    assert "exec switch_root . /.vm/init" in first


def test_process_1_has_nothing_of_the_host() -> None:
    config = {CONFIG_VARIABLE: "/results/vms/x-1/config.gz"}
    text = init.render(machine(environment=config), Path("/nonexistent"))
    assert f"export {CONFIG_VARIABLE}=/.vm/config.gz\n" in text
    assert text.startswith("#!/usr/bin/busybox sh")
    assert "\n/usr/bin/python3.13 -u -m vm.guest.serve" in text
    assert "exec /usr/sbin/modprobe -d" in text
    assert ".venv" not in text


def test_only_what_roots_have_is_asked_of_a_guest() -> None:
    assert own_root.has("pytest")
    assert own_root.has("PyTest")
    assert not own_root.has("virtme-ng")
    assert "pytest" in parts.pinned()


def test_a_vm_with_images_is_read_back(tmp_path: Path) -> None:
    machine().save(tmp_path)
    assert Vm.load(tmp_path) == machine()


def test_files_travel_in_the_ram_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"")
    monkeypatch.setattr(initramfs, "_base", lambda *_rest: base)
    (tmp_path / "init").write_text("#!/bin/sh")
    (tmp_path / "init").chmod(0o755)
    whole = initramfs.own(machine(), tmp_path, [tmp_path / "init", tmp_path / "config", tmp_path / "config.gz"])
    with whole.open("rb") as archive:
        said = subprocess.run(["busybox", "cpio", "-tv"], stdin=archive, capture_output=True, text=True).stdout
    lines = [line.split() for line in said.splitlines()]
    assert [line[-1] for line in lines] == ["vm", "vm/init", "init"]
    assert all(line[0].startswith("-rwxr-xr-x") for line in lines[1:])
