"""What the runner costs, as ratios measured in one run, and where the time goes.

``python -m vm bench --kernel 6.12`` prints

- fixed cost: one trivial test by the whole command, warm, over a bare boot (same QEMU command, the same kernel,
  as it came, an initial RAM disk with nothing but a static process 1 that switches off);
- speed: small tests a second in a guest through the runner, over the same functions called in a plain loop
  in a guest;
- sharing: a set of small tests on one VM, over the same set on two;
- stages of one run: where the fixed cost goes.

Everything is done several times and the least time is taken: whatever else a machine does makes things slower
and never faster. Beside the time stands the processor's time of all processes that took part, which says the
same on a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vm.base import room
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.bench.runs import Bare, Timing, bare_boot, checked, guest_rate, whole_command
from vm.kernels.resolve import resolve
from vm.kernels.spec import Kernel
from vm.machine.accel import probe

GOALS = {"fixed cost": 4.0, "tests a second": 60.0, "two machines": 1.8}
"""At most, at least, at least; under TCG on two cores."""

_SMALL_TESTS = 480

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


def plain_loop(path: Path, calls: int = _SMALL_TESTS) -> float:
    """Call the function of ``path`` with each number, as a loop would; return calls a second."""
    test = runpy.run_path(str(path))["test_small"]
    started = time.perf_counter()
    for number in range(calls):
        test(number)
    return calls / (time.perf_counter() - started)


def stages(run: Timing, bare: Bare) -> list[tuple[str, float]]:
    """Return where the time of ``run`` went, in order: name and seconds.

    Args:
        bare: of the same kernel: tells how long QEMU takes to get to the kernel.
    """
    moments = dict(run.moments)
    firmware = max(0.0, bare.seconds - bare.uptime)
    started = moments["QEMU started"]
    moments["kernel entered (firmware)"] = started + firmware
    if (name := "process 1 of the RAM disk") in moments:
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
def main(arguments: Sequence[str]) -> int:
    """Measure and print: ``python -m vm bench --help``. Returns the exit status."""
    if list(arguments[:1]) == ["--loop"]:
        print(max(plain_loop(Path(arguments[1])) for _ in range(3)))
        return 0
    options = _options(arguments)
    kernel = resolve([options.kernel] if options.kernel else [], say)[0]
    if kernel.image is None:
        raise UsageError("expected a kernel for a VM, not 'running': give a version or an image")
    options.qemu = options.qemu or kernel.architecture.qemu
    with _work() as work:
        _measure(kernel, options, work)
    return 0


def _measure(kernel: Kernel, options: argparse.Namespace, work: Path) -> None:
    accelerator = probe(options.qemu, options.accel, architecture=kernel.architecture)
    trivial, small = work / "test_trivial.py", work / "test_small.py"
    trivial.write_text(_TRIVIAL)
    small.write_text(_SMALL)
    spec = options.kernel
    common = ["--qemu", options.qemu, "--accel", options.accel]
    print(
        f"{kernel.name} under {accelerator.name}; {room.processors()} processors, load {os.getloadavg()[0]:.1f}, "
        f"least of {options.rounds} rounds",
        flush=True,
    )

    whole_command(spec, trivial, work, common)  # Warm: bytecode, RAM disk.
    # The image as it came, which is what booting this kernel costs anybody; and as our VMs boot it.
    plain = ["-kernel", str(kernel.image)]
    bare = min(_rounds(options, lambda: bare_boot(kernel, accelerator, options.qemu, work, plain)), key=_seconds)
    ours = min(_rounds(options, lambda: bare_boot(kernel, accelerator, options.qemu, work)), key=_seconds)
    fixed = min(_rounds(options, lambda: whole_command(spec, trivial, work, common)), key=_seconds)
    _row("fixed cost", fixed.seconds / bare.seconds, f"{fixed.seconds:.1f} s over a bare boot of {bare.seconds:.1f} s")
    _note(fixed.processor / bare.processor, f"{fixed.processor:.1f} s over {bare.processor:.1f} s of processor time")
    _note(fixed.seconds / ours.seconds, f"over a bare boot as our VMs do it, {ours.seconds:.1f} s")

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


def _seconds(measured: Bare | Timing) -> float:
    return measured.seconds


def _loop_in_guest(spec: str, file: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "vm", "shell", "--qemu", options.qemu, "--accel", options.accel]
    command += ["--command", f"python -m vm bench --loop {file}", *([spec] if spec else [])]
    return float(checked(command))


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    """Give a directory inside the project, where the guests see it and pytest finds the runner's conftest.py."""
    parent = ROOT / "results"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        yield Path(name)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m vm bench", description="What the runner costs, as ratios.")
    parser.add_argument("--kernel", default="", metavar="SPEC", help="kernel (default: the newest packaged one)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="least of N (default: %(default)s)")
    parser.add_argument("--accel", default="auto", help="auto (default), kvm or tcg")
    parser.add_argument("--qemu", metavar="PATH", help="the QEMU to use (default: that of the kernel's architecture)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UsageError(f"expected at least one round, not {options.rounds}")
    return options
