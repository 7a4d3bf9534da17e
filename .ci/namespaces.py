"""Run a program in a PID and a mount namespace of its own, which end with it: nothing stays mounted or running."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

# clone(2), mount(2), umount(2), prctl(2)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SYS_PIVOT_ROOT = 155  # of x86-64: the C library has no function for it

_libc = ctypes.CDLL(None, use_errno=True)


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    root: Path | None = None,
    shown: Sequence[Path] = (),
) -> int:
    """Run ``argv`` to its end, with empty standard input, and return its exit status (128 and more: its signal).

    Whatever ends the wait, a signal handler that raises among it, also ends all that was started there.

    Args:
        argv: an absolute path, and arguments.
        environment: all of it.
        say: called with each line of its output.
        root: its root directory, with /proc, /sys, and terminals and shared memory in /dev; None for ours.
        shown: directories of ours that it sees, read-only, at the same paths.

    Raises:
        OSError: a namespace cannot be made.
    """
    reading, writing = os.pipe()
    first = _fork_into_namespace()
    if first == 0:
        _be_first(argv, environment, root, shown, writing)
    try:
        os.close(writing)
        with open(reading, encoding="utf-8", errors="replace") as output:
            for line in output:
                say(line)
    except BaseException:
        os.kill(first, signal.SIGKILL)
        raise
    finally:
        # The first process of a PID namespace takes all others with it, and ends after them.
        _, status = os.waitpid(first, 0)
    return _exit_status(status)


def _fork_into_namespace() -> int:
    """Fork a child that is the first of a new PID namespace; what is forked later is in ours again."""
    ours = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        _call("unshare", CLONE_NEWPID)
        sys.stdout.flush()
        first = os.fork()
        if first:
            _call("setns", ours, CLONE_NEWPID)
        return first
    finally:
        os.close(ours)


def _be_first(
    argv: Sequence[str], environment: Mapping[str, str], root: Path | None, shown: Sequence[Path], output: int
) -> NoReturn:
    """Be the init of the namespace: start the program, reap what is orphaned, end with the program's status."""
    status = 127
    try:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The terminal's Ctrl-C is for the one outside. What was ignored or handled there is not here.
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 1024)
        _call("unshare", CLONE_NEWNS)
        _mount("none", "/", flags=MS_REC | MS_PRIVATE)
        if root is not None:
            _furnish(root, shown)
            _enter(root)
        program = os.fork()
        if program == 0:
            os.execve(argv[0], list(argv), environment)
        ended = 0
        while ended != program:
            ended, code = os.wait()
        status = _exit_status(code)
    except BaseException as error:
        os.write(2, f"error: {error}\n".encode())
    os._exit(status)


def _furnish(root: Path, shown: Sequence[Path]) -> None:
    """Mount what a system has below ``root``."""
    _mount(str(root), str(root), flags=MS_BIND)
    _mount("proc", f"{root}/proc", "proc")
    _mount("/sys", f"{root}/sys", flags=MS_BIND | MS_REC)
    _mount("devpts", f"{root}/dev/pts", "devpts", options="newinstance,ptmxmode=0666,mode=0620")
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", options="mode=1777")
    if Path("/dev/kvm").exists():
        (root / "dev/kvm").touch()
        _mount("/dev/kvm", f"{root}/dev/kvm", flags=MS_BIND)
    for directory in shown:
        below = f"{root}{directory}"
        Path(below).mkdir(parents=True, exist_ok=True)
        _mount(str(directory), below, flags=MS_BIND)
        _mount("none", below, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def _enter(root: Path) -> None:
    """Make ``root`` the root directory, and let go of the old one (pivot_root(2), "pivot_root('.', '.')")."""
    os.chdir(root)
    _check(_libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def _mount(source: str, target: str, kind: str = "none", flags: int = 0, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {target}")


def _call(name: str, *arguments: object) -> None:
    _check(getattr(_libc, name)(*arguments), name)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
