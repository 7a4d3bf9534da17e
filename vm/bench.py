"""What the runner costs, as ratios measured in one run, and where the time goes.

``python -m vm.bench --kernel 6.12`` prints

- fixed cost: one trivial test by the whole command, warm, over a bare boot (same QEMU command, the same kernel,
  as it came, an initial RAM disk with nothing but a static process 1 that switches off);
- speed: small tests a second in a guest through the runner, over the same functions called in a plain loop
  in a guest;
- sharing: a set of small tests on one machine, over the same set on two;
- stages of one run: where the fixed cost goes.

Everything is done several times and the least time is taken: whatever else a machine does makes things slower
and never faster. Beside the time stands the processor's time of all processes that took part, which says the
same on a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import resource
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from virtme import cpiowriter

from vm import initramfs, printk
from vm.accel import DEFAULT_QEMU, Accelerator, probe
from vm.command import command, say
from vm.directory import Status, Vm
from vm.errors import UsageError
from vm.files import ROOT
from vm.kernel import Kernel, resolve
from vm.process import die_with_parent
from vm.qemu import command_line

GOALS = {"fixed cost": 4.0, "tests a second": 60.0, "two machines": 1.8}
"""At most, at least, at least; under TCG on two cores."""

_SMALL_TESTS = 480
_DEADLINE = 900.0
_TRIVIAL = "def test_nothing() -> None:\n    assert True\n"
# Two system calls and a comparison: what a small test of a kernel's interface amounts to.
_SMALL = f"""\
import os

import pytest


@pytest.mark.parametrize("number", range({_SMALL_TESTS}))
def test_small(number: int) -> None:
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"%d" % number)
        assert os.read(read_end, 16) == b"%d" % number
    finally:
        os.close(read_end)
        os.close(write_end)
