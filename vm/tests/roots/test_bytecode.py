"""What guests find compiled: the project's modules, by their own Python, whatever the time of a file says."""

from __future__ import annotations

import dataclasses
import importlib.util
import marshal
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from vm.base import arch, process
from vm.roots import build, bytecode, parts
from vm.tests.roots.test_disks import HERE, ROOTS

NAME = Path("work/project/vm/base/words.py")
COMPILED = NAME.parent / f"__pycache__/words.cpython-{HERE.python.replace('.', '')}.pyc"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tree with a module, and tests, in a cache of our own."""
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "image/tree"
    for name in (NAME, Path("work/project/tests/test_one.py"), Path("work/project/conftest.py")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("ANSWER = 42\n")
    return place


def code(file: Path) -> CodeType:
    found = marshal.loads(file.read_bytes()[16:])
    assert isinstance(found, CodeType)
    return found


def test_modules_are_compiled_for_where_guests_have_them_and_never_again(tree: Path) -> None:
    bytecode.add(tree, ROOTS)
    data = (tree / COMPILED).read_bytes()
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(data[4:8], "little") == 0b01, "not checked against the source (PEP 552)"
    assert code(tree / COMPILED).co_filename == f"/{NAME}"
    assert [str(path.relative_to(tree)) for path in tree.rglob("*.pyc")] == [str(COMPILED)], "tests are pytest's"


def test_an_edit_costs_what_was_edited(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / NAME).with_name("other.py").write_text("")
    bytecode.add(tree, ROOTS)
    asked: list[str] = []
    run = process.run

    def watched(words: Sequence[str], **more: Any) -> process.Result:
        asked.append(Path(words[-1]).read_text())
        return run(words, **more)

    monkeypatch.setattr(process, "run", watched)
    bytecode.add(tree, ROOTS)
    assert asked == []
    (tree / NAME).write_text("ANSWER = 43\n")
    bytecode.add(tree, ROOTS)
    assert [line.split("\t")[1] for line in asked[0].splitlines()] == [f"/{NAME}"]
    assert 43 in code(tree / COMPILED).co_consts


def test_what_does_not_compile_is_left_to_whoever_imports_it(tree: Path) -> None:
    (tree / NAME).with_name("template.py").write_text("{{ not Python }} at all\n")
    bytecode.add(tree, ROOTS)
    assert (tree / COMPILED).exists()


def test_without_a_python_of_its_version_nothing_is_added(tree: Path) -> None:
    other = dataclasses.replace(ROOTS, release=parts.Release("other", "3.99", 41))
    bytecode.add(tree, other)
    assert not list(tree.rglob("*.pyc"))


def test_the_roots_own_python_compiles_where_ours_is_another(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of the root of this machine's architecture, as those of others do not run here."""
    release = parts.Release("other", "3.99", 41)
    native = build.Root(tmp_path / "native", arch.default())
    source = tmp_path / "source"
    for name in ("usr/bin/python3.99", "usr/lib/python3.99/os.py", "usr/lib/x86-linux-gnu/ld.so.2", "usr/share/much"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    native.directory.mkdir()
    build.pack(source, native.image)
    monkeypatch.setattr(build, "place", lambda _row: native.directory)
    monkeypatch.setattr(build.Root, "release", release)
    foreign = next(row for row in arch.ARCHITECTURES if row != arch.default())
    found = bytecode._interpreter(build.Root(tmp_path / "foreign", foreign))
    assert found is not None
    words, environment = found
    assert [Path(word).name for word in words] == ["ld.so.2", "--library-path", "x86-linux-gnu", "python3.99"]
    assert (Path(environment["PYTHONHOME"]) / "lib/python3.99/os.py").exists()
    assert not (Path(environment["PYTHONHOME"]) / "share").exists(), "no more than it needs"
