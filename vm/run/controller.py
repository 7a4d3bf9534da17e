"""What the user of ``pytest --kernel`` sees: header, verdicts, results, the last table."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base import files, room
from vm.base.command import say
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.words import plural
from vm.guest import expect, internals, journal
from vm.kernels import axes
from vm.kernels.resolve import resolve
from vm.kernels.spec import RUNNING, Kernel
from vm.klog import source_lines
from vm.klog.splats import Splat
from vm.machine import own_root
from vm.machine.vm import Vm
from vm.report import files as report
from vm.results import clean, junit, table, write
from vm.results.model import Run, Verdict
from vm.run import (
    again,
    closing,
    directories,
    first,
    host,
    known,
    live,
    lost_log,
    reproducers,
    resume,
    skipped,
    skips,
    stop,
)
from vm.run.command import joined
from vm.run.config import EXPECTED, JUNIT, LABELS, RUN_DIRECTORY, SELECTED
from vm.run.deadlines import Deadlines, deadlines
from vm.run.machines import Machine, Plan, kernel_of_id
from vm.run.record import Recorder
from vm.run.session import VmSession

RESUMED = pytest.StashKey[resume.Resumed]()


def prepare(config: pytest.Config) -> None:
    """Make the directory of this run.

    Raises:
        pytest.UsageError: options that exclude each other, or no place for results.
    """
    if config.option.numprocesses or config.option.tx:
        raise pytest.UsageError("--kernel boots its own workers: give --vms N instead of -n or --tx")
    if getattr(config.option, "usepdb", False):
        raise pytest.UsageError("--pdb cannot reach into a guest: use make shell KERNEL=… and run pytest there")
    place = str(Path(config.option.results or ROOT / "results").absolute())
    if not re.fullmatch(r"(/[\w.+:@,~%= -]+)+", place, re.ASCII):
        # Names in it travel over the kernel's command line.
        raise pytest.UsageError(f"results cannot be in {place!r}: give --results DIR, a path of ASCII without quotes")
    if config.option.vm_resume:
        _prepare_again(config)
    try:
        config.stash[RUN_DIRECTORY] = config.stash.get(RUN_DIRECTORY, None) or directories.new(
            Path(config.option.results or ROOT / "results")
        )
    except OSError as error:
        raise pytest.UsageError(f"cannot write results: {error}; give another directory by --results DIR") from error
    # Ours has more to say than pytest's, and is there for runs that were killed or merged as well.
    config.stash[JUNIT], config.option.xmlpath = getattr(config.option, "xmlpath", None), None
    # What guests are told: pytest there, too, takes a path that stands alone for a test.
    given = config.invocation_params
    config.invocation_params = dataclasses.replace(given, args=tuple(joined(list(map(str, given.args)))))
    stop.bear_lost_output()
    stop.as_ctrl_c()
    # By this the processes of machines find the project, whatever the working directory.
    os.environ["PYTHONPATH"] = files.python_path()


def _prepare_again(config: pytest.Config) -> None:
    directory = Path(config.option.vm_resume).resolve()
    if config.option.vm_kernels != [RUNNING]:
        raise pytest.UsageError("--resume is of the running kernel: python -m vm test --resume=DIR")
    try:
        config.stash[RESUMED] = resume.load(directory)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[RUN_DIRECTORY] = directory


class KernelList:
    """What ``--collect-only`` needs: the names of the kernels."""

    def __init__(self, config: pytest.Config) -> None:
        try:
            self.kernels = resolve(config.option.vm_kernels, say)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        config.stash[LABELS] = [kernel.name for kernel in self.kernels]

    def pytest_report_header(self) -> list[str]:
        """Name them."""
        return [f"kernels: {', '.join(kernel.name for kernel in self.kernels)}"]


class Controller(KernelList):
    """Hooks of the controlling pytest process."""

    def __init__(self, config: pytest.Config) -> None:
        directory = config.stash[RUN_DIRECTORY]
        try:
            self._begin(config)
        except BaseException as error:
            # No machine was started: nothing is lost with it, and what is left would look like a run.
            if RESUMED not in config.stash:
                shutil.rmtree(directory, ignore_errors=True)
            if isinstance(error, KeyboardInterrupt):
                left = "it is as it was" if RESUMED in config.stash else "this run has no results"
                say(f"{str(error) or 'stopped'} before the first test: {left}")
            raise
        directories.point_latest_to(directory)

    def _begin(self, config: pytest.Config) -> None:
        """Find out all that a run needs to know, and write down that it began."""
        super().__init__(config)
        try:
            self.skips = _skip_budget(config)
            self.kinds = _kinds(config)
            issues = known.load_for(config)
            self.first = _first(config, self.kernels)
            self.accelerators = host.accelerators(self.kernels, config)
            self.features = host.features_of(self.kernels, config)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        self.config = config
        self.run: Run | None = None
        self.broken: dict[str, str] = {}
        self.trouble = ""
        self.notes: list[str] = []
        self.said: list[str] = []
        # By our clock; 0 before there is one.
        self.first_began = 0.0
        # Fingerprints of what the kernel complained of in each test.
        self.told: dict[str, set[str]] = {}
        self.chosen: list[str] = []
        self.configs = {kernel.name: skips.read_config(kernel.config) for kernel in self.kernels}
        self.versions = {kernel.name: known.version_of(kernel) for kernel in self.kernels}
        # What may take a kernel down is kept apart even where nothing is expected.
        self.possible = {name: known.expectations(issues, version) for name, version in self.versions.items()}
        self.issues = {} if config.option.vm_no_known_issues else issues
        self.expected = {name: found if self.issues else {} for name, found in self.possible.items()}
        self.commands = {kernel.name: self._command(kernel) for kernel in self.kernels}
        # Which tests come last is the same for all kernels.
        config.stash[EXPECTED] = known.expectations(issues, "")
        plan = self._plan()
        command = [Path(sys.argv[0]).name, *map(str, config.invocation_params.args)]
        self.resumed = config.stash.get(RESUMED, None)
        in_place = all(kernel.image is None for kernel in self.kernels)
        form = config.option.vm_stream or ("lines" if in_place and not config.option.verbose else "")
        self.live = live.Live(form) if form else None
        self.recorder = Recorder(
            plan,
            command,
            str(config.option.shard or ""),
            resumed=self.resumed is not None,
            tell=self.live.take if self.live else None,
        )
        if self.live:
            config.pluginmanager.register(self.live, "vm-live")
        if self.resumed and self.resumed.crashed:
            label, again = self.kernels[0].name, self.rerun(self.kernels[0].name, self.resumed.crashed.nodeid)
            self.recorder.crashed_before(label, dataclasses.replace(self.resumed.crashed, rerun=again))
        self.session = VmSession(config, plan, self.recorder)
        config.pluginmanager.register(self.session, "dsession")
        # Lines per file make no sense when several machines answer at once.
        if reporter := config.pluginmanager.get_plugin("terminalreporter"):
            reporter.showfspath = False

    def _command(self, kernel: Kernel) -> str:
        """Return the command that runs the suite on one kernel once more, booted as it was."""
        option = self.config.option
        words = [
            f"--kernel={again.exact(kernel)}",
            *(f"--kernel-argument={each}" for each in option.vm_kernel_arguments),
        ]
        command = shlex.join([*again.pytest_words(), *words, *["--thorough"] * option.thorough])
        # Ids of tests are relative to the project's directory, and paths to the one we are in.
        there = self.config.rootpath
        return command if Path.cwd() == there else f"cd {shlex.quote(str(there))} && {command}"

    def _plan(self) -> Plan:
        option = self.config.option
        share = room.processors() // len(self.kernels)
        limits = {kernel.name: self._deadlines(kernel) for kernel in self.kernels}
        return Plan(
            kernels=self.kernels,
            vms=option.vms or max(1, min(4, share)),
            at_once=option.vm_at_once or host.room_for(option.vm_memory),
            accelerators=self.accelerators,
            descriptions={kernel.name: self._vm(kernel, limits[kernel.name]) for kernel in self.kernels},
            directory=self.config.stash[RUN_DIRECTORY],
            deadlines=limits,
            restarts=option.vm_restarts,
            needs_own_machine=self._needs_own_machine,
            told={kernel.name: self._told(kernel) for kernel in self.kernels},
            first=self.first.ranks,
        )

    def _vm(self, kernel: Kernel, limits: Deadlines) -> Vm:
        option = self.config.option
        arguments = (*limits.kernel_arguments, *option.vm_kernel_arguments)
        vm = dataclasses.replace(
            Vm.of(kernel, self.accelerators[kernel.name].name, *arguments),
            memory=option.vm_memory,
            cpus=option.vm_cpus,
            boot_deadline=limits.boot,
            qemu=option.qemu,
            profile=option.profile,
            cpu=",".join([*[option.cpu] * bool(option.cpu), *axes.without(kernel.axes)]),
            sandbox=self.features.sandbox,
            generation=self.features.generation,
            command=shlex.split(option.vm_command) if option.vm_command else None,
        )
        if vm.image is None or vm.command is not None:
            return vm
        try:
            extra = own_root.extra(option.vm_root_packages, option.vm_root_suite)
            chosen = own_root.choose(option.vm_root, kernel, extra, shares=self.features.shares)
            if chosen.reason:
                self.chosen.append(f"root of {kernel.name}: {chosen.kind} ({chosen.reason})")
            prepared = own_root.prepare(vm, chosen, self._places(), say, extra)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        return prepared if option.vm_always_boot else own_root.resumable(prepared)

    def _places(self) -> list[Path]:
        """Return what guests need besides the project: tests from elsewhere, modules by PYTHONPATH."""
        named = [Path(str(word).partition("::")[0]).absolute() for word in self.config.args]
        given = [Path(word).absolute() for word in os.environ["PYTHONPATH"].split(os.pathsep)]
        return [path for path in dict.fromkeys([*named, *given]) if path.exists() and not path.is_relative_to(ROOT)]

    def _told(self, kernel: Kernel) -> dict[str, object]:
        """Return what a guest is told of its kernel: the known issues, and which sysctls account for skips."""
        return {
            "vm_issues": {fix: tuple(found) for fix, found in self.possible[kernel.name].items()},
            "vm_sysctls": skips.sysctls(self.skips or ()),
            "vm_expendable": kernel.image is not None or self.config.option.vm_expendable,
            **self._journal(kernel),
        }

    def _journal(self, kernel: Kernel) -> dict[str, object]:
        """Return where the running kernel's tests are noted before they run; nothing for a guest."""
        if kernel.image is not None or self.config.option.vm_command:
            return {}
        resumed = self.config.stash.get(RESUMED, None)
        done = sorted(resumed.done) if resumed else []
        return {"vm_journal": str(self.config.stash[RUN_DIRECTORY] / journal.NAME), "vm_done": done}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what a run that is resumed has done."""
        if self.resumed:
            journal.leave_out(self.config, items, self.resumed.done)

    def _deadlines(self, kernel: Kernel) -> Deadlines:
        option = self.config.option
        given = (option.boot_deadline, option.test_deadline, option.vm_deadline)
        factor = self.accelerators[kernel.name].factor
        return deadlines(*given, accelerator=factor, config=self.configs[kernel.name] or {})

    def _needs_own_machine(self, kernel: Kernel, item: pytest.Item) -> bool:
        if kernel.image is not None and self.config.option.vm_isolate:
            return True
        return kernel.image is not None and expect.may_take_it_down(item, self.possible[kernel.name])

    def pytest_report_header(self) -> list[str]:
        """Say what will run, and how."""
        used = {self.accelerators[kernel.name]: None for kernel in self.kernels if kernel.image} or [host.NONE]
        lines = [f"accelerator: {accelerator.name} ({accelerator.reason})" for accelerator in used]
        lines += [self.features.missing] if self.features.missing else []
        lines += [
            f"kernel {kernel.name}: {kernel.release}" + (f" ({kernel.version})" if kernel.version else "")
            for kernel in self.kernels
        ]
        lines += self.chosen
        return [*lines, *self.first.lines, f"results: {files.shown(self.session.plan.directory)}"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        """Name the verdicts pytest does not know."""
        verdict: Verdict | None = getattr(report, "verdict", None)
        if verdict is None or verdict.pytests:
            return None
        return verdict.value, verdict.letter, (verdict.value.upper(), {verdict.colour: True})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is to be reported, so that a run which is killed can say what is missing."""
        labels = [kernel.name for kernel in self.kernels]
        found: dict[str, list[str]] = {label: [] for label in labels}
        for item in session.items:
            if (label := kernel_of_id(item.nodeid, labels)) is not None:
                found[label].append(item.nodeid)
        for label, tests in session.config.stash.get(SELECTED, {}).items():
            if label in found:
                self.recorder.selected(label, tests)
        for label, nodeids in found.items():
            self.recorder.collected(label, nodeids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what cannot be collected here: its tests are missing on every kernel."""
        if report.failed and not hasattr(report, "node"):  # else a guest's
            self.broken[report.nodeid] = report.longreprtext

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        self.first_began = self.first_began or time.monotonic()
        if (label := kernel_of_id(nodeid, self.commands)) is not None:
            on = (machine.name for machine in self.session.machines.values() if machine.running == nodeid)
            self.recorder.begin(label, nodeid, next(on, ""))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note its verdict: all of its reports are here."""
        if (label := kernel_of_id(nodeid, self.commands)) is not None:
            self.recorder.end(label, nodeid)
        self.told.pop(nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record it, and put below every failure how to run exactly that again."""
        by_host = hasattr(report, "vm_kernel")
        node = getattr(report, "node", None)
        machine = self.session.machines.get(node)
        label = getattr(report, "vm_kernel", None) or (machine.kernel.name if machine else self.kernels[0].name)
        told = self.told.setdefault(report.nodeid, set())
        if getattr(report, "log_lost", False) and machine is not None:
            lost_log.judge(report, machine.console_text(), told)
        told.update(splat[3] for splat in getattr(report, "splats", ()))
        self._check_skip(report, label, machine)
        self._add_source_lines(report, label)
        if getattr(report, "verdict", None) in (Verdict.CRASHED, Verdict.HUNG):
            expect.judge_loss(report, self.session.verdicts.items.get(report.nodeid), self.expected[label])
        again = self.rerun(label, report.nodeid)
        self.recorder.add(report, label, again, machine.name if machine else "")
        if by_host:
            self.recorder.end(label, report.nodeid)  # No guest says that this test is over.
        if report.failed and getattr(report, "verdict", None) is not Verdict.NOT_RUN:
            report.sections.append(("run this again", again))

    def _check_skip(self, report: pytest.TestReport, label: str, machine: Machine | None) -> None:
        """Turn a skip outside the budget into a failure."""
        if self.skips is None or not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        guest = next(kernel.image is not None for kernel in self.kernels if kernel.name == label)
        facts = machine.facts() if machine else {}
        state = skips.State.of_guest(self.configs[label], facts, self.versions[label], guest)
        if (objection := skips.objection(reason, self.skips, state)) is not None:
            report.outcome = "failed"
            report.longrepr = f"skipped outside the budget: {reason}: {objection}"
            if objection == skips.UNKNOWN:
                internals.attach(report, verdict=Verdict.UNDECIDED)

    def _add_source_lines(self, report: pytest.TestReport, label: str) -> None:
        """Say which lines a splat speaks of, where the kernel has debugging information."""
        splats = [Splat(*splat) for splat in getattr(report, "splats", ())]
        if not splats or not isinstance(report.longrepr, str):
            return
        vmlinux = next(kernel.vmlinux for kernel in self.kernels if kernel.name == label)
        report.longrepr, *texts = source_lines.located([report.longrepr, *(splat.text for splat in splats)], vmlinux)
        shown = [dataclasses.replace(splat, text=text) for splat, text in zip(splats, texts, strict=True)]
        internals.attach(report, splats=[list(dataclasses.astuple(splat)) for splat in shown])

    def rerun(self, label: str, nodeid: str) -> str:
        """Return the command that runs one test on one kernel."""
        return self.commands[label] + ("" if nodeid.startswith("machine[") else f" {shlex.quote(nodeid)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the results."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and any(self.config.stash.get(SELECTED, {}).values()):
            exitstatus = pytest.ExitCode.OK  # There are more parts than tests: one without any is well.
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.resumed and self.resumed.done:
            exitstatus = pytest.ExitCode.OK  # The last test took the machine down.
        session.exitstatus = self._finish(int(exitstatus)).status
        if self.trouble:
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR

    def _finish(self, exitstatus: int) -> Run:
        """Put down what there is."""
        stop.no_more()
        # Machines say their last facts on the way out.
        if (nodes := getattr(self.session, "nodemanager", None)) is not None:
            nodes.teardown_nodes()
        for nodeid, text in self.broken.items():
            self.recorder.not_collected(nodeid, text)
        run = self.run = self.recorder.run(
            self.session.machines.values(),
            self.session.verdicts.expected,
            exitstatus,
            self.session.stopped or "stopped",
        )
        self.trouble = self.recorder.stream.trouble
        if self.live:
            self.live.end()
        try:
            if (path := self.config.stash[JUNIT]) is not None:
                wanted = Path(os.path.expandvars(path)).expanduser()
                with contextlib.suppress(OSError):  # writing tells
                    wanted.parent.mkdir(parents=True, exist_ok=True)
                write.put(wanted, junit.render(run))
        except UsageError as error:
            self.trouble = f"--junitxml: {error}"
            run = self.run = dataclasses.replace(run, exit_status=run.status or int(pytest.ExitCode.INTERNAL_ERROR))
        self.said += self._isolated()
        if self.config.option.vm_reproducers != "off" and exitstatus <= pytest.ExitCode.TESTS_FAILED:
            self.said += self._reproducers(run)
        try:
            self.notes = report.write(run, self.session.plan.directory)
        except UsageError as error:
            self.trouble = str(error)
        return run

    def _isolated(self) -> list[str]:
        """Say what it cost that each test had a machine of its own."""
        tests = len(self.session.verdicts.complete)
        if not self.config.option.vm_isolate or not tests:
            return []
        seconds = (time.monotonic() - self.first_began) / tests
        return [f"--isolate: {plural(tests, 'test')}, a machine each, {seconds:.1f} s a test"]

    def _reproducers(self, run: Run) -> list[str]:
        """Make programs of what failed, before the page is made, which leads to them."""
        option = self.config.option
        if option.vm_command:
            return ["reproducers: none of guests that are faked"]
        arguments = [f"--cpus={option.vm_cpus}", f"--memory={option.vm_memory}", f"--root={option.vm_root}"]
        arguments += [f"--accel={option.accel}", *([f"--qemu={option.qemu}"] if option.qemu else [])]
        arguments += [f"--kernel-argument={each}" for each in option.vm_kernel_arguments]
        kernels = {
            kernel.name: reproducers.Booted(
                again.exact(kernel), tuple(arguments), kernel.architecture, kernel.image is not None
            )
            for kernel in self.kernels
        }
        return reproducers.write(run, self.session.plan.directory, option.vm_reproducers, kernels, say)

    def pytest_unconfigure(self) -> None:
        """Pytest calls nothing a session, and has none finish, that was stopped while it was starting."""
        if self.run is None:
            self._finish(pytest.ExitCode.INTERRUPTED)

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> Generator[None, None, None]:
        """Print what pytest does not: verdicts of its unknown kinds, and the table."""
        assert self.run is not None
        closing.unknown_to_pytest(terminalreporter, self.run, self.session.stopped)
        yield
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            left_out = len(terminalreporter.stats.get("deselected", []))
            terminalreporter.write_line(f"no test was selected: {left_out} were left out by -k, -m, --lf or the like")
        closing.stalls(terminalreporter, self.run)
        closing.known_issues(terminalreporter, self.run, self.versions, self.issues)
        closing.skips(terminalreporter, self.run, self.kinds, self.session.plan.directory)
        terminalreporter.write_sep("=", "kernels")
        terminalreporter.write_line(table.table(self.run))
        terminalreporter.write_line(self.trouble or f"results: {files.shown(self.session.plan.directory)}")
        for note in [*self.said, *self.notes]:
            terminalreporter.write_line(note)
        if many := clean.hint(ROOT / "results"):
            terminalreporter.write_line(many)


def _skip_budget(config: pytest.Config) -> list[skips.Rule] | None:
    """Read the budget that the project's settings name, None without one."""
    named = config.getini("skip_budget")
    if not named:
        return None
    return skips.load(config.rootpath / named)


def _kinds(config: pytest.Config) -> list[skipped.Kind]:
    """Read what people are told of skips, from the same file."""
    named = config.getini("skip_budget")
    return skipped.load(config.rootpath / named) if named else []


def _first(config: pytest.Config, kernels: Sequence[Kernel]) -> first.First:
    """Return what is to run before all the rest."""
    if config.option.vm_in_order or RESUMED in config.stash:
        return first.First()
    named = config.getini("near_map")
    return first.chosen(config.stash[RUN_DIRECTORY], kernels, config.rootpath / named if named else None)
