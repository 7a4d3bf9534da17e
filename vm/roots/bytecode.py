"""Compiled Python beside the project's files that guests see: they keep nothing, and each would compile them again.

Compiled is by the Python of the root, and kept by content, so that an edit costs the files that were edited.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from vm.base import arch, cache, process
from vm.roots import build
from vm.roots.build import PACK_SECONDS, Root

# Reads SOURCE, NAME IN THE GUEST, TARGET as lines; what does not compile is no module of anybody's.
_PROGRAM = """\
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in open(sys.argv[1], encoding="utf-8", errors="surrogateescape"):
    source, name, target = line.rstrip("\\n").split("\\t")
    py_compile.compile(source, target, name, invalidation_mode=mode, quiet=2)
"""


def add(tree: Path, root: Root) -> None:
    """Add what the modules below ``tree``, each at its own path, are compiled to for a root.

    Tests are left out: pytest compiles those in its own way. Where no Python of that version is at hand, nothing is
    added.

    Raises:
        UsageError: it failed.
        OSError: no space.
    """
    version = root.release.python
    sources = [path for path in sorted(tree.rglob("*.py")) if _is_module(path)]
    store = cache.entry(cache.cache_dir() / "bytecode" / f"python{version}", lambda _temporary: None)
    cache.hold(store)
    kept = {path: store / f"{_digest(path, tree)}.pyc" for path in sources}
    missing = [path for path in sources if not kept[path].exists()]
    if missing:
        command = _interpreter(root)
        if command is None:
            return
        words, environment = command
        lines = tree.with_name("compile.txt")
        lines.write_text(
            "".join(f"{path}\t{_name(path, tree)}\t{kept[path]}\n" for path in missing), errors="surrogateescape"
        )
        done = process.run([*words, "-c", _PROGRAM, str(lines)], deadline=PACK_SECONDS, environment=environment)
        lines.unlink()
        done.require("cannot compile the project's modules", store)
    for path in sources:
        if kept[path].exists():
            target = path.parent / "__pycache__" / f"{path.stem}.cpython-{version.replace('.', '')}.pyc"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(kept[path], target)


def _is_module(path: Path) -> bool:
    return not path.name.startswith("test_") and path.name != "conftest.py" and not {"\t", "\n"} & set(str(path))


def _name(path: Path, tree: Path) -> str:
    return f"/{path.relative_to(tree)}"


def _digest(path: Path, tree: Path) -> str:
    return hashlib.sha256(os.fsencode(_name(path, tree)) + b"\0" + path.read_bytes()).hexdigest()


def _interpreter(root: Root) -> tuple[Sequence[str], dict[str, str]] | None:
    """Return a Python of a root's version that runs here, with what it needs in its environment; None without one."""
    version = root.release.python
    if ".".join(map(str, sys.version_info[:2])) == version:
        return [sys.executable], {}
    row = arch.default()
    native = root if root.architecture == row else Root(build.place(row), row)
    if os.uname().machine not in row.hosts or not native.image.is_file() or native.release.python != version:
        return None
    made = cache.entry(
        cache.cache_dir() / "archives" / f"{native.directory.name}-python",
        lambda temporary: _unpack(native, temporary / "tree"),
    )
    return build.python_of(native.release, cache.hold(made) / "tree")


def _unpack(root: Root, tree: Path) -> None:
    places = [root.release.interpreter[1:], f"usr/lib/python{root.release.python}", "usr/lib/*-linux-gnu*"]
    command = ["unsquashfs", "-no-progress", "-processors", "1", "-d", str(tree), str(root.image), *places]
    process.run(command, deadline=PACK_SECONDS).require(f"cannot unpack {root.image.name}", tree.parent)
