"""Oracles with a mistake in them: do the published answers notice?

A mutant is the source of one module of tests/oracle with one number or one operator changed. It is imported in the
module's place, with all the package around it, and compared with published answers.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import tests
from tests.selftests.answers import collected, differences, disagreements, published

ORACLE = Path(__file__).parents[1] / "oracle"
_PACKAGE = "tests.oracle"
_SECONDS = 1.0
"""A mutant that takes longer loops for ever, which counts as noticed."""


@dataclass(frozen=True)
class Mutant:
    """One changed node.

    Attributes:
        module: without the package.
        line: where it is.
        change: ``0x1F -> 0x1E``, or ``BitXor -> BitOr``.
    """

    module: str
    line: int
    change: str
    code: CodeType

    def __str__(self) -> str:
        text = (ORACLE / f"{self.module}.py").read_text().splitlines()[self.line - 1].strip()
        return f"{self.module}.py:{self.line} {self.change}: {text}"


def mutants(module: str) -> Iterator[Mutant]:
    """Yield a mutant for each number and each operator of a module's expressions."""
    path = ORACLE / f"{module}.py"
    tree = ast.parse(path.read_text())
    for number, node in enumerate(ast.walk(tree)):
        for change, wrong in _changes(node):
            mutated = copy.deepcopy(tree)
            place = next(other for at, other in enumerate(ast.walk(mutated)) if at == number)
            for field, value in wrong.items():
                setattr(place, field, value)
            yield Mutant(module, getattr(node, "lineno", 0), change, compile(mutated, str(path), "exec"))


def _changes(node: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value} -> {node.value ^ 1}", {"value": node.value ^ 1}
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        other = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} -> {other.__name__}", {"op": other()}


_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitXor: ast.BitOr,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
}


def noticed(mutant: Mutant) -> bool:
    """Tell whether anything that is known differs from what the mutant gives."""
    try:
        with _imported(mutant), _limited():
            return any(map(differences, (*published(), *collected()))) or bool(disagreements())
    except Exception:
        return True


@contextlib.contextmanager
def _imported(mutant: Mutant) -> Iterator[None]:
    """Import the package anew with the mutant in it, and put back what was there."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(_PACKAGE)}
    finder = _Finder(f"{_PACKAGE}.{mutant.module}", mutant.code)
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(_PACKAGE)
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(_PACKAGE)]:
            del sys.modules[name]
        sys.modules.update(before)
        tests.oracle = before[_PACKAGE]  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, name: str, code: CodeType) -> None:
        self._name, self._code = name, code

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._code.co_filename
        exec(self._code, module.__dict__)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Interrupt what uses the processor for longer than it may."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
