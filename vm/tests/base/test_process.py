"""Helper programs: their words come back, and they end when they take too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vm.base import process
from vm.base.errors import UsageError
from vm.base.files import python_path
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


# Of busybox, which knows no such option; and one that cannot be run.
SETPRIVS = {
    "of-util-linux": None,
    "of-busybox": "#!/bin/sh\necho \"setpriv: unrecognized option '--pdeathsig'\" >&2\nexit 1\n",
    "that-cannot-run": "#!/no/such/interpreter\n",
}
HELPED = """
import sys
from vm.base import process
process.run(["sh", "-c", "echo $$ > pid; exec sleep 77"], deadline=60)
"""


@pytest.mark.parametrize("setpriv", SETPRIVS.values(), ids=SETPRIVS)
def test_helper_ends_with_a_caller_that_is_killed_whatever_setpriv_is_there(
    tmp_path: Path, setpriv: str | None
) -> None:
    if setpriv is not None:
        (tmp_path / "setpriv").write_text(setpriv)
        (tmp_path / "setpriv").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": python_path()}
    caller = subprocess.Popen([sys.executable, "-c", HELPED], cwd=tmp_path, env=environment)
    told = tmp_path / "pid"
    poll(lambda: told.exists() and told.read_text().endswith("\n"), 60, "the helper did not start")
    caller.kill()
    caller.wait()
    status = Path(f"/proc/{told.read_text().strip()}/stat")
    poll(lambda: not status.exists() or status.read_text().split()[2] == "Z", 30, "it goes on")


def test_what_dies_with_its_parent_has_the_signals_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_works", lambda _command: False)
    command = [*process.dying_with_parent(signal.SIGKILL), "sh", "-c", "grep SigIgn /proc/self/status"]
    assert "python" in command[0]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert int(said.split()[1], 16) & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0
