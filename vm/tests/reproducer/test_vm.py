"""The whole way on real kernels: a red test becomes a program, which a bisection can judge by.

5.10.223 has a bug that 5.10.262 and 6.12 have not (commit e4c06479d705).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vm.base.files import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.deadline(1800)]

BAD, GOOD, FIXED = "bullseye/5.10.223", "6.12", "bullseye-security/5.10.262"
TEST = "tests/regressions/test_aead.py::test_aad_of_2_gib_is_refused[4294967295]"
SAID = "sendmsg: got 32 bytes, expected EINVAL"


def vm(*words: str, status: int = 0) -> str:
    """Return what a command of the runner prints."""
    done = subprocess.run([sys.executable, "-m", "vm", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the program of the test, made once."""
    text = vm("reproducer", TEST, "--kernel", BAD, "--good", GOOD)
    path = tmp_path_factory.mktemp("program") / "reproducer.c"
    path.write_text(text)
    return path


def test_a_red_test_becomes_a_program(program: Path) -> None:
    """It was tried on both kernels, or there would be none; nothing in it is not needed."""
    text = program.read_text()
    assert "Seen on: Linux 5.10" in text
    assert "Fixed by: commit e4c06479d705" in text
    assert "if (got >= 0 || errno != EINVAL)" in text
    assert "ALG_SET_IV" in text


def test_a_program_says_what_a_kernel_does(program: Path) -> None:
    assert vm("reproducer", "run", str(program), "--kernel", BAD, status=1).strip() == SAID
    assert vm("reproducer", "run", str(program), "--kernel", GOOD).strip() == "as expected"


def test_a_bisection_judges_by_a_program(program: Path, tmp_path: Path) -> None:
    said = vm("bisect", "--program", str(program), "--kernels", FIXED, BAD, "--results", str(tmp_path))
    assert f"{FIXED} is the last good one, {BAD} is the first bad one" in said
    assert SAID in said


def test_a_run_leaves_programs_of_what_failed(tmp_path: Path) -> None:
    words = ["--kernel", BAD, "--no-known-issues", "--reproducers", "failures", "--results", str(tmp_path)]
    # An id has the kernel in it here.
    vm("test", *words, TEST.partition("::")[0], "-k", "test_aad_of_2_gib_is_refused and 4294967295", status=1)
    (found,) = (tmp_path / "latest").resolve().glob("kernels/*/reproducers/*/reproducer.c")
    assert "if (got >= 0 || errno != EINVAL)" in found.read_text()


def test_programs_of_a_sample_are_counted(tmp_path: Path) -> None:
    """Tests of io_uring: no program of them may say that something is wrong with a good kernel."""
    words = ["reproducer", "tests/requests/test_uring.py", "--sample", "6", "--seed", "1", "--kernel", GOOD]
    said = vm(*words, "--into", str(tmp_path))
    assert "6 of the programs of 6 passed tests say as expected" in said
    assert len(list(tmp_path.glob("*/reproducer.c"))) == 6
