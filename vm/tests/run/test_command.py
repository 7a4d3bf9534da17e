"""The command line: options and values in any form, kernels anywhere, from any directory of the project."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base.files import ROOT
from vm.kernels.spec import Kernel, several
from vm.run import again, command, plugin
from vm.tests.archive import bzimage
from vm.tests.harness import FAKE_GUEST, Project, Run

PASSES = "def test_a(): pass\ndef test_b(): pass\n"


class Options:
    """Takes what a plugin declares, and keeps the options that take a value."""

    def __init__(self) -> None:
        self.valued: set[str] = set()

    def getgroup(self, *_: str) -> Options:
        return self

    def addini(self, *_: Any, **__: Any) -> None:
        pass

    def addoption(self, name: str, **attributes: Any) -> None:
        if attributes.get("action") != "store_true":
            self.valued.add(name)


def test_every_option_with_a_value_is_known() -> None:
    """pytest would take the value of one that is missed for a test."""
    options = Options()
    plugin.pytest_addoption(options)  # type: ignore[arg-type]
    assert options.valued == set(command.VALUED) - {"--kernels", "--then"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["--kernel", "a b", "-x"], ["--kernel=a b", "-x"]),
        (["--kernel=6.1", "tests"], ["--kernel=6.1", "tests"]),
        (["--results", "r", "--vms", "2", "-k", "gcm"], ["--results=r", "--vms=2", "-k", "gcm"]),
        (["--kernel"], ["--kernel"]),
        (["--kernel", "--kernel", "x"], ["--kernel=--kernel", "x"]),
    ],
    ids=" ".join,
)
def test_joined(given: Sequence[str], expected: Sequence[str]) -> None:
    assert command.joined(given) == expected


def test_several_kernels_in_one_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my kernels").mkdir()
    (tmp_path / "my kernels" / "bz Image").touch()
    assert several("") == []
    assert several(" 6.1  bullseye/5.10 ") == ["6.1", "bullseye/5.10"]
    assert several("6.1 my kernels/bz Image 6.12") == ["6.1", "my kernels/bz Image", "6.12"]
    assert several(f"{tmp_path}/my kernels+debug+faults running") == [f"{tmp_path}/my kernels+debug+faults", "running"]
    assert several("my other/bzImage") == ["my", "other/bzImage"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A kernel in a directory beside the project, as kernel developers have it."""
    path = tmp_path / "linux" / "bzImage"
    path.parent.mkdir()
    path.write_bytes(bzimage("6.1.0-mine"))
    return path


def assert_passed(run: Run, tests: int = 2, release: str = "6.1.0-mine") -> None:
    assert run.status == 0, run.output
    assert list(run.verdicts.values()) == ["passed"] * tests
    assert all(f"[{release}]" in name for name in run.verdicts)


@pytest.mark.parametrize("form", ["--kernel={}", "--kernel {}", "--kernels {}"])
@pytest.mark.parametrize("named", ["absolute", "relative"])
def test_a_kernel_outside_of_the_project(project: Project, image: Path, form: str, named: str) -> None:
    project.tests(PASSES)
    path = str(image) if named == "absolute" else os.path.relpath(image, project.directory)
    assert_passed(project.run(*shlex.split(form.format(path)), kernels=[], program="vm test"))


def test_a_path_with_spaces(project: Project, image: Path) -> None:
    project.tests(PASSES)
    kernel = image.rename(image.with_name("my own bzImage"))
    run = project.run("--kernels", f"{kernel} {project.kernel('6.12.0-fake')}", kernels=[], program="vm test")
    assert run.status == 0
    assert set(run.verdicts.values()) == {"passed"}
    assert len(run.verdicts) == 4


def test_results_in_a_directory_that_exists(project: Project) -> None:
    """Guests are told the options of the host, and take an existing path for a test as well as pytest does here."""
    project.tests(PASSES)
    (project.directory / "kept").mkdir()
    run = project.run("--results", "kept")
    assert run.status == 0
    assert (project.directory / "kept" / "latest" / "results.json").exists()


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        ("", "6.1.176-1"),
        ("6.1", "6.1.176-1"),
        ("bookworm/6.1", "bookworm/6.1.176-1"),
        ("source:6.1+debug", "source:6.1+debug"),
        ("/proc+debug", "/proc+debug"),
        ("arm64:6.1", "arm64:6.1.176-1"),
        ("s390x:bookworm/6.1", "s390x:bookworm/6.1.176-1"),
        ("amd64:source:6.1+debug", "amd64:source:6.1+debug"),
        ("arm64:/proc", "arm64:/proc"),
    ],
)
def test_what_is_run_again_is_exactly_this_kernel(spec: str, exact: str) -> None:
    kernel = Kernel("6.1.176", spec, "6.1.0-50-amd64", Path("vmlinuz"), version="6.1.176-1")
    assert again.exact(kernel) == exact


