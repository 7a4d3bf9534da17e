"""``python -m vm ci``: what each system is told, in an environment like its own, and how its job ends."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.ci import command as ci
from vm.results import events, lava, tmt, write
from vm.results.model import Verdict
from vm.tests.harness import FAKE_GUEST, Project
from vm.tests.records import EVERYTHING, kernel, result, run
from vm.tests.run.test_in_place import FALLS, reboot

SYSTEMS = ("github", "gitlab", "lava", "tmt", "nipa")
# What tmt's specification of results allows.
TMT_KEYS = {"name", "result", "note", "duration"}
TMT_OUTCOMES = {"pass", "fail", "info", "warn", "error", "skip", "pending"}


def job(project: Project, *words: str, kernel: str = "running") -> subprocess.CompletedProcess[str]:
    """Do a job on the running kernel, or on a faked guest of that release."""
    for name in ("test-data", "results-dir"):
        (project.directory / name).mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        **{"PYTHONPATH": str(ROOT), "TMPDIR": str(project.temporary), "BRANCH": "branch", "BASE": "base"},
        "GITHUB_STEP_SUMMARY": str(project.directory / "summary.md"),
        "TMT_TEST_DATA": str(project.directory / "test-data"),
        "RESULTS_DIR": str(project.directory / "results-dir"),
    }
    own = [] if words[0] in ("tmt", "nipa") else [f"--results={project.results}"]
    if kernel == "running":
        own += ["--kernels", "running"]
    else:
        own += [f"--kernel={project.kernel(kernel)}", f"--qemu={project.qemu}", f"--vm-command={FAKE_GUEST}"]
    done = subprocess.run(
        [sys.executable, "-m", "vm", "ci", words[0], *own, *words[1:]],
        cwd=project.directory, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90,
    )  # fmt: skip
    print(done.stdout)
    assert "Traceback" not in done.stdout
    return done


GOOD = "def test_good(): pass\n"
MIXED = GOOD + "def test_bad(): assert False, 'it is bad'\ndef test_skip(): pytest.skip('not here')\n"


def signals(text: str) -> dict[str, str]:
    """Return the results that LAVA's dispatcher takes from a console; fail where it would drop one.

    It splits what stands between the brackets at white space, and each word at "=", of which it must have one.
    """
    found = {}
    for said in re.findall(r"<LAVA_SIGNAL_TESTCASE ([^>]+)>", text):
        words = [word.split("=") for word in said.split()]
        assert all(len(word) == 2 for word in words), said
        one = {key.lower(): value for key, value in words}
        assert one["result"] in ("pass", "fail", "skip", "unknown")
        assert one["test_case_id"] not in found
        found[one["test_case_id"]] = one["result"]
    return found


def tmt_results(text: str) -> dict[str, dict[str, object]]:
    """Return tmt's results by name; fail where its schema would."""
    found = {}
    for one in json.loads(text):
        assert set(one) <= TMT_KEYS
        assert one["name"].startswith("/")
        assert one["name"] not in found
        assert one["result"] in TMT_OUTCOMES
        assert all(isinstance(note, str) and note.isprintable() for note in one.get("note", []))
        assert re.fullmatch(r"\d{2,}:[0-5]\d:[0-5]\d", one.get("duration", "00:00:00"))
        found[one["name"]] = one
    return found


def test_what_is_not_well_is_1(project: Project) -> None:
    """pytest's 4 and 5 are a skip and a warning to NIPA."""
    system = "nipa"
    project.tests(GOOD)
    assert job(project, system).returncode == 0
    assert job(project, system, "--no-such-option").returncode == 1
    assert job(project, system, "-k", "nothing_is_called_so").returncode == 1
    assert job(project, system, "t/test_missing.py").returncode == 1
    project.tests(MIXED)
    assert job(project, system).returncode == 1


