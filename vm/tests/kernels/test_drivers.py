"""What a kernel can have its root on: told by its options, else by its modules, else not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base import arch
from vm.kernels import drivers
from vm.kernels.spec import Kernel

BUS = "CONFIG_VIRTIO_PCI=y\n"
BUILT_IN, MODULES = f"{BUS}CONFIG_NET_9P_VIRTIO=y\nCONFIG_9P_FS=y\n", f"{BUS}CONFIG_NET_9P_VIRTIO=m\nCONFIG_9P_FS=m\n"


def kernel(
    place: Path, *, config: str | None = None, modules: tuple[str, ...] | None = None, table: str = ""
) -> Kernel:
    """Make what is looked at of a kernel."""
    lib = place / "lib/modules/6.1"
    for name in modules or ():
        (lib / "kernel" / name).parent.mkdir(parents=True, exist_ok=True)
        (lib / "kernel" / f"{name}.ko").touch()
    if modules is not None:
        lib.mkdir(parents=True, exist_ok=True)
        (lib / "modules.builtin").write_text(table)
    if config is not None:
        (place / "config").write_text(config)
    found = place / "config" if config is not None else None
    # Of one whose devices are on PCI.
    row = next(row for row in arch.ARCHITECTURES if row.bus == "pci")
    return Kernel("6.1", "6.1", "6.1", place / "image", place if modules is not None else None, found, architecture=row)


@pytest.mark.parametrize(
    ("config", "modules", "expected"),
    [
        (BUILT_IN, None, []),
        (MODULES, ("net/9p/9pnet_virtio", "fs/9p/9p"), []),
        (MODULES, ("fs/9p/9p",), ["NET_9P_VIRTIO"]),
        (MODULES, None, ["NET_9P_VIRTIO", "9P_FS"]),
        (f"{BUS}CONFIG_9P_FS=y\n", None, ["NET_9P_VIRTIO"]),
        ("CONFIG_9P_FS=y\nCONFIG_NET_9P_VIRTIO=y\n", None, ["VIRTIO_PCI"]),
        (f"{BUS}# CONFIG_9P_FS is not set\n", None, ["NET_9P_VIRTIO", "9P_FS"]),
    ],
)
def test_options_tell_what_is_lacking(
    tmp_path: Path, config: str, modules: tuple[str, ...] | None, expected: list[str]
) -> None:
    assert drivers.lacking(kernel(tmp_path, config=config, modules=modules), drivers.SHARE) == expected


def test_without_a_config_modules_tell(tmp_path: Path) -> None:
    table = "kernel/drivers/block/virtio_blk.ko\nkernel/drivers/virtio/virtio_pci.ko\n"
    found = kernel(tmp_path, modules=("fs/squashfs/squashfs",), table=table)
    assert drivers.lacking(found, drivers.DISK) == []
    assert drivers.lacking(found, drivers.SHARE) == ["NET_9P_VIRTIO", "9P_FS"]
    assert drivers.lacking(found, drivers.MEMORY) == []


def test_of_a_bare_image_nothing_is_known(tmp_path: Path) -> None:
    assert drivers.lacking(kernel(tmp_path), drivers.DISK) is None
