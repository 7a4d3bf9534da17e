"""Streaks, flips and flakes over several runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vm.report import command
from vm.results import model
from vm.results.history import History, histories, render
from vm.results.model import KernelRun, Run, TestResult, Verdict

P, F, K, S, N = Verdict.PASSED, Verdict.FAILED, Verdict.KNOWN, Verdict.SKIPPED, Verdict.NOT_RUN


def run(day: int, verdict: Verdict | None, release: str = "6.12.1", name: str = "") -> Run:
    tests = () if verdict is None else (TestResult("t.py::x", "t.py::x[k]", verdict),)
    kernel = KernelRun(name or release, "6.12", release=release, tests=tests)
    return Run(f"run-{day}", f"2026-11-{day:02}T00:00:00Z", finished="2026-12-01T00:00:00Z", kernels=(kernel,))


def only(*verdicts: Verdict | None) -> History:
    (found,) = histories([run(day, verdict) for day, verdict in enumerate(verdicts, 1)])
    return found


@pytest.mark.parametrize(
    ("verdicts", "letters", "state", "streak", "flips", "first_bad"),
    [
        ((P, P, P), "...", "passes", 3, 0, ""),
        ((P, F, F), ".FF", "fails", 2, 1, "run-2"),
        ((F, P), "F.", "passes", 1, 1, ""),
        ((P, F, P, F), ".F.F", "fails", 1, 3, "run-4"),
        ((F, None, N, F), "F--F", "fails", 2, 0, "run-1"),
        ((P, S, K), ".sk", "fails", 1, 1, "run-3"),
        ((S, N), "s-", "no verdict", 0, 0, ""),
    ],
)
def test_history_of_a_test(
    verdicts: tuple[Verdict | None, ...], letters: str, state: str, streak: int, flips: int, first_bad: str
) -> None:
    found = only(*verdicts)
    assert (found.letters, found.state, found.streak, found.flips, found.first_bad) == (
        letters,
        state,
        streak,
        flips,
        first_bad,
    )


def test_a_flake_is_a_test_that_differs_on_one_kernel_and_no_change_between_two() -> None:
    assert only(P, F).flaky
    (changed,) = histories([run(1, P, "6.12.1"), run(2, F, "6.12.2")])
    assert (changed.flips, changed.flaky) == (1, False)
    (again,) = histories([run(1, P, "6.12.1"), run(2, F, "6.12.2"), run(3, P, "6.12.2")])
    assert again.flaky


def test_a_flake_is_seen_over_runs_each_of_which_has_its_own_directory() -> None:
    runs = [run(1, P), run(2, F)]
    lines = [f'console=ttyS0 fips=1 init="/results/{each.id}/vms/6.12-1/init"' for each in runs]

    def booted(words: list[str]) -> bool:
        kernels = [dataclasses.replace(each.kernels[0], cmdline=line) for each, line in zip(runs, words, strict=True)]
        changed = [dataclasses.replace(each, kernels=(kernel,)) for each, kernel in zip(runs, kernels, strict=True)]
        return histories(changed)[0].flaky

    assert booted(lines)
    assert not booted([lines[0], lines[1].replace("fips=1", "fips=0")])


def test_a_test_that_was_changed_in_between_is_no_flake() -> None:
    runs = [run(1, P), run(2, F)]
    by = [
        [dataclasses.replace(each, revision=name) for each, name in zip(runs, names, strict=True)]
        for names in ("aa", "ab")
    ]
    assert [histories(each)[0].flaky for each in by] == [True, False]


def test_runs_are_taken_in_the_order_in_which_they_began() -> None:
    (found,) = histories([run(3, P), run(1, F), run(2, F)])
    assert found.letters == "FF."


def write(directory: Path, *runs: Run) -> list[str]:
    for each in runs:
        (directory / each.id).mkdir()
        (directory / each.id / "results.json").write_text(model.dump(each))
    return [str(directory / each.id) for each in runs]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = write(tmp_path, run(1, P), run(2, F))
    assert command.main(["history", *names]) == 0
    said = capsys.readouterr().out
    assert "6.12: 1 test to look at, 1 flaky" in said
    assert "  .F  t.py::x" in said
    assert "fails since 1 run, 1 flip, first bad in run-2, flaky" in said
    assert command.main(["history", *names, "--flips", "2"]) == 0
    assert capsys.readouterr().out == "2 runs: no test fails, and none changed\n"
    assert command.main(["history", *names, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["letters"] == ".F"
    assert command.main(["history", names[0]]) == 4
    assert "takes two runs" in capsys.readouterr().err


def test_what_always_passed_is_not_told_unless_asked() -> None:
    assert render([each for each in [only(P, P)] if each.notable], 2) == "2 runs: no test fails, and none changed\n"
    assert "passes since 2 runs" in render([only(P, P)], 2)


def test_what_flips_most_is_told_first_and_then_what_fails_longest() -> None:
    def told(name: str, *verdicts: Verdict) -> History:
        return dataclasses.replace(only(*verdicts), test=name)

    said = render(
        [told("once", P, P, F, F), told("long", F, F, F, F), told("often", P, F, P, F), told("new", P, P, P, F)], 4
    )
    assert [line.split()[1] for line in said.splitlines()[1::2]] == ["often", "once", "new", "long"]


@pytest.mark.parametrize(
    ("verdicts", "notable"), [((F, F), True), ((P, F), True), ((F, P), True), ((P, P), False), ((S, S), False)]
)
def test_what_fails_is_told_even_when_it_always_did(verdicts: tuple[Verdict, ...], notable: bool) -> None:
    assert only(*verdicts).notable is notable
