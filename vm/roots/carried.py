"""Roots that are brought along in one file: to a machine without apt or network (``python -m vm root --pack FILE``)."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

from vm.base import arch, cache
from vm.base.errors import UsageError
from vm.roots import build
from vm.roots.build import Root

_PARTS = ("root.json", "busybox", "root.squashfs")


def pack(root: Root, file: Path) -> None:
    """Write a root into an archive, whole or not at all.

    Args:
        root: of the cache.
        file: to write, a ``.tar.gz``.

    Raises:
        UsageError: it cannot be written.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        try:
            with tarfile.open(partial, "w:gz", compresslevel=6) as archive:
                for name in _PARTS:
                    archive.add(root.directory / name, f"{root.directory.name}/{name}")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}; give another file") from error


def unpack(file: Path) -> Root:
    """Put a root from an archive into the cache, and return it.

    Raises:
        UsageError: it cannot be read, or is of another revision of the project; no space.
    """
    try:
        with tarfile.open(file) as archive:
            members = {member.name: member for member in archive.getmembers() if member.isfile()}
            # Only names that are known, and what is in them is looked at before it is believed.
            names = {Path(name).name: name for name in members if Path(name).name in _PARTS}
            if set(names) != set(_PARTS):
                raise UsageError(f"{file} holds no root; it is made by: python -m vm root --pack FILE ARCHITECTURE")
            home = Path(names["root.json"]).parent.name
            row = next((row for row in arch.ARCHITECTURES if build.place(row).name == home), None)
            if row is None:
                raise UsageError(f"{file} is a root of other pins than this project's; make it with the same revision")

            def put(temporary: Path) -> None:
                for name in _PARTS:
                    source = archive.extractfile(members[names[name]])
                    assert source is not None
                    with source, (temporary / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                (temporary / "busybox").chmod(0o755)
                found = hashlib.sha256((temporary / "root.squashfs").read_bytes()).hexdigest()
                if found != json.loads((temporary / "root.json").read_text())["sha256"]:
                    raise UsageError(f"{file} is damaged: its image is not the one that was packed; copy it again")

            return Root(cache.hold(cache.entry(build.place(row), put)), row)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"{file} is damaged: {error}; copy it again") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
