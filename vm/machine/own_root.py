"""A guest with a root of its own: its images, and the initial RAM disk that puts them together.

The RAM disk makes ``/`` in memory, where everything can be written: ``/usr`` is the root's image, ``/etc`` a copy of
the image's, the kernel's modules and the project's files are two further images, mounted where programs look for them.
No overlayfs is needed for it, and nothing of the host can be seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from vm.base import arch, cache
from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.files import ROOT, identity
from vm.base.progress import Progress
from vm.machine.vm import Vm
from vm.roots import build, disks, parts

KINDS = ("auto", "image", "host")
"""Values of ``--root``: by the architecture; the root's image on a disk; the files of this host by 9p."""

FILES = "/.vm"
"""Directory in the guest with what is of this VM alone: nothing that is shown of the host can be mounted over it."""
HELP = (
    "what guests run from: image, a root of their own, or host, this machine's files by 9p; auto takes the host's for "
    "its own architecture (default)"
)

# By the names that modules have for what loads them (modules.alias). What a kernel has built in is passed over.
_ALIASES = ("virtio_blk", "fs-squashfs", "virtio_console", "virtio_rng", "virtio_pci", "virtio_mmio", "unix", "overlay")

_INIT = """\
#!/bin/sh
mount -t proc none /proc
mkdir -p /sys
mount -t sysfs none /sys
mount -t devtmpfs none /dev 2>/dev/null
fail() {
    echo "vm: $*"
    exit 1
}
for module in $(cat /modules/order); do
    insmod /modules/$module || echo "vm: insmod $module failed"
done
# Disks may be found a moment after their driver. Each is known by its serial number.
disk() {
    tries=0
    while [ $tries -lt 100 ]; do
        for found in /sys/block/vd*; do
            [ "$(cat $found/serial 2>/dev/null)" != "$1" ] || { echo /dev/${found##*/}; return; }
        done
        tries=$((tries + 1))
        usleep 20000
    done
}
show() {
    [ -n "$1" ] || fail "the guest has no disk '$2': its kernel lacks a driver (CONFIG_VIRTIO_BLK, CONFIG_VIRTIO_PCI)"
    mount -t squashfs -o ro $1 $3 || fail "cannot mount '$2': the kernel lacks a file system (CONFIG_SQUASHFS)"
}
mount -t tmpfs -o mode=0755 tmpfs /newroot || fail "the kernel lacks a file system in memory (CONFIG_TMPFS)"
cd /newroot
mkdir -p .root .project usr proc sys dev run home var/lib var/cache var/log var/tmp tmp
mkdir -m 0700 root
chmod 1777 tmp var/tmp
show "$(disk root)" root .root
mount --bind .root/usr usr
cp -a .root/etc etc
for link in .root/*; do
    [ ! -L $link ] || cp -a $link .
done
if [ -n "@release@" ]; then
    mount -t tmpfs tmpfs usr/lib/modules
    mkdir usr/lib/modules/@release@
    show "$(disk modules)" modules usr/lib/modules/@release@
fi
show "$(disk project)" project .project
@places@
cp -a /vm .@files@
mkdir -p .@cwd@
umount /proc /sys
exec switch_root . @files@/init
"""


def wanted(kind: str, architecture: Architecture) -> bool:
    """Say whether a guest gets a root of its own.

    Args:
        kind: one of :data:`KINDS`; ``auto`` is the host's root where its programs run in the guest.
        architecture: of the guest.

    Raises:
        UsageError: the host's root is asked for, and its programs do not run in the guest.
    """
    foreign = architecture != arch.default()
    if kind == "host" and foreign:
        raise UsageError(f"programs of this machine do not run on {architecture.debian}: leave out --root host")
    return kind == "image" or foreign


def prepare(vm: Vm, places: Sequence[Path], progress: Progress) -> Vm:
    """Return ``vm`` with a root of its own, whose images are made when they are not in the cache.

    Args:
        vm: with a kernel to boot.
        places: absolute paths that the guest shall see besides the project.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: they cannot be made.
    """
    root = build.cached(vm.architecture, progress)
    images = {"root": str(root.image), "project": str(disks.project(places))}
    if vm.modules is not None:
        images["modules"] = str(disks.modules(Path(vm.modules), vm.release))
    return dataclasses.replace(
        vm,
        images=images,
        busybox=str(root.busybox),
        python=root.release.interpreter,
        places=[str(path) for path in (ROOT, *places)],
    )


def has(distribution: str) -> bool:
    """Say whether every root has a Python distribution, by its name on the package index."""
    return canonicalize_name(distribution) in parts.pinned()


def initramfs(vm: Vm, directory: Path, files: Sequence[Path]) -> Path:
    """Write the initial RAM disk of one VM into its directory, and return it.

    Args:
        vm: with images.
        directory: of the VM.
        files: what the guest shall have in :data:`FILES`, as far as it is there: its process 1, ``init``, among it.
    """
    from virtme import cpiowriter  # only here: tests on the running kernel do without virtme-ng

    base = _base(vm)
    archive = io.BytesIO()
    own = cpiowriter.CpioWriter(archive)
    own.mkdir(b"vm", 0o755)
    for path in files:
        if path.is_file():
            own.write_file(b"vm/" + os.fsencode(path.name), body=path.read_bytes(), mode=path.stat().st_mode & 0o777)
    own.write_file(b"init", body=_init(vm).encode(), mode=0o755)
    own.write_trailer()
    whole = directory / "initrd"
    whole.write_bytes(base.read_bytes() + archive.getvalue())
    return whole


def _init(vm: Vm) -> str:
    lines = []
    for place in map(Path, vm.places):
        inside, shown = shlex.quote(f".{place}"), shlex.quote(f".project{place}")
        made = (
            f"mkdir -p {inside}" if place.is_dir() else f"mkdir -p {shlex.quote(f'.{place.parent}')} && touch {inside}"
        )
        lines.append(f"{made} && mount --bind {shown} {inside}")
    return (
        _INIT.replace("@release@", vm.release if "modules" in vm.images else "")
        .replace("@places@", "\n".join(lines))
        .replace("@cwd@", shlex.quote(vm.cwd))
        .replace("@files@", FILES)
    )


def _base(vm: Vm) -> Path:
    """Return the part that all VMs of a kernel have: busybox, and the modules by which the images can be read."""
    from virtme import modfinder

    tool = Path(vm.busybox)
    files: list[Path] = []
    if vm.modules is not None:
        directory = Path(vm.modules) / "lib" / "modules" / vm.release
        with modfinder.get_mod_path(str(directory), vm.release) as root:
            found = modfinder.find_modules_from_install(_ALIASES, root=root, kver=vm.release)
            files = [Path(path).resolve() for path in found]
    key = hashlib.sha256()
    for file in [tool, *files]:
        key.update(f"{identity(file)}\n".encode())
    made = cache.entry(
        cache.cache_dir() / "initramfs" / f"{vm.release}-{key.hexdigest()[:16]}",
        lambda temporary: _write_base(temporary / "initramfs", tool, files),
    )
    return cache.hold(made) / "initramfs"


def _write_base(path: Path, tool: Path, files: list[Path]) -> None:
    from virtme import cpiowriter, mkinitramfs

    config = mkinitramfs.Config()
    config.busybox = str(tool)
    config.modfiles = [str(file) for file in files]
    archive = io.BytesIO()
    mkinitramfs.mkinitramfs(archive, config)
    extra = cpiowriter.CpioWriter(archive)
    extra.write_file(b"modules/order", body="\n".join(file.name for file in files).encode(), mode=0o644)
    extra.write_trailer()
    path.write_bytes(archive.getvalue())
