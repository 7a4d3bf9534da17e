"""One step of a bisection: run the test on one kernel, as often as asked, and say good, bad, or neither.

Known issues are switched off: a bisection hunts for them. The exit statuses are those of ``git bisect run``.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from vm.base import files
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.base.words import last_line
from vm.bisect import program
from vm.results import events, model
from vm.results.model import TestResult, Verdict

# Of several runs, this many bad ones make a kernel bad: one may be chance, when the bug is a race.
BAD_RUNS = 2

_LOST = "the machine was lost"
# For an interrupted pytest to end by itself.
_LAST_SECONDS = 30.0


class Answer(Enum):
    """What a step says; its value is the exit status for ``git bisect run``."""

    GOOD = 0
    BAD = 1
    SKIP = 125  # cannot be judged: try a neighbour
    STOP = 128  # the machine, not the kernel: nothing can be judged here


@dataclass(frozen=True)
class Hunt:
    """What is looked for, and how.

    Attributes:
        tests: arguments for pytest that select what is run.
        repeat: runs that must all be good for a kernel to be good.
        boot_failure_is_bad: whether a kernel that does not boot is a bad one instead of one to skip.
        arguments: further options for pytest.
        project: directory pytest runs in.
        program: file of a program that judges in place of tests (vm/bisect/program.py); empty for none.
    """

    tests: tuple[str, ...]
    repeat: int = 1
    boot_failure_is_bad: bool = False
    arguments: tuple[str, ...] = ()
    project: Path = ROOT
    program: str = ""

    @property
    def named(self) -> str:
        """What is run, for people."""
        return self.program or " ".join(self.tests)


@dataclass(frozen=True)
class Judgement:
    """What became of one kernel.

    Attributes:
        answer: name of an :class:`Answer`, in lower case.
        reason: one line.
        fingerprints: of the failures, when it is bad or fails otherwise: see :func:`fingerprints`.
        seconds: spent on ``build``, ``boot`` and ``test``, and in ``total``.
        runs: how many runs it took.
        log: directory with the results of its runs.
    """

    answer: str
    reason: str
    fingerprints: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    runs: int = 0
    log: str = ""

    def dump(self) -> dict[str, object]:
        """Return it as JSON's types."""
        return asdict(self)

    @classmethod
    def load(cls, data: dict[str, object]) -> Judgement:
        """Return what :meth:`dump` gave."""
        return cls(**{**data, "fingerprints": tuple(data["fingerprints"])})  # type: ignore[arg-type]


def assert_there_is_a_test(hunt: Hunt) -> None:
    """Make sure that pytest finds what is to be run, before a kernel is built for it.

    Raises:
        UsageError: it does not.
    """
    if hunt.program:
        if not Path(hunt.program).is_file():
            raise UsageError(f"no program {hunt.program}: expected C, or a static one (make reproducer writes one)")
        return
    if not all(hunt.tests):
        raise UsageError("expected a test: a file or an id without the kernel (TEST=tests/splice/test_in.py::test_…)")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *hunt.arguments, *hunt.tests]
    done = subprocess.run(command, cwd=hunt.project, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"pytest finds no test: {_complaint(done.stdout + done.stderr)}")


def judge(spec: str, hunt: Hunt, searched: Sequence[str], directory: Path, progress: Progress) -> Judgement:
    """Run the test on the kernel ``spec`` until it is clear what it is.

    Good takes ``repeat`` good runs; bad takes one bad run, two when it is repeated. A kernel that was bad only
    once in ``repeat`` runs gets as many again, and is skipped when that does not decide it.

    Args:
        spec: of the kernel, ready to boot.
        hunt: what to run.
        searched: fingerprints of the bug; a failure with none of them is another one. Empty: every failure counts.
        directory: for the results of the runs; made here.
        progress: told in one line each what is done.
    """
    began = time.monotonic()
    judged: list[Judgement] = []
    wanted = 1 if hunt.repeat == 1 else BAD_RUNS
    while len(judged) < hunt.repeat * (2 if _count(judged, "bad") else 1):
        one = _run_once(spec, hunt, searched, directory, progress)
        if one.answer == "stop" and one.reason.startswith(_LOST):
            progress(f"once more, since it was the machine: {one.reason}")
            one = _run_once(spec, hunt, searched, directory, progress)
        judged.append(one)
        if one.answer in ("skip", "stop") or _count(judged, "bad") == wanted:
            break
    return _summed_up(judged, hunt, wanted, directory, time.monotonic() - began)


def fingerprints(tests: Sequence[TestResult]) -> tuple[str, ...]:
    """Return what identifies each failure, the same on every kernel that has the bug.

    That is the test's id with, of a kernel that complained or died, the kind and first functions of its report
    (vm/klog/splats.py); of a hung one, just that; else the type of the exception and the line of the test it left.
    """
    found = []
    for test in tests:
        if test.verdict.good:
            continue
        what = test.verdict.value
        if test.splats:
            what = test.splats[-1].fingerprint
        elif test.verdict is Verdict.FAILED:
            what = _place(test)
        found.append(f"{test.test}: {what}")
    return tuple(dict.fromkeys(found))


def _run_once(
    spec: str, hunt: Hunt, searched: Sequence[str], directory: Path, progress: Progress = lambda _line: None
) -> Judgement:
    """Start pytest once and read what it wrote; or the program."""
    if hunt.program:
        return _by_program(spec, hunt, searched, directory, progress)
    place = directory / f"run-{len(list(directory.glob('run-*'))) + 1}"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "--kernel", spec, "--no-known-issues", "--vms", "1"]
    command += ["--results", str(place), *hunt.arguments, *hunt.tests]
    status = _run_pytest(command, hunt.project, place / "output.txt")
    log = str(place)
    if status not in (0, 1):
        return Judgement(
            "stop", f"pytest ended with {status}: {_complaint(files.text_of(place / 'output.txt'))}", runs=1, log=log
        )
    try:
        run = events.load(place / "latest" / "results.json")
    except UsageError as error:
        return Judgement("stop", str(error), runs=1, log=log)
    return _judged(run, hunt, searched, log)


