"""What a kernel can have its root on, by its options and modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vm.kernels import kconfig
from vm.kernels.spec import Kernel

# Options, each with the module that it makes.
PORTS = {"VIRTIO_CONSOLE": "drivers/char/virtio_console"}
"""For the ports by which a guest is talked to."""
SHARE = {"NET_9P_VIRTIO": "net/9p/9pnet_virtio", "9P_FS": "fs/9p/9p"}
"""For the host's files."""
DISK = {"VIRTIO_BLK": "drivers/block/virtio_blk", "SQUASHFS": "fs/squashfs/squashfs"}
"""For an image on a disk."""
MEMORY = {"BLK_DEV_INITRD": ""}
"""For an archive that is unpacked into memory."""
# The driver of a bus, which whatever is on it needs as well.
_PCI = "pci", {"VIRTIO_PCI": "drivers/virtio/virtio_pci"}


def lacking(kernel: Kernel, options: Mapping[str, str]) -> list[str] | None:
    """Return which of some options a kernel was built without, or has no module of; None when that is not known.

    Args:
        kernel: to boot; its own .config counts, else what it says of its modules.
        options: :data:`SHARE` or the like.
    """
    if options is not MEMORY and kernel.architecture.bus == _PCI[0]:
        options = {**_PCI[1], **options}
    if kernel.config is not None and kernel.config.is_file():
        values = kconfig.read_config(kernel.config)
        return [
            name
            for name, module in options.items()
            if (value := values.get(name)) != "y" and not (value == "m" and _module(kernel, module))
        ]
    if (
        kernel.modules is None
        or not (table := _directory(kernel.modules, kernel.release) / "modules.builtin").is_file()
    ):
        return None
    built_in = {line.removeprefix("kernel/").removesuffix(".ko") for line in table.read_text().splitlines()}
    # Nothing tells of what can be no module: whoever has modules has that as well, nearly always.
    return [
        name for name, module in options.items() if module and module not in built_in and not _module(kernel, module)
    ]


def _module(kernel: Kernel, module: str) -> bool:
    return (
        kernel.modules is not None
        and (_directory(kernel.modules, kernel.release) / "kernel" / f"{module}.ko").is_file()
    )


def _directory(modules: Path, release: str) -> Path:
    return modules / "lib" / "modules" / release
