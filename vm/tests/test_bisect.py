"""Bisecting: every verdict of a step, the search, and whole bisections with fake guests."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vm import bisect, bisect_judge, bisect_packages, packaged
from vm.bisect_judge import Hunt, Judgement, fingerprints
from vm.bisect_packages import _CRYPTO
from vm.bisect_search import Change, estimate, search
from vm.errors import BuildFailed, UsageError
from vm.files import ROOT
from vm.results import model
from vm.results.model import KernelRun, TestResult, Verdict
from vm.splats import Splat
from vm.tests.archive import bzimage
from vm.tests.harness import FAKE_GUEST, Project, poll

TEST = "t/test_it.py::test_bug"
HUNT = Hunt((TEST,))
OOPS = Splat("oops", "BUG: NULL pointer", "text", "oops: af_alg_fake_oops < aead_recvmsg", "")
OTHER = Splat("oops", "BUG: NULL pointer", "text", "oops: ext4_readdir", "")


# -- one run -----------------------------------------------------------------------------------------------


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


# -- several runs ------------------------------------------------------------------------------------------


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


# -- the search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 9, 30])
@pytest.mark.parametrize("first", ["good", "bad"])
def test_the_search_finds_every_change_in_the_fewest_steps(count: int, first: str) -> None:
    last = {"good": "bad", "bad": "good"}[first]
    for change in range(1, count):
        asked: list[int] = []
        found = search(count, answering(lambda i, at=change: first if i < at else last, asked), first, last)  # type: ignore[misc]
        assert found == Change(change - 1, change)
        assert len(asked) <= estimate(count)


def test_the_search_goes_around_what_cannot_be_judged() -> None:
    asked: list[int] = []
    found = search(
        9, answering(lambda i: "skip" if i in (3, 4, 5) else "good" if i < 4 else "bad", asked), "good", "bad"
    )
    assert found == Change(2, 6, (3, 4, 5))
    found = search(9, answering(lambda i: "skip" if i == 4 else "good" if i < 7 else "bad", asked), "good", "bad")
    assert found == Change(6, 7)


def test_the_search_stops_when_the_machine_fails() -> None:
    assert search(9, answering(lambda _: "stop", []), "good", "bad") is None


def answering(answer: Callable[[int], str], asked: list[int]) -> Callable[[int], Judgement]:
    def ask(index: int) -> Judgement:
        asked.append(index)
        return Judgement(answer(index), "")

    return ask


def test_the_lines_on_crypto_of_a_changelog() -> None:
    lines = [
        "    - crypto: af_alg - Set merge to zero early in af_alg_sendmsg",
        "    - [arm64] crypto: qat - lower priority",
        "    - padata: Fix pd UAF once and for all",
        "    - smb: client: fix crypto buffers in non-linear memory",
        "    - blk-crypto: fix missing blktrace bio split events",
    ]
    assert [bool(_CRYPTO.match(line)) for line in lines] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("error", "words"), [(UsageError("404"), "cannot be had: 404"), (BuildFailed("cc"), "does not build: cc")]
)
def test_a_kernel_that_cannot_be_had_is_gone_around(tmp_path: Path, error: Exception, words: str) -> None:
    def spec() -> str:
        raise error

    asking = bisect.Bisection(bisect.Notebook.open(tmp_path, ["q"], print), HUNT, print)
    said = asking.ask("6.1", spec)
    assert (said.answer, said.reason) == ("skip", words)


def test_the_packages_between_two_are_those_of_the_series_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild for another release is the same kernel; what cannot be had is named and left out."""

    def candidate(suite: str, version: str, *missing: str) -> packaged.Candidate:
        return packaged.Candidate(suite, f"{version}-amd64", version, (), missing)

    own = [candidate("a", version) for version in ("6.1.190-1", "6.12.90-2", "6.12.74-2", "6.12.88-1", "7.1.3-1")]
    other = [
        candidate("b", "6.12.90-2~bpo12+1"),
        candidate("b", "6.12.80-1", "linux-modules"),
        candidate("b", "6.12.85-1"),
    ]
    monkeypatch.setattr(packaged, "candidates", lambda suite, _: own if suite == "a" else other)
    span, good_first = bisect_packages.between("a/6.12.90", "6.12.74", ["b"], print)
    assert [each.version for each in span.candidates] == ["6.12.74-2", "6.12.85-1", "6.12.88-1", "6.12.90-2"]
    assert span.holes == ("b/6.12.80-1 (no linux-modules)",)
    assert (good_first, span.notes) == (False, ())
    with pytest.raises(UsageError, match=r"no kernel matches '6\.13'"):
        bisect_packages.between("a/6.12.90", "6.13", [], print)
    with pytest.raises(UsageError, match="the same kernel"):
        bisect_packages.between("a/6.12.90", "6.12.90-2", [], print)
    assert "several series" in bisect_packages.between("a/6.12.90", "6.1", [], print)[0].notes[0]


