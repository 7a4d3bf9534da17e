"""The table of what other projects test: complete, and every test it names is there."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from vm.base import toml

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = toml.read(ROOT / "tests" / "parity.toml")["row"]
# How many behaviours each project has, counted when its sources were read (November 2026).
BEHAVIOURS = {"LTP": 11, "KC": 21, "CP": 7, "IT": 5, "SY": 5, "TR": 5, "SN": 1, "AC": 3, "OU": 13}


def test_every_behaviour_has_one_row() -> None:
    expected = [f"{peer}-{number}" for peer, count in BEHAVIOURS.items() for number in range(1, count + 1)]
    assert [row["id"] for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_row_names_tests_that_exist_or_says_what_is_missing(row: dict[str, object]) -> None:
    assert set(row) <= {"id", "behaviour", "tests", "missing"}
    assert row["behaviour"]
    tests = row.get("tests", [])
    assert isinstance(tests, list)
    assert tests or row.get("missing"), "neither a test nor a reason"
    for test in tests:
        path, _, function = test.partition("::")
        assert function in functions(path), f"{path} has no {function}"


@functools.cache
def functions(path: str) -> frozenset[str]:
    """Return the names of the tests of a file, none when there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef))
