"""Bisection by a program: what its end says of a kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.bisect import command, judge, program
from vm.bisect.judge import Hunt
from vm.kernels.spec import Kernel
from vm.reproducer import guest
from vm.reproducer.guest import Outcome
from vm.tests.bisection import TEST

SAID = "recvmsg: got 48 bytes, expected EINVAL"
Answer = Callable[[Outcome | UsageError], None]


@pytest.fixture
def hunt(tmp_path: Path) -> Hunt:
    """Give a hunt by a program that was compiled before."""
    path = tmp_path / "reproducer"
    path.write_bytes(b"a static program")
    return Hunt((), program=str(path))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Have a guest answer so."""

    def set_answer(said: Outcome | UsageError) -> None:
        def run(*_: object) -> dict[str, Outcome]:
            if isinstance(said, UsageError):
                raise said
            return {"program": said}

        monkeypatch.setattr(guest, "run", run)
        monkeypatch.setattr(program, "resolve_one", lambda *_: Kernel("6.1", "6.1", "6.1.0", None))

    return set_answer


@pytest.mark.parametrize(
    ("said", "expected", "reason"),
    [
        (Outcome(0, "as expected"), "good", "as expected"),
        (Outcome(1, SAID), "bad", SAID),
        (Outcome(2, "bind: No such file or directory: cannot be judged here"), "skip", "ended with 2"),
        (Outcome(139, ""), "skip", "ended with 139"),
        (Outcome(None, "6.1: the guest ended: BUG: NULL pointer"), "bad", "NULL pointer"),
        (UsageError("6.1 did not boot: panic"), "skip", "did not boot"),
        (UsageError("no room"), "stop", "no room"),
    ],
    ids=["good", "bad", "not so far", "signal", "crash", "no boot", "host"],
)
def test_the_end_of_a_program_is_the_answer(
    said: Outcome | UsageError, expected: str, reason: str, hunt: Hunt, answer: Answer, tmp_path: Path
) -> None:
    answer(said)
    found = judge.judge("6.1", hunt, (), tmp_path, lambda _: None)
    assert found.answer == expected
    assert reason in found.reason


def test_another_end_than_that_of_the_bad_one_is_another_fault(hunt: Hunt, answer: Answer, tmp_path: Path) -> None:
    answer(Outcome(1, SAID))
    looked_for = judge.judge("6.1", hunt, (), tmp_path, lambda _: None).fingerprints
    answer(Outcome(None, "panic"))
    found = judge.judge("6.1", hunt, looked_for, tmp_path, lambda _: None)
    assert (found.answer, found.reason.split(":")[0]) == ("skip", "another failure")


@pytest.mark.parametrize("words", [[], [TEST, "--program", "x.c"]], ids=["neither", "both"])
def test_it_is_a_test_or_a_program(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*words, "--kernels", "6.1", "6.12"]) == 4
    assert "or --program FILE in its place" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_told_before_anything_is_booted(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--program", "nowhere.c", "--kernels", "6.1", "6.12"]) == 4
    assert "no program nowhere.c" in capsys.readouterr().err
