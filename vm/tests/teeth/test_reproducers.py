"""Programs of mutants: what guests are told, what is made of what they say, and what a guest does with modules."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.reproducer import guest, make
from vm.reproducer.guest import Machine, Outcome
from vm.reproducer.make import Order, Program
from vm.reproducer.record import Recording
from vm.teeth import reproducers, within
from vm.teeth.build import Built
from vm.teeth.changes import Change, Mutant
from vm.teeth.modules import Spent
from vm.teeth.reproducers import Shown

TEST = "t.py::test_notices"


def built(name: str) -> Built:
    mutant = Mutant(name, (Change("crypto/a.c", "f", "a", "b"),), ("tests",))
    return Built(mutant, {"crypto/a": Path(f"/cache of mine/{name}/a.ko")})


def order(place: Path) -> Order:
    machine = Machine("source:6.12+mutants")
    return Order(machine, machine, arch.default(), "Linux", place)


def line(number: int, **note: Any) -> str:
    return json.dumps({"n": number, "note": json.dumps(note)})


def red(outcome: str) -> str:
    said = [line(1, what="test", test=TEST, doc="", module="", fixes=[])]
    said.append(line(2, what="report", when="call", outcome=outcome, reason="", splats=[]))
    return "\n".join([*said, json.dumps({"n": 3, "note": "end"})])


def test_each_mutant_is_recorded_with_its_modules_and_tried_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose machine went down is one, too; of one whose test passes there is none."""
    asked: dict[str, str] = {}

    def run(_: Machine, jobs: Mapping[str, str], *__: object) -> dict[str, Outcome]:
        asked.update(jobs)
        down = red("failed").splitlines()[0]
        return dict(
            zip(jobs, [Outcome(0, red("failed")), Outcome(None, "panic", down), Outcome(0, red("passed"))], strict=True)
        )

    def of_recordings(
        _: Order, found: Sequence[Recording], theirs: object, progress: object, words: Sequence[str]
    ) -> list[Program]:
        assert [each.outcome for each in found] == ["failed", "lost"]
        return [Program(each.test, each.outcome, within=word) for each, word in zip(found, words, strict=True)]

    monkeypatch.setattr(guest, "record", lambda *_: [])
    monkeypatch.setattr(guest, "run", run)
    monkeypatch.setattr(make, "of_recordings", of_recordings)
    known = [built("a:one"), built("a:two"), built("a:three")]
    killers = {each.mutant.name: [TEST] for each in known}
    shown = reproducers._shown(order(tmp_path), known, killers, "m:release", lambda _: None)
    assert asked["record-1"].startswith("python -m vm.teeth.within m:release 'crypto/a=/cache of mine/a:two/a.ko' -- ")
    assert [each.reason for each in shown] == ["", "", "the test passed"]
    assert [each.program.within.split()[4] for each in shown[:2] if each.program] == ["'crypto/a=/cache"] * 2


def test_the_table_has_a_reason_for_each_that_is_not_shown() -> None:
    shown = [Shown("a:one", TEST, None, ""), Shown("a:two", TEST, None, "compares by <")]
    said = reproducers.table(shown).splitlines()
    assert said[0].startswith("1 of 2 mutants")
    assert said[1:] == ["compares by <:", f"  a:two  {TEST}"]


def test_mutants_that_nobody_is_known_to_notice_are_one_error(tmp_path: Path) -> None:
    class Plan:
        label = "6.12"

    plan: Any = Plan()
    with pytest.raises(UsageError, match="of none of these mutants"):
        reproducers.main(plan, "6.12", [built("a:one")], {}, "m:release", tmp_path, False, lambda _: None)


@pytest.mark.parametrize("spent", [False, True], ids=["reused", "spent"])
def test_a_command_runs_while_the_modules_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spent: bool
) -> None:
    """Its status is passed on; a machine that cannot let go of them says so, for the next command."""
    said: list[str] = []

    @contextlib.contextmanager
    def replaced(files: Mapping[str, Path], *_: object) -> Iterator[None]:
        said.append(f"in {files}")
        yield
        if spent:
            raise Spent("in use")
        said.append("out")

    monkeypatch.setattr(within, "replaced", replaced)
    monkeypatch.setattr(within, "SPENT", str(tmp_path / "spent"))
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert within.main(["vm.klog.taint:read", "crypto/a=/x/a.ko", "--", *command]) == 7
    files = {"crypto/a": Path("/x/a.ko")}
    assert said == [f"in {files}", *([] if spent else ["out"])]
    assert (tmp_path / "spent").exists() is spent
