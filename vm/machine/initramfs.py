"""The initial RAM disk of a guest: the few modules a packaged kernel needs before it can see the host's root."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from virtme import cpiowriter, mkinitramfs, modfinder, virtmods

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.files import identity

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
    if modules is None:
        return None
    directory = modules / "lib" / "modules" / release
    with modfinder.get_mod_path(str(directory), release) as root:
        found = modfinder.find_modules_from_install(_ALIASES, root=root, kver=release)
        files = [Path(path).resolve() for path in found]
    tool = busybox()
    key = hashlib.sha256(_INIT)
    for file in [tool, *files]:
        key.update(f"{identity(file)}\n".encode())
    made = cache.entry(
        cache.cache_dir() / "initramfs" / f"{release}-{key.hexdigest()[:16]}",
        lambda temporary: _write(temporary / "initramfs", tool, files),
    )
    return made / "initramfs"


def _write(path: Path, tool: Path, files: list[Path]) -> None:
    config = mkinitramfs.Config()
    config.busybox = str(tool)
    config.modfiles = [str(file) for file in files]
    archive = io.BytesIO()
    mkinitramfs.mkinitramfs(archive, config)
    extra = cpiowriter.CpioWriter(archive)
    extra.write_file(b"modules/order", body="\n".join(file.name for file in files).encode(), mode=0o644)
    extra.write_file(b"init", body=_INIT, mode=0o755)
    extra.write_trailer()
    path.write_bytes(archive.getvalue())
