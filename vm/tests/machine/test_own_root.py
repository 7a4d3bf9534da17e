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
from vm.kernels import drivers
from vm.kernels.spec import Kernel
from vm.machine import init, initramfs, own_root, qemu
from vm.machine.vm import CONFIG_VARIABLE, Vm
from vm.roots import archives, parts
from vm.roots.options import KINDS

FOREIGN = next(row for row in arch.ARCHITECTURES if row.name == "s390x")


def machine(**changes: object) -> Vm:
    made = Vm("x-1", "x", "6.1", "/k/image", "/cache/kernel", "tcg", cwd="/some where/it's")
    images = {"root": "/c/root,1.squashfs", "project": "/c/p", "modules": "/c/m"}
    own = dataclasses.replace(
        made, root="image", images=images, busybox="/c/busybox", python="/usr/bin/python3.13", places=[str(ROOT)]
    )
    return dataclasses.replace(own, **changes)  # type: ignore[arg-type]


def kernel(*options: str, row: arch.Architecture | None = None, config: Path | None = None) -> Kernel:
    """Return a kernel with the options that are named."""
    if config is not None:
        names = (*options, *drivers.PORTS, "VIRTIO_PCI")
        config.write_text("".join(f"CONFIG_{name}=y\n" for name in names))
    return Kernel("x", "x", "6.1", Path("/k/image"), config=config, architecture=row or arch.default())


def test_the_hosts_root_is_for_its_own_architecture() -> None:
    assert own_root.choose("host", kernel()).kind == "host"
    assert own_root.choose("auto", kernel(row=FOREIGN)).kind == "image"
    with pytest.raises(UsageError, match="do not run on s390x: leave out --root host"):
        own_root.choose("host", kernel(row=FOREIGN))
    with pytest.raises(UsageError, match="QEMU has no 9p here"):
        own_root.choose("host", kernel(), shares=False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "auto"])
def test_what_is_asked_for_is_taken(kind: str, tmp_path: Path) -> None:
    assert own_root.choose(kind, kernel(config=tmp_path / "config")) == own_root.Choice(kind)


@pytest.mark.parametrize(
    ("options", "row", "expected", "reason"),
    [
        ([*drivers.SHARE, *drivers.DISK], arch.default(), "host", ""),
        ([*drivers.DISK], arch.default(), "image", "the kernel has no CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS"),
        (
            ["SQUASHFS", *drivers.MEMORY],
            arch.default(),
            "initramfs",
            "CONFIG_9P_FS; the kernel has no CONFIG_VIRTIO_BLK",
        ),
        (
            [*drivers.SHARE, *drivers.MEMORY],
            FOREIGN,
            "initramfs",
            "the kernel has no CONFIG_VIRTIO_BLK, CONFIG_SQUASHFS",
        ),
        ([*drivers.DISK], FOREIGN, "image", ""),
    ],
)
def test_left_to_itself_it_is_what_the_kernel_can_read(
    options: list[str], row: arch.Architecture, expected: str, reason: str, tmp_path: Path
) -> None:
    found = own_root.choose("auto", kernel(*options, row=row, config=tmp_path / "config"))
    assert found.kind == expected
    assert found.reason.endswith(reason)
    assert bool(found.reason) == bool(reason)


def test_a_kernel_that_can_have_none_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x cannot be booted here: .*CONFIG_9P_FS; .* set CONFIG_BLK_DEV_INITRD"):
        own_root.choose("auto", kernel(config=tmp_path / "config"))


