"""Recording in guests: going on behind a machine that went down, and choosing some tests of many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.reproducer import guest, make, record
from vm.reproducer.fault import Fault
from vm.reproducer.guest import Machine, Outcome
from vm.reproducer.make import Program

pytestmark = pytest.mark.deadline(60)

LOST = 255
Guests = Callable[[Sequence[tuple[int, list[str]]]], list[list[str]]]


def line(number: int, **note: Any) -> str:
    return json.dumps({"n": number, "note": json.dumps(note)})


def of(test: str, *, complete: bool = True) -> list[str]:
    begun = [line(1, what="test", test=test, doc="", module="", fixes=[])]
    return [*begun, json.dumps({"n": 2, "note": "end"})] if complete else begun


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guests:
    """Have guests end so and say these lines, one after the other; give what pytest was told in each."""

    def stand_in(all_: Sequence[tuple[int, list[str]]]) -> list[list[str]]:
        left, told = list(all_), []

        def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
            told.append((tmp_path / "tests").read_text().splitlines())
            status, said = left.pop(0)
            return subprocess.CompletedProcess([], status, "\n".join(said).encode(), b"no such test\n")

        monkeypatch.setattr("vm.reproducer.guest.subprocess.run", run)
        return told

    return stand_in


def recorded(place: Path) -> dict[str, str]:
    lines = guest.record(Machine("6.1"), ["tests"], [], place, lambda _: None)
    return {each.test: each.outcome for each in record.load(lines)}


def test_what_comes_behind_a_test_that_takes_the_machine_down_is_recorded(guests: Guests, tmp_path: Path) -> None:
    told = guests([(LOST, [*of("a"), *of("b", complete=False)]), (LOST, of("c", complete=False)), (0, of("d"))])
    assert recorded(tmp_path) == {"a": "passed", "b": "lost", "c": "lost", "d": "passed"}
    assert told == [
        ["tests"],
        ["tests", "--deselect=a", "--deselect=b"],
        ["tests", "--deselect=a", "--deselect=b", "--deselect=c"],
    ]


def test_the_last_test_may_be_the_one(guests: Guests, tmp_path: Path) -> None:
    guests([(LOST, of("a", complete=False)), (5, [])])
    assert recorded(tmp_path) == {"a": "lost"}


def test_a_machine_that_does_not_come_so_far_is_not_tried_for_ever(guests: Guests, tmp_path: Path) -> None:
    guests([(LOST, of("a", complete=False)), (LOST, [])])
    assert recorded(tmp_path) == {"a": "lost"}


def test_no_machine_is_booted_when_none_is_left(guests: Guests, tmp_path: Path) -> None:
    told = guests([(LOST, of("tests", complete=False))])
    assert recorded(tmp_path) == {"tests": "lost"}
    assert len(told) == 1


def test_nothing_recorded_is_one_error(guests: Guests, tmp_path: Path) -> None:
    guests([(4, [])])
    with pytest.raises(UsageError, match="nothing was recorded: no such test"):
        recorded(tmp_path)


def chosen(directory: Path, *options: str) -> list[str]:
    """Return the tests of forty that pytest runs."""
    (directory / "test_forty.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_it(n):\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=."]
    done = subprocess.run(
        [*command, "-p", "vm.guest.recording", *options, "test_forty.py"],
        cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return [each.split()[0] for each in done.stdout.splitlines() if "PASSED" in each]


def test_a_sample_is_the_same_each_time(tmp_path: Path) -> None:
    """Also when some of it have been recorded already: others do not take their place."""
    first = chosen(tmp_path, "--sample=5", "--seed=18")
    assert len(first) == 5
    assert chosen(tmp_path, "--sample=5", "--seed=18", f"--deselect={first[0]}") == first[1:]
    assert chosen(tmp_path, "--sample=5", "--seed=19") != first
    assert len(chosen(tmp_path)) == 40


def program(test: str, outcome: str, *, reason: str = "", good: Outcome | None = None) -> Program:
    shown = Outcome(0, "as expected") if outcome == "passed" else Outcome(1, "bind: got EINVAL, expected success")
    return Program(test, outcome, fault=Fault([]), reason=reason, shown=shown, good=good)


def test_the_table_counts_red_ones_and_others_and_gives_reasons() -> None:
    expected = Outcome(0, "as expected")
    made = [
        program("a", "failed", good=expected),
        program("b", "lost", reason="more than one process"),
        program("c", "passed"),
        program("d", "passed", reason="more than one process"),
        program("e", "passed", reason="no C for bpf"),
        program("f", "skipped", reason="the test was skipped"),
    ]
    assert make.table(made, "6.12").splitlines() == [
        "1 of the programs of 2 red tests show it, and say as expected on 6.12",
        "1 of the programs of 3 passed tests say as expected",
        "1 test skipped: no program is made",
        "more than one process:",
        "  b",
        "  d",
        "no C for bpf:",
        "  e",
    ]
