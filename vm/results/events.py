"""The stream of a run: ``events.jsonl``, one event a line, written as things happen and never changed.

Everything else about a run is made of it: a :class:`Run` is its fold, of a run that came to its end and of one that was
killed. Each line is a JSON object; ``"event"`` names its kind, the other members are those of the kind's class below,
in the form of vm/results/model.py. Unknown kinds and members are passed over, and so is a line that was not finished
when the host died. ``"schema"`` in the first line is raised when the meaning of a member changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vm.base.command import say
from vm.base.decode import Mismatch, decode
from vm.base.errors import UsageError
from vm.results import model
from vm.results.model import VM, Host, KernelRun, Run, Stall, TestResult, Verdict

SCHEMA = 2
NAME = "events.jsonl"
CUT_OFF = "the run was cut off"
_SYNC_EVERY = 5.0


@dataclass(frozen=True)
class RunBegan:
    """Members as of :class:`Run`."""

    event: ClassVar[str] = "run began"

    id: str
    started: str
    command: tuple[str, ...] = ()
    host: Host = field(default_factory=Host)
    revision: str = ""
    shard: str = ""


@dataclass(frozen=True)
class KernelSeen:
    """What is known of a kernel, without its VMs, tests and stalls: when the run begins, a guest told, the run ends."""

    event: ClassVar[str] = "kernel"

    kernel: KernelRun


@dataclass(frozen=True)
class Collected:
    """Tests that are to be reported for a kernel; a later one adds to them.

    Attributes:
        kernel: its name.
        tests: ids of pytest, without the kernel; ``nodeids`` are those with it, in the same order.
    """

    event: ClassVar[str] = "collected"

    kernel: str
    tests: tuple[str, ...]
    nodeids: tuple[str, ...]


@dataclass(frozen=True)
class Selected:
    """Of a run that takes a part of the tests (``--shard``): the ids of all parts, without the kernel."""

    event: ClassVar[str] = "selected"

    kernel: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class VmSeen:
    """A VM was started, is up, or ended: the last one counts."""

    event: ClassVar[str] = "vm"

    kernel: str
    vm: VM
    time: str = ""


@dataclass(frozen=True)
class TestBegan:
    """A VM began a test."""

    __test__: ClassVar[bool] = False  # pytest: not a class of tests
    event: ClassVar[str] = "test began"

    kernel: str
    nodeid: str
    vm: str = ""
    time: str = ""


@dataclass(frozen=True)
class TestEnded:
    """A test has a verdict; a later one for the same test replaces it."""

    __test__: ClassVar[bool] = False
    event: ClassVar[str] = "test ended"

    kernel: str
    result: TestResult
    time: str = ""


@dataclass(frozen=True)
class Stalled:
    """The host kept a VM from running."""

    event: ClassVar[str] = "stalled"

    kernel: str
    stall: Stall


@dataclass(frozen=True)
class Refused:
    """The kernel lacks what every test needs: that is one verdict, and no test of it is missing."""

    event: ClassVar[str] = "refused"

    kernel: str


@dataclass(frozen=True)
class RunEnded:
    """Members as of :class:`Run`."""

    event: ClassVar[str] = "run ended"

    finished: str
    exit_status: int


Event = RunBegan | KernelSeen | Collected | Selected | VmSeen | TestBegan | TestEnded | Stalled | Refused | RunEnded
_KINDS: Mapping[str, type[Event]] = {
    kind.event: kind
    for kind in (RunBegan, KernelSeen, Collected, Selected, VmSeen, TestBegan, TestEnded, Stalled, Refused, RunEnded)
}


class Fold:
    """Takes events in order; what they come to so far is a :class:`Run`."""

    def __init__(self) -> None:
        self.began = RunBegan("", "")
        self.ended: RunEnded | None = None
        self.kernels: dict[str, KernelRun] = {}
        self.expected: dict[str, dict[str, str]] = {}
        self.selected: dict[str, tuple[str, ...]] = {}
        self.running: dict[str, TestBegan] = {}
        self.began_at: dict[str, str] = {}
        self.tests: dict[str, dict[str, TestResult]] = {}
        self.vms: dict[str, dict[str, VM]] = {}
        self.stalls: dict[str, list[Stall]] = {}
        self.refused: set[str] = set()

    def take(self, event: Event) -> None:
        """Add one."""
        match event:
            case RunBegan():
                self.began = event
            case RunEnded():
                self.ended = event
            case KernelSeen():
                self.kernels[event.kernel.name] = event.kernel
            case Collected():
                self.expected.setdefault(event.kernel, {}).update(zip(event.nodeids, event.tests, strict=False))
            case Selected():
                self.selected[event.kernel] = event.tests
            case VmSeen():
                self.vms.setdefault(event.kernel, {})[event.vm.name] = event.vm
            case TestBegan():
                self.running[event.nodeid] = event
                self.began_at[event.nodeid] = event.time
            case TestEnded():
                self.running.pop(event.result.nodeid, None)
                self.tests.setdefault(event.kernel, {})[event.result.nodeid] = event.result
            case Stalled():
                self.stalls.setdefault(event.kernel, []).append(event.stall)
            case Refused():
                self.refused.add(event.kernel)

    def run(self) -> Run:
        """Return the run so far: one without an end was cut off, and its missing tests are not run."""
        began, ended = self.began, self.ended
        # A disk that was full may have lost what was said of a kernel, but not its verdicts.
        names = dict.fromkeys([*self.kernels, *self.expected, *self.tests])
        return Run(
            id=began.id,
            started=began.started,
            finished=ended.finished if ended else None,
            command=began.command,
            exit_status=ended.exit_status if ended else None,
            host=began.host,
            revision=began.revision,
            shard=began.shard,
            kernels=tuple(self._kernel(self.kernels.get(name) or KernelRun(name, name)) for name in names),
        )

    def _kernel(self, kernel: KernelRun) -> KernelRun:
        tests = dict(self.tests.get(kernel.name, {}))
        for nodeid, test in self.expected.get(kernel.name, {}).items():
            if nodeid not in tests and kernel.name not in self.refused:
                tests[nodeid] = self._missing(nodeid, test)
        return dataclasses.replace(
            kernel,
            selected=() if kernel.name in self.refused else self.selected.get(kernel.name, ()),
            vms=tuple(self.vms.get(kernel.name, {}).values()),
            tests=tuple(map(self._timed, tests.values())),
            stalls=tuple(self.stalls.get(kernel.name, ())),
        )

    def _timed(self, test: TestResult) -> TestResult:
        began = self.began_at.get(test.nodeid, "")
        return dataclasses.replace(test, began=began) if began and not test.began else test

    def _missing(self, nodeid: str, test: str) -> TestResult:
        if (begun := self.running.get(nodeid)) is not None:
            return TestResult(test, nodeid, Verdict.NOT_RUN, reason=f"{CUT_OFF} while it ran", vm=begun.vm)
        return TestResult(test, nodeid, Verdict.NOT_RUN, reason=f"{CUT_OFF} before it")


class Stream:
    """Writes the events of a run, each at once.

    A disk that is full loses events and no more: ``trouble`` says so, and what is written next stands in a line of its
    own.

    Args:
        path: of the stream; it does not exist, or has what a run that is resumed wrote.
        every: whether each event is on the disk before the next: the machine may go down at any time.
        tell: told of each event that is taken.
    """

    def __init__(self, path: Path, *, every: bool = False, tell: Callable[[Event], None] | None = None) -> None:
        self.path = path
        self.every = every
        self.tell = tell
        self.fold = Fold()
        self.trouble = ""
        self._torn = False
        self._synced = time.monotonic()
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self.trouble = f"cannot write {path}: {error.strerror}"

    def add(self, event: Event) -> None:
        """Take an event and write it down."""
        self.fold.take(event)
        line = encode(event).encode(errors="backslashreplace")
        try:
            self._write(b"\n" + line if self._torn else line)
        except OSError as error:
            self.trouble = self.trouble or f"cannot write {self.path}: {error.strerror}"
        if self.tell is not None:
            self.tell(event)

    def close(self) -> None:
        """Have what was written on the disk."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            return
        self._torn = True
        while line:
            line = line[os.write(self._descriptor, line) :]
        self._torn = False
        # For a host that dies. Not after every event: that would be thousands of times.
        if self.every or time.monotonic() - self._synced > _SYNC_EVERY:
            os.fdatasync(self._descriptor)
            self._synced = time.monotonic()