def test_from_a_subdirectory(project: Project, image: Path) -> None:
    """What is printed for running a test again works there, too."""
    project.tests("def test_a(): assert os.environ.get('GOOD')\n")
    path = os.path.relpath(image, project.directory / "t")
    run = project.run(f"--kernel={path}", "test_it.py", kernels=[], below="t")
    assert run.verdicts == {"t/test_it.py::test_a[6.1.0-mine]": "failed"}
    again = next(line for line in run.output.splitlines() if "--kernel=" in line and "test_a[6.1.0-mine]" in line)
    environment = {**os.environ, "GOOD": "1", "PYTHONPATH": str(ROOT)}
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    options = shlex.join([f"--qemu={project.qemu}", f"--vm-command={FAKE_GUEST}", f"--results={project.results}"])
    repeated = subprocess.run(
        ["sh", "-c", f"{again} {options}"], env=environment, capture_output=True, text=True, cwd=project.directory / "t"
    )
    assert "1 passed" in repeated.stdout, repeated.stdout + repeated.stderr


@pytest.mark.parametrize(
    ("arguments", "where", "advice"),
    [
        (["--kernel", "{image}"], ROOT, "write --kernel={image}, in one word"),
        (["--kernel=6.1", "--results", "{image}"], ROOT, "write --results={image}, in one word"),
        (["--kernel={image}"], "/", f"call it in {Path(sys.prefix).parent}"),
        (["--kernel=6.1", "/proc/self"], ROOT, f"call it in {Path(sys.prefix).parent}"),
    ],
    ids=["kernel", "results", "elsewhere", "test elsewhere"],
)
def test_advice_where_pytest_would_not_know_our_options(
    image: Path, arguments: Sequence[str], where: str | Path, advice: str
) -> None:
    """By the entry point of the distribution, which vm/setup.sh installs."""
    words = [word.format(image=image) for word in arguments]
    run = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=where, capture_output=True, text=True)
    assert run.returncode == 4
    assert advice.format(image=image) in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_advice_is_silent_about_other_projects(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): pass\n")
    run = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in run.stdout


def test_a_view_of_exactly_this_run(project: Project) -> None:
    """Also where --results names a directory that other runs write to."""
    project.tests("def test_a(vm_kernel): assert vm_kernel == '6.1.0-a'\n")
    run = project.run("--then", "vm.results.matrix", kernels=["6.1.0-a", "6.12.0-b"], program="vm test")
    assert run.status == 1
    assert "failed: 6.12.0-b" in run.output.rpartition("a number is of tests passed")[2]


def test_no_view_of_a_run_that_did_not_come_to_its_end(project: Project) -> None:
    project.tests(PASSES)
    run = project.run("--then=vm.results.matrix", "-k", "nothing", program="vm test")
    assert run.status == 5
    assert "differ" not in run.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tests KERNEL=6.12", "'tests' is no target: what to run is make test TEST=tests"),
        ("test KERNEL=6.12 tests/splice", "'tests/splice' is no target"),
        ("test kernel=6.12", "variables are in capitals"),
        ("diff A=6.12", "make diff needs two kernels"),
    ],
)
def test_make_does_not_swallow_a_typo(words: str, said: str) -> None:
    """It takes what exists as a file for done, and a variable that it does not know for nobody's."""
    done = subprocess.run(["make", "-n", *words.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_signal_to_make_ends_the_run() -> None:
    """make passes it on to what it started: were that a shell, the run would go on without make."""
    for target in ("test", "matrix", "coverage", "algorithms", "shell", "gdb", "doctor"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1].startswith("exec .venv/bin/python -m vm "), target


def test_a_difference_of_one_kernel_is_refused_before_anything_runs(project: Project) -> None:
    project.tests(PASSES)
    run = project.run("--then=vm.results.diff", program="vm test")
    assert run.status == 4
    assert "takes two kernels" in run.output
    assert not project.results.exists()


def test_a_selection_of_nothing_is_said(project: Project) -> None:
    project.tests(PASSES)
    run = project.run("-k", "nothing")
    assert run.status == 5
    assert "no test was selected: 2 were left out" in run.output
