"""A C program of each test that is red (``--reproducers failures``), or of every one, when a run has come to its end.

The tests are run once more, recorded, on machines of their own: those that failed on one, each that took its machine
down on one of its own. What cannot be written as a program, or does not show what the test found, is told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.base.words import plural
from vm.reproducer import make
from vm.reproducer.command import fixed_by
from vm.reproducer.compile import compiler
from vm.reproducer.guest import Machine
from vm.reproducer.make import Order, Program
from vm.results import reproducers
from vm.results.model import KernelRun, Run, TestResult, Verdict

CHOICES = ("off", "failures", "all")
MOST = 10
"""Programs of one kernel that ``failures`` makes: a kernel on which everything fails needs no more."""
_DOWN = (Verdict.CRASHED, Verdict.HUNG)
_RED = (Verdict.FAILED, Verdict.UNDECIDED, *_DOWN)


@dataclass(frozen=True)
class Booted:
    """How a kernel of the run was booted.

    Attributes:
        spec: of exactly this kernel.
        arguments: for ``python -m vm shell``.
        architecture: of the kernel.
        expendable: whether it is a guest, and may go down.
    """

    spec: str
    arguments: tuple[str, ...]
    architecture: Architecture
    expendable: bool


def wanted(kernel: KernelRun, which: str) -> list[TestResult]:
    """Return the results of which programs are to be made."""
    red = [test for test in kernel.tests if test.verdict in _RED and not test.test.startswith("machine[")]
    if which == "all":
        return [*red, *(test for test in kernel.tests if test.verdict in (Verdict.PASSED, Verdict.KNOWN))]
    return red[:MOST] if which == "failures" else []


def write(run: Run, directory: Path, which: str, kernels: Mapping[str, Booted], progress: Progress) -> list[str]:
    """Make programs and put them into the run's directory; return what there is to say of it, in lines.

    Args:
        run: that is over.
        directory: its own.
        which: one of CHOICES.
        kernels: how each was booted, by its name.
        progress: told in one line each what is done.
    """
    said: list[str] = []
    for kernel in run.kernels:
        tests = wanted(kernel, which)
        if not tests or kernel.name not in kernels:
            continue
        try:
            compiler(kernels[kernel.name].architecture)
            made = _of_kernel(kernel, tests, kernels[kernel.name], progress)
        except UsageError as error:
            said.append(f"reproducers of {kernel.name}: {error}")
            continue
        said += _kept(made, directory, kernel)
        if which == "failures" and (left := sum(test.verdict in _RED for test in kernel.tests) - len(tests)) > 0:
            said.append(f"reproducers of {kernel.name}: {left} more are not made; --reproducers all makes every one")
    return said


def _of_kernel(kernel: KernelRun, tests: Sequence[TestResult], booted: Booted, progress: Progress) -> list[Program]:
    apart = [test for test in tests if test.verdict in _DOWN]
    together = [test.test for test in tests if test.verdict not in _DOWN]
    groups = [together] if together else []
    groups += [[test.test] for test in apart] if booted.expendable else []
    made: list[Program] = []
    for group in groups:
        with tempfile.TemporaryDirectory(prefix="vm-reproducers-") as name:
            machine, named = (
                Machine(booted.spec, booted.arguments),
                f"Linux {kernel.release}" + (f" ({kernel.version})" if kernel.version else ""),
            )
            order = Order(machine, None, booted.architecture, named, Path(name), fixes=fixed_by)
            made += make.programs(order, group, [], progress)
    return made


def _kept(made: Sequence[Program], directory: Path, kernel: KernelRun) -> list[str]:
    lines, working = [], [each for each in made if each.works]
    for each in working:
        path = reproducers.path(directory, kernel.name, each.test)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each.text)
    place = directory / "kernels" / kernel.name / "reproducers"
    place.mkdir(parents=True, exist_ok=True)
    (place / "summary.json").write_text(make.summary(made) + "\n")
    lines.append(f"reproducers of {kernel.name}: {plural(len(working), 'program')} of {plural(len(made), 'test')}")
    lines += [f"  none of {each.test}: {each.reason}" for each in made if not each.works][:MOST]
    return lines