def test_a_kernel_without_virtio_console_is_talked_to_by_serial_ports(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_BLK_DEV_INITRD=y\nCONFIG_NET_9P_VIRTIO=y\nCONFIG_9P_FS=y\n")
    bare = dataclasses.replace(kernel(), config=tmp_path / "config")
    row = next(row for row in arch.ARCHITECTURES if row.further_serial)
    found = own_root.choose("auto", dataclasses.replace(bare, architecture=row))
    assert (found.kind, found.ports) == ("initramfs", "serial")
    assert found.reason.endswith("by serial ports, for the kernel has no CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE")
    with pytest.raises(UsageError, match=r"x cannot be booted here: the kernel has no .*CONFIG_VIRTIO_CONSOLE; set it"):
        own_root.choose("auto", dataclasses.replace(bare, architecture=FOREIGN))


@pytest.mark.parametrize("mode", ["worker", "command", "shell"])
def test_guest_and_qemu_agree_on_the_order_of_serial_ports(mode: str, tmp_path: Path) -> None:
    row = next(row for row in arch.ARCHITECTURES if row.further_serial)
    vm = machine(mode=mode, ports="serial", architecture=row)
    words = [*qemu.output_port(vm, "vm.status", 5), *qemu._worker(vm)]
    words += [word for name in ("out", "err") * (mode == "command") for word in qemu.output_port(vm, f"vm.{name}", 6)]
    made = [word.partition("chardev=")[2].replace("-", ".") for word in words if word.startswith(row.further_serial)]
    named = [pair.split(":") for pair in init._serial(vm)]
    assert [name.removeprefix("vm.") for name, _ in named] == [name.removeprefix("vm.") for name in made]
    assert [terminal for _, terminal in named] == list(row.further_console[: len(made)])
    assert not any("virtserialport" in word for word in words)
    text = init.render(vm, tmp_path)
    assert all(f"{name}:{terminal}" in text for name, terminal in named)


def test_a_qemu_without_9p_gives_guests_a_root_of_their_own(tmp_path: Path) -> None:
    found = own_root.choose("auto", kernel(*drivers.SHARE, *drivers.DISK, config=tmp_path / "config"), shares=False)
    assert found == own_root.Choice("image", "QEMU has no 9p")


def test_packages_make_a_root_of_its_own() -> None:
    extra = own_root.extra(" iwd,bluez, ", "bookworm")
    assert extra == parts.Extra(("bluez", "iwd"), "bookworm")
    assert own_root.choose("auto", kernel(), extra).kind == "image"
    with pytest.raises(UsageError, match="leave out --root host"):
        own_root.choose("host", kernel(), extra)
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


def test_a_root_in_memory_is_what_the_kernel_unpacks(tmp_path: Path) -> None:
    """The parts stand one behind the other; directories have the modes that programs expect."""
    vm = machine(root="initramfs")
    for name in vm.images:
        tree = tmp_path / name
        tree.mkdir()
        (tree / f"from-{name}").touch()
        archives.pack(tree, tmp_path / f"{name}.cpio")
        vm.images[name] = str(tmp_path / f"{name}.cpio")
    (tmp_path / "init").write_text("#!/bin/sh")
    assert qemu._disks(vm) == []
    whole = initramfs.own(vm, tmp_path, [tmp_path / "init"])
    names: dict[str, str] = {}
    data = whole.read_bytes()
    for archive in filter(None, data.split(b"TRAILER!!!\0")):
        at = archive.find(b"070701")
        said = subprocess.run(["busybox", "cpio", "-tv"], input=archive[at:], capture_output=True, text=False).stdout
        names |= {line.split()[-1]: line.split()[0] for line in said.decode().splitlines()}
    assert {"from-root", "from-project", "from-modules", ".vm/init", "init"} <= set(names)
    assert names["tmp"] == names["var/tmp"] == "drwxrwxrwt"
    assert names["root"] == "drwx------"
    script = initramfs._unpacked_init(vm)
    assert subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert "exec /.vm/init" in script
    assert "9p" not in script


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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"root": "initramfs"}, True),
        ({"root": "host", "images": {}}, False),
        ({"root": "initramfs", "ports": "serial"}, False),
        ({"accelerator": "kvm"}, False),
        ({"accelerator": "kvm", "cpu": "-avx2"}, False),
        ({"accelerator": "kvm", "cpu": "Skylake-Client-v3"}, True),
        ({"accelerator": "tcg", "profile": "kvm"}, True),
    ],
)
def test_machines_are_saved_that_qemu_can_migrate_and_whose_processor_has_a_name(
    changes: dict[str, object], expected: bool
) -> None:
    assert own_root.resumable(machine(**changes)).resumes == expected


def test_nothing_of_a_run_is_in_a_machine_that_is_saved() -> None:
    """Another of another name goes on from it."""
    first, second = (machine(name=name, resumes=True) for name in ("6.12-1", "6.12-2"))
    assert init.render(first, Path("/results/one")) == init.render(second, Path("/results/two"))
    assert "vm.wake" in init.render(first, Path("/results/one"))
    assert "vm.wake" not in init.render(machine(), Path("/results/one"))
    assert "hostname x-1" in init.render(machine(), Path("/results/one"))
