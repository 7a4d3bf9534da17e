"""The host's half of the pytest plugin: machines, deadlines, verdicts, and a run that is always complete.

xdist's controller does the talking; what it does when a worker dies is replaced here, since for us that is a
result to report and not an accident.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from vm.guest import expect, internals
from vm.guest.internals import WorkerController
from vm.kernels.spec import Kernel
from vm.klog import console
from vm.klog.splats import find_splats
from vm.results.model import Verdict
from vm.run import said
from vm.run.config import without_kernel
from vm.run.machines import Machine, Plan, kernel_of_id
from vm.run.pool import Pool
from vm.run.record import Recorder
from vm.run.schedule import KernelScheduling
from vm.run.stalls import AwakeClock, Stalls, depends_on_time, given_up, of_time
from vm.run.verdicts import Verdicts, of_machine

# Seconds a machine that was sent an NMI has to print where it hangs.
_LAST_WORDS = 3.0
# What pytest in a guest ends with when nothing stopped it.
_ORDERLY = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


_NOT_SAID = "what came out of the guest's port was not said by its pytest"
_ABOUT_TESTS = ("collectionfinish", "logstart", "logfinish", "testreport", "runtest_protocol_complete")


class VmSession(internals.controller()):  # type: ignore[misc]
    """xdist's controller with machines for workers."""

    def __init__(self, config: pytest.Config, plan: Plan, recorder: Recorder) -> None:
        super().__init__(config)
        # Its "gw0 [50] / gw1 [50]" and "node down" say less than the lines written here.
        internals.be_quiet(config)
        self.active = internals.active_workers(self)
        self.plan = plan
        self.recorder = recorder
        self.clock = AwakeClock()
        self.pool = Pool(config, plan, recorder, self.clock, self.active, self.queue.put)
        self.machines = self.pool.machines
        self.losses: dict[str, int] = {kernel.name: 0 for kernel in plan.kernels}
        self.booted: set[str] = set()
        self.shouldstop: bool | str = False
        self.sched: KernelScheduling = KernelScheduling(self.pool.kernel_of, self.losses)
        if self.maxfail:
            self.sched.ahead = 2
        self.verdicts = Verdicts(config, self.sched, functools.partial(internals.count_failure, self))
        self.stopped = ""
        self.stalls = Stalls(recorder.stalled)

    # ---- hooks

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Boot one machine a kernel, as far as there is room; more follow when the number of tests is known."""
        self.session = session
        self.pool.manager = self.nodemanager = internals.new_manager(self.config)
        # xdist names each worker a directory below the temporary one, which that would create. Guests have their own.
        internals.name_temporary_directory(self.config, Path("/nonexistent"))
        for kernel in self.plan.kernels:
            if kernel.trouble:
                self.sched.close(kernel.name, f"{kernel.name} was not built")
            else:
                self.pool.start(kernel)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect here too, while the machines boot.

        That finds wrong arguments and broken test files at once, tells how many machines are worth it and
        what a kernel that never boots has missed, and leaves compiled test files for the guests to load.
        """
        session.perform_collect()
        self.verdicts.items = {item.nodeid: item for item in session.items}
        for test in self.verdicts.items:
            if (label := kernel_of_id(test, self.losses)) is None:
                # Results of two kernels would be one; and what a kernel missed could not be told.
                raise pytest.UsageError(
                    f"{test} cannot carry the kernel in its id, as a unittest.TestCase or a doctest; make it a function"
                )
            self.verdicts.tests[label].append(test)
        for kernel in self.plan.kernels:
            own = self.verdicts.tests[kernel.name]
            count = len(own)
            self.sched.shares[kernel.name].alone = frozenset(
                test for test in own if self.plan.needs_own_machine(kernel, self.verdicts.items[test])
            )
            before = self.plan.first.get(kernel.name, {})
            names = {test: without_kernel(test, kernel.name) for test in own} if before else {}
            self.sched.shares[kernel.name].first = {
                test: before[name] for test, name in names.items() if name in before
            }
            if self.verdicts.items and not count:
                self.sched.close(kernel.name, f"no test of {kernel.name} was selected")
                self.pool.drop_queued(kernel)
                for node in self.pool.of(kernel):
                    self._dismiss(node)
            # Below some dozens of tests a second machine costs more than it brings.
            for _ in range(0 if kernel.trouble else min(self.plan.vms, 1 + count // 24) - 1):
                self.pool.start(kernel)
        return True

    def pytest_xdist_make_scheduler(self) -> KernelScheduling:
        """Ours."""
        return self.sched

    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Spare a round trip to a guest that is still booting: it has our Python and our directory."""
        internals.tell_interpreter(gateway)

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell the worker what it is."""
        kernel, only, vm = self.pool.starting
        internals.check_what_it_says(node, said.events, said.NotBelieved)
        if vm.images:
            internals.keep_its_path(node)
        if vm.resumes:
            internals.tell_all_alike(node)
        node.workerinput |= {
            "vm_kernel": kernel.name,
            # One that goes on where another has collected knows all tests; which it is for, the scheduler knows.
            "vm_only": "" if vm.resumes else only,
            "vm_factor": self.plan.deadlines[kernel.name].factor,
            "vm_in_machine": kernel.image is not None and vm.command is None,
            **self.plan.told[kernel.name],
        }

    @pytest.hookimpl
    def pytest_runtestloop(self) -> bool:
        """Run everything; then report what nobody ran."""
        session = self.session
        if session.testsfailed and not self.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} error(s) during collection")
        if not self.verdicts.items:
            return True
        for kernel in self.plan.kernels:
            if kernel.trouble:
                text = f"build failed: {kernel.trouble}"
                self.verdicts.emit(f"machine[{kernel.name}]::build-failed", kernel.name, Verdict.BUILD_FAILED, text)
        try:
            super().pytest_runtestloop()
        except KeyboardInterrupt as stop:
            self.stopped = str(stop) or "interrupted"
            if self.maxfail and self.countfailures >= self.maxfail:
                # As pytest itself ends with -x: tests failed, nobody interrupted it.
                session.shouldfail = self.stopped
                raise session.Failed(self.stopped) from None
            raise
        self.verdicts.report_splats_outside_tests(self.machines.values(), self.stalls)
        self.verdicts.report_missing()
        return True

    # ---- the loop

    def loop_once(self) -> None:
        """Act on the next event, watching the clock meanwhile."""
        while self.pool:
            self._start_queued()
            try:
                name, arguments = self.queue.get(timeout=0.2)
            except Empty:
                self._watch()
                continue
            node = arguments.get("node")
            if node is None or node in self.active:
                try:
                    self._check(name, **arguments)
                    getattr(self, f"worker_{name}")(**arguments)
                except said.NotBelieved as error:
                    self.worker_disbelieved(node, str(error))
            # What machines said while this process was stopped, or busy, comes before any word on their silence.
            if self.queue.empty():
                self._watch()
            break
        if self.sched.tests_finished or not self.pool:
            self.triggershutdown()

    def triggershutdown(self) -> None:
        """End all machines: those that have work finish it, those not up yet are dropped."""
        self.shuttingdown = True
        self.pool.drop_queued()
        for node in list(self.active):
            if node in self.sched.nodes and self.machines[node].collected:
                if not node.shutting_down:
                    node.shutdown()
            elif not self.machines[node].collected:
                self._dismiss(node)

    def _check(self, name: str, node: WorkerController | None = None, **values: Any) -> None:
        """Have a machine speak of itself alone: of its kernel's tests, and of those that it was given.

        Raises:
            said.NotBelieved: it does not.
        """
        if node is None or name not in _ABOUT_TESTS:
            return
        machine, given = self.machines[node], self.sched.on(node)
        match name:
            case "collectionfinish":
                others = (test for test in values["ids"] if kernel_of_id(test, self.losses) != machine.kernel.name)
                strange = ["its tests, again"] if machine.collected else [*others]
            case "logstart":
                strange = [values["nodeid"]] if machine.running or values["nodeid"] not in given else []
            case "runtest_protocol_complete":
                strange = [] if self.sched.is_on(node, values["item_index"]) else [str(values["item_index"])]
            case _:
                nodeid = values["rep"].nodeid if "rep" in values else values["nodeid"]
                strange = [] if nodeid == machine.running else [nodeid]
        if strange:
            raise said.NotBelieved(f"{name} of {strange[0]}, which is not its turn")
        if len(machine.reports) > said.MOST_REPORTS:
            raise said.NotBelieved(f"more than {said.MOST_REPORTS} reports of one test")

    def worker_disbelieved(self, node: WorkerController, reason: str) -> None:
        """A machine said what its pytest cannot have said: whatever it says next is worth as little."""
        machine = self.machines[node]
        self.config.hook.pytest_testnodedown(node=node, error=reason)
        self.active.discard(node)
        # What it was to report itself may be made up as well.
        machine.reports.clear()
        self._dismiss(node)
        self._lost(machine, Verdict.VM_LOST, f"{_NOT_SAID}: {reason}")

    def worker_workerready(self, node: WorkerController, workerinfo: Any) -> None:
        """A machine is up."""
        machine = self._heard(node)
        self.booted.add(machine.kernel.name)
        self._show_up(machine)
        super().worker_workerready(node, workerinfo)

    def worker_collectionfinish(self, node: WorkerController, ids: Sequence[str]) -> None:
        """A machine has collected: give it tests."""
        machine = self._heard(node)
        machine.collected = True
        if self.shuttingdown:
            node.shutdown()
            return
        unfit = str(machine.facts(wait=True).get("unfit", ""))
        self.recorder.vm_up(machine)
        if unfit:
            self._refuse(machine, unfit)
            return
        self.config.hook.pytest_xdist_node_collection_finished(node=node, ids=ids)
        self.session.testscollected = max(self.session.testscollected, len(ids))
        self.sched.add_node_collection(node, ids, machine.only)
        self.sched.schedule()

    def worker_logstart(self, node: WorkerController, nodeid: str, location: Any) -> None:
        """A test begins."""
        self._heard(node).begin(nodeid)
        super().worker_logstart(node, nodeid, location)

    def worker_logfinish(self, node: WorkerController, nodeid: str, location: Any) -> None:
        """A test ended: report it, unless the machine was starved in it."""
        machine = self._heard(node)
        failed = [rep for rep in machine.reports if rep.failed]
        if failed and all(map(of_time, failed)) and (seconds := machine.stall()):
            reason = expect.reason_of(failed[0])
            if self._runs_again(machine, nodeid, seconds, f"failed: {reason}"):
                return
            machine.reports.clear()
            self.verdicts.emit(nodeid, machine.kernel.name, Verdict.VM_LOST, f"vm lost: {given_up(reason)}", node)
        self._deliver(machine)
        machine.running = None
        self.verdicts.complete.add(nodeid)
        super().worker_logfinish(node, nodeid, location)

    def worker_testreport(self, node: WorkerController, rep: pytest.TestReport) -> None:
        """A phase of a test ended."""
        if hasattr(rep, "verdict"):  # as text (vm/guest/expect.py), and no other
            internals.attach(rep, verdict=Verdict.UNDECIDED)
        self._heard(node).reports.append(rep)

    def _deliver(self, machine: Machine) -> None:
        """Have everybody know what was held back of the test of a machine."""
        for rep in machine.reports:
            if (not rep.skipped or hasattr(rep, "wasxfail")) and (rep.when == "call" or rep.failed):
                self.verdicts.tested.add(machine.kernel.name)
            super().worker_testreport(machine.node, rep)
        machine.reports.clear()

    def worker_workerfinished(self, node: WorkerController) -> None:
        """A machine is through: switch it off."""
        machine = self._heard(node)
        self.config.hook.pytest_testnodedown(node=node, error=None)
        output = node.workeroutput
        # By -x and --maxfail; what else a guest would have the others do is not asked.
        if self.maxfail:
            self.shouldstop = self.shouldstop or output["shouldfail"] or output["shouldstop"] or False
        if output["exitstatus"] not in _ORDERLY and not self.shouldstop:
            # A test, or something it ran, raised pytest.exit or KeyboardInterrupt: not ours to obey.
            self._blame(machine, Verdict.CRASHED, "pytest was told to stop in the guest, by pytest.exit or ^C")
            self._dismiss(node)
            self._count_loss(machine, booted=True)
            return
        self._drop(node, ())
        self._dismiss(node)
        kernel = machine.kernel
        self.sched.give_up(kernel.name, machine.only)
        if self._start_for_one(kernel):
            return
        if self.sched.wants_machine(kernel.name) and not self.pool.alive(kernel) and not self.shouldstop:
            reason = f"no machine of {kernel.name} that was left had it in its collection"
            if self.losses[kernel.name] > self.plan.restarts:
                reason = f"the restart budget is used up: {kernel.name} lost {self.losses[kernel.name]} machines"
            self.sched.close(kernel.name, reason)

    def worker_errordown(self, node: WorkerController, error: object | None) -> None:
        """A machine died: find out how, say so once, and have the rest of its tests run elsewhere."""
        machine = self.machines[node]
        self.config.hook.pytest_testnodedown(node=node, error=error)
        # The machine goes on, but execnet could make nothing of what it sent and gave up.
        garbled = machine.status.state == "up" and internals.gave_up(node)
        if not garbled:
            machine.wait()
        status = machine.status
        self.active.discard(node)
        self._dismiss(node)
        booted = status.boot_seconds is not None
        verdict, reason = of_machine(machine, status)
        if garbled and not machine.hung:
            verdict, reason = Verdict.VM_LOST, f"{_NOT_SAID}: {error}"
        if verdict is not Verdict.VM_LOST and (seconds := self._starved(machine, reason)):
            culprit, when = self.verdicts.culprit(machine)
            where = culprit or ("while booting" if not booted else when.strip(" ()"))
            if self._runs_again(machine, where, seconds, f"{verdict.value}: {reason}"):
                return
            verdict, reason = Verdict.VM_LOST, given_up(reason)
        self._lost(machine, verdict, reason)

    def _lost(self, machine: Machine, verdict: Verdict, reason: str) -> None:
        booted = machine.status.boot_seconds is not None
        if not booted:
            self._drop(machine.node, ())
            self.verdicts.report_machine(machine, None, verdict, reason)
        else:
            self._blame(machine, verdict, reason)
        self.recorder.vm_ended(machine)
        self._count_loss(machine, booted)

    def worker_internal_error(self, node: WorkerController, formatted_error: str) -> None:
        """The guest's pytest itself failed, in a hook or a plugin: that machine is lost, with the reason."""
        machine = self._heard(node)
        self._blame(machine, Verdict.CRASHED, "pytest failed in the guest", f"\n{formatted_error}")
        self._dismiss(node)
        self._count_loss(machine, booted=True)

    def _refuse(self, machine: Machine, reason: str) -> None:
        """Give up a kernel that lacks what every test needs, with one verdict."""
        kernel = machine.kernel
        self.recorder.refused(kernel.name)
        self.verdicts.refuse(machine, reason)
        self.sched.close(kernel.name, reason)
        self.pool.drop_queued(kernel)
        for node in self.pool.of(kernel):
            self._drop(node, ())
            self._dismiss(node)

    # ---- stalls

    def _starved(self, machine: Machine, reason: str) -> float:
        """Return the seconds a machine was kept from running, when it ended of that; else 0."""
        text = machine.console_text()
        log = console.split(text)
        splats = find_splats(log.tests.get(console.last_test(text) or "", log.boot) + log.after)
        # An oops or wrong memory is no host's doing. A panic alone tells no cause: NMIs and watchdogs end in one.
        if any(splat.kind != "kernel panic" and not depends_on_time(splat.title) for splat in splats):
            return 0.0
        if depends_on_time(reason) or any(depends_on_time(splat.title) for splat in splats):
            return machine.stall()
        return 0.0

    def _runs_again(self, machine: Machine, where: str, seconds: float, instead: str) -> bool:
        """Record a stall; have the test, and what else the machine was given, run on a fresh one.

        False when that test was starved too often for it; the arguments are those of Stalls.note.
        """
        if self.stalls.note(machine.kernel.name, machine.name, where, seconds, instead):
            return False
        machine.stalled, machine.reason = True, f"the host kept it from running for {seconds:.0f} s"
        self._say(f"{machine.name}: {machine.reason}; {machine.running or 'what it did'} runs again")
        machine.reports.clear()
        self._drop(machine.node, ())
        self._dismiss(machine.node)
        if not self.shouldstop and self.sched.wants_machine(machine.kernel.name):
            self._replace(machine.kernel)
        return True

    def _replace(self, kernel: Kernel) -> None:
        """Start a machine for what is left to do: for anything, or for a test that needs one for itself."""
        if self.sched.shares[kernel.name].collected is None or self.sched.shares[kernel.name].pending:
            self._start_again(kernel)
        else:
            self._start_for_one(kernel)

    # ---- machines

    def _start_for_one(self, kernel: Kernel) -> bool:
        """Start a machine for the next test that needs one for itself, in the place of one that ended."""
        meant = self.pool.meant()
        test = next((test for test in self.sched.shares[kernel.name].waiting if test not in meant), "")
        if not test or self.shouldstop or not self.sched.wants_machine(kernel.name):
            return False
        self._start_again(kernel, test)
        return True

    def _start_again(self, kernel: Kernel, only: str = "") -> None:
        # All had been told to finish, since nothing was left to hand out; now there is.
        self.shuttingdown = False
        try:
            self.pool.start(kernel, only)
        except pytest.UsageError as error:
            self.sched.close(kernel.name, str(error))

    def _start_queued(self) -> None:
        """Use the room that a machine left."""
        while (waiting := self.pool.next()) is not None:
            kernel, only = waiting
            if self.sched.wants_machine(kernel.name) and only not in self.verdicts.complete:
                self._start_again(kernel, only)

    def _dismiss(self, node: WorkerController) -> None:
        """Let go of a machine, and use the room it leaves."""
        self.pool.dismiss(node)
        self._start_queued()

    def _drop(self, node: WorkerController, finished: Iterable[str]) -> None:
        if node in self.sched.nodes:
            self.sched.drop(node, finished)

    def _blame(self, machine: Machine, verdict: Verdict, reason: str, details: str = "") -> None:
        """Report how a machine ended as a failure of the test it was on, which nobody is given again."""
        self._deliver(machine)
        culprit, when = self.verdicts.culprit(machine)
        self._drop(machine.node, [culprit] if culprit else [])
        self.verdicts.report_machine(machine, culprit, verdict, f"{reason}{when}{details}")

    def _count_loss(self, machine: Machine, booted: bool) -> None:
        """Replace a lost machine while there is work for it and hope."""
        kernel = machine.kernel
        if machine.only in self.verdicts.complete:
            # What it was there for; each such test has one machine, so that this comes to an end.
            self._start_for_one(kernel)
            return
        self.losses[kernel.name] += 1
        if self.shouldstop or not self.sched.wants_machine(kernel.name):
            return
        alive = self.pool.alive(kernel)
        if not booted and kernel.name not in self.booted:
            # It never came up: nothing suggests that the next one would.
            if not alive:
                self.sched.close(kernel.name, f"{kernel.name} did not boot")
        elif self.sched.shares[kernel.name].collected is None and self.losses[kernel.name] >= 2:
            if not alive:
                self.sched.close(kernel.name, f"{kernel.name} went down while collecting, twice")
        elif self.losses[kernel.name] > self.plan.restarts:
            if not alive:
                reason = f"the restart budget is used up: {kernel.name} lost {self.losses[kernel.name]} machines"
                self.sched.close(kernel.name, reason)
                self.verdicts.report_machine(machine, None, Verdict.NOT_RUN, f"{reason} (--vm-restarts)")
        else:
            self._replace(kernel)

    def _watch(self) -> None:
        """Kill what has been silent for too long, of the time that both it and this process had."""
        now = self.clock()
        for node in list(self.active):
            machine = self.machines[node]
            if machine.kernel.name not in self.booted or not machine.reported:
                if machine.status.state != "up":
                    machine.since = now  # The boot has a deadline of its own (vm/machine/relay.py).
                    continue
                self._show_up(machine)
            limit = self._patience(machine)
            if not machine.hung and now - machine.since > limit and machine.silent() > limit:
                machine.hung = f"silent for {limit:g} s"
                machine.since = now
                machine.signal(signal.SIGUSR1)
            elif machine.hung and now - machine.since > _LAST_WORDS * self.plan.factor(machine.kernel):
                machine.signal(signal.SIGKILL)

    def _patience(self, machine: Machine) -> float:
        """Return the seconds a machine may be silent now."""
        item = self.verdicts.items.get(machine.running or "")
        marker = item.get_closest_marker("deadline") if item else None
        limits = self.plan.deadlines[machine.kernel.name]
        return limits.patience(float(marker.args[0]) if marker else None)

    def _heard(self, node: WorkerController) -> Machine:
        machine = self.machines[node]
        machine.since = self.clock()
        return machine

    def _show_up(self, machine: Machine) -> None:
        if not machine.reported:
            machine.reported = True
            machine.since = self.clock()
            status = machine.status
            how = "resumed" if status.resumed else "up"
            took = f" after {status.boot_seconds:.1f} s" if status.boot_seconds is not None else ""
            self._say(f"{machine.name}: {how}{took}{f' ({status.note})' if status.note else ''}")

    def _say(self, line: str) -> None:
        if self.terminal is not None and self.config.option.verbose >= 0:
            if internals.within_a_line(self.terminal):
                self.terminal.write_line("")
            self.terminal.write_line(line)
