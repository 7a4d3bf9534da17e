"""A reader of KTAP (kernel document dev-tools/ktap.rst) that takes nothing but what the kernel's own parser does."""

from __future__ import annotations

import re

# KTAP. The validator below follows Documentation/dev-tools/ktap.rst and, where that leaves room, what the kernel's
# tools/testing/kunit/kunit_parser.py reads.
RESULT = re.compile(
    r"(?P<ok>ok|not ok) (?P<number>\d+) (?P<name>[^#]+?)(?: # (?P<directive>SKIP|XFAIL)(?: (?P<why>.+))?)?$"
)
PARSER_STOPS = re.compile(r"List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


def read_ktap(text: str) -> dict[str, list[tuple[str, str, str]]]:
    """Return the results (status, name, directive) of each kernel, keyed by "status name"; strict: any doubt fails."""
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends"
    for line in lines:
        assert line == line.rstrip()
        assert line.isprintable()
        assert PARSER_STOPS.search(line) is None
    assert lines.pop(0) == "KTAP version 1"
    kernels: dict[str, list[tuple[str, str, str]]] = {}
    for number in range(1, plan(lines.pop(0)) + 1):
        tests = read_subtests(lines)
        skip_diagnostics(lines)
        status, name, _ = read_result(lines.pop(0), number)
        kernels[f"{status} {name}"] = tests
    assert lines == []
    return kernels


def read_subtests(lines: list[str]) -> list[tuple[str, str, str]]:
    end = next(index for index, line in enumerate(lines) if not line.startswith("  "))
    inner = [line[2:] for line in lines[:end]]
    del lines[:end]
    assert inner.pop(0) == "KTAP version 1"
    assert inner.pop(0).startswith("# Subtest: ")
    tests = []
    for number in range(1, plan(inner.pop(0)) + 1):
        skip_diagnostics(inner)
        tests.append(read_result(inner.pop(0), number))
    assert inner == [], "no line after the planned number of results"
    return tests


def skip_diagnostics(lines: list[str]) -> None:
    while lines and lines[0].startswith("# "):
        assert not lines[0].startswith("# Subtest:")
        lines.pop(0)


def plan(line: str) -> int:
    match = re.fullmatch(r"1\.\.(\d+)", line)
    assert match, line
    return int(match[1])


def read_result(line: str, number: int) -> tuple[str, str, str]:
    match = RESULT.fullmatch(line)
    assert match, line
    assert int(match["number"]) == number
    return match["ok"], match["name"], match["directive"] or ""
