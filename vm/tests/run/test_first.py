"""Tests that were bad the last time run first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vm.results import events
from vm.results.model import TestResult, Verdict
from vm.run import first
from vm.tests.harness import Project


def run(directory: Path, *ends: tuple[str, str, Verdict]) -> Path:
    """Write a run, cut off in its last line."""
    directory.mkdir()
    lines = [
        events.encode(events.TestEnded(kernel, TestResult(f"t.py::{name}", f"t.py::{name}[{kernel}]", verdict), ""))
        for kernel, name, verdict in ends
    ]
    text = "".join(line.rstrip("\n") + "\n" for line in lines)
    (directory / events.NAME).write_text(text + '{"event": "test ended", "kernel": "A", "result": {"test": "t')
    return directory


def test_bad_tests_of_the_kernel(tmp_path: Path) -> None:
    before = run(
        tmp_path / "1",
        ("A", "passes", Verdict.PASSED),
        ("A", "fails", Verdict.FAILED),
        ("A", "known", Verdict.KNOWN),
        ("A", "skipped", Verdict.SKIPPED),
        ("A", "lost", Verdict.VM_LOST),
        ("A", "left", Verdict.NOT_RUN),
        ("B", "crashes", Verdict.CRASHED),
        ("C", "passes", Verdict.PASSED),
    )
    assert first.bad(before, ["A", "C", "new"]) == {
        "A": {"t.py::fails"},
        "C": frozenset(),
        "new": {"t.py::fails", "t.py::crashes"},
    }


@pytest.mark.parametrize("content", [None, b"", b"\xff\0no events\n", b'{"event": "test ended"\n'])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / events.NAME).write_bytes(content)
    assert not any(first.bad(tmp_path, ["A"]).values())


def test_the_run_before(tmp_path: Path) -> None:
    new = tmp_path / "2"
    new.mkdir()
    assert first.previous(new) is None
    (tmp_path / "latest").symlink_to("1")
    assert first.previous(new) is None
    run(tmp_path / "1")
    assert first.previous(new) == tmp_path / "1"
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to("2")
    assert first.previous(new) is None


def begun(project: Project, number: int) -> list[str]:
    """Return the tests of a run, in the order in which they began."""
    runs = sorted(path for path in (project.directory / "results").iterdir() if not path.is_symlink())
    lines = (runs[number] / events.NAME).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [each["nodeid"].partition("::")[2].partition("[")[0] for each in found if each["event"] == "test began"]


def test_a_red_comes_first_the_next_time(project: Project) -> None:
    project.tests("".join(f"def test_{number}(): assert {number} != 7\n" for number in range(9)))
    assert project.run("--vms=1").status == 1
    again = project.run("--vms=1", "-x")
    assert again.status == 1
    assert "\nfirst: 1 test" in again.output
    in_order = project.run("--vms=1", "-x", "--in-order")
    assert in_order.status == 1
    assert "\nfirst: " not in in_order.output
    assert begun(project, 0) == [f"test_{number}" for number in range(9)]
    assert begun(project, 2) == begun(project, 0)[:8]
    assert begun(project, 1)[0] == "test_7"
