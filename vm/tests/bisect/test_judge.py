"""The verdict of one step of a bisection: of one run, and of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from vm.bisect import judge as bisect_judge
from vm.bisect.judge import Hunt, Judgement, fingerprints
from vm.klog.splats import Splat
from vm.results import model
from vm.results.model import KernelRun, TestResult, Verdict
from vm.tests.bisection import TEST

HUNT = Hunt((TEST,))
OOPS = Splat("oops", "BUG: NULL pointer", "text", "oops: af_alg_fake_oops < aead_recvmsg", "")
OTHER = Splat("oops", "BUG: NULL pointer", "text", "oops: ext4_readdir", "")


def result(verdict: Verdict, reason: str = "", details: str = "", splats: tuple[Splat, ...] = ()) -> TestResult:
    return TestResult(TEST, "t/test_it.py::test_bug[6.1]", verdict, reason=reason, details=details, splats=splats)


FAILED = result(Verdict.FAILED, "AssertionError: 1", "t/test_it.py:7: in test_bug\nt/test_it.py:3: AssertionError")
CRASHED = result(Verdict.CRASHED, "BUG", splats=(OOPS,))


def judged(*tests: TestResult, searched: Sequence[str] = (), hunt: Hunt = HUNT) -> Judgement:
    run = model.Run("id", "now", kernels=(KernelRun("6.1", "6.1", tests=tests),))
    return bisect_judge._judged(run, hunt, searched, "log")


@pytest.mark.parametrize(
    ("test", "answer", "words"),
    [
        (result(Verdict.PASSED), "good", "passed"),
        (FAILED, "bad", "AssertionError"),
        (CRASHED, "bad", "BUG"),
        (result(Verdict.HUNG, "silent for 20 s"), "bad", "silent"),
        (result(Verdict.SKIPPED, "kernel has no aead"), "skip", "kernel has no aead"),
        (result(Verdict.BUILD_FAILED), "skip", "does not build"),
        (result(Verdict.BOOT_FAILED), "skip", "does not boot"),
        (result(Verdict.VM_LOST, "QEMU was killed"), "stop", "QEMU was killed"),
        (result(Verdict.NOT_RUN), "skip", "no test was run"),
    ],
)
def test_the_answer_of_each_verdict(test: TestResult, answer: str, words: str) -> None:
    said = judged(test)
    assert (said.answer, words in said.reason) == (answer, True), said


def test_a_kernel_that_does_not_boot_is_what_is_hunted_for_on_request() -> None:
    hunt = Hunt((TEST,), boot_failure_is_bad=True)
    said = judged(result(Verdict.BOOT_FAILED), hunt=hunt)
    assert (said.answer, said.fingerprints) == ("bad", ("boot failed",))
    assert judged(FAILED, hunt=hunt, searched=said.fingerprints).answer == "good", "it boots"


def test_another_failure_is_not_this_bug() -> None:
    crash = fingerprints([CRASHED])
    assert judged(CRASHED, searched=crash).answer == "bad"
    assert judged(result(Verdict.CRASHED, splats=(OTHER,)), searched=crash).answer == "skip"
    assert judged(FAILED, searched=crash).answer == "skip"
    assert judged(FAILED, searched=fingerprints([FAILED])).answer == "bad"
    assert "another failure" in judged(FAILED, searched=crash).reason


def test_what_a_kernel_says_outside_of_the_tests_counts_only_alone() -> None:
    def outside(splat: Splat) -> TestResult:
        return TestResult("machine[6.1-1]::before-its-first-test", "", Verdict.FAILED, reason="said", splats=(splat,))

    stall = Splat("RCU stall", "rcu: INFO: rcu_sched detected stalls", "text", "RCU stall: rcu_gp_kthread", "")
    said = judged(FAILED, outside(stall))
    assert (said.answer, said.fingerprints) == ("bad", fingerprints([FAILED]))
    assert judged(outside(OOPS), result(Verdict.PASSED)).answer == "bad"
    assert judged(outside(OOPS), result(Verdict.PASSED), searched=fingerprints([FAILED])).answer == "skip"
    said = judged(outside(stall), result(Verdict.PASSED))
    assert (said.answer, "for want of processor time" in said.reason) == ("stop", True)


def test_the_fingerprint_of_a_failure_is_the_line_of_the_test_not_its_numbers() -> None:
    other = result(Verdict.FAILED, "AssertionError: 2", FAILED.details.replace("3:", "3:"))
    assert fingerprints([FAILED]) == fingerprints([other]) == (f"{TEST}: AssertionError at t/test_it.py:7",)


@pytest.mark.parametrize(
    ("repeat", "answers", "answer", "runs"),
    [
        (1, ["good"], "good", 1),
        (1, ["bad"], "bad", 1),
        (3, ["good", "good", "good"], "good", 3),
        (3, ["bad", "bad"], "bad", 2),
        (3, ["good", "bad", "good", "bad"], "bad", 4),
        (3, ["bad", "good", "good", "good", "good", "good"], "skip", 6),
        (3, ["good", "skip"], "skip", 2),
        (1, ["stop", "good"], "good", 1),
        (1, ["stop", "stop"], "stop", 1),
    ],
)
def test_a_race_is_bad_twice_and_good_every_time(
    repeat: int, answers: list[str], answer: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(answers)
    monkeypatch.setattr(bisect_judge, "_run_once", lambda *_: Judgement(left.pop(0), "the machine was lost", runs=1))
    said = bisect_judge.judge("6.1", Hunt((TEST,), repeat), (), tmp_path, lambda _: None)
    assert (said.answer, said.runs, left) == (answer, runs, [])
