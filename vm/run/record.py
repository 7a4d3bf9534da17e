"""From pytest's reports to the stream of the run (vm/results/events.py), as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import operator
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from vm.base.files import ROOT, text_of
from vm.guest import expect
from vm.kernels.spec import Kernel
from vm.klog.splats import Splat
from vm.results import absence, events
from vm.results.events import Stream
from vm.results.model import VM, Host, KernelRun, Property, Run, Stall, TestResult, Verdict
from vm.run import said
from vm.run.config import without_kernel
from vm.run.machines import Machine, Plan


@dataclass
class _Test:
    """One test on one kernel, as its reports come in."""

    nodeid: str
    verdict: Verdict | None = None
    seconds: float = 0.0
    reason: str = ""
    details: str = ""
    kernel_log: list[str] = field(default_factory=list)
    splats: list[Splat] = field(default_factory=list)
    rerun: str = ""
    worker: str = ""
    vm: str = ""
    known_issue: str = ""
    properties: tuple[Property, ...] = ()


class Recorder:
    """Collects what becomes of every test of every kernel, and has it on the disk at once.

    Args:
        plan: what is run on.
        command: of this run.
        shard: which part of the tests it takes, empty for all.
        resumed: whether the directory has the beginning of this run.
        tell: told of each event.
    """

    def __init__(
        self,
        plan: Plan,
        command: Sequence[str],
        shard: str = "",
        *,
        resumed: bool = False,
        tell: Callable[[events.Event], None] | None = None,
    ) -> None:
        self.plan = plan
        self.tests: dict[str, dict[str, _Test]] = {kernel.name: {} for kernel in plan.kernels}
        self.told: set[str] = set()
        path = plan.directory / events.NAME
        in_place = any(kernel.image is None for kernel in plan.kernels)
        if resumed:
            self.stream = Stream(path, every=in_place, tell=tell)
            with open(path, encoding="utf-8", errors="replace") as lines:
                self.stream.fold = events.folded(lines, str(path))
            return
        # Asks other programs, which takes a moment: a stream that is there says what run it is of.
        began = events.RunBegan(plan.directory.name, _now(), tuple(command), _host(plan), _revision(), shard)
        self.stream = Stream(path, every=in_place, tell=tell)
        self.stream.add(began)
        for kernel in plan.kernels:
            self.stream.add(events.KernelSeen(self._kernel_run(kernel, [])))

    def collected(self, label: str, nodeids: Sequence[str]) -> None:
        """Take the ids of tests that a kernel should report."""
        tests = tuple(without_kernel(nodeid, label) for nodeid in nodeids)
        self.stream.add(events.Collected(label, tests, tuple(nodeids)))

    def crashed_before(self, label: str, result: TestResult) -> None:
        """Take the test that took the machine down, before this run was resumed."""
        self.stream.add(events.TestEnded(label, result, _now()))

    def selected(self, label: str, tests: Sequence[str]) -> None:
        """Take the ids, without the kernel, of all tests of which this run takes a part."""
        self.stream.add(events.Selected(label, tuple(tests)))

    def not_collected(self, nodeid: str, details: str) -> None:
        """What holds tests cannot be collected: that is a failure on every kernel."""
        reason = f"error while collecting: {details.strip().splitlines()[-1].removeprefix('E').strip()}"
        result = TestResult(nodeid, nodeid, Verdict.FAILED, reason=reason, details=details)
        for kernel in self.plan.kernels:
            self.stream.add(events.TestEnded(kernel.name, result, _now()))

    def vm_began(self, machine: Machine) -> None:
        """A machine was started."""
        console = str(machine.console.relative_to(self.plan.directory))
        self.stream.add(events.VmSeen(machine.kernel.name, VM(machine.name, console), _now()))

    def vm_up(self, machine: Machine) -> None:
        """A VM takes tests; the first of its kernel has told what that is."""
        vm = dataclasses.replace(_vm(machine, self.plan.directory), state="up")
        self.stream.add(events.VmSeen(machine.kernel.name, vm, _now()))
        if machine.kernel.name not in self.told:
            self.told.add(machine.kernel.name)
            self.stream.add(events.KernelSeen(self._kernel_run(machine.kernel, [machine])))

    def vm_ended(self, machine: Machine) -> None:
        """A VM is down."""
        vm = _vm(machine, self.plan.directory)
        if self.stream.fold.vms.get(machine.kernel.name, {}).get(vm.name) != vm:
            self.stream.add(events.VmSeen(machine.kernel.name, vm, _now()))

    def stalled(self, label: str, stall: Stall) -> None:
        """Take a stall of the host."""
        self.stream.add(events.Stalled(label, stall))

    def refused(self, label: str) -> None:
        """No test makes sense on a kernel."""
        self.stream.add(events.Refused(label))

    def begin(self, label: str, nodeid: str, vm: str) -> None:
        """A machine begins a test."""
        self.stream.add(events.TestBegan(label, nodeid, vm, _now()))

    def add(self, report: pytest.TestReport, label: str, rerun: str, vm: str) -> None:
        """Take one report about the kernel ``label``.

        Args:
            report: of a phase, or of a test as a whole.
            label: name of the kernel.
            rerun: command that runs exactly this test.
            vm: name of the machine it ran in, empty for none.
        """
        test = self.tests[label].setdefault(report.nodeid, _Test(report.nodeid, rerun=rerun))
        test.seconds += getattr(report, "duration", 0.0)
        test.vm = vm or test.vm
        test.worker = getattr(report, "worker_id", "") or test.worker
        test.kernel_log += [text for name, text in report.sections if name == "Kernel log"]
        test.splats += [Splat(*splat) for splat in getattr(report, "splats", ())]
        # Those of the phase before are in every later report again, but not in one of a machine that was lost.
        if report.user_properties:
            test.properties = tuple(Property(name, str(value)) for name, value in report.user_properties)
        verdict = _verdict(report)
        if verdict is None or (test.verdict is not None and verdict.rank <= test.verdict.rank):
            return
        test.verdict = verdict
        test.reason = expect.reason_of(report)
        if verdict is not Verdict.PASSED:
            # Of a text, longreprtext repeats on which worker.
            test.details = report.longrepr if isinstance(report.longrepr, str) else report.longreprtext
        if verdict is Verdict.KNOWN:
            test.known_issue = str(getattr(report, "wasxfail", ""))

    def end(self, label: str, nodeid: str) -> None:
        """A test is over: what its reports said is its result."""
        if (test := self.tests[label].get(nodeid)) is not None:
            self.stream.add(events.TestEnded(label, _result(test, label), _now()))

    def run(
        self,
        machines: Iterable[Machine],
        expected: Callable[[str], Sequence[str]],
        exit_status: int,
        stopped: str,
    ) -> Run:
        """Return the record of the whole run, which has ended.

        Args:
            machines: every one that was started.
            expected: ids of the tests that a kernel should have reported.
            exit_status: pytest's.
            stopped: why the run did not go to its end, or empty.
        """
        machines = list(machines)
        for kernel in self.plan.kernels:
            own = [machine for machine in machines if machine.kernel is kernel]
            for machine in own:
                self.vm_ended(machine)
            self._end_all(kernel.name, expected(kernel.name), stopped)
            self.stream.add(events.KernelSeen(self._kernel_run(kernel, own)))
        self.stream.add(events.RunEnded(_now(), exit_status))
        self.stream.close()
        return self.stream.fold.run()

    def _end_all(self, label: str, expected: Sequence[str], stopped: str) -> None:
        """Give what has no verdict that of tests which were not run, and write down what no end was said of."""
        tests = self.tests[label]
        for nodeid in dict.fromkeys([*tests, *expected]):
            test = tests.setdefault(nodeid, _Test(nodeid))
            if test.verdict is None:
                test.verdict, test.reason = Verdict.NOT_RUN, f"the run ended early: {stopped}"
            if self.stream.fold.tests.get(label, {}).get(nodeid) != _result(test, label):
                self.end(label, nodeid)

    def _kernel_run(self, kernel: Kernel, machines: Sequence[Machine]) -> KernelRun:
        """Return what is known of a kernel, but for its tests, machines and stalls."""
        facts = _facts(machines)
        files = _keep_facts(kernel, facts, self.plan.directory)
        boots = [status.boot_seconds for machine in machines if not (status := machine.status).resumed]
        accelerator = self.plan.accelerators[kernel.name]
        return KernelRun(
            name=kernel.name,
            spec=kernel.spec,
            release=facts.get("release", kernel.release),
            version=kernel.version,
            accelerator=accelerator.name if kernel.image else "",
            accelerator_reason=accelerator.reason if kernel.image else "",
            boot_seconds=tuple(seconds for seconds in boots if seconds is not None),
            processor=facts.get("processor", ""),
            processor_flags=facts.get("processor_flags", ""),
            cmdline=facts.get("cmdline", ""),
            config=files.get("config", ""),
            proc_crypto=files.get("proc_crypto", ""),
            taint=facts.get("taint", 0),
            architecture=kernel.architecture.name,
            banner=facts.get("banner", ""),
            commit=_commit(facts.get("release", kernel.release), kernel.spec),
            reason=kernel.trouble or next((m.reason for m in machines if m.verdict is Verdict.BOOT_FAILED), ""),
        )


def _result(test: _Test, label: str) -> TestResult:
    return TestResult(
        test=without_kernel(test.nodeid, label),
        nodeid=test.nodeid,
        verdict=test.verdict or Verdict.NOT_RUN,
        seconds=round(test.seconds, 4),
        reason=test.reason,
        absence=_absence(test),
        details=test.details,
        kernel_log="\n".join(test.kernel_log),
        splats=tuple(test.splats),
        rerun=test.rerun,
        worker=test.worker,
        vm=test.vm,
        known_issue=test.known_issue,
        properties=test.properties,
    )


def _absence(test: _Test) -> str:
    """Return the class of what a test found lacking, empty for none."""
    lack = absence.parse(test.reason)
    return lack.absence.value if lack.absence is not None else ""


def _verdict(report: pytest.TestReport) -> Verdict | None:
    """Return what a report says of its test; None for a phase that went well without being the test itself."""
    if (named := getattr(report, "verdict", None)) is not None:
        return cast(Verdict, named)
    if report.failed:
        return Verdict.FAILED
    if report.skipped:
        return Verdict.KNOWN if hasattr(report, "wasxfail") else Verdict.SKIPPED
    return Verdict.PASSED if report.when == "call" else None


def _vm(machine: Machine, directory: Path) -> VM:
    status = machine.status
    return VM(
        name=machine.name,
        console=str(machine.console.relative_to(directory)),
        state="stalled" if machine.stalled else (machine.verdict or "down"),
        reason=machine.reason or status.reason,
        boot_seconds=status.boot_seconds,
        resumed=status.resumed,
    )


def _facts(machines: Sequence[Machine]) -> dict[str, Any]:
    """Return what the machines of a kernel said of themselves, together.

    Which machine ran which test is chance, and so is which algorithms and taints each has in the end. The rest, the
    same for all but for chance, is of the one that had the most algorithms.
    """
    told: list[dict[str, Any]] = []
    for machine in reversed(machines):
        with contextlib.suppress(OSError, ValueError):
            told.append(said.facts(json.loads((machine.directory / "guest.json").read_text())))
    if not told:
        return {}
    found = max(told, key=lambda facts: len(facts.get("proc_crypto", "")))
    lists = [found.get("proc_crypto", ""), *(facts.get("proc_crypto", "") for facts in told)]
    taints = [facts.get("taint", 0) for facts in told]
    return {**found, "proc_crypto": _together(lists), "taint": functools.reduce(operator.or_, taints)}


def _together(lists: Sequence[str]) -> str:
    """Return the algorithms of several /proc/crypto as one; those that two have, as the first has them."""
    algorithms: dict[tuple[str, ...], str] = {}
    for text in lists:
        for paragraph in filter(None, text.strip().split("\n\n")):
            # An implementation: its name, driver and type.
            key = tuple(re.findall(r"^(?:name|driver|type) *: (.*)$", paragraph, re.MULTILINE))
            algorithms.setdefault(key, paragraph)
    return "".join(f"{paragraph}\n\n" for paragraph in algorithms.values())


def _keep_facts(kernel: Kernel, facts: dict[str, Any], directory: Path) -> dict[str, str]:
    """Copy what is too long for the record beside it; return the relative paths."""
    kept: dict[str, str] = {}
    place = directory / "kernels" / kernel.name
    # A configuration of this system may be root's alone; a full disk is told of with the record itself.
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        if facts.get("proc_crypto"):
            (place / "proc_crypto").write_text(facts["proc_crypto"])
            kept["proc_crypto"] = str((place / "proc_crypto").relative_to(directory))
        if kernel.config is not None and kernel.config.is_file():
            target = place / ("config.gz" if kernel.config.suffix == ".gz" else "config")
            shutil.copyfile(kernel.config, target)
            kept["config"] = str(target.relative_to(directory))
    return kept


def _host(plan: Plan) -> Host:
    vm = plan.descriptions[plan.kernels[0].name]
    qemu = vm.qemu or vm.architecture.qemu
    try:
        said = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    return Host(
        os=_operating_system(),
        python=platform.python_version(),
        qemu=said.splitlines()[0] if said else "",
        pytest=importlib.metadata.version("pytest"),
        xdist=importlib.metadata.version("pytest-xdist"),
        virtme_ng=_version("virtme-ng"),
    )


def _version(distribution: str) -> str:
    """Return the version of what need not be installed: the running kernel is tested without."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit(release: str, spec: str) -> str:
    """Return the commit that a release names, with all its digits where ``spec`` is of a tree that has it."""
    found = re.search(r"-g([0-9a-f]{7,40})(-dirty)?(?![0-9a-z])", release)
    if found is None:
        return ""
    digits = found[1]
    tree = Path(spec.partition("+")[0])
    if tree.is_dir():
        words = ["git", "-C", str(tree), "rev-parse", "--verify", "--quiet", f"{digits}^{{commit}}"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run(words, capture_output=True, text=True, timeout=10)
            digits = said.stdout.strip() if said.returncode == 0 else digits
    return digits + (found[2] or "")


def _operating_system() -> str:
    try:
        return f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, {platform.release()}"
    except OSError:
        return platform.platform()


def _revision() -> str:
    """Return ``git describe`` of this suite, or what an archive of it says (vm/roots/tarball.py), else nothing."""
    if told := text_of(ROOT / ".revision").strip():
        return told
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--tags"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
