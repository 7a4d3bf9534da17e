"""requirements/*.txt, one for each dependency group of pyproject.toml: nothing is imported that they do not have."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from vm.base import toml
from vm.base.files import ROOT

GROUPS = ("guest", "run", "check")
# What is imported in a guest, but for tests of ours.
IN_GUEST = (
    "tests",
    "vm/guest",
    "vm/klog",
    "vm/results",
    "vm/base",
    "vm/run/plugin.py",
    "vm/run/config.py",
    "conftest.py",
)
# Modules that are not named as what is to be installed for them.
INSTALLED_AS = {"_pytest": "pytest", "xdist": "pytest-xdist", "virtme": "virtme-ng"}


@functools.cache
def named(group: str) -> list[str]:
    """Return what pyproject.toml pins for a group: ``mypy==2.4.1``, without markers."""
    said: dict[str, Any] = toml.read(ROOT / "pyproject.toml")
    return [each.partition(";")[0].replace("_", "-") for each in said["dependency-groups"][group]]


def pinned(group: str) -> dict[str, list[str]]:
    """Return the hashes in the file of a group, by package and version."""
    text = (ROOT / f"requirements/{group}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.split()[0]: re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line) for line in lines}


def imported(places: Iterable[str]) -> dict[str, str]:
    """Return the packages that files below ``places`` import, but for tests of ours, each with one of the files."""
    found: dict[str, str] = {}
    for place in places:
        base = ROOT / place
        for path in [base] if base.is_file() else sorted(base.rglob("*.py")):
            if not re.search(r"\b(self)?tests/", str(path.relative_to(base))):
                found |= {INSTALLED_AS.get(name, name): str(path.relative_to(ROOT)) for name in modules(path)}
    return found


def modules(path: Path) -> set[str]:
    """Return the top modules that a file imports, wherever in it, of other projects."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"tests", "vm"}


@pytest.mark.parametrize(
    ("places", "groups"),
    [(IN_GUEST, ["guest"]), (["vm", "tests", "conftest.py"], ["guest", "run"])],
    ids=["guest", "host"],
)
def test_what_is_imported_is_pinned(places: list[str], groups: list[str]) -> None:
    pins = {name.partition("==")[0] for group in groups for name in pinned(group)}
    missing = {name: path for name, path in imported(places).items() if name not in pins}
    assert not missing, f"add it to the group {groups[-1]} in pyproject.toml, then: make pins"


@pytest.mark.parametrize("group", GROUPS)
def test_each_has_its_hashes_and_a_version(group: str) -> None:
    pins = pinned(group)
    assert all("==" in name and hashes for name, hashes in pins.items())
    assert not set(named(group)) - set(pins), "make pins"


def test_a_package_has_one_version_for_a_python() -> None:
    """Of what two groups need."""
    versions: dict[str, set[str]] = {}
    for group in GROUPS:
        for name, _, version in (pin.partition("==") for pin in pinned(group)):
            versions.setdefault(name, set()).add(version)
    # These no longer support Python 3.10.
    older = {"hypothesis", "import-linter", "grimp", "pycparser", "check-jsonschema"}
    older |= {"python-dateutil", "regress", "rpds-py", "ruamel-yaml"}
    assert {name for name, found in versions.items() if len(found) > 1} == older