def encode(event: Event) -> str:
    """Return the line of an event, with its newline."""
    schema = {"schema": SCHEMA} if isinstance(event, RunBegan) else {}
    return json.dumps({"event": event.event, **schema, **dataclasses.asdict(event)}) + "\n"


def fold(lines: Iterable[str], name: str) -> Run:
    """Return the run that a stream comes to."""
    return folded(lines, name).run()


def folded(lines: Iterable[str], name: str) -> Fold:
    """Return what a stream comes to.

    Args:
        lines: of the stream; those that are no event are passed over.
        name: says in errors where they come from.

    Raises:
        UsageError: it is no stream of a run, or of a newer schema.
    """
    found, began = Fold(), False
    for line in lines:
        try:
            said: Any = json.loads(line)
        except ValueError:
            continue
        kind = _KINDS.get(str(said.pop("event", ""))) if isinstance(said, dict) else None
        if kind is None:
            continue
        if kind is RunBegan and (schema := said.get("schema", 0)) not in range(1, SCHEMA + 1):
            raise UsageError(model.unreadable(name, schema, SCHEMA))
        try:
            found.take(decode(kind, said, kind.event))
            began = began or kind is RunBegan
        except Mismatch as error:
            if kind is TestEnded and isinstance(said.get("kernel"), str):
                found.take(_unreadable(said, str(error)))
    if not began:
        raise UsageError(f"no run began in {name}; give the directory of a run")
    return found


