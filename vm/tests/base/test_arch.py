"""The table of architectures is the only place that knows any: what else names one would be wrong for the others."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.kernels import kconfig
from vm.kernels.image import READERS

# The table, and the readers of formats that its rows point to.
MAY = {"vm/base/arch.py", *(f"{reader.__name__.replace('.', '/')}.py" for reader in READERS.values())}  # type: ignore[attr-defined]
WORDS = re.compile(
    "|".join(
        rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])"
        for row in arch.ARCHITECTURES
        for word in (row.name, row.directory, row.qemu, row.package, row.console, row.image.name, row.debian)
        # What people call any kernel is no architecture's.
        if word not in ("Image", "vmlinux")
    )
)


def said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give line and text of each constant and name in a module's code; documentation is no code."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in documentation:
            yield node.lineno, os.fsdecode(node.value)
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(text := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), text


def test_no_other_module_names_an_architecture() -> None:
    found = {}
    for path in (ROOT / "vm").rglob("*.py"):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        # Taking one apart costs more than a look.
        if not name.startswith("vm/tests/") and WORDS.search(text):
            found[name] = [each for each in said(ast.parse(text)) if WORDS.search(each[1])]
    guilty = {name: where for name, where in found.items() if where}
    assert "vm/base/arch.py" in guilty
    assert guilty.keys() <= MAY, {name: where for name, where in guilty.items() if name not in MAY}


def test_scripts_name_none_but_what_is_installed() -> None:
    """A shell script cannot read the table: what setup.sh asks for is held to be the default's."""
    wanted = f"need {arch.default().package} {arch.default().qemu}"
    for path in (ROOT / "vm").rglob("*.sh"):
        code = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        named = [line for line in code if WORDS.search(line)]
        # What other distributions call its package.
        asked = [line.strip() for line in named if not line.startswith(f"{arch.default().package} ")]
        assert asked == ([wanted] if path.name == "setup.sh" else []), path


@pytest.mark.parametrize("row", arch.ARCHITECTURES, ids=lambda row: row.name)
def test_a_row_is_whole(row: arch.Architecture) -> None:
    assert set(row.profiles) == {"kvm", "tcg"}
    assert row.image_format in READERS
    assert row.name in row.hosts
    assert row.proof is None or any("{file}" in word for word in row.proof.arguments)
    assert row != arch.default() or kconfig.chosen([], row)[0].name == row.name
    assert arch.named(row.name) is row
    assert arch.of_config({row.config: "y"}) is row


def test_a_machine_without_a_row_gets_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6.1", "#1", "sparc64")))
    assert arch.default() is arch.ARCHITECTURES[0]


def test_what_says_no_architecture_that_is_known_has_none() -> None:
    assert arch.named("vax") is None
    assert arch.of_config({"VAX": "y"}) is None


def test_a_qemu_of_the_users_choice_is_taken_and_a_missing_one_named(tmp_path: Path) -> None:
    row = arch.default()
    own = tmp_path / "qemu"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert row.find_qemu(str(own)) == str(own)
    assert Path(row.find_qemu()).name == row.qemu
    with pytest.raises(UsageError, match=f"no-qemu is not installed; install the package {row.package} "):
        row.find_qemu("no-qemu")
