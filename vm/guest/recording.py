"""A pytest plugin (``-p vm.guest.recording``): has each test recorded, and notes what it found wrong and where.

What a test expected is not in its system calls. It is noted beside them: both sides of the comparison that failed, as
pytest's rewritten assertions have them, and the exception that ended the test.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from vm.guest import recorder
from vm.guest.expect import fixes_of, reason_of
from vm.guest.tracee import pack

_MOST_PARTS = 4096
_EXPECTED = re.compile("expect|want|right|whole|should")
# A system call that is looked at takes several times as long, on a machine that is emulated as a rule.
_SLOWER = 10.0


class Recording:
    """Marks the beginning and the end of each test, and notes failures."""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Give tests time."""
        guest: Any = session.config.pluginmanager.get_plugin("vm-guest")
        if guest is not None:
            guest.factor *= _SLOWER

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record one test, with its fixtures."""
        if not recorder.begin():
            return (yield)
        function = getattr(item, "function", None)
        say(
            "test",
            test=item.nodeid,
            doc=getattr(function, "__doc__", None) or "",
            module=getattr(getattr(item, "module", None), "__doc__", None) or "",
            fixes=fixes_of(item),
        )
        try:
            return (yield)
        finally:
            recorder.note(recorder.END)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tell what the test does from what its fixtures do."""
        say("body")
        try:
            result = yield
        except BaseException as error:
            if isinstance(error, AssertionError):
                for left, op, right in sides(error):
                    say("sides", op=op, left=left, right=right)
            say("raised", type=type(error).__name__, text=str(error)[:2000], errno=getattr(error, "errno", None))
            raise
        say("returned")
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        """Note a comparison that failed."""
        say("compared", op=op, left=plain(left), right=plain(right))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
        """Note how each phase ended."""
        report: pytest.TestReport = yield
        splats = [[kind, title] for kind, title, *_ in getattr(report, "splats", ())]
        say("report", when=report.when, outcome=report.outcome, reason=reason_of(report)[:2000], splats=splats)
        return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have some tests of many recorded."""
    parser.addoption("--sample", type=int, default=0, metavar="N", help="record N tests of those chosen, by chance")
    parser.addoption("--seed", type=int, default=0, metavar="N", help="of that chance: the same tests each time")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose them, before those that were recorded already are left out."""
    most: int = config.getoption("--sample")
    if 0 < most < len(items):
        chosen = random.Random(config.getoption("--seed")).sample(range(len(items)), most)
        items[:] = [items[place] for place in sorted(chosen)]


def say(what: str, **values: object) -> None:
    """Write a note."""
    recorder.note(json.dumps({"what": what, **values}, separators=(",", ":")))


def plain(value: object) -> Any:
    """Return a value as JSON has it: bytes in an object of their own, and as text what is nothing that it knows."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": pack(bytes(value))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [plain(getattr(value, each.name)) for each in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        return [plain(each) for each in value[:_MOST_PARTS]]
    if isinstance(value, Mapping):
        return [[plain(key), plain(each)] for key, each in list(value.items())[:_MOST_PARTS]]
    return {"text": repr(value)[:200]}


def sides(error: BaseException) -> list[tuple[Any, str, Any]]:
    """Return what an assertion compared that pytest did not rewrite, being in no test file.

    What is a call is not made again: it is an object without anything in it. Where there is no comparison in the last
    frame, all its variables that hold what a call may have given are compared with those that say that it is expected.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return []
    frame = trace.tb_frame
    names = {**frame.f_globals, **frame.f_locals}
    for node in _asserts(frame.f_code.co_filename, trace.tb_lineno):
        if isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
            op = {"Eq": "==", "NotEq": "!="}.get(type(node.test.ops[0]).__name__, "")
            if op:
                return [(_value(node.test.left, names), op, _value(node.test.comparators[0], names))]
    own = {name: plain(value) for name, value in frame.f_locals.items() if isinstance(value, bytes | bytearray | int)}
    right = {name for name in own if _EXPECTED.search(name)}
    return [(own[one], "==", own[other]) for one in own if one not in right for other in right][:16]


def _asserts(path: str, line: int) -> list[ast.Assert]:
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return [node for node in found if node.lineno <= line <= (node.end_lineno or node.lineno)]


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    if any(isinstance(each, ast.Call | ast.Await | ast.NamedExpr | ast.Yield) for each in ast.walk(node)):
        return {}
    try:
        return plain(eval(compile(ast.Expression(node), "<assertion>", "eval"), names))
    except Exception:
        return {}


def pytest_configure(config: pytest.Config) -> None:
    """Register it."""
    config.pluginmanager.register(Recording(), "vm-recording")