def _unreadable(said: dict[str, Any], why: str) -> TestEnded:
    """Return the end of a test of which no verdict can be read: unknown is never good."""
    result = said.get("result")
    ids = result if isinstance(result, dict) else {}
    nodeid = str(ids.get("nodeid", "unreadable"))
    return TestEnded(
        said["kernel"],
        TestResult(str(ids.get("test", nodeid)), nodeid, Verdict.NOT_RUN, reason=f"its verdict cannot be read: {why}"),
    )


def load(path: Path) -> Run:
    """Return a run from its directory, its ``results.json`` or its stream, whole or cut off.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    place = _directory(path)
    stream = place / NAME
    cut_off = stream.exists() and not (place / "results.json").exists()
    if path.name == NAME or (cut_off and (path.is_dir() or path.name == "results.json")):
        try:
            with open(stream, encoding="utf-8", errors="replace") as lines:
                return fold(lines, str(stream))
        except OSError as error:
            raise UsageError(f"cannot read {stream}: {error.strerror}; give the directory of a run") from error
    return model.load(path / "results.json" if path.is_dir() else path)


def load_all(paths: Sequence[Path]) -> list[tuple[Path, Run]]:
    """Return several runs, each with its directory and once: ``results/*`` has one by the name ``latest`` too.

    Of several, a directory without a run is passed over: that of one which is just starting.

    Raises:
        UsageError: one of them cannot be read, or there is none.
    """
    once: dict[Path, Path] = {}
    for path in paths:
        place = path.resolve()
        if len(paths) > 1 and place.is_dir() and not any((place / name).exists() for name in (NAME, "results.json")):
            say(f"{path} has no run, or none that began: passed over")
            continue
        once.setdefault(_directory(place) if place.is_dir() or place.name in (NAME, "results.json") else place, path)
    if not once:
        raise UsageError(f"no run in any of {len(paths)} directories; give those of runs")
    return [(_directory(path.resolve()), load(path)) for path in once.values()]


def _directory(path: Path) -> Path:
    return path if path.is_dir() else path.parent