def _by_program(spec: str, hunt: Hunt, searched: Sequence[str], directory: Path, progress: Progress) -> Judgement:
    """Run the program once."""
    said = program.run(spec, hunt.program, hunt.arguments, directory, progress)
    answer, reason = said.answer, said.reason
    if said.fingerprints == (program.BOOT_FAILED,) and hunt.boot_failure_is_bad:
        answer = "bad"
    if answer == "bad" and searched and not set(said.fingerprints) & set(searched):
        answer, reason = "skip", f"another failure: {said.fingerprints[0]}: {reason}"
    return Judgement(answer, reason, said.fingerprints, {"test": said.seconds}, 1, str(said.place))


def _run_pytest(command: Sequence[str], project: Path, output: Path) -> int:
    """Run it; pytest bounds its own time. When we are interrupted, let it switch off its machines."""
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=project, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )  # fmt: skip
        try:
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_LAST_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise


def _judged(run: model.Run, hunt: Hunt, searched: Sequence[str], log: str) -> Judgement:
    """Say what one run means."""
    (kernel,) = run.kernels
    seconds = {"boot": sum(kernel.boot_seconds), "test": sum(test.seconds for test in kernel.tests)}

    def answer(word: str, reason: str, found: Sequence[str] = ()) -> Judgement:
        return Judgement(word, reason, tuple(found), seconds, 1, log)

    verdicts = {test.verdict for test in kernel.tests}
    if Verdict.VM_LOST in verdicts:
        lost = next(test for test in kernel.tests if test.verdict is Verdict.VM_LOST)
        return answer("stop", f"{_LOST}: {lost.reason}")
    if Verdict.BUILD_FAILED in verdicts:
        return answer("skip", f"does not build: {kernel.reason}")
    if Verdict.BOOT_FAILED in verdicts:
        word = "bad" if hunt.boot_failure_is_bad else "skip"
        return answer(word, f"does not boot: {kernel.reason}", ["boot failed"])
    if hunt.boot_failure_is_bad and list(searched) == ["boot failed"]:
        return answer("good", "boots")
    failed = [test for test in kernel.tests if not test.verdict.good and test.verdict is not Verdict.NOT_RUN]
    # What a kernel complains of before or after its tests is theirs only when there is nothing else.
    own = [test for test in failed if not test.test.startswith("machine[")]
    if not own and failed and _starved(failed):
        return answer("stop", f"{_LOST} for want of processor time: {failed[0].reason}")
    if failed:
        return _of_failures(own or failed, searched, answer)
    if Verdict.NOT_RUN in verdicts and Verdict.PASSED in verdicts:
        return answer("stop", "some of the tests were not run")
    if Verdict.PASSED not in verdicts:
        reason = next((test.reason for test in kernel.tests if test.verdict is Verdict.SKIPPED), "no test was run")
        return answer("skip", f"nothing was tested: {reason}")
    return answer("good", "passed")


def _starved(failed: Sequence[TestResult]) -> bool:
    """Say whether all the kernel complained of is that it did not run, as on a busy host."""
    return all(splat.kind == "RCU stall" for test in failed for splat in test.splats)


def _of_failures(
    failed: Sequence[TestResult], searched: Sequence[str], answer: Callable[[str, str, Sequence[str]], Judgement]
) -> Judgement:
    found = fingerprints(failed)
    same = [each for each in found if not searched or each in searched]
    if not same:
        return answer("skip", f"another failure: {found[0]}", found)
    test = next(test for test in failed if same[0].startswith(test.test))
    return answer("bad", test.reason or test.verdict.value, found)


def _summed_up(judged: Sequence[Judgement], hunt: Hunt, wanted: int, directory: Path, total: float) -> Judgement:
    """Make one judgement of those of all runs."""
    last = judged[-1]
    bad = [one for one in judged if one.answer == "bad"]
    answer, reason = last.answer, last.reason
    if answer not in ("skip", "stop"):
        answer = "bad" if len(bad) >= wanted else "skip" if bad else "good"
        reason = bad[0].reason if bad else reason
        if hunt.repeat > 1:
            reason = f"bad in {len(bad)} of {len(judged)} runs{f': {reason}' if bad else ''}"
    seconds = {name: round(sum(one.seconds.get(name, 0.0) for one in judged), 1) for name in ("boot", "test")}
    found = dict.fromkeys(each for one in judged for each in one.fingerprints)
    return Judgement(answer, reason, tuple(found), {**seconds, "total": round(total, 1)}, len(judged), str(directory))


def _count(judged: Sequence[Judgement], answer: str) -> int:
    return sum(one.answer == answer for one in judged)


def _place(test: TestResult) -> str:
    """Return the line of the test itself and the type of the exception, from pytest's traceback.

    Its entries end in lines such as ``tests/regressions/test_aead.py:41:``, the last one with the type behind it.
    """
    entries = re.findall(r"^(\S+\.py:\d+):(?: (\w+))?", test.details, re.MULTILINE)
    if not entries:
        return re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "#", test.reason)
    own = [place for place, _ in entries if place.startswith(test.test.split("::")[0])]
    return f"{entries[-1][1]} at {(own or [entries[-1][0]])[0]}"


def _complaint(output: str) -> str:
    """Return the line of pytest's output that says why it ran nothing: its last error, else the last line."""
    errors = [line for line in output.splitlines() if line.startswith(("ERROR", "error"))]
    return last_line(*errors[-1:], output)
