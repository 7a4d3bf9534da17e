"""The guest's half of the pytest plugin: what happens around each test on the kernel under test.

Also active without any VM, in a plain ``pytest tests/`` on the running kernel; what needs a right the
user does not have is then left out, and the header says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import platform
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vm.base.files import text_of
from vm.guest import internals, prepare, serve, wake
from vm.klog import printk, taint
from vm.klog.splats import find_splats

# One of the real-time signals: nobody else sends it, tests may use SIGALRM for themselves.
DEADLINE_SIGNAL = signal.SIGRTMIN + 7


# Of one phase of a test, as far as it is kept: its first and its last bytes.
_MOST_KEPT = 64 * 1024
# Of one phase, as far as it is read: one that logs faster than it is read has no end.
_MOST_READ = 8 * 2**20
# Twenty times what a kernel with every algorithm has.
_MOST_CRYPTO = 2**21
# The facility of a message that names none (syslog(3)).
_USER = 1


class DeadlineExceeded(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """A test took longer than its deadline; raised in the test, whatever it was waiting for."""


class GuestPlugin:
    """Kernel log, taint and deadline of each test; modules, sysctls and facts at the start.

    Args:
        test_deadline: seconds a test may take unless its marker ``deadline(seconds)`` says otherwise.
        factor: what both are multiplied by (a slow accelerator or kernel).
        modules: modules to load before the first test; one that does not exist is not an error here.
        sysctls: ``name=value`` to set, where the sysctl exists.
        in_machine: whether this is a guest, which may be changed.
        marking: whether to write each test's begin and end into the kernel's log.
        told: sysctls whose values the host wants to know.
        check: says why no test makes sense on this kernel, empty when they do; the host is told.
    """

    def __init__(
        self,
        test_deadline: float,
        factor: float,
        modules: Sequence[str],
        sysctls: Sequence[str],
        in_machine: bool,
        marking: bool,
        told: Sequence[str] = (),
        check: Callable[[], str] = str,
    ) -> None:
        self.log = KernelLog(marking)
        self.watchdog = Watchdog()
        self.test_deadline = test_deadline
        self.factor = factor
        self.modules = modules
        self.sysctls = sysctls
        self.in_machine = in_machine
        self.marking = marking
        self.told = told
        self.check = check
        self.unfit = ""
        self.taint = taint.read()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Prepare the kernel, and say what it is."""
        if self.marking:
            internals.say_together(session.config)
        if self.in_machine:
            # -e: a sysctl that refuses its value is an error of whoever wrote it.
            lines = prepare.lines(self.modules, self.sysctls)
            subprocess.run(["sh", "-ec", lines], stdin=subprocess.DEVNULL, check=True)
        self.unfit = self.check()
        self._tell()
        self.taint = taint.read()
        self.log.read()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Let the machine be saved here, before xdist waits for what is to be run."""
        if not self.unfit:
            wake.pause(wake.COLLECTED, serve.say)

    def pytest_sessionfinish(self) -> None:
        """Say it again: the tests brought in algorithms, and perhaps a taint."""
        self._tell()

    def _tell(self) -> None:
        serve.say("facts " + json.dumps({**facts(self.told, self.in_machine), "unfit": self.unfit}))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Mark the test in the kernel's log, so that the console of a dead VM tells who killed it."""
        self.log.mark(f"{printk.BEGIN}{item.nodeid}")
        try:
            return (yield)
        finally:
            self.log.mark(f"{printk.END}{item.nodeid}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        """Have words that nobody can send not end the machine, which would look like a crash of the kernel.

        The keywords of a test are not sent at all: nobody reads them, and they are most of a report.
        """
        said = yield
        if said and "keywords" in said:
            said["keywords"] = {}
        return sayable(said)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep the deadline."""
        marker = item.get_closest_marker("deadline")
        seconds = float(marker.args[0]) if marker else self.test_deadline
        with self.watchdog.limit(seconds, self.factor):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
        """Fail the phase of the test during which the kernel complained, and attach what it said."""
        report: pytest.TestReport = yield
        lines = self.log.read()
        flags = taint.read()
        splats = find_splats("\n".join(lines))
        fresh = flags & ~self.taint
        self.taint = flags
        if text := bounded([line for line in lines if "vm-test: " not in line]):
            report.sections.append(("Kernel log", text))
        if splats or fresh:
            reasons = [splat.title for splat in splats]
            reasons += [f"kernel tainted: {letter} ({meaning})" for letter, meaning in taint.letters(fresh)]
            before = f"{report.longreprtext}\n\n" if report.failed else ""
            report.outcome = "failed"
            internals.detach(report, "wasxfail")
            internals.detach(report, "verdict")
            excerpt = "\n\n".join(splat.text for splat in splats)
            report.longrepr = f"{before}the kernel complained: {'; '.join(reasons)}\n{excerpt}"
            internals.attach(report, splats=[list(dataclasses.astuple(splat)) for splat in splats])
        if self.log.lost and self.marking:
            internals.attach(report, log_lost=True)  # A host looks at the console (vm/run/lost_log.py).
        elif self.log.lost and report.passed:
            report.outcome = "failed"
            report.longrepr = UNKNOWN
        return report


OVERWRITTEN = "(kernel log: records were overwritten before they could be read)"
UNKNOWN = "the kernel's log was overwritten before it could be read: what it said in this test is not known"


def sayable(said: Any) -> Any:
    """Return what a report comes to with an escape for each lone surrogate: execnet sends UTF-8, and dies of others.

    Args:
        said: lists, tuples, dictionaries and what stands in them.
    """
    if isinstance(said, str):
        return said.encode(errors="backslashreplace").decode()
    if isinstance(said, dict):
        return {sayable(name): sayable(value) for name, value in said.items()}
    if isinstance(said, (list, tuple)):
        return type(said)(map(sayable, said))
    return said


def bounded(lines: Sequence[str], most: int = _MOST_KEPT) -> str:
    """Return lines as one text of at most ``most`` characters, and of a longer one the beginning and the end."""
    text = "\n".join(lines)
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n(... {len(text) - most} characters left out ...)\n{text[-(most // 2) :]}"


class KernelLog:
    """The records of /dev/kmsg from now on; nothing where it cannot be read. ``marking`` writes to it as well."""

    def __init__(self, marking: bool) -> None:
        try:
            self.reader: int | None = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self.reader, 0, os.SEEK_END)
        except OSError:
            self.reader = None
        self.lost = False
        self.writer: int | None = None
        if marking:
            with contextlib.suppress(OSError):
                self.writer = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)

    def mark(self, text: str) -> None:
        """Write a line of our own, at a level that reaches the console."""
        if self.writer is not None:
            os.write(self.writer, f"<4>{text}\n".encode()[:900])

    def read(self) -> list[str]:
        """Return the lines logged since the last call; ``lost`` says whether there were more."""
        lines: list[str] = []
        self.lost = False
        length = 0
        while self.reader is not None:
            try:
                data = self._next(self.reader)
            except BlockingIOError:
                break
            except BrokenPipeError:
                lines.append(OVERWRITTEN)
                self.lost = True
                continue
            length += len(data)
            if length > _MOST_READ:
                lines.append(OVERWRITTEN)
                self.lost = True
                os.lseek(self.reader, 0, os.SEEK_END)
                break
            record = printk.parse_record(data)
            if record.facility == _USER:
                # Written to /dev/kmsg as it is. In a guest nobody does but a test, and it means what it says there.
                record = dataclasses.replace(record, facility=0)
            lines += printk.render(record).split("\n")
        return lines

    def _next(self, reader: int) -> bytes:
        return os.read(reader, 8192)


class Watchdog:
    """Interrupts the main thread when a block takes too long, whatever system call it sits in."""

    def __init__(self) -> None:
        self.due: float | None = None
        self.limit_text = ""
        # Not the descriptor 2 of the moment, which pytest's capturing redirects into a file.
        self.stderr = int(os.environ.get("VM_STDERR_FD", "2"))
        signal.signal(DEADLINE_SIGNAL, self._raise)
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    @contextlib.contextmanager
    def limit(self, seconds: float, factor: float) -> Generator[None, None, None]:
        """Give the block ``seconds`` times ``factor``, then raise DeadlineExceeded in it."""
        self.limit_text = f"deadline: not finished after {seconds * factor:g} s"
        if factor != 1:
            self.limit_text += f" ({seconds:g} s, times {factor:g} for accelerator and kernel)"
        self.due = time.monotonic() + seconds * factor
        try:
            yield
        finally:
            self.due = None

    def _watch(self) -> None:
        told = 0
        while True:
            # Once a second, not woken by each test: a wake-up costs more than a small test.
            time.sleep(1.0)
            due = self.due  # The main thread changes it at any time.
            if due is None or time.monotonic() < due:
                told = 0
                continue
            # Again each second: a test may swallow it, or be in code that restarts the call. When once was not
            # enough, the console shows where it sits, in case the VM has to be killed.
            told += 1
            if told == 3:
                faulthandler.dump_traceback(file=self.stderr, all_threads=True)
            signal.pthread_kill(threading.main_thread().ident or 0, DEADLINE_SIGNAL)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if self.due is not None:
            raise DeadlineExceeded(self.limit_text)


def facts(sysctls: Sequence[str] = (), in_machine: bool = True) -> dict[str, Any]:
    """Return what identifies the running kernel, and what accounts for what it lacks (vm/run/skips.py).

    Args:
        sysctls: whose values to tell, those that there are.
        in_machine: in a guest, modprobe has no configuration.
    """
    paths = {name: prepare.sysctl_path(name) for name in sysctls}
    return {
        "release": platform.release(),
        "version": platform.version(),
        "machine": platform.machine(),
        "banner": text_of(Path("/proc/version")).strip(),
        "cmdline": text_of(Path("/proc/cmdline")).strip(),
        "proc_crypto": text_of(Path("/proc/crypto"))[:_MOST_CRYPTO],
        "modules": sorted(line.split()[0] for line in text_of(Path("/proc/modules")).splitlines()),
        "taint": taint.read(),
        "lsm": text_of(Path("/sys/kernel/security/lsm")).strip(),
        "sysctls": {name: text_of(path).strip() for name, path in paths.items() if path.exists()},
        "judges": judges(in_machine),
        "blacklist": [] if in_machine else blacklist(),
        "cpus": os.cpu_count(),
        "processor": cpuinfo("model name"),
        "processor_flags": cpuinfo("flags"),
    }


def cpuinfo(field: str) -> str:
    """Return what /proc/cpuinfo says of the first processor: which drivers a kernel uses depends on it."""
    found = re.search(rf"^{field}\s*: (.*)$", text_of(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else ""


def judges(in_machine: bool) -> list[str]:
    """Return who may refuse this process a system call: ``seccomp``, and the security modules.

    Of a guest only a filter: nobody loads a policy there, without which security modules refuse nothing.
    """
    filtered = re.search(r"^Seccomp:\s*[12]$", text_of(Path("/proc/self/status")), re.MULTILINE)
    modules = text_of(Path("/sys/kernel/security/lsm")).strip().split(",")
    return ["seccomp"] * bool(filtered) + [name for name in modules if name and not in_machine]


def blacklist() -> list[str]:
    """Return the lines of modprobe's configuration that keep modules from being loaded (modprobe.d(5))."""
    try:
        said = subprocess.run(["modprobe", "--showconfig"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in said.splitlines() if line.startswith(("blacklist ", "install "))]
