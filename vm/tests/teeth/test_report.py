"""From verdicts of a run to what became of the mutants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vm.results.model import VM, KernelRun, Property, Run, TestResult, Verdict, dump
from vm.teeth.build import Built
from vm.teeth.changes import Change, Mutant
from vm.teeth.report import findings, main, recorded, table

CHANGE = Change("crypto/x.c", "f", "a", "b")
MUTANT = Mutant("x:f.m", (CHANGE,), ("tests/a",))
EQUIVALENT = Mutant("x:f.m", (CHANGE,), ("tests/a",), equivalent="same")
UNCHANGED = Mutant("x:f.m", (), ("tests/a",), unchanged="crypto/x.c")
FIX = Mutant("x:f.m", (CHANGE,), ("tests/a",), fix="abc")
TEST = "tests/a/test_x.py::test_one[1]"
OTHER = "tests/a/test_x.py::test_of_another_mutant"


def _run(
    directory: Path, verdict: Verdict, noticed: dict[str, str] | None, log: str = "", expected: bool | None = None
) -> Path:
    said: tuple[Property, ...] = (
        () if noticed is None else (Property("ran", "9"), Property("noticed", json.dumps(noticed)))
    )
    # By default it is what the verdict says; a machine that ends afterwards has another.
    said += (Property("as_expected", "1"),) * (verdict is Verdict.PASSED if expected is None else expected)
    test = TestResult("vm/teeth/bites.py::test_mutant[x:f.m]", "n", verdict, vm="k-1", properties=said)
    run = Run("r", "now", kernels=(KernelRun("k", "k", vms=(VM("k-1", "console.log"),), tests=(test,)),))
    others = f"[    0.100000] vm-test: begin m\n[    0.200000] teeth: {OTHER}\n[    0.300000] vm-test: end m\n"
    (directory / "console.log").write_text(f"{others}[    0.400000] vm-test: begin n\n{log}\n")
    (directory / "results.json").write_text(dump(run))
    return directory


@pytest.mark.parametrize(
    ("mutant", "verdict", "noticed", "outcome"),
    [
        pytest.param(MUTANT, Verdict.PASSED, {TEST: "wrong"}, "killed", id="noticed"),
        pytest.param(MUTANT, Verdict.FAILED, {}, "survived", id="not-noticed"),
        pytest.param(MUTANT, Verdict.CRASHED, None, "killed", id="crash-in-a-test"),
        pytest.param(MUTANT, Verdict.HUNG, None, "killed", id="hang-in-a-test"),
        pytest.param(MUTANT, Verdict.CRASHED, {}, "survived", id="crash-after-all-tests-passed"),
        pytest.param(MUTANT, Verdict.FAILED, None, "not run", id="error-before-any-test"),
        pytest.param(MUTANT, Verdict.NOT_RUN, None, "not run", id="not-run"),
        pytest.param(MUTANT, Verdict.VM_LOST, None, "not run", id="lost"),
        pytest.param(EQUIVALENT, Verdict.PASSED, {}, "equivalent", id="equivalent"),
        pytest.param(EQUIVALENT, Verdict.FAILED, {TEST: "wrong"}, "wrong", id="said-to-be-equivalent"),
        pytest.param(UNCHANGED, Verdict.PASSED, {}, "quiet", id="unchanged"),
        pytest.param(UNCHANGED, Verdict.FAILED, {TEST: "wrong"}, "wrong", id="fails-unchanged"),
        pytest.param(UNCHANGED, Verdict.CRASHED, None, "wrong", id="crashes-unchanged"),
        pytest.param(FIX, Verdict.PASSED, {TEST: "wrong"}, "proven", id="fix"),
        pytest.param(FIX, Verdict.FAILED, {}, "wrong", id="fix-not-noticed"),
    ],
)
def test_a_verdict_is_an_outcome(
    tmp_path: Path, mutant: Mutant, verdict: Verdict, noticed: dict[str, str] | None, outcome: str
) -> None:
    """A machine that ends before it told is the mutant's doing; after that, it is only spent."""
    built = Built(mutant, {"crypto/x": Path("x.ko")})
    (found,) = findings([built], _run(tmp_path, verdict, noticed))
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("mutant", "expected", "outcome"),
    [
        pytest.param(FIX, True, "proven", id="fix"),
        pytest.param(FIX, False, "wrong", id="fix-not-noticed"),
        pytest.param(EQUIVALENT, True, "equivalent", id="equivalent"),
        pytest.param(UNCHANGED, False, "wrong", id="unchanged"),
    ],
)
def test_a_machine_that_ends_afterwards_changes_no_outcome(
    tmp_path: Path, mutant: Mutant, expected: bool, outcome: str
) -> None:
    """What was found was told before."""
    built = Built(mutant, {"crypto/x": Path("x.ko")})
    (found,) = findings([built], _run(tmp_path, Verdict.CRASHED, {TEST: "wrong"}, expected=expected))
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("log", "outcome"), [("", "wrong"), (f"[    1.000000] teeth: {TEST}", "proven")], ids=["before", "in"]
)
def test_a_crash_proves_a_fix_only_in_a_test(tmp_path: Path, log: str, outcome: str) -> None:
    """One that came before any was begun may be the change's fault."""
    built = Built(FIX, {"crypto/x": Path("x.ko")})
    (found,) = findings([built], _run(tmp_path, Verdict.CRASHED, None, log))
    assert found.outcome == outcome


def test_a_crash_names_the_test_it_came_in(tmp_path: Path) -> None:
    """The last one that was announced in the kernel's log."""
    log = f"[    1.000000] teeth: {OTHER}\n[    1.100000] teeth: {TEST}\nBUG: at"
    built = Built(MUTANT, {"crypto/x": Path("x.ko")})
    (found,) = findings([built], _run(tmp_path, Verdict.CRASHED, None, log))
    assert found.noticed == (TEST,)


def test_what_was_not_built_is_told(tmp_path: Path) -> None:
    """A mutant that does not compile is an error of the data; one that does not apply is not."""
    built = [Built(MUTANT, {}, "error: x"), Built(MUTANT, {}, "there is no f", applies=False)]
    assert [one.outcome for one in findings(built, None)] == ["not built", "does not apply"]


def test_the_status_is_0_only_when_all_was_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what noticed can be written down for the next run."""
    built = [Built(MUTANT, {"crypto/x": Path("x.ko")})]
    assert main(built, _run(tmp_path, Verdict.FAILED, {}), tmp_path) == 1
    assert "0 of 1 mutant killed: 0.0%" in capsys.readouterr().out
    assert main(built, _run(tmp_path, Verdict.PASSED, {TEST: "wrong"}), tmp_path) == 0
    assert "1 of 1 mutant killed: 100.0%" in capsys.readouterr().out
    assert recorded(tmp_path) == {"x:f.m": (TEST,)}


def test_the_table_has_a_line_a_file() -> None:
    """With what survived by name below it."""
    found = findings([Built(MUTANT, {}, "error: x")], None)
    assert "crypto/x.c" in table(found)
    assert "  x:f.m: error: x" in table(found)
