"""What the host knows of the machines of a run: the plan, and each machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vm.base import files
from vm.guest import internals
from vm.guest.internals import WorkerController
from vm.kernels.spec import Kernel
from vm.machine import log_file
from vm.machine.accel import Accelerator
from vm.machine.vm import Status, Vm
from vm.machine.witness import Testimony
from vm.results.model import Verdict
from vm.run import said as guests
from vm.run import stalls
from vm.run.deadlines import Deadlines

# What a machine that was told to end may take (vm/machine/relay.py gives it two).
_SECONDS_TO_LEAVE = 5.0
# What its parent may take to write down what it said.
_SECONDS_TO_WRITE = 5.0
# Seconds after which what a machine's parent said last is no longer taken for the present.
_STALE = 5.0


@dataclass
class Machine:
    """One virtual machine of the run, alive or not.

    Attributes:
        kernel: what it runs.
        name: unique within the run, also the name of its directory.
        directory: holds its console, status and the like.
        node: xdist's handle.
        only: id of the one test it was started for, empty when it takes what comes.
        running: id of the test it is on, as far as it said.
        since: time of its last word, by the session's clock.
        begun: monotonic time at which its test began.
        lost_before: seconds it had been kept from running by then.
        reports: of the test it is on, which are held back until the test is over.
        collected: whether it has told its tests.
        hung: why it was killed for silence, or empty.
        reported: whether its coming up was shown.
        verdict, reason: how it ended, when that was bad, or was found to be a stall of the host.
        stalled: that.
    """

    kernel: Kernel
    name: str
    directory: Path
    node: WorkerController
    only: str = ""
    running: str | None = None
    since: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    lost_before: float = 0.0
    reports: list[pytest.TestReport] = field(default_factory=list)
    collected: bool = False
    hung: str = ""
    reported: bool = False
    verdict: Verdict | None = None
    stalled: bool = False
    reason: str = ""
    _facts: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """What its process says of it."""
        return Status.load(self.directory)

    @property
    def testimony(self) -> Testimony | None:
        """What its process saw of the host."""
        return Testimony.load(self.directory)

    def facts(self, *, wait: bool = False) -> dict[str, Any]:
        """Return what the guest told of itself when its pytest began; empty when it has not.

        Args:
            wait: for what it has told, and its parent has perhaps not yet written down.
        """
        end = time.monotonic() + _SECONDS_TO_WRITE * wait
        while not self._facts:
            with contextlib.suppress(OSError, ValueError):
                self._facts = guests.facts(json.loads((self.directory / "guest.json").read_text()))
            if self._facts or time.monotonic() >= end:
                break
            time.sleep(0.01)
        return self._facts

    def begin(self, nodeid: str) -> None:
        """It says that it begins a test."""
        self.running = nodeid
        self.begun = time.monotonic()
        self.reports.clear()
        if (said := self.testimony) is not None:
            self.lost_before = said.lost

    def stall(self) -> float:
        """Return the seconds it was kept from running, when they explain what became of its test; else 0."""
        return stalls.seconds_lost(self.testimony, self.lost_before, time.monotonic() - self.begun)

    def silent(self) -> float:
        """Return the seconds it has been silent, by its parent's word, of the time it got from the host."""
        said = self.testimony
        # A parent that is stopped itself is no witness: its machine may have spoken.
        return said.silent if said is not None and time.monotonic() - said.at < _STALE else 0.0

    @property
    def console(self) -> Path:
        """The file with its serial console."""
        return self.directory / "console.log"

    def console_text(self) -> str:
        """What is on its console so far; of a flooded one the beginning and the end."""
        return log_file.text(self.console)

    @property
    def gone(self) -> bool:
        """Whether the process that is its parent, and with it the machine, has ended."""
        return internals.process_of(self.node).poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process that is the machine's parent."""
        internals.process_of(self.node).send_signal(number)

    def wait(self) -> None:
        """Wait for that process to end, a few seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            internals.process_of(self.node).wait(_SECONDS_TO_LEAVE)


@dataclass(frozen=True)
class Plan:
    """What to run on: everything the session needs to know of the command line.

    Attributes:
        kernels: in the order given.
        vms: machines a kernel at most.
        at_once: machines of all kernels together, at any time.
        accelerators: of each kernel, by its name.
        descriptions: what a VM of each kernel is, by the kernel's name; all but its own name and environment.
        directory: of the run's results.
        deadlines: of each kernel, by its name.
        restarts: machines a kernel may lose.
        told: by kernel, what its guests are told besides; values of JSON's types.
        needs_own_machine: says of a kernel and a test whether the test may take that kernel down.
        first: of each kernel, by its name, ids without the kernel of tests to run before all others, with their places.
    """

    kernels: Sequence[Kernel]
    vms: int
    at_once: int
    accelerators: Mapping[str, Accelerator]
    descriptions: Mapping[str, Vm]
    directory: Path
    deadlines: Mapping[str, Deadlines]
    restarts: int
    told: Mapping[str, Mapping[str, object]]
    needs_own_machine: Callable[[Kernel, pytest.Item], bool] = lambda _kernel, _item: False
    first: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def factor(self, kernel: Kernel) -> float:
        """Return what deadlines of its machines are multiplied with."""
        return self.accelerators[kernel.name].factor


def kernel_of_id(nodeid: str, labels: Iterable[str]) -> str | None:
    """Return which of ``labels`` a test id carries: ``x.py::test[6.12.94-sha256]`` has ``6.12.94``."""
    # A directory may have a bracket in its name.
    _, bracket, parameters = nodeid.partition("::")[2].partition("[")
    if bracket:
        # The longest first: one label may be the beginning of another.
        for label in sorted(labels, key=len, reverse=True):
            if parameters.startswith((f"{label}]", f"{label}-")):
                return label
    return None


def guest_environment(config: pytest.Config, has: Callable[[str], bool] = lambda _name: True) -> dict[str, str]:
    """Return variables for the guest's Python: the same modules as here, and no search for plugins.

    Args:
        config: of the controlling pytest.
        has: whether the guest has a distribution, by its name.
    """
    plugins = {
        str(getattr(plugin, "__name__", ""))
        for plugin, distribution in config.pluginmanager.list_plugin_distinfo()
        if getattr(plugin, "__name__", "") != "xdist.looponfail" and has(distribution.metadata["Name"])
    }
    return {
        "PYTHONPATH": files.python_path(),
        # Reading the metadata of every installed package takes a second over 9p.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": ",".join(sorted(filter(None, plugins))),
    }
