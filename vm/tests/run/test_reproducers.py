"""Programs of a run's tests: of which they are made, where they go, and what is said of those that cannot be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.report import page
from vm.reproducer import make
from vm.reproducer.fault import Fault
from vm.reproducer.guest import Outcome
from vm.reproducer.make import Order, Program
from vm.results import mail, model
from vm.results import reproducers as places
from vm.results.model import KernelRun, Run, TestResult, Verdict
from vm.run import reproducers
from vm.run.reproducers import Booted

TEST = "tests/errors/test_bind.py::test_it[a-b(c)]"


def result(test: str, verdict: Verdict) -> TestResult:
    return TestResult(test, f"{test}[6.1]", verdict, reason="AssertionError")


def run_of(*tests: TestResult) -> Run:
    return model.Run("id", "now", kernels=(KernelRun("6.1", "6.1", release="6.1.0", tests=tests),))


BOOTED = {"6.1": Booted("6.1", ("--cpus=2",), arch.default(), expendable=True)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Have every program work but those of ``test_odd``; give what was asked for."""
    found: list[list[str]] = []

    def programs(order: Order, tests: Sequence[str], arguments: Sequence[str], progress: object) -> list[Program]:
        assert order.machine.arguments == ("--cpus=2",)
        found.append(list(tests))
        made = []
        for test in tests:
            odd = "odd" in test
            program = Program(test, "failed", fault=Fault([]), text=f"/* {test} */\n", shown=Outcome(1, "bind: got"))
            made.append(replace(program, reason="compares by <") if odd else program)
        return made

    monkeypatch.setattr(make, "programs", programs)
    return found


def write(run: Run, directory: Path, which: str) -> list[str]:
    return reproducers.write(run, directory, which, BOOTED, lambda _: None)


def test_red_tests_have_one_and_what_took_the_machine_down_a_machine_each(
    asked: list[list[str]], tmp_path: Path
) -> None:
    run = run_of(
        result(TEST, Verdict.FAILED),
        result("t.py::test_good", Verdict.PASSED),
        result("t.py::test_odd", Verdict.FAILED),
        result("t.py::test_down", Verdict.CRASHED),
        result("t.py::test_hung", Verdict.HUNG),
        result("t.py::test_left", Verdict.NOT_RUN),
    )
    said = write(run, tmp_path, "failures")
    assert asked == [[TEST, "t.py::test_odd"], ["t.py::test_down"], ["t.py::test_hung"]]
    assert places.path(tmp_path, "6.1", TEST).read_text() == f"/* {TEST} */\n"
    assert not places.path(tmp_path, "6.1", "t.py::test_odd").exists()
    assert said == ["reproducers of 6.1: 3 programs of 4 tests", "  none of t.py::test_odd: compares by <"]
    rows = json.loads((tmp_path / "kernels/6.1/reproducers/summary.json").read_text())
    assert [row["works"] for row in rows] == [True, False, True, True]


def test_all_are_those_that_pass_as_well(asked: list[list[str]], tmp_path: Path) -> None:
    write(run_of(result(TEST, Verdict.PASSED), result("t.py::test_b", Verdict.SKIPPED)), tmp_path, "all")
    assert asked == [[TEST]]


def test_a_kernel_on_which_everything_fails_has_few(asked: list[list[str]], tmp_path: Path) -> None:
    many = [result(f"t.py::test_{number}", Verdict.FAILED) for number in range(25)]
    said = write(run_of(*many), tmp_path, "failures")
    assert sum(map(len, asked)) == reproducers.MOST
    assert said[-1] == "reproducers of 6.1: 15 more are not made; --reproducers all makes every one"


def test_nothing_red_needs_nothing(asked: list[list[str]], tmp_path: Path) -> None:
    assert write(run_of(result(TEST, Verdict.PASSED)), tmp_path, "failures") == []
    assert not asked


def test_what_cannot_be_recorded_is_told_and_the_run_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> list[Program]:
        raise UsageError("6.1 did not boot")

    monkeypatch.setattr(make, "programs", fails)
    said = write(run_of(result(TEST, Verdict.FAILED)), tmp_path, "failures")
    assert said == ["reproducers of 6.1: 6.1 did not boot"]


def test_tests_with_the_same_letters_have_places_of_their_own() -> None:
    assert places.slug("tests/a.py::test[a-b]") != places.slug("tests/a.py::test[a(b)]")
    assert len(places.slug("x" * 1000)) < 200


def test_mail_and_page_lead_to_it(tmp_path: Path) -> None:
    run = run_of(result(TEST, Verdict.FAILED))
    kernel = run.kernels[0]
    asked_for = mail.report(run, kernel, kernel.tests[0], None, [])
    assert f"make reproducer KERNEL=6.1 TEST='{TEST}'" in asked_for
    path = places.path(tmp_path, "6.1", TEST)
    path.parent.mkdir(parents=True)
    path.write_text("")
    told = mail.report(run, kernel, kernel.tests[0], None, [], str(path))
    assert str(path) in told
    assert "make reproducer" not in told
    assert path.relative_to(tmp_path).as_posix() in str(page._links([(tmp_path, run)], tmp_path))
