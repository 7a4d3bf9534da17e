"""The running kernel as the one to test: verdicts come one by one, and a machine that goes down costs one of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.guest import journal
from vm.results import events
from vm.results.model import Verdict
from vm.run import live
from vm.tests.harness import Project, Run
from vm.tests.records import EVERYTHING

# What a panic leaves of all processes that have to do with the run: nothing.
FALLS = """\
import signal

def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def test_first(): pass
def test_second(): assert False
def test_falls():
    os.kill(parent(parent(os.getpid())), signal.SIGKILL)
    time.sleep(60)
def test_last(): pass
"""
REBOOTED = "00000000-0000-0000-0000-000000000000"


def in_place(project: Project, *arguments: str, program: str = "vm test") -> Run:
    return project.run(*arguments, kernels=["running"], fake=None, program=program)


def fallen(project: Project, *arguments: str) -> Path:
    """Run until the machine goes down; return the directory of results."""
    project.tests(FALLS)
    assert in_place(project, *arguments).status == -9
    return (project.results / "latest").resolve()


def reboot(directory: Path) -> None:
    """Have the machine that wrote the journal be another than it is now."""
    path = directory / journal.NAME
    path.write_text(path.read_text().replace(journal.boot_id(), REBOOTED))


def resumed(project: Project, directory: Path, *arguments: str) -> Run:
    return project.run(f"--resume={directory}", *arguments, kernels=[], fake=None, program="vm test")


def verdicts(directory: Path) -> dict[str, Verdict]:
    (kernel,) = events.load(directory).kernels
    return {test.test.partition("::")[2]: test.verdict for test in kernel.tests}


def test_each_verdict_is_on_standard_output_and_on_the_disk_before_the_next_test(project: Project) -> None:
    project.tests(FALLS)
    done = in_place(project)
    assert "PASSED t/test_it.py::test_first\n" in done.output
    assert "FAILED t/test_it.py::test_second: " in done.output
    assert verdicts(done.directory)["test_first"] is Verdict.PASSED
    assert journal.last(done.directory / journal.NAME) == ("t/test_it.py::test_falls[running]", journal.boot_id())


def test_after_a_reboot_what_ran_has_crashed_and_the_rest_goes_on(project: Project) -> None:
    directory = fallen(project)
    reboot(directory)
    project.tests(
        FALLS.replace("os.kill(parent(parent(os.getpid())), signal.SIGKILL)", "raise AssertionError('twice')")
    )
    done = resumed(project, directory)
    assert done.status == 1
    assert verdicts(directory) == {
        "test_first": Verdict.PASSED,
        "test_second": Verdict.FAILED,
        "test_falls": Verdict.CRASHED,
        "test_last": Verdict.PASSED,
    }
    run = events.load(directory / events.NAME)
    assert run.finished is not None
    assert run.kernels[0].tests[2].reason == "crashed: the machine went down, or was reset, while it ran"
    assert "test_falls[running]" in run.kernels[0].tests[2].rerun
    assert "CRASHED t/test_it.py::test_falls" in done.output


def test_a_run_that_was_killed_runs_that_test_again(project: Project) -> None:
    directory = fallen(project)
    project.tests(
        "def test_first(): assert False\ndef test_second(): assert False\ndef test_falls(): pass\ndef test_last(): pass"
    )
    resumed(project, directory)
    assert verdicts(directory) == {
        "test_first": Verdict.PASSED,  # not once more
        "test_second": Verdict.FAILED,
        "test_falls": Verdict.PASSED,
        "test_last": Verdict.PASSED,
    }


def test_the_last_test_may_be_the_one(project: Project) -> None:
    directory = fallen(project, "-k", "first or falls")
    reboot(directory)
    assert resumed(project, directory).status == 1
    assert verdicts(directory) == {"test_first": Verdict.PASSED, "test_falls": Verdict.CRASHED}


def test_what_cannot_be_resumed_is_said(project: Project, tmp_path: Path) -> None:
    project.tests("def test_it(): pass")
    whole = in_place(project)
    assert whole.status == 0
    virtual = project.run()
    cut = project.directory / "cut"
    shutil.copytree(virtual.directory, cut)
    stream = (cut / events.NAME).read_text().splitlines(keepends=True)
    (cut / events.NAME).write_text("".join(line for line in stream if '"run ended"' not in line))
    for directory, words in (
        (whole.directory, "came to its end"),
        (tmp_path / "nowhere", "no run in"),
        (cut, "--resume is of the running kernel"),
    ):
        done = resumed(project, directory)
        assert done.status == 4
        assert words in done.output
        assert "Traceback" not in done.output


def test_what_may_take_the_machine_down_needs_a_word(project_with_issues: Project) -> None:
    project_with_issues.tests("""\
        @pytest.mark.fixed_by("ba9876543210", "crypto: stand up")
        def test_falls(): pass

        def test_it(): pass
        """)
    careful = in_place(project_with_issues)
    assert "SKIPPED t/test_it.py::test_falls: not on the running kernel, which it may take down" in careful.output
    assert "PASSED t/test_it.py::test_it" in careful.output
    expendable = in_place(project_with_issues, "--expendable")
    assert "test_falls: not on the running kernel" not in expendable.output
    lines = [line for line in expendable.output.splitlines() if "t/test_it.py::test_" in line]
    assert "test_falls" in lines[1], "it comes last"


def test_the_word_running_is_a_kernel(project: Project) -> None:
    project.tests("def test_it(): pass")
    done = project.run("running", kernels=[], fake=None, program="vm test")
    assert done.status == 0
    assert events.load(done.directory).kernels[0].spec == "running"


def test_it_needs_neither_qemu_nor_virtme_nor_jinja(project: Project, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    for name in ("virtme", "jinja2", "gcovr"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text("raise ImportError('not installed')")
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util\nreal = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'jinja2' else real(name, *a)\n"
    )
    project.tests("def test_it(): pass")
    environment = {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}"}
    done = project.run(kernels=["running"], fake=None, qemu="/no/such/qemu", environment=environment)
    assert done.status == 0
    assert "no page: Jinja2 is not installed here" in done.output
    assert not (done.directory / "index.html").exists()
    assert (done.directory / "kcidb.json").exists()


@pytest.mark.parametrize("form", live.FORMATS)
def test_streams(form: str, project: Project) -> None:
    project.tests("def test_good(): pass\ndef test_bad(): assert False\n@pytest.mark.skip('x')\ndef test_not(): pass")
    done = in_place(project, f"--stream={form}")
    expected = {
        "lines": ["PASSED t/test_it.py::test_good", "SKIPPED t/test_it.py::test_not: x"],
        "tap": ["TAP version 13", "ok 1 t/test_it.py::test_good", "not ok 2 t/test_it.py::test_bad", "1..3"],
        "lava": [
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t/test_it.py::test_good RESULT=pass>",
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t/test_it.py::test_bad RESULT=fail>",
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t/test_it.py::test_not RESULT=skip>",
        ],
    }[form]
    for line in expected:
        assert f"\n{line}\n" in f"\n{done.output}"


def test_names_of_lava_have_no_space() -> None:
    for test in EVERYTHING.kernels[0].tests:
        said = live.line(test, "lava", 1)
        assert len(said.split()) == 3
        assert said.isprintable()


def test_a_journal_that_was_cut_off_in_a_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    path.write_text(json.dumps({"nodeid": "a", "boot": "b"}) + '\n{"nodeid": "c", "bo')
    assert journal.last(path) == ("a", "b")
    assert journal.last(tmp_path / "none") == ("", "")
