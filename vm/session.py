"""The host's half of the pytest plugin: machines, deadlines, verdicts, and a run that is always complete.

xdist's controller does the talking; what it does when a worker dies is replaced here, since for us that is a
result to report and not an accident.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from queue import Empty
from typing import Any

import execnet
import pytest
from execnet.gateway import RInfo
from xdist.dsession import DSession
from xdist.workermanage import NodeManager, WorkerController

from vm import console, files
from vm.directory import Status, Vm
from vm.kernel import Kernel
from vm.machines import Machine, Plan, guest_environment, kernel_of_id
from vm.schedule import KernelScheduling
from vm.splats import find_splats

# Seconds a machine that was sent an NMI has to print where it hangs.
_LAST_WORDS = 3.0
# Seconds a machine that was told to end may take (vm/guest.py gives it two).
_SECONDS_TO_LEAVE = 5.0


class VmSession(DSession):  # type: ignore[misc]
    """xdist's controller with machines for workers."""

    def __init__(self, config: pytest.Config, plan: Plan) -> None:
        super().__init__(config)
        # Its "gw0 [50] / gw1 [50]" and "node down" say less than the lines written here.
        config.pluginmanager.unregister(name="terminaldistreporter")
        self.plan = plan
        self.machines: dict[WorkerController, Machine] = {}
        self.kernel_of: dict[Any, str] = {}
        self.started: dict[str, int] = {kernel.name: 0 for kernel in plan.kernels}
        self.losses: dict[str, int] = dict.fromkeys(self.started, 0)
        self.booted: set[str] = set()
        self.shouldstop: bool | str = False
        self.sched: KernelScheduling = KernelScheduling(self.kernel_of, self.started)
        if self.maxfail:
            self.sched.ahead = 2
        self.host_items: dict[str, pytest.Item] = {}
        self.host_tests: dict[str, list[str]] = {kernel.name: [] for kernel in plan.kernels}
        self.stopped = ""
        self._only = ""
        # Machines to start when another has ended: the kernel, and the one test it is for.
        self.queued: deque[tuple[Kernel, str]] = deque()
        self.complete: set[str] = set()
        self.tested: set[str] = set()

    # ---- hooks

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Boot one machine a kernel, as far as there is room; more follow when the number of tests is known."""
        self._session = session
        self.nodemanager = NodeManager(self.config, specs=[])
        # xdist names each worker a directory below the temporary one, which that would create. Guests have their own.
        self.config._tmp_path_factory._basetemp = self.plan.directory / "tmp"
        for kernel in self.plan.kernels:
            if kernel.trouble:
                self.sched.close(kernel.name, f"{kernel.name} was not built")
            else:
                self._start(kernel)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Collect here too, while the machines boot.

        That finds wrong arguments and broken test files at once, tells how many machines are worth it and
        what a kernel that never boots has missed, and leaves compiled test files for the guests to load.
        """
        session.perform_collect()
        self.host_items = {item.nodeid: item for item in session.items}
        for test in self.host_items:
            if (label := kernel_of_id(test, self.started)) is None:
                # Results of two kernels would be one; and what a kernel missed could not be told.
                raise pytest.UsageError(
                    f"{test} cannot carry the kernel in its id, as a unittest.TestCase or a doctest; make it a function"
                )
            self.host_tests[label].append(test)
        for kernel in self.plan.kernels:
            own = self.host_tests[kernel.name]
            count = len(own)
            self.sched.shares[kernel.name].alone = frozenset(
                test for test in own if self.plan.needs_own_machine(kernel, self.host_items[test])
            )
            if self.host_items and not count:
                self.sched.close(kernel.name, f"no test of {kernel.name} was selected")
                self.queued = deque(waiting for waiting in self.queued if waiting[0] is not kernel)
                for node in [node for node in self._active_nodes if self.machines[node].kernel is kernel]:
                    self._dismiss(node)
            # Below some dozens of tests a second machine costs more than it brings.
            for _ in range(0 if kernel.trouble else min(self.plan.vms, 1 + count // 24) - 1):
                self._start(kernel)
        return True

    def pytest_xdist_make_scheduler(self) -> KernelScheduling:
        """Ours."""
        return self.sched

    def pytest_xdist_newgateway(self, gateway: execnet.Gateway) -> None:
        """Spare a round trip to a guest that is still booting: it has our Python and our directory."""
        gateway._cache_rinfo = RInfo(
            {
                "executable": sys.executable,
                "version_info": tuple(sys.version_info[:5]),
                "platform": sys.platform,
                "cwd": str(Path.cwd()),
                "pid": 0,
            }
        )

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell the worker what it is."""
        label = node.gateway.spec.kernel
        kernel = next(kernel for kernel in self.plan.kernels if kernel.name == label)
        node.workerinput["vm_kernel"] = label
        node.workerinput["vm_only"] = self._only
        node.workerinput["vm_factor"] = self.plan.accelerator.factor if kernel.image else 1.0
        node.workerinput["vm_in_machine"] = kernel.image is not None and self.plan.command is None

    @pytest.hookimpl
    def pytest_runtestloop(self) -> bool:
        """Run everything; then report what nobody ran."""
        session = self._session
        if session.testsfailed and not self.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} error(s) during collection")
        if not self.host_items:
            return True
        for kernel in self.plan.kernels:
            if kernel.trouble:
                text = f"build failed: {kernel.trouble}"
                self._emit(f"machine[{kernel.name}]::build-failed", kernel.name, "build failed", text)
        try:
            super().pytest_runtestloop()
        except KeyboardInterrupt as stop:
            self.stopped = str(stop) or "interrupted"
            if self.maxfail and self.countfailures >= self.maxfail:
                # As pytest itself ends with -x: tests failed, nobody interrupted it.
                session.shouldfail = self.stopped
                raise session.Failed(self.stopped) from None
            raise
        self._report_splats_outside_tests()
        self._report_missing()
        return True

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Let a full disk be one line: pytest writes JUnit's file now. The controller has ended the machines."""
        try:
            return (yield)
        except OSError as error:
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR
            self._say(f"error: results are not complete: {error}; give another directory by --results DIR")
            return None

    # ---- the loop

    def loop_once(self) -> None:
        """Act on the next event, watching the clock meanwhile."""
        while self._active_nodes:
            try:
                name, arguments = self.queue.get(timeout=0.2)
            except Empty:
                self._watch()
                continue
            self._watch()
            node = arguments.get("node")
            if node is None or node in self._active_nodes:
                getattr(self, f"worker_{name}")(**arguments)
            break
        if self.sched.tests_finished or not self._active_nodes:
            self.triggershutdown()

    def triggershutdown(self) -> None:
        """End all machines: those that have work finish it, those not up yet are dropped."""
        self.shuttingdown = True
        self.queued.clear()
        for node in list(self._active_nodes):
            if node in self.sched.nodes and self.machines[node].collected:
                if not node.shutting_down:
                    node.shutdown()
            elif not self.machines[node].collected:
                self._dismiss(node)

    def worker_workerready(self, node: WorkerController, workerinfo: Any) -> None:
        """A machine is up."""
        machine = self._heard(node)
        self.booted.add(machine.kernel.name)
        self._show_up(machine)
        super().worker_workerready(node, workerinfo)

    def worker_collectionfinish(self, node: WorkerController, ids: Sequence[str]) -> None:
        """A machine has collected: give it tests."""
        self._heard(node).collected = True
        if self.shuttingdown:
            node.shutdown()
            return
        self.config.hook.pytest_xdist_node_collection_finished(node=node, ids=ids)
        self._session.testscollected = max(self._session.testscollected, len(ids))
        self.sched.add_node_collection(node, ids)
        self.sched.schedule()

    def worker_logstart(self, node: WorkerController, nodeid: str, location: Any) -> None:
        """A test begins."""
        self._heard(node).running = nodeid
        super().worker_logstart(node, nodeid, location)

    def worker_logfinish(self, node: WorkerController, nodeid: str, location: Any) -> None:
        """A test ended."""
        self._heard(node).running = None
        self.complete.add(nodeid)
        super().worker_logfinish(node, nodeid, location)

    def worker_testreport(self, node: WorkerController, rep: pytest.TestReport) -> None:
        """A phase of a test ended."""
        machine = self._heard(node)
        if (not rep.skipped or hasattr(rep, "wasxfail")) and (rep.when == "call" or rep.failed):
            self.tested.add(machine.kernel.name)
        super().worker_testreport(node, rep)

    def worker_workerfinished(self, node: WorkerController) -> None:
        """A machine is through: switch it off."""
        machine = self._heard(node)
        self.config.hook.pytest_testnodedown(node=node, error=None)
        output = node.workeroutput
        self.shouldstop = self.shouldstop or output["shouldfail"] or output["shouldstop"] or False
        if output["exitstatus"] == pytest.ExitCode.INTERRUPTED and not self.shouldstop:
            # A test, or something it ran, raised pytest.exit or KeyboardInterrupt: not ours to obey.
            culprit, when = self._culprit(machine)
            self._drop(node, [culprit] if culprit else [])
            self._report(
                machine, culprit, "crashed", f"pytest was told to stop in the guest, by pytest.exit or ^C{when}"
            )
            self._dismiss(node)
            self._count_loss(machine, booted=True)
            return
        self._drop(node, ())
        self._dismiss(node)
        kernel = machine.kernel
        self.sched.give_up(kernel.name, machine.only)
        if self._start_for_one(kernel):
            return
        if self.sched.wants_machine(kernel.name) and not self._alive(kernel) and not self.shouldstop:
            reason = f"no machine of {kernel.name} that was left had it in its collection"
            if self.losses[kernel.name] > self.plan.restarts:
                reason = f"the restart budget is used up: {kernel.name} lost {self.losses[kernel.name]} machines"
            self.sched.close(kernel.name, reason)

    def worker_errordown(self, node: WorkerController, error: object | None) -> None:
        """A machine died: find out how, say so once, and have the rest of its tests run elsewhere."""
        machine = self.machines[node]
        self.config.hook.pytest_testnodedown(node=node, error=error)
        # The machine goes on, but execnet could make nothing of what it sent and gave up.
        garbled = machine.status.state == "up" and not isinstance(getattr(node.gateway, "_error", None), EOFError)
        if not garbled:
            machine.ended(5.0)
        status = machine.status
        self._active_nodes.discard(node)
        self._dismiss(node)
        booted = status.boot_seconds is not None
        verdict, reason = self._verdict(machine, status)
        if garbled and not machine.hung:
            verdict, reason = "vm lost", f"what came out of the guest's port was not said by its pytest: {error}"
        if not booted:
            self._drop(node, ())
            self._report(machine, None, verdict, reason)
        else:
            culprit, when = self._culprit(machine)
            self._drop(node, [culprit] if culprit else [])
            self._report(machine, culprit, verdict, f"{reason}{when}")
        self._count_loss(machine, booted)

    def worker_internal_error(self, node: WorkerController, formatted_error: str) -> None:
        """The guest's pytest itself failed, in a hook or a plugin: that machine is lost, with the reason."""
        machine = self._heard(node)
        culprit, when = self._culprit(machine)
        self._drop(node, [culprit] if culprit else [])
        self._report(machine, culprit, "crashed", f"pytest failed in the guest{when}\n{formatted_error}")
        self._dismiss(node)
        self._count_loss(machine, booted=True)

    # ---- machines

    def _start_for_one(self, kernel: Kernel) -> bool:
        """Start a machine for the next test that needs one for itself, in the place of one that ended."""
        meant = {self.machines[node].only for node in self._active_nodes} | {only for _, only in self.queued}
        test = next((test for test in self.sched.shares[kernel.name].waiting if test not in meant), "")
        if not test or self.shouldstop or not self.sched.wants_machine(kernel.name):
            return False
        self._start_again(kernel, test)
        return True

    def _start_again(self, kernel: Kernel, only: str = "") -> None:
        # All had been told to finish, since nothing was left to hand out; now there is.
        self.shuttingdown = False
        try:
            self._start(kernel, only)
        except pytest.UsageError as error:
            self.sched.close(kernel.name, str(error))

    def _start(self, kernel: Kernel, only: str = "") -> None:
        if len(self._active_nodes) < self.plan.at_once:
            self._start_now(kernel, only)
        else:
            self.queued.append((kernel, only))

    def _start_queued(self) -> None:
        """Use the room that a machine left."""
        while self.queued and len(self._active_nodes) < self.plan.at_once:
            kernel, only = self.queued.popleft()
            if self.sched.wants_machine(kernel.name) and only not in self.complete:
                self._start_again(kernel, only)

    def _start_now(self, kernel: Kernel, only: str) -> None:
        self.started[kernel.name] += 1
        name = f"{kernel.name}-{self.started[kernel.name]}"
        directory = self.plan.directory / "vms" / name
        try:
            directory.mkdir(parents=True)
            Vm(
                name=name,
                kernel=kernel.name,
                release=kernel.release,
                image=str(kernel.image) if kernel.image else None,
                modules=str(kernel.modules) if kernel.modules else None,
                accelerator=self.plan.accelerator.name,
                memory=self.plan.memory,
                cpus=self.plan.cpus,
                boot_deadline=self.plan.boot_deadline,
                cwd=str(Path.cwd()),
                environment=guest_environment(self.config),
                kernel_arguments=list(self.plan.kernel_arguments),
                qemu=self.plan.qemu,
                command=list(self.plan.command) if self.plan.command else None,
            ).save(directory)
            python = f"{shlex.quote(sys.executable)} -m vm.guest {directory}"
        except OSError as error:
            raise pytest.UsageError(
                f"cannot write results: {error}; give another directory by --results DIR"
            ) from error
        spec = execnet.XSpec(f"popen//python={python}//kernel={kernel.name}")
        assert self.nodemanager is not None
        self.nodemanager.group.allocate_id(spec)
        # Ctrl-C goes to the whole process group: while blocked, it cannot meet that process unprepared.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        self._only = only
        try:
            node = self.nodemanager.setup_node(spec, self.queue.put)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Told by the guest when it is up; what reports say of a machine must not depend on that.
        node.workerinfo = {
            "id": name,
            "sysplatform": sys.platform,
            "version_info": sys.version_info[:3],
            "executable": "",
        }
        self.machines[node] = Machine(kernel, name, directory, node, only)
        self.kernel_of[node] = kernel.name
        self._active_nodes.add(node)

    def _dismiss(self, node: WorkerController) -> None:
        """Let go of a machine: its process sees its input closed and ends it."""
        self._active_nodes.discard(node)
        with contextlib.suppress(OSError):
            node.ensure_teardown()
        self._start_queued()

    def _drop(self, node: WorkerController, finished: Iterable[str]) -> None:
        if node in self.sched.nodes:
            self.sched.drop(node, finished)

    def _alive(self, kernel: Kernel) -> bool:
        """Whether a machine of ``kernel`` runs, or will."""
        running = (self.machines[node].kernel for node in self._active_nodes)
        return any(one is kernel for one in (*running, *(waiting for waiting, _ in self.queued)))

    def _count_loss(self, machine: Machine, booted: bool) -> None:
        """Replace a lost machine while there is work for it and hope."""
        kernel = machine.kernel
        if machine.only in self.complete:
            # What it was there for; each such test has one machine, so that this comes to an end.
            self._start_for_one(kernel)
            return
        self.losses[kernel.name] += 1
        if self.shouldstop or not self.sched.wants_machine(kernel.name):
            return
        alive = self._alive(kernel)
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
                self._report(machine, None, "not run", f"{reason} (--vm-restarts)")
        elif self.sched.shares[kernel.name].collected is None or self.sched.shares[kernel.name].pending:
            self._start_again(kernel)
        else:
            self._start_for_one(kernel)

    def _watch(self) -> None:
        """Kill what has been silent for too long."""
        now = time.monotonic()
        for node in list(self._active_nodes):
            machine = self.machines[node]
            if machine.kernel.name not in self.booted or not machine.reported:
                if machine.status.state != "up":
                    machine.since = now  # The boot has a deadline of its own (vm/guest.py).
                    continue
                self._show_up(machine)
            limit = self._patience(machine)
            if not machine.hung and now - machine.since > limit:
                machine.hung = f"silent for {limit:g} s"
                machine.since = now
                machine.signal(signal.SIGUSR1)
            elif machine.hung and now - machine.since > _LAST_WORDS * self.plan.accelerator.factor:
                machine.signal(signal.SIGKILL)

    def _patience(self, machine: Machine) -> float:
        """Return the seconds a machine may be silent now."""
        item = self.host_items.get(machine.running or "")
        marker = item.get_closest_marker("deadline") if item else None
        if marker is None:
            return self.plan.vm_deadline
        extra = self.plan.vm_deadline - self.plan.test_deadline
        return float(marker.args[0]) * self.plan.accelerator.factor + max(extra, 0)

    def _heard(self, node: WorkerController) -> Machine:
        machine = self.machines[node]
        machine.since = time.monotonic()
        return machine

    def _show_up(self, machine: Machine) -> None:
        if not machine.reported:
            machine.reported = True
            machine.since = time.monotonic()
            seconds = machine.status.boot_seconds
            self._say(f"{machine.name}: up after {seconds:.1f} s" if seconds is not None else f"{machine.name}: up")

    def _say(self, line: str) -> None:
        if self.terminal is not None and self.config.option.verbose >= 0:
            if self.terminal._tw.width_of_current_line:
                self.terminal.write_line("")
            self.terminal.write_line(line)

    # ---- verdicts

    def _verdict(self, machine: Machine, status: Status) -> tuple[str, str]:
        """Return verdict and reason for a machine that went down unasked."""
        if status.boot_seconds is None:
            return "boot failed", status.reason or "the process that runs the machine was killed"
        if machine.hung:
            return "hung", machine.hung
        if status.state != "down":
            return "vm lost", "the process that runs the machine was killed"
        if status.reason.startswith("QEMU "):
            return "vm lost", status.reason
        return "crashed", status.reason or "the guest's Python ended without a word"

    def _culprit(self, machine: Machine) -> tuple[str | None, str]:
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

    def _report(self, machine: Machine, nodeid: str | None, verdict: str, reason: str) -> None:
        """Emit one failed report."""
        machine.verdict, machine.reason = verdict, reason
        text = [f"{verdict}: {reason}", f"kernel {machine.kernel.name}, console {files.shown(machine.console)}"]
        output = machine.console_text()
        splats = find_splats(output)
        if verdict != "not run":
            text.append(splats[-1].text if splats and verdict == "crashed" else console.tail(output, 25))
        self._emit(
            nodeid or f"machine[{machine.name}]::{verdict.replace(' ', '-')}",
            machine.kernel.name,
            verdict,
            "\n".join(text),
            machine.node,
            [list(dataclasses.astuple(splat)) for splat in splats],
        )

    def _emit(
        self,
        nodeid: str,
        label: str,
        verdict: str,
        text: str,
        node: WorkerController | None = None,
        splats: Sequence[Sequence[str]] = (),
    ) -> None:
        item = self.host_items.get(nodeid)
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
            splats=splats,
        )
        if node is not None:
            report.node = node  # type: ignore[attr-defined]
        self.complete.add(nodeid)
        self.tested.add(label)
        self.config.hook.pytest_runtest_logreport(report=report)
        self._handlefailures(report)

    def expected(self, label: str) -> list[str]:
        """Return the ids of the tests to be reported for a kernel: those that its guests or the host collected."""
        return list(dict.fromkeys([*(self.sched.shares[label].collected or ()), *self.host_tests[label]]))

    def _report_splats_outside_tests(self) -> None:
        """What a kernel complained of while it booted, or after the last test, is no test's and no less bad.

        Machines that died have been reported with all that was on their consoles.
        """
        seen: set[tuple[str, str]] = set()
        for machine in self.machines.values():
            machine.ended(_SECONDS_TO_LEAVE)
            if machine.verdict:
                continue
            log = console.split(machine.console_text())
            for when, text in (("before its first test", log.boot), ("after its last test", log.after)):
                splats = [s for s in find_splats(text) if (machine.kernel.name, s.fingerprint) not in seen]
                seen |= {(machine.kernel.name, splat.fingerprint) for splat in splats}
                if splats:
                    titles = "; ".join(splat.title for splat in splats)
                    self._emit(
                        f"machine[{machine.name}]::{when.replace(' ', '-')}",
                        machine.kernel.name,
                        "failed",
                        "\n".join([f"the kernel complained {when}: {titles}", *(splat.text for splat in splats)]),
                        machine.node,
                        [list(dataclasses.astuple(splat)) for splat in splats],
                    )

    def _report_missing(self) -> None:
        """Every test of every kernel that nobody reported becomes a failure."""
        for label, share in self.sched.shares.items():
            collected = None if share.collected is None else set(share.collected)
            for test in self.expected(label):
                reason = share.closed or f"no machine of {label} reported it"
                if collected is not None and test not in collected:
                    reason = f"collected on the host, but not in the guest ({label})"
                if test not in self.complete:
                    self._emit(test, label, "not run", f"not run: {reason}")
                    self.tested.add(label)
            if label not in self.tested and self.expected(label):
                # All skipped is no result, and certainly no good one.
                text = f"not run: every test of {label} was skipped, see the reasons above"
                self._emit(f"machine[{label}]::not-run", label, "not run", text)
