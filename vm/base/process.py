"""Run a helper program that can be watched, has deadlines, and never outlives the caller."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import UsageError
from vm.base.words import last_line

POLL_SECONDS = 0.1
# When this process is killed, its child is told, and takes the whole group along: a signal to the child alone
# would leave apt's methods and make's compilers.
GUARD = 'trap "kill -KILL 0" TERM; "$@" & wait $!'
PR_SET_PDEATHSIG = 1
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Result:
    """What a program said, as text, and its exit status (128 and more: the signal that ended it)."""

    status: int
    output: str
    errors: str

    def require(self, failure: str, place: Path) -> None:
        """Raise when the program failed.

        Args:
            failure: what that means: ``cannot unpack linux-image.deb``.
            place: the directory it was to fill.

        Raises:
            OSError: for want of space.
            UsageError: for another reason, with the program's last words.
        """
        if self.status == 0:
            return
        if ran_out_of_space(self.errors):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
        raise UsageError(f"{failure}: {last_line(self.errors)}")


def ran_out_of_space(words: str) -> bool:
    """Say whether a program met a full disk: what it said is all there is to tell that by."""
    return os.strerror(errno.ENOSPC) in words


def find(program: str) -> str | None:
    """Return the path of ``program``, also where only root's PATH has it (depmod), else None."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[float], None] = lambda _elapsed: None,
) -> Result:
    """Run ``argv`` to its end and return what it printed.

    It gets a process group of its own, killed as a whole when anything ends the wait early (Ctrl-C, a
    deadline), and a parent-death signal for when this process is itself killed. Its standard input is empty.

    Args:
        argv: program and arguments; the program is searched in PATH and the system's directories.
        deadline: seconds, after which it is killed.
        cwd: its working directory.
        environment: variables to set besides ours. Messages are always in English, since callers read them.
        watch: called about ten times a second with the seconds gone by; what it raises ends the program.

    Raises:
        UsageError: the program is not installed, or the deadline passed.
    """
    program = find(argv[0])
    if program is None:
        raise UsageError(f"{argv[0]} is not installed; install it (on Debian: apt-get install it)")
    command = [program, *argv[1:]]
    if shell := find("sh"):
        command = [*dying_with_parent(signal.SIGTERM), shell, "-c", GUARD, "guard", *command]
    env = {**os.environ, **(environment or {}), "LC_ALL": "C.UTF-8", "LANGUAGE": "en"}
    # Files and not pipes: a pipe that nobody reads stops the program, and one read by a thread outlives us.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, deadline, watch)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{' '.join(argv[:2])} did not finish in {deadline:.0f} s; try again") from None
        finally:
            _kill_group(process)
        output.seek(0)
        errors.seek(0)
        return Result(
            process.returncode,
            output.read().decode("utf-8", "replace"),
            errors.read().decode("utf-8", "replace"),
        )


# Python ignores two signals that a program wants to have.
_TRAMPOLINE = """\
import ctypes, os, signal, sys
for each in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(each, signal.SIG_DFL)
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def dying_with_parent(number: signal.Signals) -> list[str]:
    """Return the beginning of a command that is sent a signal by the kernel when its parent ends, in whatever way.

    That is a program, since a preexec_fn may deadlock in a process with threads: setpriv of util-linux, or where there
    is none, or one that knows no such option (busybox), a Python, which takes longer to start.
    """
    setpriv = find("setpriv")
    prefix = [setpriv or "", "--pdeathsig", number.name.removeprefix("SIG"), "--"]
    if setpriv and _works((*prefix, "true")):
        return prefix
    return [sys.executable, "-ISc", _TRAMPOLINE, str(int(number))]


@functools.cache
def _works(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def die_with_parent() -> None:
    """Have the kernel kill us when our parent ends, in whatever way (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], deadline: float, watch: Callable[[float], None]) -> None:
    started = time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return
        elapsed = time.monotonic() - started
        if elapsed > deadline:
            raise subprocess.TimeoutExpired(process.args, deadline)
        watch(elapsed)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
