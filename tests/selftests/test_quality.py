"""Tests that cannot fail are worth nothing: with a stub in the kernel's place, none passes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.selftests.stubs import STUBS

ROOT = Path(__file__).parents[2]

ALGORITHMS = "tests/algorithms", "tests/splice"
OTHERS = tuple(
    f"tests/{name}" for name in ["errors", "requests", "regressions", "policy", "netlink", "faults", "test_rfc_2010.py"]
)
PARTS = {"algorithms": (ALGORITHMS, 9), "others": (OTHERS, 40)}
"""Folders, and how many of their cases are run: the first of each test and every Nth."""
RUNS = [(part, stub) for part in PARTS for stub in STUBS if part == "algorithms" or stub in ("enoent", "zeros", "echo")]

# What passes with a stub all the same, and why.
PROC = r"test_completeness|test_every_self_test_has_passed|test_proc\.py", "looks at /proc/crypto, not at a socket"
NULL = "digest_null", "a digest of no bytes, or the length of one, is easily guessed"
ECHO = "cipher_null", "the null cipher does what an echo does"
ASKS = "errors/test_differences.py", "takes any answer that some kernel gives"
PROCESS = "test_out_of_file_descriptors_is_emfile", "is about descriptors, which a stub has too"
DROPPED = r"test_default_generator_can_be_dropped\[", "success is all that the kernel answers"
NO_POLL = r"test_socket_without_poll_method_is_never_ready\[rng-op", "a stub is never ready either"
RANDOM = (
    r"test_entropy_for_a_generator_that_takes_none|test_generator_never_repeats_itself|algorithms/test_rng\.py",
    "random bytes are what it is to give",
)
NOTHING = r"test_a_request_of_no_bytes_gives_no_bytes\[", "no bytes are what it is to give"
NO_NAMES = r"test_without_restriction_|test_there_is_no_compression", "without algorithms there is none to find"
GARBAGE = "test_socket_in_a_cycle_of_garbage_is_no_leak", "is about what Python closes, and when"
BEGINS = r"test_trait_is_that_of_its_version\[splice_begins", "a stub takes a splice for a request, as kernels do"
REASONS = {
    "enoent": (PROC, ASKS, PROCESS, NO_NAMES, GARBAGE),
    "zeros": (PROC, NULL, ASKS, PROCESS, DROPPED, NO_POLL, GARBAGE, BEGINS),
    "random": (PROC, NULL, ASKS, PROCESS, DROPPED, NO_POLL, RANDOM),
    "echo": (PROC, NULL, ECHO, ASKS, PROCESS, DROPPED, NO_POLL, NOTHING, GARBAGE, BEGINS),
    "short": (PROC, NULL, ASKS, PROCESS, DROPPED, NO_POLL, NOTHING),
}


def test_every_folder_is_run() -> None:
    """Those with tests of the kernel; tests of this project's own code are in selftests.

    Programs make system calls of their own, which no stub of Python's catches.
    """
    folders = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert {Path(part).name for part in (*ALGORITHMS, *OTHERS)} == folders - {"selftests", "programs"}


@pytest.mark.deadline(300)
@pytest.mark.parametrize(("part", "stub"), RUNS)
def test_nothing_passes_with_a_stub_for_a_kernel(part: str, stub: str, tmp_path: Path) -> None:
    """Nor is there a test that none of its cases reached: it failed, or was skipped."""
    config = tmp_path / "pytest.ini"
    marks = ("deadline(seconds)", "thorough", "fixed_by(commit, title)")
    config.write_text("[pytest]\nmarkers =\n" + "".join(f"    {mark}: see vm/run/plugin.py\n" for mark in marks))
    folders, nth = PARTS[part]
    command = [sys.executable, "-m", "pytest", "-c", str(config), f"--rootdir={ROOT}", f"--confcutdir={ROOT / 'tests'}"]
    command += ["-p", "tests.selftests.stubs", f"--stub={stub}", f"--every-nth={nth}", "-p", "no:cacheprovider"]
    command += ["-q", "--tb=no", "-rp", "-W", "ignore", *folders]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert re.search(r"\d+ (failed|skipped)", run.stdout), run.stdout + run.stderr
    passed = re.findall(r"^PASSED (\S+)", run.stdout, re.MULTILINE)
    allowed = "|".join(pattern for pattern, _why in REASONS[stub])
    wrong = [test for test in passed if not re.search(allowed, test)]
    assert not wrong, f"passed although the kernel was {stub}: {wrong}"