"""
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
class Run:
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
    """Boot ``kernel`` with nothing but a static process 1, by the command line a test machine gets.

    Args:
        more: arguments for QEMU, after all others.

    Raises:
        UsageError: it did not run to its end.
    """
    disk = directory / "bare.cpio"
    disk.write_bytes(_bare_disk())
    vm = Vm(
        name="bare",
        kernel=kernel.name,
        release=kernel.release,
        image=str(kernel.image),
        modules=None,
        accelerator=accelerator.name,
        memory=1024,
        cpus=1,
        boot_deadline=_DEADLINE,
        cwd=str(directory),
        qemu=qemu,
        # The last one wins.
        qemu_arguments=["-initrd", str(disk), *more],
        kernel_arguments=["rdinit=/init"],
        mode="command",
    )
    console = directory / "console.log"
    console.unlink(missing_ok=True)
    status = os.open("/dev/null", os.O_WRONLY)
    ours, theirs = socket.socketpair()
    try:
        command = command_line(vm, directory, status, theirs.fileno())
        before = _processor()
        started = time.monotonic()
        _checked(command, pass_fds=[status, theirs.fileno()])
        seconds, processor = time.monotonic() - started, _processor() - before
    finally:
        os.close(status)
        ours.close()
        theirs.close()
    uptime = re.search(r"^(\d+\.\d+) \d+\.\d+\s*$", console.read_text(errors="replace"), re.MULTILINE)
    if uptime is None:
        raise UsageError(f"{kernel.name} did not run the bare process 1; see {console}")
    return Bare(seconds, processor, float(uptime[1]))


def whole_command(spec: str, file: Path, results: Path, extra: Sequence[str] = ()) -> Run:
    """Run ``pytest --kernel`` on ``file`` in a process of its own; return what it took.

    Raises:
        UsageError: a test did not pass.
    """
    out = results / "moments.json"
    arguments = ["--kernel", spec, "--results", str(results), "-q", *extra, str(file)]
    before = _processor()
    started = time.monotonic()
    _checked([sys.executable, "-m", "vm.bench", "--record", str(out), *arguments])
    seconds, processor = time.monotonic() - started, _processor() - before
    recorded = json.loads(out.read_text())
    offset = time.time() - time.monotonic()
    moments = {name: moment - (started + offset) for name, moment in recorded["moments"].items()}
    moments |= _moments_of_machine(results / "latest", started + offset)
    ordered = dict(sorted(moments.items(), key=lambda pair: pair[1]))
    return Run(ordered, seconds, processor, recorded["tests"], recorded["busy"], recorded["guests"])


def guest_rate(results: Path) -> float:
    """Return the tests a second of the only machine of the latest run below ``results``, by its own clock."""
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


def plain_loop(path: Path, calls: int = _SMALL_TESTS) -> float:
    """Call the function of ``path`` with each number, as a loop would; return calls a second."""
    test = runpy.run_path(str(path))["test_small"]
    started = time.perf_counter()
    for number in range(calls):
        test(number)
    return calls / (time.perf_counter() - started)


def stages(run: Run, bare: Bare) -> list[tuple[str, float]]:
    """Return where the time of ``run`` went, in order: name and seconds.

    Args:
        bare: of the same kernel: tells how long QEMU takes to get to the kernel.
    """
    moments = dict(run.moments)
    firmware = max(0.0, bare.seconds - bare.uptime)
    started = moments["QEMU started"]
    moments["kernel entered (firmware)"] = started + firmware
    for name in ("process 1 of the RAM disk", "process 1 of the guest"):
        if name in moments:
            # Told by the guest's clock, which began with the kernel.
            moments[name] += started + firmware
    ordered = sorted(moments.items(), key=lambda pair: pair[1])
    names = [name for name, _ in ordered] + ["teardown"]
    times = [0.0, *(moment for _, moment in ordered), run.seconds]
    return [(name, after - before) for name, before, after in zip(names, times[:-1], times[1:], strict=True)]


def verdict(name: str, value: float) -> str:
    """Return how ``value`` compares with its goal: ``goal at most 4: missed``."""
    goal = GOALS[name]
    met, word = (value <= goal, "at most") if name == "fixed cost" else (value >= goal, "at least")
    return f"goal {word} {goal:g}: {'met' if met else 'missed'}"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print: ``python -m vm.bench --help``. Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--record"]:
        return _record(Path(words[1]), words[2:])
    if words[:1] == ["--loop"]:
        print(max(plain_loop(Path(words[1])) for _ in range(3)))
        return 0
    options = _options(words)
    kernel = resolve([options.kernel] if options.kernel else [], say)[0]
    if kernel.image is None:
        raise UsageError("expected a kernel for a machine, not 'running': give a version or an image")
    with _work() as work:
        _measure(kernel, options, work)
    return 0


class Recorder:
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
        # The first machine that is through: all of them are at their end, and none is gone yet.
        if self.guests < 0:
            self.guests += _processor_of_guests(self.results / "latest")

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self.moments |= {"tests": self.last, "machines off, results written": time.time()}
        recorded = {"moments": self.moments, "tests": self.tests, "busy": self.last - self.first}
        self.out.write_text(json.dumps({**recorded, "guests": self.guests}))


def _measure(kernel: Kernel, options: argparse.Namespace, work: Path) -> None:
    accelerator = probe(options.qemu, options.accel)
    trivial, small = work / "test_trivial.py", work / "test_small.py"
    trivial.write_text(_TRIVIAL)
    small.write_text(_SMALL)
    # Not the empty spec of the newest kernel, nor one that is looked up in the mirror each time.
    spec = options.kernel
    common = ["--qemu", options.qemu, "--accel", options.accel]
    print(
        f"{kernel.name} under {accelerator.name}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, "
        f"least of {options.rounds} rounds",
        flush=True,
    )

    whole_command(spec, trivial, work, common)  # Warm: bytecode, RAM disk.
    # The image as it came, which is what booting this kernel costs anybody; and as our machines boot it.
    plain = ["-kernel", str(kernel.image)]
    bare = min(_rounds(options, lambda: bare_boot(kernel, accelerator, options.qemu, work, plain)), key=_seconds)
    ours = min(_rounds(options, lambda: bare_boot(kernel, accelerator, options.qemu, work)), key=_seconds)
    fixed = min(_rounds(options, lambda: whole_command(spec, trivial, work, common)), key=_seconds)
    _row("fixed cost", fixed.seconds / bare.seconds, f"{fixed.seconds:.1f} s over a bare boot of {bare.seconds:.1f} s")
    _note(fixed.processor / bare.processor, f"{fixed.processor:.1f} s over {bare.processor:.1f} s of processor time")
    _note(fixed.seconds / ours.seconds, f"over a bare boot as our machines do it, {ours.seconds:.1f} s")

    rates, ones = [], []
    for _ in range(options.rounds):
        ones.append(whole_command(spec, small, work, [*common, "--vms", "1"]))
        rates.append(guest_rate(work))
    loop = max(_rounds(options, lambda: _loop_in_guest(spec, small, options)))
    one = min(ones, key=lambda run: run.busy)
    _row("tests a second", max(rates), f"of {one.tests}; the plain loop makes {loop:.0f} calls a second")
    guests = min(run.guests for run in ones)
    _note(one.tests / guests, f"a second of the guest's processor time ({guests:.1f} s)")

    runs = _rounds(options, lambda: whole_command(spec, small, work, [*common, "--vms", "2"]))
    two = min(runs, key=lambda run: run.busy)
    _row("two machines", one.busy / two.busy, f"{one.busy:.1f} s over {two.busy:.1f} s for {one.tests} tests")
    both = min(run.guests for run in runs)
    _note(
        2 * guests / both,
        f"by the processor time of the guests, {guests:.1f} s and {both:.1f} s: what free cores allow",
    )
    _note(one.seconds / two.seconds, f"the whole commands: {one.seconds:.1f} s over {two.seconds:.1f} s")

    print("\nwhere the fixed cost goes (one run, kernel messages on)")
    verbose = whole_command(spec, trivial, work, [*common, "--kernel-argument", "loglevel=7"])
    for name, seconds in stages(verbose, ours):
        print(f"  {seconds:6.2f} s  {name}")


def _row(name: str, value: float, text: str) -> None:
    print(f"{name:14} {value:6.2f}  {text}; {verdict(name, value)}", flush=True)


def _note(value: float, text: str) -> None:
    print(f"{'':14} {value:6.2f}  {text}", flush=True)


def _rounds(options: argparse.Namespace, measure: Callable[[], Any]) -> list[Any]:
    return [measure() for _ in range(options.rounds)]


def _seconds(measured: Bare | Run) -> float:
    return measured.seconds


def _loop_in_guest(spec: str, file: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "vm.shell", "--qemu", options.qemu, "--accel", options.accel]
    command += ["--command", f"python -m vm.bench --loop {file}", *([spec] if spec else [])]
    return float(_checked(command))


def _record(out: Path, arguments: Sequence[str]) -> int:
    return int(pytest.main(list(arguments), plugins=[Recorder(out, out.parent)]))


def _processor() -> float:
    """Return the seconds of processor time that children of this process had until they were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor_of_guests(run: Path) -> float:
    """Return the seconds of processor time that the machines of a run have had; proc(5), stat, fields 14 and 15."""
    total = 0
    for directory in run.joinpath("vms").iterdir():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{Status.load(directory).pid}/stat").read_text()
            total += sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")


