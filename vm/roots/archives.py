"""Roots as archives that a kernel unpacks into memory when it boots (cpio, ``newc``): they need no disk and no driver.

The kernel takes several that stand one behind the other as one, and makes no directory by itself
(Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base import cache, process
from vm.roots.build import PACK_SECONDS, Root

if TYPE_CHECKING:
    from virtme import cpiowriter


def root(made: Root) -> Path:
    """Return the archive of a root, made of its image when it is not in the cache.

    Raises:
        UsageError: there is no unsquashfs, or no space.
    """
    entry = cache.entry(
        cache.cache_dir() / "archives" / made.directory.name, lambda temporary: _unpack(made.image, temporary)
    )
    return cache.hold(entry) / "root.cpio"


def pack(tree: Path, archive: Path, place: str = "") -> None:
    """Write the files, links and directories below a directory into an archive: equal files give equal bytes.

    Args:
        tree: the directory.
        archive: the file to make.
        place: where they go, a path below ``/``; what is above it is in another archive.

    Raises:
        OSError: no space.
    """
    from virtme import cpiowriter  # Not installed where tests run on the machine itself.

    with archive.open("wb") as file:
        writer = cpiowriter.CpioWriter(file)
        if place:
            writer.mkdir(os.fsencode(place), 0o755)
        for folder, directories, names in os.walk(tree):
            directories.sort()
            for name in sorted([*directories, *names]):
                path = Path(folder, name)
                _add(writer, path, os.fsencode(_joined(str(Path(place) / path.relative_to(tree)))))
        writer.write_trailer()


def _add(writer: cpiowriter.CpioWriter, path: Path, name: bytes) -> None:
    mode = path.lstat().st_mode & 0o7777
    if path.is_symlink():
        writer.symlink(os.fsencode(path.readlink()), name)
    elif path.is_dir():
        writer.mkdir(name, mode)
    else:
        with path.open("rb") as body:
            writer.write_file(name, body=body, mode=mode)


def _joined(name: str) -> str:
    """Return where a file is: the kernel replaces a link by a directory, and ``/lib`` is one to ``/usr/lib``."""
    first, slash, rest = name.partition("/")
    return f"usr/{name}" if slash and rest and (first in ("bin", "sbin") or first.startswith("lib")) else name


def _unpack(image: Path, entry: Path) -> None:
    tree = entry / "tree"
    command = ["unsquashfs", "-no-progress", "-processors", "1", "-d", str(tree), str(image)]
    process.run(command, deadline=PACK_SECONDS).require(f"cannot unpack {image.name}", entry)
    pack(tree, entry / "root.cpio")
    shutil.rmtree(tree)