def test_a_system_is_one_that_is_known() -> None:
    for words, said in ((["jenkins"], "no CI system 'jenkins'"), ([], "github"), (["nipa"], "$RESULTS_DIR is not set")):
        environment = {name: value for name, value in os.environ.items() if name != "RESULTS_DIR"}
        argv = [sys.executable, "-m", "vm", "ci", *words]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_github_has_the_run_in_short_behind_what_stands_in_the_summary(project: Project) -> None:
    summary = project.directory / "summary.md"
    summary.write_text("# Before\n")
    project.tests(MIXED)
    job(project, "github")
    text = summary.read_text()
    assert text.startswith("# Before\n## Kernel tests: 1 bad result\n")
    assert "it is bad" in text
    assert job(project, "github", "--no-such-option").returncode == 1
    assert summary.read_text() == f"{text}## Kernel tests: no results, the exit status is 4\n"


def test_gitlab_has_files_at_a_place_that_is_known_before(project: Project) -> None:
    project.tests(MIXED)
    job(project, "gitlab")
    place = project.directory / "results/ci"
    assert not place.is_symlink()
    assert "it is bad" in (place / "junit.xml").read_text()
    assert (place / "index.html").stat().st_size
    project.tests(GOOD)
    assert job(project, "gitlab").returncode == 0
    assert "it is bad" not in (place / "junit.xml").read_text()
    job(project, "gitlab", "--no-such-option")
    assert not place.exists(), "what is of another run is not taken for this one's"


@pytest.mark.parametrize("on", ["running", "6.1.0-fake"])
def test_lava_hears_each_verdict_once(on: str, project: Project) -> None:
    project.tests(MIXED + "@pytest.mark.parametrize('how', ['a=b', 'c d>'])\ndef test_how(how): pass\n")
    found = signals(job(project, "lava", kernel=on).stdout)
    before = "" if on == "running" else f"{on}/"
    assert found == {
        f"{before}t/test_it.py::test_good": "pass",
        f"{before}t/test_it.py::test_bad": "fail",
        f"{before}t/test_it.py::test_skip": "skip",
        f"{before}t/test_it.py::test_how[a_b]": "pass",
        f"{before}t/test_it.py::test_how[c_d_]": "pass",
    }


def test_lava_of_every_verdict() -> None:
    of = {name.split("test_")[1].partition(".")[0]: said for name, said in signals(lava.render(EVERYTHING)).items()}
    assert of == {
        **{"passed": "pass", "known": "pass", "skipped": "skip"},
        **dict.fromkeys(("failed", "undecided", "crashed", "hung"), "fail"),
        **dict.fromkeys(("not_run", "vm_lost", "boot_failed", "build_failed"), "unknown"),
    }


def test_tmt_has_a_result_for_the_whole_and_one_each(project: Project) -> None:
    project.tests(MIXED)
    job(project, "tmt")
    file = project.directory / "test-data/results.yaml"
    found = tmt_results(file.read_text())
    assert {name: one["result"] for name, one in found.items()} == {
        "/": "fail",
        "/running/t/test_it.py::test_good": "pass",
        "/running/t/test_it.py::test_bad": "fail",
        "/running/t/test_it.py::test_skip": "skip",
    }
    assert "it is bad" in str(found["/running/t/test_it.py::test_bad"]["note"])
    job(project, "tmt", "--no-such-option")
    assert tmt_results(file.read_text()) == {
        "/": {"name": "/", "result": "error", "note": ["no results: the exit status is 4"]}
    }


def test_tmt_of_every_verdict() -> None:
    found = tmt_results(tmt.render(EVERYTHING))
    of = {name.split("test_")[1].partition(".")[0]: one["result"] for name, one in found.items() if "/6.12.94/" in name}
    assert of == {
        **{"passed": "pass", "known": "info", "skipped": "skip"},
        **dict.fromkeys(("failed", "undecided", "crashed", "hung"), "fail"),
        **dict.fromkeys(("not_run", "vm_lost", "boot_failed", "build_failed"), "error"),
    }
    assert tmt_results(tmt.render(run(kernel("7.3", reason="does\nnot build"))))["/7.3"]["note"] == ["does not build"]
    assert tmt_results(tmt.render(run(kernel("7.3"))))["/"]["result"] == "error", "nothing was tested"
    long = kernel("k", tests=(result(Verdict.PASSED).__class__("t", "t", Verdict.PASSED, seconds=3671.4),))
    assert tmt_results(tmt.render(run(long)))["/k/t"]["duration"] == "01:01:11"


