"""The VMs of a run: those at work, those that wait for room, and those that were let go and are not gone yet."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from vm.guest import internals
from vm.guest.internals import WorkerController
from vm.kernels.spec import Kernel
from vm.machine import own_root, saved
from vm.machine.vm import Vm, config_environment
from vm.run.machines import Machine, Plan, guest_environment
from vm.run.record import Recorder

# Seconds after which a VM that was let go is no longer waited for: its process is stopped, or worse.
_LEAVES_WITHIN = 10.0


class Pool:
    """Starts VMs as far as there is room, and lets them go. When, and what for, the session decides.

    Args:
        config: of the controlling pytest.
        plan: what is run on.
        recorder: told of each VM.
        clock: of the session.
        active: xdist's own set of the workers that are at work.
        put: takes the events of workers.

    Attributes:
        machines: every one that was started, by xdist's handle.
        kernel_of: name of its kernel.
        started: how many of each kernel.
        starting: the kernel of the VM that is being started, the one test it is for, or "", and what is booted.
        manager: xdist's, which starts workers.
    """

    def __init__(
        self,
        config: pytest.Config,
        plan: Plan,
        recorder: Recorder,
        clock: Callable[[], float],
        active: set[WorkerController],
        put: Callable[[tuple[str, dict[str, Any]]], None],
    ) -> None:
        self.config = config
        self.plan = plan
        self.recorder = recorder
        self.clock = clock
        self.active = active
        self.put = put
        self.machines: dict[WorkerController, Machine] = {}
        self.kernel_of: dict[Any, str] = {}
        # A run that is resumed has some already.
        self.started: dict[str, int] = {
            kernel.name: len(list(plan.directory.glob(f"vms/{kernel.name}-*"))) for kernel in plan.kernels
        }
        self.starting = (plan.kernels[0], "", plan.descriptions[plan.kernels[0].name])
        self.manager: Any = None
        self._queued: deque[tuple[Kernel, str]] = deque()
        # Since when.
        self._leaving: dict[WorkerController, float] = {}

    def __bool__(self) -> bool:
        """Whether a VM is at work, or waits for room."""
        return bool(self.active or self._queued)

    def start(self, kernel: Kernel, only: str = "") -> None:
        """Start a VM, when there is room for it.

        Args:
            kernel: to boot.
            only: id of the one test it is for; "" when it takes what comes.

        Raises:
            pytest.UsageError: its directory cannot be written.
        """
        if self._occupied() < self.plan.at_once:
            self._start_now(kernel, only)
        else:
            self._queued.append((kernel, only))

    def next(self) -> tuple[Kernel, str] | None:
        """Take what waited longest off the queue, when there is room for it."""
        return self._queued.popleft() if self._queued and self._occupied() < self.plan.at_once else None

    def dismiss(self, node: WorkerController) -> None:
        """Let go of a VM: its process sees its input closed and ends it, after a moment for last words."""
        self.active.discard(node)
        self._leaving[node] = self.clock()
        with contextlib.suppress(OSError):
            node.ensure_teardown()

    def of(self, kernel: Kernel) -> list[WorkerController]:
        """Return the VMs of a kernel that are at work."""
        return [node for node in self.active if self.machines[node].kernel is kernel]

    def alive(self, kernel: Kernel) -> bool:
        """Whether a VM of a kernel is at work, or waits for room."""
        return bool(self.of(kernel)) or any(waiting is kernel for waiting, _ in self._queued)

    def meant(self) -> set[str]:
        """Return the ids of tests for which alone a VM is at work, or waits for room."""
        return {self.machines[node].only for node in self.active} | {only for _, only in self._queued}

    def drop_queued(self, kernel: Kernel | None = None) -> None:
        """Start none that wait for room: of a kernel, or none at all."""
        self._queued = deque(waiting for waiting in self._queued if kernel is not None and waiting[0] is not kernel)

    def _occupied(self) -> int:
        """Return how many VMs there are: those at work, and those that were let go and are not gone yet."""
        for node, since in list(self._leaving.items()):
            if self.machines[node].gone or self.clock() - since > _LEAVES_WITHIN:
                del self._leaving[node]
        return len(self.active) + len(self._leaving)

    def _description(self, kernel: Kernel, only: str) -> Vm:
        """Return what to boot; where no machine could be saved, one for a single test collects that alone."""
        description = self.plan.descriptions[kernel.name]
        if only and any(
            saved.COULD_NOT in each.status.note for each in self.machines.values() if each.kernel is kernel
        ):
            return dataclasses.replace(description, resumes=False)
        return description

    def _start_now(self, kernel: Kernel, only: str) -> None:
        self.started[kernel.name] += 1
        name = f"{kernel.name}-{self.started[kernel.name]}"
        directory = self.plan.directory / "vms" / name
        try:
            directory.mkdir(parents=True)
            description = self._description(kernel, only)
            has = own_root.has if description.images else lambda _name: True
            environment = guest_environment(self.config, has) | config_environment(kernel.config, directory)
            vm = dataclasses.replace(description, name=name, environment=environment)
            vm.save(directory)
            python = f"{shlex.quote(sys.executable)} -m vm.machine.relay {shlex.quote(str(directory))}"
        except OSError as error:
            raise pytest.UsageError(
                f"cannot write results: {error}; give another directory by --results DIR"
            ) from error
        # Ctrl-C goes to the whole process group: while blocked, it cannot meet that process unprepared.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        self.starting = (kernel, only, vm)
        try:
            node = internals.start_worker(self.manager, python, kernel.name, self.put)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Told by the guest when it is up; what reports say of a VM must not depend on that.
        node.workerinfo = {
            "id": name,
            "sysplatform": sys.platform,
            "version_info": sys.version_info[:3],
            "executable": "",
        }
        self.machines[node] = Machine(kernel, name, directory, node, only, since=self.clock())
        self.recorder.vm_began(self.machines[node])
        self.kernel_of[node] = kernel.name
        self.active.add(node)
