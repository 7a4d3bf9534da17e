"""Helper programs: their words come back, and they end when they take too long."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vm.base import process
from vm.base.errors import UsageError
from vm.tests.harness import poll


def test_helper_s_words_and_status_come_back() -> None:
    result = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=30)
    assert result == process.Result(3, "out\n", "err\n")


def test_helper_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 77 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(UsageError, match="did not finish in 1 s"):
        process.run(["sh", "-c", script], deadline=1)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    poll(lambda: not status.exists() or status.read_text().split()[2] == "Z", 5, "it goes on")


def test_what_tests_start_obeys_ctrl_c_even_when_they_were_started_in_the_background() -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == -signal.SIGINT


def test_missing_helper_is_named() -> None:
    with pytest.raises(UsageError, match="no-such-program is not installed; install it"):
        process.run(["no-such-program"], deadline=1)
