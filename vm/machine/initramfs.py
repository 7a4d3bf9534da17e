"""The initial RAM disk of a guest: the few modules a packaged kernel needs before it can see its root."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from virtme import cpiowriter, mkinitramfs, modfinder, virtmods

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.files import identity
from vm.machine.own_root import FILES
from vm.machine.vm import INITRD, Vm

# The /init of virtme-ng (1.42: virtme/mkinitramfs.py) mounts the root without a cache= of 9p, whatever rootflags= says:
# every import goes to the host again. The kernel unpacks the archive in order, so that a later member replaces an
# earlier one (init/initramfs.c). The steps are the same: modules, root, process 1.
_INIT = b"""#!/bin/sh
mount -t proc none /proc
line=$(cat /proc/cmdline)
init=${line##* init=\\"}
init=${init%%\\"*}
for word in $line; do
    case $word in
    rootflags=*) flags=${word#rootflags=} ;;
    esac
done
for module in $(cat /modules/order); do
    insmod /modules/$module || echo "vm: insmod $module failed"
done
mount -t 9p -o ro,$flags /dev/root /newroot || {
    echo "vm: cannot mount the host's root: the kernel lacks 9p over virtio (CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS)"
    exit 1
}
umount /proc
exec switch_root /newroot "$init"
"""
# Without the keyboard's, which no guest has.
_ALIASES = [
    *(alias for alias in virtmods.MODALIASES if alias not in ("i8042", "atkbd")),
    "overlay",
    "virtio_rng",
]


# The same for a root of the guest's own.
_OWN_ALIASES = (
    "virtio_blk",
    "fs-squashfs",
    "virtio_console",
    "virtio_rng",
    "virtio_pci",
    "virtio_mmio",
    "unix",
    "overlay",
)
# Of a root that the kernel has unpacked: what it needs to be heard, as it is built in or not.
_UNPACKED_MODULES = ("virtio_pci", "virtio_mmio", "virtio_console", "virtio_rng", "unix")
# What no package has, with the modes that count.
_DIRECTORIES = {
    **dict.fromkeys(("proc", "sys", "dev", "run", "home", "var", "var/lib", "var/cache", "var/log"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
}
_UNPACKED_INIT = """\
#!/usr/bin/busybox sh
/usr/bin/busybox mount -t proc none /proc
mount -t sysfs none /sys
[ -z "@release@" ] || /usr/sbin/modprobe -qa @modules@
mkdir -p @cwd@
umount /proc /sys
exec @files@/init
"""

_OWN_INIT = """\
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


def busybox() -> Path:
    """Return the host's static busybox.

    Raises:
        UsageError: there is none.
    """
    found = mkinitramfs.find_busybox("/", True)
    if found is None:
        raise UsageError("no static busybox on this machine; install the package busybox-static")
    return Path(found)


def cached(modules: Path | None, release: str) -> Path | None:
    """Return the RAM disk for the kernel ``release``, made when it is not in the cache.

    Args:
        modules: directory that holds ``lib/modules/<release>``; None when everything is built in.

    Returns:
        The file, or None when the kernel needs none.
    """
    return None if modules is None else _base(modules, release, busybox(), _ALIASES, _INIT)


def own(vm: Vm, directory: Path, files: Sequence[Path]) -> Path:
    """Write the RAM disk of one VM that has a root of its own into its directory, and return it.

    Args:
        vm: with images.
        directory: of the VM.
        files: what the guest shall have in :data:`vm.machine.own_root.FILES`, as far as it is there: its process 1,
            ``init``, among it.
    """
    unpacked = vm.root == "initramfs"
    if unpacked:
        common = [Path(path) for path in vm.images.values()]
        init, place = _unpacked_init(vm), f"{FILES[1:]}/"
    else:
        common = [_base(Path(vm.modules) if vm.modules else None, vm.release, Path(vm.busybox), _OWN_ALIASES, b"")]
        init, place = _init(vm), "vm/"
    whole = directory / INITRD
    with whole.open("wb") as archive:
        for file in common:
            with file.open("rb") as source:
                shutil.copyfileobj(source, archive, 1 << 20)
        own = cpiowriter.CpioWriter(archive)
        for name, mode in _DIRECTORIES.items() if unpacked else ():
            own.mkdir(name.encode(), mode)
        own.mkdir(place[:-1].encode(), 0o755)
        for path in files:
            if path.is_file():
                mode = path.stat().st_mode & 0o777
                own.write_file(os.fsencode(place + path.name), body=path.read_bytes(), mode=mode)
        own.write_file(b"init", body=init.encode(), mode=0o755)
        own.write_trailer()
    return whole


def _unpacked_init(vm: Vm) -> str:
    return (
        _UNPACKED_INIT.replace("@release@", vm.release if "modules" in vm.images else "")
        .replace("@modules@", " ".join(_UNPACKED_MODULES))
        .replace("@cwd@", shlex.quote(vm.cwd))
        .replace("@files@", FILES)
    )


def _init(vm: Vm) -> str:
    lines = []
    for place in map(Path, vm.places):
        inside, shown = shlex.quote(f".{place}"), shlex.quote(f".project{place}")
        made = (
            f"mkdir -p {inside}" if place.is_dir() else f"mkdir -p {shlex.quote(f'.{place.parent}')} && touch {inside}"
        )
        lines.append(f"{made} && mount --bind {shown} {inside}")
    return (
        _OWN_INIT.replace("@release@", vm.release if "modules" in vm.images else "")
        .replace("@places@", "\n".join(lines))
        .replace("@cwd@", shlex.quote(vm.cwd))
        .replace("@files@", FILES)
    )


def _base(modules: Path | None, release: str, tool: Path, aliases: Sequence[str], init: bytes) -> Path:
    """Return what all VMs of a kernel have, made when it is not in the cache: busybox, and the modules of ``aliases``.

    ``init`` takes the place of virtme-ng's script, where it is not empty.
    """
    files: list[Path] = []
    if modules is not None:
        directory = modules / "lib" / "modules" / release
        with modfinder.get_mod_path(str(directory), release) as root:
            found = modfinder.find_modules_from_install(aliases, root=root, kver=release)
            files = [Path(path).resolve() for path in found]
    key = hashlib.sha256(init)
    for file in [tool, *files]:
        key.update(f"{identity(file)}\n".encode())
    made = cache.entry(
        cache.cache_dir() / "initramfs" / f"{release}-{key.hexdigest()[:16]}",
        lambda temporary: _write(temporary / "initramfs", tool, files, init),
    )
    return made / "initramfs"


def _write(path: Path, tool: Path, files: list[Path], init: bytes) -> None:
    config = mkinitramfs.Config()
    config.busybox = str(tool)
    config.modfiles = [str(file) for file in files]
    archive = io.BytesIO()
    mkinitramfs.mkinitramfs(archive, config)
    extra = cpiowriter.CpioWriter(archive)
    extra.write_file(b"modules/order", body="\n".join(file.name for file in files).encode(), mode=0o644)
    if init:
        extra.write_file(b"init", body=init, mode=0o755)
    extra.write_trailer()
    path.write_bytes(archive.getvalue())
