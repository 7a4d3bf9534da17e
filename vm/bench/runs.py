"""One measurement of what the runner costs: a bare boot, or a run of the whole command.

``python -m vm.bench.runs DIRECTORY/FILE --results DIRECTORY ARGUMENT…`` is that run: pytest with a plugin that writes
into FILE when what was done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from virtme import cpiowriter

from vm.base import process
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.kernels.spec import Kernel
from vm.klog import printk
from vm.machine import features, initramfs
from vm.machine.accel import Accelerator
from vm.machine.supervisor import Supervisor
from vm.machine.vm import Status, Vm

_DEADLINE = 900.0
# The bare guest tells how long its kernel has run: what came before is QEMU and its firmware.
_BARE_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox cat /proc/uptime
/bin/busybox poweroff -f
"""


@dataclass(frozen=True)
class Bare:
    """One bare boot.

    Attributes:
        seconds: from the start of QEMU to its end.
        processor: seconds of processor time.
        uptime: seconds the kernel had run when it was switched off.
    """

    seconds: float
    processor: float
    uptime: float


@dataclass(frozen=True)
class Timing:
    """One run of the whole command: moments, in seconds since its start.

    Attributes:
        moments: by name, in order of time: what had just been done.
        seconds: to the end of the process.
        processor: seconds of processor time, all processes.
        tests: that were reported.
        busy: seconds from the first test's begin to the last one's end, as the controller saw them.
        guests: seconds of processor time of all QEMU together meanwhile.
    """

    moments: dict[str, float]
    seconds: float
    processor: float
    tests: int
    busy: float
    guests: float


def bare_boot(kernel: Kernel, accelerator: Accelerator, qemu: str, directory: Path, more: Sequence[str] = ()) -> Bare:
    """Boot ``kernel`` with nothing but a static process 1, by the command line a test VM gets.

    Args:
        kernel: one with an image.
        accelerator: for QEMU.
        qemu: name or path of the QEMU executable.
        directory: where the RAM disk and the console go.
        more: arguments for QEMU, after all others.

    Raises:
        UsageError: it did not run to its end.
    """
    disk = directory / "bare.cpio"
    disk.write_bytes(_bare_disk())
    vm = dataclasses.replace(
        Vm.of(kernel, accelerator.name, "rdinit=/init"),
        modules=None,
        qemu=qemu,
        sandbox=features.probe(kernel.architecture, qemu).sandbox,
        boot_deadline=_DEADLINE,
        # The last one wins.
        qemu_arguments=["-initrd", str(disk), *more],
        mode="command",
    )
    supervisor = Supervisor(vm, directory)
    with supervisor.running(subprocess.DEVNULL, subprocess.DEVNULL):
        before, started = _processor(), time.monotonic()
        while supervisor.alive and not supervisor.closed:
            supervisor.turn()
        supervisor.gone()
        seconds, processor = time.monotonic() - started, _processor() - before
    console = directory / "console.log"
    uptime = re.search(r"^(\d+\.\d+) \d+\.\d+\s*$", console.read_text(errors="replace"), re.MULTILINE)
    if uptime is None:
        raise UsageError(f"{kernel.name} did not run the bare process 1: {supervisor.status.reason}; see {console}")
    return Bare(seconds, processor, float(uptime[1]))


def whole_command(spec: str, file: Path, results: Path, extra: Sequence[str] = ()) -> Timing:
    """Run ``pytest --kernel`` on ``file`` in a process of its own; return what it took.

    Raises:
        UsageError: a test did not pass.
    """
    out = results / "moments.json"
    arguments = ["--kernel", spec, "--results", str(results), "-q", *extra, str(file)]
    before = _processor()
    started = time.monotonic()
    checked([sys.executable, "-m", "vm.bench.runs", str(out), *arguments])
    seconds, processor = time.monotonic() - started, _processor() - before
    recorded = json.loads(out.read_text())
    offset = time.time() - time.monotonic()
    moments = {name: moment - (started + offset) for name, moment in recorded["moments"].items()}
    moments |= _moments_of_machine(results / "latest", started + offset)
    ordered = dict(sorted(moments.items(), key=lambda pair: pair[1]))
    return Timing(ordered, seconds, processor, recorded["tests"], recorded["busy"], recorded["guests"])


