"""Verdicts that pytest itself does not give: how a machine ended and in which test, and what nobody reported.

What a kernel complained of outside of any test is one of them: it is no test's, and no less bad.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import pytest

from vm.base import files
from vm.guest import internals
from vm.guest.internals import WorkerController
from vm.klog import console
from vm.klog.splats import Splat, find_splats
from vm.machine.course import DID_NOT_GO_ON
from vm.machine.vm import Status
from vm.results.model import Verdict
from vm.run.machines import Machine
from vm.run.schedule import KernelScheduling
from vm.run.stalls import Stalls, explained


def of_machine(machine: Machine, status: Status) -> tuple[Verdict, str]:
    """Return verdict and reason for a machine that went down unasked."""
    if status.boot_seconds is None:
        # Nobody but the host kills QEMU, has no room for its files, or saves machines.
        hosts = ("QEMU was killed", "cannot start the machine", DID_NOT_GO_ON)
        if not status.reason or status.reason.startswith(hosts):
            return Verdict.VM_LOST, status.reason or "the process that runs the machine was killed"
        hint = "" if machine.kernel.modules else " (no modules were found for it: what it needs must be built in)"
        return Verdict.BOOT_FAILED, status.reason + hint
    if machine.hung:
        return Verdict.HUNG, machine.hung
    if status.state != "down":
        return Verdict.VM_LOST, "the process that runs the machine was killed"
    if status.reason.startswith("QEMU "):
        return Verdict.VM_LOST, status.reason
    return Verdict.CRASHED, status.reason or "the guest's Python ended without a word"


class Verdicts:
    """What is known of each test and each machine, and failed reports for what pytest does not report.

    Args:
        config: of the controlling pytest.
        sched: tells what each kernel collected, and what a machine was given.
        handle: told of each report that is made here, as xdist's controller is of every other.

    Attributes:
        items: the tests that were collected here, by id.
        tests: their ids, by label of the kernel.
        complete: ids of tests that are over.
        tested: labels of kernels on which a test was not only skipped.
        refused: labels of kernels that lack what every test needs: that is one verdict, and no test has another.
    """

    def __init__(
        self, config: pytest.Config, sched: KernelScheduling, handle: Callable[[pytest.TestReport], None]
    ) -> None:
        self.config = config
        self.sched = sched
        self.handle = handle
        self.items: dict[str, pytest.Item] = {}
        self.tests: dict[str, list[str]] = {label: [] for label in sched.shares}
        self.complete: set[str] = set()
        self.tested: set[str] = set()
        self.refused: set[str] = set()

    def expected(self, label: str) -> list[str]:
        """Return the ids of the tests to be reported for a kernel: those that its guests or the host collected."""
        if label in self.refused:
            return []
        return list(dict.fromkeys([*(self.sched.shares[label].collected or ()), *self.tests[label]]))

    def culprit(self, machine: Machine) -> tuple[str | None, str]:
        """Return the test a machine died in, and words for how sure that is.

        What the guest said over its port can be behind by a test; its console is not, since a marker is on it
        before the test begins.
        """
        if not machine.collected:
            return None, " (while collecting)"
        known = {*self.sched.on(machine.node), *self.complete}
        last = console.last_test(machine.console_text())
        if last is not None and last in known and last not in self.complete:
            return last, ""
        if machine.running is not None:
            return machine.running, ""
        if last is not None and last in known:
            return last, " (after the test had finished)"
        return None, " (between tests)"

    def refuse(self, machine: Machine, reason: str) -> None:
        """Report, once a kernel, that no test makes sense on it."""
        label = machine.kernel.name
        if label not in self.refused:
            self.refused.add(label)
            self.emit(f"machine[{label}]::unfit", label, Verdict.FAILED, reason, machine.node)

    def report_machine(self, machine: Machine, nodeid: str | None, verdict: Verdict, reason: str) -> None:
        """Report how a machine ended: as a failure of ``nodeid``, or of the machine itself where that is None."""
        machine.verdict, machine.reason = verdict, reason
        text = [f"{verdict.value}: {reason}", f"kernel {machine.kernel.name}, console {files.shown(machine.console)}"]
        output = machine.console_text()
        splats = find_splats(output)
        if verdict is not Verdict.NOT_RUN:
            text.append(splats[-1].text if splats and verdict is Verdict.CRASHED else console.tail(output, 25))
        self.emit(
            nodeid or f"machine[{machine.name}]::{verdict.value.replace(' ', '-')}",
            machine.kernel.name,
            verdict,
            "\n".join(text),
            machine.node,
            splats,
        )

    def report_splats_outside_tests(self, machines: Iterable[Machine], stalls: Stalls) -> None:
        """What a kernel complained of while it booted, or after the last test, is no test's and no less bad.

        What its watchdogs said on a machine that the host starved is a stall, not a verdict.
        Machines that died have been reported with all that was on their consoles.
        """
        seen: set[tuple[str, str]] = set()
        for machine in machines:
            machine.wait()
            if machine.verdict or machine.stalled:
                continue
            log = console.split(machine.console_text())
            for when, text in (("before its first test", log.boot), ("after its last test", log.after)):
                splats = [s for s in find_splats(text) if (machine.kernel.name, s.fingerprint) not in seen]
                seen |= {(machine.kernel.name, splat.fingerprint) for splat in splats}
                titles = "; ".join(splat.title for splat in splats)
                if splats and (lost := explained(splats, machine.testimony)):
                    stalls.note(machine.kernel.name, machine.name, when, lost, f"failed: {titles}")
                elif splats:
                    self.emit(
                        f"machine[{machine.name}]::{when.replace(' ', '-')}",
                        machine.kernel.name,
                        Verdict.FAILED,
                        "\n".join([f"the kernel complained {when}: {titles}", *(splat.text for splat in splats)]),
                        machine.node,
                        splats,
                    )

    def report_missing(self) -> None:
        """Every test of every kernel that nobody reported becomes a failure."""
        for label, share in self.sched.shares.items():
            collected = None if share.collected is None else set(share.collected)
            for test in self.expected(label):
                reason = share.closed or f"no machine of {label} reported it"
                if collected is not None and test not in collected:
                    reason = f"collected on the host, but not in the guest ({label})"
                if test not in self.complete:
                    self.emit(test, label, Verdict.NOT_RUN, f"not run: {reason}")
            if label not in self.tested and self.expected(label):
                # All skipped is no result, and certainly no good one.
                text = f"not run: every test of {label} was skipped, the reasons are listed below"
                self.emit(f"machine[{label}]::not-run", label, Verdict.NOT_RUN, text)

    def emit(
        self,
        nodeid: str,
        label: str,
        verdict: Verdict,
        text: str,
        node: WorkerController | None = None,
        splats: Sequence[Splat] = (),
    ) -> None:
        """Report a failure.

        Args:
            nodeid: of the test, or what stands for one: ``machine[6.1-1]::boot-failed``.
            label: of the kernel.
            verdict: a bad one.
            text: what the user reads.
            node: of the machine, where there is one.
            splats: what the kernel complained of.
        """
        item = self.items.get(nodeid)
        if item is None:
            internals.expect_one_more(self.config)
        path = nodeid.split("::")[0]
        report = pytest.TestReport(
            nodeid=nodeid,
            location=item.location if item else (path, None, nodeid.partition("::")[2]),
            keywords={},
            outcome="failed",
            longrepr=text,
            when="call",
            verdict=verdict,
            vm_kernel=label,
            splats=[list(dataclasses.astuple(splat)) for splat in splats],
        )
        if node is not None:
            internals.attach(report, node=node)
        self.complete.add(nodeid)
        self.tested.add(label)
        self.config.hook.pytest_runtest_logreport(report=report)
        self.handle(report)
