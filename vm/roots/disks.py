"""The other images of a guest with a root of its own: the project's files, and the modules of its kernel.

In either form: a disk's (``squashfs``), or that of an archive which the kernel unpacks (``cpio``).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.files import ROOT, identity
from vm.roots import archives, bytecode
from vm.roots.build import Root, pack

# What is shown of a directory outside of the project: somebody's tests, not somebody's home.
_MOST_BYTES = 256 * 2**20
# Of the names in the cache.
_SUFFIX = {"squashfs": "", "cpio": "-cpio"}
# What is made by running things, at the top of the project or of another place.
_MADE = {"results"}


def project(places: Sequence[Path], root: Root, form: str = "squashfs") -> Path:
    """Return an image with the project and ``places``, each at its own path; it is made anew when a file was changed.

    Hidden files, caches of Python and results are left out.

    Args:
        places: files and directories outside of the project, absolute: what of it is inside is shown anyway.
        root: whose Python runs it: what that compiles it to is beside it.
        form: of the image.

    Raises:
        UsageError: there is too much in one of them; no mksquashfs, no space.
    """
    files = shown([ROOT, *places])
    key = hashlib.sha256("\n".join(f"{path} {path.stat().st_mode} {identity(path)}" for path in files).encode())
    key.update(f"\n{root.release.python}".encode())
    made = cache.entry(
        cache.cache_dir() / "projects" / f"{key.hexdigest()[:16]}{_SUFFIX[form]}",
        lambda temporary: _pack_files(files, root, temporary / f"project.{form}"),
    )
    return cache.hold(made) / f"project.{form}"


def modules(directory: Path, release: str, form: str = "squashfs") -> Path:
    """Return an image of the modules of a kernel.

    Args:
        directory: holds ``lib/modules/<release>``, pruned (vm/kernels/modules.py), in the cache.
        release: ``uname -r`` of the kernel.
        form: of the image.

    Raises:
        UsageError: no mksquashfs, no space.
    """
    lib = directory / "lib" / "modules" / release
    key = hashlib.sha256(f"{directory}\n{identity(lib / 'modules.dep')}".encode()).hexdigest()[:16]
    made = cache.entry(
        cache.cache_dir() / "module-images" / f"{release}-{key}{_SUFFIX[form]}",
        lambda temporary: _pack(lib, temporary / f"modules.{form}", f"usr/lib/modules/{release}", "-all-time", "0"),
    )
    return cache.hold(made) / f"modules.{form}"


def shown(places: Iterable[Path]) -> list[Path]:
    """Return the files below ``places`` that guests see, sorted and each once.

    Raises:
        UsageError: there is too much in one of them.
    """
    found: set[Path] = set()
    for place in places:
        if place != ROOT and ROOT in place.parents:
            continue
        size = 0
        for path in _walk(place):
            found.add(path)
            size += path.lstat().st_size
            if size > _MOST_BYTES:
                raise UsageError(
                    f"{place} holds more than {_MOST_BYTES >> 20} MiB, too much to show to a guest: name the tests "
                    "themselves, or give --root host"
                )
    return sorted(found)


def _walk(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder, directories, names in os.walk(place):
        here = Path(folder)
        made = _MADE if here == place else set()
        directories[:] = sorted(
            d for d in directories if not d.startswith(".") and d != "__pycache__" and d not in made
        )
        yield from (path for name in names if not name.startswith(".") and (path := here / name).is_file())


def _pack(tree: Path, image: Path, place: str = "", *options: str) -> None:
    if image.suffix == ".cpio":
        archives.pack(tree, image, place)
    else:
        pack(tree, image, *options)


def _pack_files(files: Sequence[Path], root: Root, image: Path) -> None:
    tree = image.with_name("tree")
    for path in files:
        target = tree / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    bytecode.add(tree, root)
    _pack(tree, image)
    shutil.rmtree(tree)