def guest_rate(results: Path) -> float:
    """Return the tests a second of the only VM of the latest run below ``results``, by its own clock."""
    (console,) = results.joinpath("latest", "vms").glob("*/console.log")
    return rate_of_console(console.read_text(errors="replace"))


def rate_of_console(text: str) -> float:
    """Return tests a second between the mark of the first test's begin and that of the last one's end.

    Raises:
        ValueError: there are not two tests in it.
    """
    begins, ends = _times(text, printk.BEGIN), _times(text, printk.END)
    if len(begins) < 2 or not ends:
        raise ValueError(f"expected the marks of at least two tests on the console, found {len(begins)}")
    return len(ends) / (ends[-1] - begins[0])


def checked(command: Sequence[str]) -> str:
    """Run a command to its end; return its standard output.

    Raises:
        UsageError: it failed or hung, with its last lines.
    """
    done = process.run(command, deadline=_DEADLINE, cwd=ROOT)
    if done.status:
        words = " / ".join((done.output + done.errors).strip().splitlines()[-4:])
        raise UsageError(f"cannot measure: {command[0]} … ended with status {done.status}: {words}")
    return done.output


class Stopwatch:
    """A pytest plugin of the controller that writes down when what was done."""

    def __init__(self, out: Path, results: Path) -> None:
        self.out = out
        self.results = results
        self.moments: dict[str, float] = {"pytest imported": time.time()}
        self.tests = 0
        self.first = self.last = 0.0
        self.guests = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        self.moments["options, kernel, accelerator"] = time.time()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        self.moments.setdefault("pytest in the guest", time.time())

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        self.moments.setdefault("collected in the guest", time.time())

    def pytest_runtest_logstart(self) -> None:
        if not self.first:
            self.first = time.time()
            self.guests = -_processor_of_guests(self.results / "latest")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.last = time.time()
        self.tests += report.when == "call"

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self) -> None:
        # The first VM that is through: all of them are at their end, and none is gone yet.
        if self.guests < 0:
            self.guests += _processor_of_guests(self.results / "latest")

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self.moments |= {"tests": self.last, "machines off, results written": time.time()}
        recorded = {"moments": self.moments, "tests": self.tests, "busy": self.last - self.first}
        self.out.write_text(json.dumps({**recorded, "guests": self.guests}))


def _processor() -> float:
    """Return the seconds of processor time that children of this process had until they were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor_of_guests(run: Path) -> float:
    """Return the seconds of processor time that the VMs of a run have had; proc(5), stat, fields 14 and 15."""
    total = 0
    for directory in run.joinpath("vms").iterdir():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{Status.load(directory).pid}/stat").read_text()
            total += sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")


def _moments_of_machine(run: Path, began: float) -> dict[str, float]:
    """Return the moments of a run's first VM, from its files; those of the guest by the guest's clock."""
    directory = min(run.joinpath("vms").iterdir(), key=lambda path: (path / "vm.json").stat().st_mtime)
    started = (directory / "command").stat().st_mtime - began
    moments = {"machine asked for": (directory / "vm.json").stat().st_mtime - began, "QEMU started": started}
    boot = Status.load(directory).boot_seconds
    if boot is not None:
        moments["Python in the guest"] = started + boot
    inits = _times((directory / "console.log").read_text(), "Run /")
    return moments | dict(zip(("process 1 of the RAM disk",), inits, strict=False))


def _times(console: str, beginning: str) -> list[float]:
    """Return when the kernel logged what begins like this, in seconds since boot."""
    lines = printk.parse_lines(console)
    return [line.time for line in lines if line.time is not None and line.text.startswith(beginning)]


def _bare_disk() -> bytes:
    archive = io.BytesIO()
    writer = cpiowriter.CpioWriter(archive)
    for name in (b"bin", b"dev", b"proc"):
        writer.mkdir(name, 0o755)
    writer.mkchardev(b"dev/console", (5, 1), mode=0o600)
    writer.write_file(b"bin/busybox", body=initramfs.busybox().read_bytes(), mode=0o755)
    writer.write_file(b"init", body=_BARE_INIT, mode=0o755)
    writer.write_trailer()
    return archive.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Run pytest and record; return its exit status."""
    out = Path(arguments[0])
    return int(pytest.main(list(arguments[1:]), plugins=[Stopwatch(out, out.parent)]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