# -- whole bisections on fake guests -----------------------------------------------------------------------


class Field:
    """A scratch project and the means to bisect in it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.logs = project.directory / "bisect"

    def test(self, body: str) -> None:
        """Write the test; ``number`` is the last one of the kernel's version."""
        body = f"number = int(guest.machine().split('-')[0].split('.')[2])\n{textwrap.dedent(body)}"
        self.project.tests(f"def test_bug():\n{textwrap.indent(body, '    ')}")

    def kernels(self, count: int) -> list[str]:
        return [self.project.kernel(f"6.1.{number}-fake") for number in range(count)]

    def command(self, *arguments: str, fake: str = "") -> list[str]:
        pytest_arguments = [f"--vm-command={FAKE_GUEST} {fake}", f"--qemu={self.project.qemu}"]
        return [
            *(sys.executable, "-m", "vm.bisect", *(["step"] if arguments[0] == "step" else []), TEST),
            *(f"--project={self.project.directory}", f"--results={self.logs}"),
            *(f"--pytest={each}" for each in pytest_arguments),
            *(arguments[1:] if arguments[0] == "step" else arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        cache = str(self.project.directory / "cache")
        return {**os.environ, "PYTHONPATH": str(ROOT), "AFALG_CACHE": cache, "PYTEST_ADDOPTS": ""}

    def run(self, *arguments: str, fake: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments, fake=fake), cwd=self.project.directory, env=self.environment, timeout=280,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        print(done.stdout, done.stderr)
        return done


@pytest.fixture
def field(project: Project) -> Field:
    return Field(project)


def test_a_bug_among_images_is_found_around_another_one_and_a_kernel_that_does_not_boot(field: Field) -> None:
    field.test("""
        if number == 3: guest.panic()
        if number >= 5: guest.panic(guest.OOPS)
    """)
    done = field.run("--kernels", *field.kernels(7), fake="panics-in-boot@6.1.4-fake-1")
    assert done.returncode == 0
    assert "6.1.2-fake is the last good one" in done.stdout
    assert "6.1.5-fake is the first bad one" in done.stdout
    assert "another failure" in done.stdout
    assert "does not boot" in done.stdout
    assert "could not be judged: " in done.stdout
    assert "looking for" in done.stderr
    assert "af_alg_fake_oops" in done.stderr


def test_what_fixed_it_is_found_as_well(field: Field) -> None:
    field.test("assert number >= 2")
    kernels = field.kernels(4)
    done = field.run("--kernels", *kernels, "--good", kernels[-1])
    assert done.returncode == 0
    assert "6.1.1-fake is the last bad one" in done.stdout
    assert "6.1.2-fake is the first good one" in done.stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [("pass", "6.1.2-fake is not bad but good"), ("assert False", "6.1.0-fake is not good but bad")],
    ids=["never-bad", "never-good"],
)
def test_ends_that_are_not_what_they_should_be_are_refused(field: Field, body: str, words: str) -> None:
    field.test(body)
    done = field.run("--kernels", *field.kernels(3))
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_bisection_goes_on(field: Field) -> None:
    field.test("""
        if number == 1 and not os.path.exists("go"): time.sleep(100)
        assert number < 2
    """)
    command = field.command("--kernels", *field.kernels(4))
    process = subprocess.Popen(
        command, cwd=field.project.directory, env=field.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        poll(lambda: list(field.logs.glob("*/step-03*/run-1/latest")) != [], 120, "it did not come to the third step")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    field.project.assert_nothing_left()
    (field.project.directory / "go").touch()
    done = field.run("--kernels", *field.kernels(4))
    assert done.returncode == 0
    assert "going on with 2 kernels judged before" in done.stderr
    assert "6.1.2-fake is the first bad one" in done.stdout


@pytest.mark.parametrize(
    ("body", "fake", "status"),
    [
        ("pass", "", 0),
        ("assert False", "", 1),
        ("pytest.skip('lacks it')", "", 125),
        ("pass", "panics-in-boot", 125),
        ("pass", "qemu-fails", 125),
        ("guest.killed()", "", 128),
    ],
    ids=["passes", "fails", "skips", "no-boot", "no-qemu", "lost"],
)
def test_the_status_of_a_step_is_what_git_bisect_run_wants(field: Field, body: str, fake: str, status: int) -> None:
    field.test(body)
    (kernel,) = field.kernels(1)
    assert field.run("step", "--kernel", kernel, fake=fake).returncode == status


def test_a_step_on_what_is_no_kernel_stops_git(field: Field) -> None:
    field.test("pass")
    done = field.run("step", "--kernel", "no-such-file/bzImage")
    assert done.returncode == 128
    assert "Traceback" not in done.stderr


# -- commits -----------------------------------------------------------------------------------------------


@pytest.fixture
def repository(field: Field) -> Path:
    """Return a repository of seven commits; each has the release of its kernel in a file, one does not build."""
    path = field.project.directory / "linux"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "image").write_bytes(bzimage("6.1.0-fake"))
    for number in range(7):
        (path / "release").write_text(f"6.1.{number}-fake\n" if number != 3 else "broken\n")
        git(path, "add", ".")
        git(path, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", f"change {number}")
        git(path, "tag", f"v{number}")
    return path


def git(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True, text=True).stdout


BUILD = (
    f"{sys.executable} -c \"import sys; sys.path.insert(0, '{ROOT}'); from vm.tests.archive import bzimage;"
    "r = open('release').read().strip(); assert r != 'broken', 'cannot compile';"
    "open('bzImage-' + r, 'wb').write(bzimage(r)); print('bzImage-' + r)\""
)


def test_the_commit_is_found_and_the_users_tree_is_left_alone(field: Field, repository: Path) -> None:
    field.test("assert number < 5")
    (repository / "release").write_text("edited\n")
    before = (
        git(repository, "status", "--porcelain"),
        git(repository, "for-each-ref"),
        git(repository, "worktree", "list"),
    )
    done = field.run("--tree", str(repository), "--good", "v0", "--bad", "v6", "--build", BUILD)
    assert done.returncode == 0
    assert "first bad commit" in done.stdout
    assert "change 5" in done.stdout
    assert "cannot compile" in done.stdout
    assert (repository / "release").read_text() == "edited\n"
    after = (
        git(repository, "status", "--porcelain"),
        git(repository, "for-each-ref"),
        git(repository, "worktree", "list"),
    )
    assert after == before


def test_the_commit_that_fixed_it_is_found(field: Field, repository: Path) -> None:
    field.test("assert number >= 5")
    done = field.run("--tree", str(repository), "--good", "v6", "--bad", "v0", "--build", BUILD)
    assert done.returncode == 0
    assert "first good commit" in done.stdout
    assert "change 5" in done.stdout
    commit = git(repository, "rev-parse", "v5").strip()
    assert f"GOOD={commit} 'BAD={commit}^'" in done.stdout


def steps(field: Field, repository: Path, form: str) -> list[str]:
    """Return the command of one step in one of its forms, as it is given to git."""
    build = field.project.directory / "build.sh"
    build.write_text(BUILD)
    step = field.command("step", "--kernel", str(repository), "--build", f"sh {build}")
    if form == "python":
        return step
    options = [word for word in step[step.index(TEST) + 1 :] if word not in ("--kernel", str(repository))]
    if form == "script":
        return [str(ROOT / "vm/bisect_step.sh"), TEST, *options]
    return ["make", "-C", str(ROOT), "bisect-step", f"TEST={TEST}", f"ARGS={shlex.join(options)}"]


def bisect_run(field: Field, where: Path, step: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Have git drive steps, as somebody does who is in ``where``."""
    done = subprocess.run(
        ["git", "bisect", "run", *step], cwd=where, env={**field.environment, "PWD": str(where)}, timeout=280,
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("form", ["python", "script", "make"])
def test_git_bisect_run_drives_steps_in_any_tree(field: Field, repository: Path, form: str) -> None:
    field.test("assert number < 5")
    git(repository, "bisect", "start", "v6", "v0")
    done = bisect_run(field, repository, steps(field, repository, form))
    assert f"{git(repository, 'rev-parse', 'v5').strip()} is the first bad commit" in done.stdout
    log = git(repository, "bisect", "log")
    assert f"git bisect skip {git(repository, 'rev-parse', 'v3').strip()}" in log


@pytest.mark.parametrize("form", ["python", "script", "make"])
def test_git_bisect_run_ends_when_a_step_fails(field: Field, repository: Path, form: str) -> None:
    field.test("guest.killed()")
    git(repository, "bisect", "start", "v6", "v0")
    git(repository, "checkout", "-q", "v4")
    done = bisect_run(field, repository, steps(field, repository, form))
    assert done.returncode != 0
    assert "first bad commit" not in done.stdout
    log = [line for line in git(repository, "bisect", "log").splitlines() if line.startswith("git bisect ")]
    assert len(log) == 1, "nothing was judged but the ends"


def test_make_ends_a_bisection_in_which_everything_left_was_skipped(field: Field, repository: Path) -> None:
    field.test("pytest.skip('lacks it')")
    git(repository, "bisect", "start", "v6", "v3")
    done = bisect_run(field, repository, steps(field, repository, "make"))
    assert done.returncode != 0
    assert "only 'skip'ped commits left" in done.stderr
    assert "could be any of" in done.stderr


def test_make_refuses_a_tree_that_is_not_bisected(field: Field, repository: Path) -> None:
    field.test("pass")
    step = steps(field, repository, "make")
    done = subprocess.run(
        step,
        cwd=repository,
        env={**field.environment, "PWD": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGTERM, "make's own status would be an answer"
    assert "no bisection goes on" in done.stderr


@pytest.mark.vm
@pytest.mark.deadline(1500)
def test_a_fix_is_found_between_two_packages_of_debian_12(tmp_path: Path) -> None:
    """Linux 6.1.191 took in commit 8eceab19eba9 (CVE-2026-31677): the whole way, on real kernels."""
    test = "tests/regressions/test_skcipher.py::test_room_for_less_than_a_block_is_refused_and_costs_nothing"
    command = [sys.executable, "-m", "vm.bisect", test, f"--results={tmp_path}"]
    command += ["--good", "bookworm-security/6.1.192", "--bad", "bookworm-security/6.1.190"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1400)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "6.1.190-1 is the last bad one, 6.1.192-" in done.stdout
    assert "crypto: af_alg - limit RX SG extraction by receive buffer budget" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--good", "6.1"], "--good and --bad"),
        (["--tree", "/nonexistent", "--good", "a", "--bad", "b"], "no git repository"),
        (["--kernels", "a"], "at least two different kernels"),
        (["--kernels", "a", "b", "--repeat", "0"], "at least 1"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bisect, "assert_there_is_a_test", lambda _: None)
    assert bisect.main([TEST, *arguments]) == 4
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("test", "words"),
    [("", "expected a test"), ("t/nope.py", "file or directory not found"), (f"{TEST}_of_another", "not found")],
    ids=["none", "no-file", "no-function"],
)
def test_a_test_that_is_not_there_is_said_before_a_kernel_is_built(
    field: Field, test: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    field.test("pass")
    where = [f"--project={field.project.directory}", f"--results={field.logs}"]
    assert bisect.main([test, *where, "--kernels", *field.kernels(2)]) == 4
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not field.logs.exists(), "nothing was begun"


def test_what_was_judged_is_kept_until_the_question_is_answered(tmp_path: Path) -> None:
    notebook = bisect.Notebook.open(tmp_path, ["q"], print)
    notebook.add("6.1", Judgement("good", "passed", ("f",), {"total": 1.0}, 1, "log"))
    again = bisect.Notebook.open(tmp_path, ["q"], print)
    assert again.of("6.1") == notebook.of("6.1")
    assert bisect.Notebook.open(tmp_path, ["other"], print).of("6.1") is None
    again.save(finished=True)
    assert bisect.Notebook.open(tmp_path, ["q"], print).steps == []
    assert (
        json.loads((again.directory / "bisect.json").read_text() if (again.directory / "bisect.json").exists() else "0")
        == 0
    )