def test_tmt_goes_on_after_a_reboot(project: Project) -> None:
    project.tests(FALLS)
    assert job(project, "tmt").returncode == -9
    latest = (project.directory / "test-data/af_alg/latest").resolve()
    reboot(latest)
    assert job(project, "tmt").returncode == 1
    found = tmt_results((project.directory / "test-data/results.yaml").read_text())
    assert {name.rpartition("::")[2]: one["result"] for name, one in found.items()} == {
        "/": "fail", "test_first": "pass", "test_second": "fail", "test_falls": "fail", "test_last": "pass",
    }  # fmt: skip
    assert (project.directory / "test-data/af_alg/latest").resolve() == latest


def test_nipa_has_everything_in_its_directory_and_tap_on_standard_output(project: Project) -> None:
    project.tests(MIXED)
    done = job(project, "nipa", kernel="6.1.0-fake")
    lines = done.stdout.splitlines()
    tap = lines[lines.index("TAP version 13") :]
    assert "1..3" in tap
    assert "ok 1 6.1.0-fake: t/test_it.py::test_good" in tap
    assert "not ok 2 6.1.0-fake: t/test_it.py::test_bad" in tap
    assert any(line.startswith("ok 3 6.1.0-fake: t/test_it.py::test_skip # SKIP") for line in tap)
    (found,) = (path for path in (project.directory / "results-dir").glob("20*") if path.is_dir())
    assert len(events.load(found).kernels[0].tests) == 3


def test_the_help_names_each_system() -> None:
    argv = [sys.executable, *shlex.split("-m vm ci --help")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(f"    {name} " in done.stdout for name in SYSTEMS)


@pytest.mark.parametrize(
    ("said", "verdicts", "status"),
    [
        (0, [Verdict.PASSED], 0),
        (1, [Verdict.PASSED], 1),
        (0, [Verdict.FAILED], 1),
        (0, [], 1),
        (0, None, 1),
        (2, None, 1),
        (5, None, 1),
    ],
)
def test_a_job_ends_well_when_pytest_and_its_results_say_so(
    said: int, verdicts: list[Verdict] | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if verdicts is not None:
        one = dataclasses.replace(run(*([kernel("k", *verdicts)] if verdicts else [])), exit_status=0)
        write.write(one, tmp_path)
        (tmp_path / events.NAME).write_text("")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setattr(ci, "run_tests", lambda _: (said, tmp_path if verdicts is not None else None))
    assert ci.main(["github"]) == status
    assert ("all well" in summary.read_text()) == (verdicts == [Verdict.PASSED])
    assert ("no results, the exit status is" in summary.read_text()) == (verdicts is None)


def test_lava_hears_once_of_guests_beside_the_running_kernel(project: Project) -> None:
    project.tests(GOOD)
    guest = [f"--kernel={project.kernel('6.1.0-fake')}", f"--qemu={project.qemu}", f"--vm-command={FAKE_GUEST}"]
    found = signals(job(project, "lava", *guest).stdout)
    assert found == {"t/test_it.py::test_good": "pass", "6.1.0-fake/t/test_it.py::test_good": "pass"}


def test_a_mistake_is_told_to_the_system_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistaken(_: object) -> NoReturn:
        raise UsageError("no such kernel")

    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setattr(ci, "run_tests", mistaken)
    assert ci.main(["github"]) == 1
    assert capsys.readouterr().err == "error: no such kernel\n"
    assert (tmp_path / "summary.md").read_text() == "## Kernel tests: no results, the exit status is 4\n"
