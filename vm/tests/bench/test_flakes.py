"""Verdicts of several runs beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.bench import flakes
from vm.results.model import KernelRun, Run, TestResult, Verdict


def _run(**verdicts: Verdict) -> Run:
    tests = tuple(TestResult(name, name, verdict) for name, verdict in verdicts.items())
    return Run("r", "now", kernels=(KernelRun("k", "k", tests=tests),))


def test_a_test_that_is_not_always_the_same_is_named() -> None:
    """With how often it was what; one that is missing in a run differs too."""
    seen: flakes.Seen = {}
    for run in (
        _run(a=Verdict.PASSED, b=Verdict.PASSED, c=Verdict.FAILED),
        _run(a=Verdict.PASSED, b=Verdict.FAILED, c=Verdict.FAILED, d=Verdict.PASSED),
        _run(a=Verdict.PASSED, b=Verdict.PASSED, c=Verdict.FAILED, d=Verdict.PASSED),
    ):
        flakes.take(run, seen)
    assert flakes.table(seen).splitlines() == [
        "k: b: 2 × passed, 1 × failed",
        "k: d: 2 × passed, 1 × missing",
        "2 of 4 tests differ in 3 runs",
    ]


@pytest.mark.parametrize(
    ("second", "status"), [pytest.param(Verdict.PASSED, 0, id="steady"), pytest.param(Verdict.FAILED, 1, id="flaky")]
)
def test_the_status_says_whether_verdicts_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: Verdict, status: int
) -> None:
    """A test that always fails is no flake."""
    runs = iter([_run(a=Verdict.PASSED, b=Verdict.FAILED), _run(a=second, b=Verdict.FAILED)])
    monkeypatch.setattr(
        flakes, "_run", lambda _directory, further: next(runs) if further == ["--kernel=6.12"] else None
    )
    assert flakes.main(["-n", "2", "--load", "0", "--kernel=6.12"]) == status
    assert capsys.readouterr().out.splitlines()[-1] == f"{status} of 2 tests differ in 2 runs"


def test_a_run_that_does_not_end_is_one_error_and_shows_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of runs are not lost with the last."""

    def second_breaks(directory: Path, _further: object) -> Run:
        if directory.name == "2":
            raise UsageError("exit status 3: no such kernel")
        return _run(a=Verdict.PASSED)

    monkeypatch.setattr(flakes, "_run", second_breaks)
    assert flakes.main(["-n", "2", "--load", "0"]) == 4
    said = capsys.readouterr()
    assert "run 2 of 2: exit status 3: no such kernel" in said.err
    assert said.out == "0 of 1 test differ in 1 run\n"


@pytest.mark.deadline(90)
def test_a_run_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The last word of its own output."""
    with pytest.raises(UsageError, match="no-such-kernel"):
        flakes._run(tmp_path / "1", ["--kernel=/no-such-kernel"])
