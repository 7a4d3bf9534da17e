"""A console by time: what belongs to which test, what began last, and the command that shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.klog import console
from vm.klog.splats import find_splats
from vm.tests.consoles import DATA, captured, stamped


def test_split_by_test() -> None:
    text = stamped(
        "booting\nvm-test: begin t.py::test_a[x y]\nin a\nvm-test: end t.py::test_a[x y]\nlate of a\n"
        "vm-test: begin t.py::test_b\nin b\nvm-test: end t.py::test_b\nreboot: Power down"
    )
    parts = console.split(text)
    assert "booting" in parts.boot
    assert list(parts.tests) == ["t.py::test_a[x y]", "t.py::test_b"]
    assert re.findall(r"in a|late of a|in b", parts.tests["t.py::test_a[x y]"]) == ["in a", "late of a"]
    assert re.findall(r"in a|late of a|in b", parts.tests["t.py::test_b"]) == ["in b"]
    assert "Power down" in parts.after
    assert parts.running is None
    assert console.last_test(text) == "t.py::test_b"


def test_split_of_a_machine_that_died_within_a_test() -> None:
    parts = console.split(captured("panic-by-sysrq"))
    assert parts.running == "tests/test_a.py::test_boom[x y]"
    assert find_splats(parts.boot) == []
    assert [splat.kind for splat in find_splats(parts.tests[parts.running])] == ["kernel panic"]
    assert parts.after == ""


def test_split_keeps_every_line_once_and_in_order() -> None:
    text = captured("many-kinds")
    parts = console.split(text)
    pieces = [parts.boot, *parts.tests.values(), parts.after]
    assert "\n".join(piece for piece in pieces if piece) == text


def test_split_attributes_each_splat_to_its_test() -> None:
    parts = console.split(captured("many-kinds"))
    kinds = {
        name.partition("[")[2].rstrip("]"): [s.kind for s in find_splats(text)] for name, text in parts.tests.items()
    }
    assert kinds["oob"] == ["KASAN"]
    assert kinds["uaf"] == []
    assert kinds["listdel"] == ["list corruption"]
    assert kinds["twowarn"] == ["WARNING", "WARNING"]
    assert find_splats(parts.boot) == []


def test_split_joins_both_runs_of_a_test() -> None:
    once = "vm-test: begin t\nround {}\nvm-test: end t\n"
    parts = console.split(stamped(once.format(1) + "vm-test: begin u\nvm-test: end u\n" + once.format(2)))
    assert re.findall(r"round \d", parts.tests["t"]) == ["round 1", "round 2"]
    assert list(parts.tests) == ["u", "t"]


def test_split_without_markers_is_all_boot() -> None:
    text = captured("boot-with-checkers")
    parts = console.split(text)
    assert (parts.boot, parts.tests, parts.after, parts.running) == (text, {}, "", None)
    assert console.last_test(text) is None


def test_a_marker_after_a_programs_unfinished_line_counts() -> None:
    assert console.last_test("collecting ... [    1.000000] vm-test: begin t.py::test_a\n") == "t.py::test_a"
    assert console.last_test("[    1.000000][   T99] vm-test: begin t.py::test_a\r\n") == "t.py::test_a"
    assert console.last_test("[    1.000000] systemd: vm-test: begin t.py::test_a\n") is None


def test_tail_is_the_last_lines_that_say_something() -> None:
    text = "one\n\n  \ntwo\x1b[31m red\x1b[0m\r\n\x00three\tx\n\n\n"
    assert console.tail(text, 2) == "two red\nthree\tx"
    assert console.tail(text) == "one\ntwo red\nthree\tx"
    assert console.tail("") == ""


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert console.main([str(DATA / "panic-by-sysrq.txt")]) == 1
    out = capsys.readouterr().out
    assert "fingerprint: kernel panic: sysrq_handle_crash < __handle_sysrq < write_sysrq_trigger" in out
    assert "last test: tests/test_a.py::test_boom[x y]" in out
    assert console.main([str(DATA / "boot-and-segfault.txt")]) == 0
    assert console.main([str(tmp_path / "none")]) == 4
    assert "cannot read" in capsys.readouterr().err
