"""Every error return has a test or a reason why it has none, and every test of an error has a row."""

from __future__ import annotations

import ast
import errno
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vm.base import toml

TESTS = Path(__file__).parent.parent
TABLE = TESTS / "errors" / "returns.toml"
FOLDERS = ["errors", "policy", "faults"]
PROOFS = {"works", "finish", "still_free", "nothing_was_sent", "bound_works"}
"""What makes a whole request, and compares its result."""
PROVING = {"socket_of", "crypto"}
"""Context managers and fixtures whose socket must work at their end."""
NO_SOCKET_LEFT = {
    "test_socket.py": "there is no socket after the error",
    "test_differences.py": "asks what the answer is; others test what follows",
}
OWN_NAMES = {"ENOTSUPP", "EIOCBQUEUED"}
"""Errnos of the kernel's own, without a name in user space."""


@dataclass(frozen=True)
class Row:
    """One row of the table; see its head for the meaning."""

    id: str
    where: tuple[str, ...]
    errno: frozenset[str]
    kernels: str
    when: str
    unreachable: str = ""


@dataclass(frozen=True)
class ErrorTest:
    """A test function that names rows or expects errnos."""

    id: str
    rows: tuple[str, ...]
    errnos: frozenset[str]
    proof: bool


@functools.cache
def rows() -> dict[str, Row]:
    table = toml.read(TABLE)["return"]
    made = [Row(**{**row, "where": tuple(row["where"]), "errno": frozenset(row["errno"])}) for row in table]
    assert len({row.id for row in made}) == len(made), "two rows have the same id"
    return {row.id: row for row in made}


@functools.cache
def all_tests() -> tuple[ErrorTest, ...]:
    files = sorted(file for folder in FOLDERS for file in (TESTS / folder).glob("test_*.py"))
    return tuple(found for file in files for found in read_tests(file.name, ast.parse(file.read_text())))


def read_tests(name: str, tree: ast.Module) -> Iterator[ErrorTest]:
    """Give every test of a module, with the rows of its ``@returns`` and the errnos of its ``raises_errno``."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [mark for mark in node.decorator_list if called(mark) == "returns"]
            named = [text.value for mark in marks for text in mark.args]  # type: ignore[attr-defined]
            expected = [call for call in ast.walk(node) if called(call) == "raises_errno"]
            numbers = {
                inner.attr
                for call in expected
                for inner in ast.walk(call)
                if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "errno"
            }
            yield ErrorTest(f"{name}::{node.name}", tuple(named), frozenset(numbers), has_proof(node))


def has_proof(test: ast.FunctionDef) -> bool:
    """Whether something after the last error shows that the socket still works: a request, or a comparison."""
    if PROVING & ({called(node) for node in ast.walk(test)} | {argument.arg for argument in test.args.args}):
        return True
    last = max((node.lineno for node in ast.walk(test) if called(node) == "raises_errno"), default=0)
    return any(
        getattr(node, "lineno", 0) > last and (called(node) in PROOFS or is_comparison(node)) for node in ast.walk(test)
    )


def is_comparison(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], ast.Eq)


def called(node: ast.AST) -> str:
    """Return the name of the function or method a call calls, empty when it is none."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


@pytest.mark.parametrize("row", rows().values(), ids=lambda row: row.id)
def test_row_is_whole_and_has_a_test_or_a_reason(row: Row) -> None:
    assert row.where
    assert row.kernels
    assert row.when
    for name in row.errno - OWN_NAMES:
        assert hasattr(errno, name), f"{name} is no errno"
    tested = [test.id for test in all_tests() if row.id in test.rows]
    if row.unreachable:
        assert not tested, f"called unreachable, but {tested[0]} gets there"
    else:
        assert tested, "no test names this row, and it gives no reason"


@pytest.mark.parametrize("test", [t for t in all_tests() if t.rows or t.errnos], ids=lambda test: test.id)
def test_test_of_an_error_names_its_rows(test: ErrorTest) -> None:
    unknown = set(test.rows) - rows().keys()
    assert not unknown, f"no such row: {sorted(unknown)[0]}"
    covered = {name for row in test.rows for name in rows()[row].errno}
    strange = test.errnos - covered
    assert not strange, f"expects {', '.join(sorted(strange))}, which no row it names gives"


@pytest.mark.parametrize("test", [t for t in all_tests() if t.errnos], ids=lambda test: test.id)
def test_socket_works_after_the_error(test: ErrorTest) -> None:
    """Every test of an error makes a request afterwards, or is one of those that cannot."""
    assert test.proof or test.id.partition("::")[0] in NO_SOCKET_LEFT, "nothing shows that the socket still works"


def test_reader_of_tests_finds_rows_and_errnos() -> None:
    """The two checks above are worth what it finds."""
    source = """
@returns("one", "two")
@pytest.mark.parametrize("x", [1])
def test_a(x):
    with opened() as sock, raises_errno(errno.EINVAL, errno.EBUSY):
        sock.send(b"")

def test_b(x):
    with raises_errno(errno.EINVAL):
        sock.send(b"")
    subject.works(sock)

def test_c(x):
    subject.works(sock)
    with raises_errno(errno.EINVAL):
        sock.send(b"")

def test_d(x):
    with socket_of("unbound") as sock, raises_errno(errno.EINVAL):
        sock.send(b"")

def helper():
    with raises_errno(errno.EIO):
        pass
"""
    found, *others = read_tests("test_x.py", ast.parse(source))
    assert found == ErrorTest("test_x.py::test_a", ("one", "two"), frozenset({"EINVAL", "EBUSY"}), proof=False)
    assert [test.proof for test in others] == [True, False, True]
