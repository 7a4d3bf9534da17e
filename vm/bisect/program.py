"""One step of a bisection by a program instead of tests (vm/reproducer): it needs no Python in the guest.

What it ends with says what the kernel is: 0 and ``as expected`` that it is good, 1 that it is bad, anything else that
it cannot be judged. A kernel that goes down under it is bad.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.kernels.resolve import resolve_one
from vm.reproducer import guest
from vm.reproducer.command import prepared
from vm.reproducer.guest import Outcome

BOOT_FAILED = "boot failed"
_SHOWS, _CRASHES = "program: shows its fault", "program: the machine goes down"
_SECONDS = 600.0


class Run(NamedTuple):
    """What came of it.

    Attributes:
        answer, reason, fingerprints: as a :class:`vm.bisect.judge.Judgement` has them; the fingerprint BOOT_FAILED is
            that of a kernel that did not come so far.
        seconds: that it took, with the boot.
        place: directory with what it said.
    """

    answer: str
    reason: str
    fingerprints: tuple[str, ...]
    seconds: float
    place: Path


def run(spec: str, program: str, arguments: Sequence[str], directory: Path, progress: Progress) -> Run:
    """Run a program on a kernel.

    Args:
        spec: of the kernel.
        program: file, C or static.
        arguments: for ``python -m vm shell``.
        directory: for what it says.
        progress: told in one line each what is done.

    Raises:
        UsageError: it does not compile.
    """
    place = directory / f"run-{len(list(directory.glob('run-*'))) + 1}"
    place.mkdir(parents=True)
    binary = prepared(Path(program), place, resolve_one(spec, progress).architecture)
    began = time.monotonic()
    try:
        outcome = guest.run(
            guest.Machine(spec, tuple(arguments), _SECONDS), {"program": shlex.quote(str(binary))}, place, progress
        )["program"]  # fmt: skip
    except UsageError as error:
        if "did not boot" in str(error):
            return Run("skip", str(error), (BOOT_FAILED,), 0.0, place)
        return Run("stop", f"the machine was lost: {error}", (), 0.0, place)
    (place / "output.txt").write_text(f"{outcome.output}\n")
    return Run(*judged(outcome), round(time.monotonic() - began, 1), place)


def judged(outcome: Outcome) -> tuple[str, str, tuple[str, ...]]:
    """Return what a program's end says: answer, reason and fingerprints."""
    if outcome.status is None:
        return "bad", outcome.line or "the machine went down", (_CRASHES,)
    if outcome.status == 0:
        return "good", outcome.line or "it ended with 0", ()
    if outcome.status == 1:
        return "bad", outcome.line or "it ended with 1", (_SHOWS,)
    return "skip", f"the program ended with {outcome.status}: {outcome.line}", ()
