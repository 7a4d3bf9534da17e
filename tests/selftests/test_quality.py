"""Tests that cannot fail are worth nothing: with a stub in the kernel's place, none passes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.selftests.stubs import STUBS

ROOT = Path(__file__).parents[2]

# What a stub may be right about, because the algorithm itself is one: the null cipher echoes, and a digest of no
# bytes, or the length of one, is easily guessed. The other two look at /proc/crypto, not at a socket.
RIGHT_BY_NATURE = {
    "enoent": r"test_completeness|test_every_self_test_has_passed",
    "zeros": r"test_completeness|test_every_self_test_has_passed|digest_null",
    "echo": r"test_completeness|test_every_self_test_has_passed|digest_null|cipher_null",
    "short": r"test_completeness|test_every_self_test_has_passed|digest_null",
}


@pytest.mark.deadline(120)
@pytest.mark.parametrize("stub", STUBS)
def test_nothing_passes_with_a_stub_for_a_kernel(stub: str, tmp_path: Path) -> None:
    config = tmp_path / "pytest.ini"
    config.write_text(
        "[pytest]\nmarkers =\n    deadline(seconds): see vm/guest/worker.py\n    thorough: see vm/run/plugin.py\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", str(config), f"--rootdir={ROOT}", f"--confcutdir={ROOT / 'tests'}"]
    command += ["-p", "tests.selftests.stubs", f"--stub={stub}", "--every-nth=9", "-p", "no:cacheprovider"]
    command += ["-q", "--tb=no", "-rp", "tests/algorithms", "tests/splice"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert re.search(r"\d+ (failed|skipped)", run.stdout), run.stdout + run.stderr
    passed = re.findall(r"^PASSED (\S+)", run.stdout, re.MULTILINE)
    wrong = [test for test in passed if not re.search(RIGHT_BY_NATURE[stub], test)]
    assert not wrong, f"passed although the kernel was {stub}: {wrong}"
