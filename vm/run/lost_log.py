"""What a kernel said in a test whose log was overwritten before the guest could read it: its console tells.

Not everything the kernel logs reaches the console (loglevel=5), but what it complains of does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set as AbstractSet

import pytest

from vm.guest import internals
from vm.guest.worker import UNKNOWN
from vm.klog import console
from vm.klog.splats import find_splats
from vm.machine.log_file import LEFT_OUT


def judge(report: pytest.TestReport, text: str, told: AbstractSet[str]) -> None:
    """Fail a report for what the console has and the guest could not see.

    Args:
        report: of a phase of a test, in which records were lost; changed. One that is bad already stays as it is, and
            one of a known issue too.
        text: of the console.
        told: fingerprints of the splats that earlier reports of this test had.
    """
    told = told | {splat[3] for splat in getattr(report, "splats", ())}
    said = console.split(text).tests.get(report.nodeid)
    splats = [] if said is None else [splat for splat in find_splats(said) if splat.fingerprint not in told]
    if report.failed or hasattr(report, "wasxfail"):
        return
    if splats:
        titles = "; ".join(splat.title for splat in splats)
        excerpt = "\n\n".join(splat.text for splat in splats)
        report.outcome = "failed"
        report.longrepr = f"the kernel complained: {titles} (its log was overwritten, the console tells)\n{excerpt}"
        internals.attach(report, splats=[list(dataclasses.astuple(splat)) for splat in splats])
    elif said is None or LEFT_OUT in said:
        report.outcome = "failed"
        report.longrepr = UNKNOWN
