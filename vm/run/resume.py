"""Go on with a run of the running kernel that the machine, going down, or somebody cut off: ``--resume DIR``.

What had a verdict keeps it. The test that was running when the machine went down has crashed; where the machine has not
been booted since, the run was killed and the test runs again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import UsageError
from vm.guest import journal
from vm.kernels.spec import RUNNING
from vm.results import events
from vm.results.model import Run, TestResult, Verdict

REASON = "crashed: the machine went down, or was reset, while it ran"


@dataclass(frozen=True)
class Resumed:
    """What there was of a run.

    Attributes:
        run: so far.
        done: ids of tests that have a verdict, that of ``crashed`` among them.
        crashed: the test that took the machine down, None when none did.
    """

    run: Run
    done: frozenset[str]
    crashed: TestResult | None


def load(directory: Path) -> Resumed:
    """Return what there is.

    Raises:
        UsageError: there is no run that was cut off, or not of this kernel.
    """
    stream = directory / events.NAME
    if not stream.exists():
        raise UsageError(f"no run in {directory}: give --resume the directory of one that was cut off")
    run = events.load(stream)
    if run.finished is not None:
        raise UsageError(f"the run in {directory} came to its end; begin a new one without --resume")
    kernels = [kernel for kernel in run.kernels if kernel.spec != RUNNING]
    if kernels or not run.kernels:
        raise UsageError(
            f"the run in {directory} is not of the running kernel alone: run the rest anew, and put both together "
            "by python -m vm results merge"
        )
    (kernel,) = run.kernels
    if kernel.release not in ("", os.uname().release):
        raise UsageError(f"that run was on {kernel.release}, this kernel is {os.uname().release}: boot that one")
    done = {test.nodeid for test in kernel.tests if test.verdict is not Verdict.NOT_RUN}
    nodeid, boot = journal.last(directory / journal.NAME)
    crashed = None
    if nodeid and nodeid not in done and boot != journal.boot_id():
        found = next((test for test in kernel.tests if test.nodeid == nodeid), None)
        test = found.test if found is not None else nodeid
        crashed = TestResult(test, nodeid, Verdict.CRASHED, reason=REASON, details=REASON)
        done.add(nodeid)
    return Resumed(run, frozenset(done), crashed)


def words(directory: Path) -> list[str]:
    """Return the arguments that a run was begun with.

    Raises:
        UsageError: there is none.
    """
    stream = directory / events.NAME
    if not stream.exists():
        raise UsageError(f"no run in {directory}: give --resume the directory of one that was cut off")
    return [word for word in events.load(stream).command[1:] if not word.startswith("--resume")]