def _moments_of_machine(run: Path, began: float) -> dict[str, float]:
    """Return the moments of a run's first machine, from its files; those of the guest by the guest's clock."""
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


def _checked(command: Sequence[str], pass_fds: Sequence[int] = ()) -> str:
    """Run a command to its end; return its standard output.

    Raises:
        UsageError: it failed or hung, with its last lines.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        cwd=ROOT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 (there are no threads here)
    )
    try:
        out, err = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += f"\nnot done after {_DEADLINE:g} s"
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        words = " / ".join((out + err).strip().splitlines()[-4:])
        raise UsageError(f"cannot measure: {command[0]} … ended with status {process.returncode}: {words}")
    return out


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    """Give a directory inside the project, where the guests see it and pytest finds the runner's conftest.py."""
    parent = ROOT / "results"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        yield Path(name)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vm.bench", description="What the runner costs, as ratios.")
    parser.add_argument("--kernel", default="", metavar="SPEC", help="kernel (default: the newest packaged one)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="least of N (default: %(default)s)")
    parser.add_argument("--accel", default="auto", help="auto (default), kvm or tcg")
    parser.add_argument("--qemu", default=DEFAULT_QEMU, metavar="PATH", help="the QEMU to use")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UsageError(f"expected at least one round, not {options.rounds}")
    return options


if __name__ == "__main__":
    # Not the main of this file's second life as __main__.
    sys.exit(importlib.import_module("vm.bench").main())
