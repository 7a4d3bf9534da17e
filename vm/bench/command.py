"""What the runner costs, as ratios measured in one run, and where the time goes.

``python -m vm bench --kernel 6.12`` prints

- fixed cost: one trivial test by the whole command, warm, over a bare boot (same QEMU command, the same kernel,
  as it came, an initial RAM disk with nothing but a static process 1 that switches off);
- speed: small tests a second in a guest through the runner, over the same functions called in a plain loop
  in a guest;
- sharing: a set of small tests on one VM, over the same set on two;
- stages of one run: where the fixed cost goes.

Each is the median of at least five pairs, with its spread (vm/bench/judge.py); on a machine that was too noisy nothing
is judged, and the exit status is 1. The same goes to ``results/bench-runner-KERNEL.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT, shown
from vm.bench.judge import PAIRS, Quiet, Ratio, described, in_turn, machine
from vm.bench.runs import Bare, Timing, bare_boot, checked, guest_rate, whole_command
from vm.kernels.resolve import resolve
from vm.kernels.spec import Kernel
from vm.machine.accel import Accelerator, probe

GOALS = {"fixed cost": (4.0, True), "tests a second": (60.0, False), "two machines": (1.8, False)}
"""Each with whether it is at most that, or at least; under TCG on two cores."""

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
        doubt = _measure(kernel, options, work)
    if doubt:
        say(f"not judged: {doubt}; measure again when nothing else runs")
    return int(bool(doubt))


@dataclass
class Round:
    """What one pair of each ratio is made of; the two sides of a ratio were measured one after the other.

    Attributes:
        bare: a boot of the image as it came, which is what booting this kernel costs anybody.
        ours: one as our VMs do it.
        fixed: the whole command with one trivial test.
        one: the small tests on one VM.
        two: the same on two.
        rate: small tests a second, by the clock of the one VM.
        loop: calls of the same a second in a plain loop in a guest.
    """

    bare: Bare
    ours: Bare
    fixed: Timing
    one: Timing
    two: Timing
    rate: float
    loop: float


def _measure(kernel: Kernel, options: argparse.Namespace, work: Path) -> str:
    """Measure and print; return why nothing could be judged, empty where it could."""
    quiet, told = Quiet(), machine()
    accelerator = probe(options.qemu, options.accel, architecture=kernel.architecture)
    trivial, small = work / "test_trivial.py", work / "test_small.py"
    trivial.write_text(_TRIVIAL)
    small.write_text(_SMALL)
    print(f"{kernel.name} under {accelerator.name}; {options.rounds} pairs: median, and the middle half of them")
    print(described(told, quiet.load), flush=True)
    common = ["--qemu", options.qemu, "--accel", options.accel]
    whole_command(options.kernel, trivial, work, common)  # Warm: bytecode, RAM disk.

    rounds = [_round(pair, kernel, accelerator, options, work, quiet) for pair in range(options.rounds)]
    found, noted, noise = ratios(rounds), notes(rounds), quiet.doubt()
    for ratio in found:
        print(ratio.line(noise))
        for note in noted[ratio.name]:
            print(f"{'':14} {note}")
    print("\nwhere the fixed cost goes (one run, kernel messages on)")
    verbose = whole_command(options.kernel, trivial, work, [*common, "--kernel-argument", "loglevel=7"])
    least = min((each.ours for each in rounds), key=lambda bare: bare.seconds)
    for name, seconds in stages(verbose, least):
        print(f"  {seconds:6.2f} s  {name}")
    _write(options.json, kernel, accelerator.name, {**told, "load": quiet.load, "noise": quiet.noise}, found, noise)
    return noise or "; ".join(f"{ratio.name}: {ratio.doubt()}" for ratio in found if ratio.doubt())


def _round(
    pair: int, kernel: Kernel, accelerator: Accelerator, options: argparse.Namespace, work: Path, quiet: Quiet
) -> Round:
    """Measure everything once, the two sides of each ratio next to each other."""
    spec, common = options.kernel, ["--qemu", options.qemu, "--accel", options.accel]
    trivial, small = work / "test_trivial.py", work / "test_small.py"
    # The image as it came: the last -kernel wins.
    plain = ["-kernel", str(kernel.image)]
    makers: dict[str, Callable[[], Any]] = {
        "ours": lambda: bare_boot(kernel, accelerator, options.qemu, work),
        "bare": lambda: bare_boot(kernel, accelerator, options.qemu, work, plain),
        "fixed": lambda: whole_command(spec, trivial, work, common),
        "loop": lambda: _loop_in_guest(spec, small, options),
        "one": lambda: whole_command(spec, small, work, [*common, "--vms", "1"]),
        "two": lambda: whole_command(spec, small, work, [*common, "--vms", "2"]),
    }
    found: dict[str, Any] = {}
    for name in in_turn(pair, makers):
        quiet.look()
        found[name] = makers[name]()
        if name == "one":
            found["rate"] = guest_rate(work)  # Of the latest run.
    quiet.look()
    return Round(**found)


def ratios(rounds: Sequence[Round]) -> list[Ratio]:
    """Return the figures that have a goal."""
    fixed = [each.fixed.seconds / each.bare.seconds for each in rounds]
    two = [each.one.busy / each.two.busy for each in rounds]
    middle = Round(**{each.name: _middle(rounds, each.name) for each in dataclasses.fields(Round)})
    texts = {
        "fixed cost": f"{middle.fixed.seconds:.1f} s over a bare boot of {middle.bare.seconds:.1f} s",
        "tests a second": f"of {middle.one.tests}; the plain loop makes {middle.loop:.0f} calls a second",
        "two machines": f"{middle.one.busy:.1f} s over {middle.two.busy:.1f} s for {middle.one.tests} tests",
    }
    values = {"fixed cost": fixed, "tests a second": [each.rate for each in rounds], "two machines": two}
    return [Ratio(name, tuple(values[name]), *GOALS[name], texts[name]) for name in GOALS]


def notes(rounds: Sequence[Round]) -> dict[str, list[str]]:
    """Return by figure what else tells of it; processor time says the same on a machine that has other things to do."""

    def of(function: Callable[[Round], float], text: str) -> str:
        return f"{statistics.median(map(function, rounds)):6.2f}  {text}"

    return {
        "fixed cost": [
            of(lambda each: each.fixed.processor / each.bare.processor, "by processor time"),
            of(lambda each: each.fixed.seconds / each.ours.seconds, "over a bare boot as our VMs do it"),
        ],
        "tests a second": [of(lambda each: each.one.tests / each.one.guests, "a second of the guest's processor time")],
        "two machines": [
            of(lambda each: 2 * each.one.guests / each.two.guests, "by processor time: what free cores allow"),
            of(lambda each: each.one.seconds / each.two.seconds, "the whole commands"),
        ],
    }


def _middle(rounds: Sequence[Round], name: str) -> Any:
    """Return of all rounds the middle one's measurement of this name."""
    found = [getattr(each, name) for each in rounds]
    return sorted(found, key=lambda each: getattr(each, "seconds", each))[len(found) // 2]


def _write(
    file: Path | None, kernel: Kernel, accelerator: str, told: dict[str, object], found: Sequence[Ratio], noise: str
) -> None:
    """Write the figures as JSON, and say where."""
    place = file or ROOT / "results" / f"bench-runner-{kernel.name}.json"
    text = {"kernel": kernel.name, "accelerator": accelerator, "machine": told, "noise": noise}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({**text, "ratios": [ratio.told(noise) for ratio in found]}, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}; name another file with --json") from None
    print(f"\n{shown(place)}")


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
    parser.add_argument(
        "--rounds",
        type=int,
        default=PAIRS,
        metavar="N",
        help="pairs of each ratio (default, and least to be judged: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go (default: below results/)")
    parser.add_argument("--accel", default="auto", help="auto (default), kvm or tcg")
    parser.add_argument("--qemu", metavar="PATH", help="the QEMU to use (default: that of the kernel's architecture)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UsageError(f"expected at least one round, not {options.rounds}")
    return options
