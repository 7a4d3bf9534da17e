"""Whole bisections with fake guests, and what the command refuses."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from vm.base.errors import BuildFailed, UsageError
from vm.base.files import ROOT
from vm.bisect import command as bisect
from vm.bisect.judge import Hunt
from vm.bisect.notebook import Notebook
from vm.tests.bisection import TEST, Field
from vm.tests.harness import poll


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


@pytest.mark.parametrize(
    ("error", "words"), [(UsageError("404"), "cannot be had: 404"), (BuildFailed("cc"), "does not build: cc")]
)
def test_a_kernel_that_cannot_be_had_is_gone_around(tmp_path: Path, error: Exception, words: str) -> None:
    def spec() -> str:
        raise error

    asking = bisect.Bisection(Notebook.open(tmp_path, ["q"], print), Hunt((TEST,)), print)
    said = asking.ask("6.1", spec)
    assert (said.answer, said.reason) == ("skip", words)
