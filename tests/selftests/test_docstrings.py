"""Every test of the kernel says in its docstring which rule it checks, and where that stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent.parent
OTHERS = {"selftests", "bench"}
"""Folders whose tests are of this project's own code."""
LEAST = 20
"""Characters of a docstring that says anything."""


def undocumented(source: str) -> Iterator[str]:
    """Yield the names of test functions that have no docstring, or one of a word or two."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    for function in functions:
        if function.name.startswith("test_") and len(ast.get_docstring(function) or "") < LEAST:
            yield function.name


def test_every_test_has_a_docstring() -> None:
    """Also those that a class or a function holds; what is said there, nobody but a reader can check."""
    files = [path for path in TESTS.rglob("test_*.py") if path.relative_to(TESTS).parts[0] not in OTHERS]
    assert files
    missing = [
        f"{path.relative_to(TESTS)}::{name}" for path in sorted(files) for name in undocumented(path.read_text())
    ]
    assert not missing, f"no docstring of {LEAST} characters: {', '.join(missing)}"


def test_missing_and_short_docstrings_are_found() -> None:
    """None, a word, and a comment in its place; helpers need none."""
    source = '''
def test_a():
    pass

def test_b():
    """Too short."""

def test_c():
    # alg_bind refuses an address without a name.
    pass

def test_d():
    """alg_bind refuses an address without a name."""

def helper():
    pass
'''
    assert list(undocumented(source)) == ["test_a", "test_b", "test_c"]
