"""What one run found out, as plain data, and its JSON.

``results.json`` has everything of a run that came to its end. Its root object is a :class:`Run` with
``"schema": 3`` added. Each dataclass of this module is a JSON object with the same member names, a tuple is
an array, a :class:`Verdict` its text, an absent time or status ``null``. Members that have a default here may
be left out, and unknown ones are passed over, so that last quarter's results can be compared with today's: every schema
until this one is read. Whoever changes what a member means, or takes one away, raises ``SCHEMA``.

Times of day are ISO 8601 in UTC (``2026-11-23T11:45:02Z``), durations are seconds, paths are relative to the
directory of ``results.json`` where the file lies below it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from vm.base.decode import Mismatch, decode
from vm.base.errors import UsageError
from vm.klog.splats import Splat

SCHEMA = 3


class Verdict(str, Enum):
    """What became of one test on one kernel; of several phases of a test, the verdict that stands last here counts.

    Attributes:
        letter: where numbers of tests stand side by side, and in the line of progress.
        good: whether a run with this verdict can be a success; unknown is never good.
        pytests: whether pytest itself has this verdict, and shows it.
        ran: whether it says something about the kernel.
        column: its title in the table of a run.
    """

    letter: str
    good: bool
    pytests: bool
    ran: bool
    column: str

    PASSED = "passed", "", "good pytests ran"
    KNOWN = "known", "k", "good pytests ran"  # failed as expected: a known issue of this kernel
    SKIPPED = "skipped", "s", "good pytests ran"
    UNDECIDED = "undecided", "U", "ran"  # a failure that the table of known issues cannot place
    FAILED = "failed", "F", "pytests ran"
    NOT_RUN = "not run", "N", ""  # expected, and nobody reported it
    BUILD_FAILED = "build failed", "K", "", "no build"
    BOOT_FAILED = "boot failed", "B", "", "no boot"
    VM_LOST = "vm lost", "L", "", "lost"  # the VM ended from outside: not the kernel's doing
    HUNG = "hung", "H", "ran"  # the VM was given up at its deadline
    CRASHED = "crashed", "C", "ran"  # the kernel died

    def __new__(cls, text: str, letter: str, flags: str, column: str = "") -> Verdict:
        """Make a member of a row of the table."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.letter = letter
        member.good, member.pytests, member.ran = (flag in flags.split() for flag in ("good", "pytests", "ran"))
        member.column = column or text
        return member

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        # Until schema 2.
        return cls.KNOWN if value == "xfailed" else None

    @property
    def rank(self) -> int:
        """How much it weighs."""
        return list(Verdict).index(self)

    @property
    def colour(self) -> str:
        """Of its word in a terminal, as pytest names colours."""
        return "green" if self is Verdict.PASSED else "yellow" if self.good else "red"


@dataclass(frozen=True)
class Property:
    """Something a test wants to be known of what it found (pytest's ``record_property``)."""

    name: str
    value: str


@dataclass(frozen=True)
class TestResult:
    """One test on one kernel.

    Attributes:
        test: id without the kernel, the same on every kernel: ``tests/test_hash.py::test_digest[sha256]``.
        nodeid: pytest's own id, with the kernel.
        verdict: what became of it.
        seconds: setup, call and teardown together.
        reason: one line: why it failed, was skipped, or what killed the machine.
        absence: class of what the reason says is lacking (vm/results/absence.py), empty where it is no such reason.
        details: the whole traceback or report.
        kernel_log: what the kernel logged during the test.
        splats: the complaints of the kernel among that.
        rerun: command that runs exactly this test on this kernel.
        worker: name of the xdist worker that ran it.
        vm: name of the :class:`VM` it ran in.
        known_issue: the known issue that explains it, empty when none does.
        properties: what the test recorded.
        began: time of day, empty when nobody said that it began.
    """

    __test__: ClassVar[bool] = False  # pytest: not a class of tests

    test: str
    nodeid: str
    verdict: Verdict
    seconds: float = 0.0
    reason: str = ""
    absence: str = ""
    details: str = ""
    kernel_log: str = ""
    splats: tuple[Splat, ...] = ()
    rerun: str = ""
    worker: str = ""
    vm: str = ""
    known_issue: str = ""
    properties: tuple[Property, ...] = ()
    began: str = ""


@dataclass(frozen=True)
class VM:
    """One virtual machine that was started.

    Attributes:
        name: unique within the run: ``6.12.94-0``.
        console: path of its console's text.
        state: how it ended: ``down``, ``crashed``, ``hung``, ``boot failed``, ``stalled``.
        reason: one line, why it ended like that.
        boot_seconds: from starting QEMU until it took tests, None when it never did.
        resumed: whether it did not boot for it, but went on from a machine that was saved.
    """

    name: str
    console: str = ""
    state: str = ""
    reason: str = ""
    boot_seconds: float | None = None
    resumed: bool = False


@dataclass(frozen=True)
class Stall:
    """The host kept a VM from running, and what it did then was not taken for a verdict.

    Attributes:
        vm: name of the :class:`VM`.
        test: id of the test it was in, or words for what it was doing; the test ran again on a fresh VM.
        seconds: how long.
        instead: what it would have been called: the verdict and its reason.
    """

    vm: str
    test: str
    seconds: float
    instead: str


@dataclass(frozen=True)
class KernelRun:
    """Everything about one kernel of the run.

    Attributes:
        name: short label, unique within the run, part of its tests' ids.
        spec: what the user asked for.
        release: ``uname -r`` as the guest said.
        version: full version of the package it comes from.
        accelerator: ``kvm``, ``tcg``, or empty for the running kernel.
        accelerator_reason: why that one.
        boot_seconds: of each boot, in order; machines that were resumed have none.
        processor, processor_flags: as the guest's /proc/cpuinfo names them; which drivers are there depends on them.
        cmdline: ``/proc/cmdline`` of the guest.
        config: path of its .config.
        proc_crypto: path of its ``/proc/crypto``, or that text itself; of all its machines together.
        taint: ``/proc/sys/kernel/tainted`` at the end, a bit mask; of all its machines together.
        reason: one line: why it could not be built or booted, empty when it could.
        architecture: ``uname -m`` of it: ``x86_64``.
        banner: ``/proc/version`` of the guest, which has the compiler.
        commit: that it was built from, as its own release tells (CONFIG_LOCALVERSION_AUTO): its digits, all 40 where
            the tree was at hand, with ``-dirty`` where that had changes. Empty when the release does not tell.
        selected: of a run that took a part of the tests (``--shard``), the ids of all parts; else empty.
        vms: every machine that was started for it.
        tests: every test expected on it, in order.
        stalls: of the host, in order.
    """

    name: str
    spec: str
    release: str = ""
    version: str = ""
    accelerator: str = ""
    accelerator_reason: str = ""
    boot_seconds: tuple[float, ...] = ()
    processor: str = ""
    processor_flags: str = ""
    cmdline: str = ""
    config: str = ""
    proc_crypto: str = ""
    taint: int = 0
    reason: str = ""
    architecture: str = ""
    banner: str = ""
    commit: str = ""
    selected: tuple[str, ...] = ()
    vms: tuple[VM, ...] = ()
    tests: tuple[TestResult, ...] = ()
    stalls: tuple[Stall, ...] = ()

    @property
    def compiler(self) -> str:
        """Name and version of the compiler it was built by, empty when its banner does not tell."""
        found = re.search(r"\) \((.*), (?:GNU ld|LLD|ld)\b", self.banner)
        return found[1] if found else ""

    def counts(self) -> Counter[Verdict]:
        """Return how many tests have each verdict."""
        return Counter(test.verdict for test in self.tests)

    @property
    def good(self) -> bool:
        """Whether it can be called tested and well: some test ran, and none ended badly."""
        return bool(self.tests) and all(test.verdict.good for test in self.tests)


@dataclass(frozen=True)
class Host:
    """The machine that ran it: operating system, and the versions of what judged."""

    os: str = ""
    python: str = ""
    qemu: str = ""
    pytest: str = ""
    xdist: str = ""
    virtme_ng: str = ""


@dataclass(frozen=True)
class Run:
    """One whole run.

    Attributes:
        id: its name, unique on this machine; also that of its directory.
        started: time of day.
        finished: time of day, None while it is running or when it was killed.
        command: the command line, word by word.
        exit_status: pytest's, None when it did not come to one.
        host: what it ran on.
        revision: of this suite, as ``git describe`` says.
        shard: which part of the tests it took, ``2/5``; empty for all, and for the parts together.
        kernels: in the order asked for.
    """

    id: str
    started: str
    finished: str | None = None
    command: tuple[str, ...] = ()
    exit_status: int | None = None
    host: Host = Host()
    revision: str = ""
    shard: str = ""
    kernels: tuple[KernelRun, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: pytest's, 1 where a verdict is bad that pytest did not know of, 2 when it was cut off."""
        if self.finished is None or self.exit_status is None:
            return 2
        bad = any(not kernel.good and not self.left_out(kernel) for kernel in self.kernels)
        return self.exit_status or int(bad or not self.kernels)

    def left_out(self, kernel: KernelRun) -> bool:
        """Whether no test was chosen on that kernel (``-k``): the run went to its end, and expected none of it."""
        return not kernel.tests and not kernel.reason and self.exit_status in (0, 1)


def dump(run: Run) -> str:
    """Return ``run`` as the text of a ``results.json``."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(run)}, indent=1) + "\n"


def load(path: Path) -> Run:
    """Read a ``results.json``.

    Raises:
        UsageError: it cannot be read, is not JSON, of a newer schema, or not of this one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give the results.json of a run") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"expected JSON in {path}, found no UTF-8; give the results.json of a run") from error
    return parse(text, str(path))


def parse(text: str, name: str = "results.json") -> Run:
    """Return the run that :func:`dump` made ``text`` of; ``name`` says in errors where it came from.

    Raises:
        UsageError: as :func:`load`.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected JSON in {name}: {error}; give the results.json of a run") from error
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if type(schema) is not int:
        raise UsageError(f'expected an object with "schema": {SCHEMA} in {name}; give the results.json of a run')
    if not 1 <= schema <= SCHEMA:
        raise UsageError(unreadable(name, schema, SCHEMA))
    try:
        return typing.cast(Run, decode(Run, data, "run"))
    except Mismatch as error:
        raise UsageError(f"{name} does not keep to schema {SCHEMA}: {error}; run the tests again") from None


def unreadable(name: str, schema: object, newest: int) -> str:
    """Return words for a file of a schema that is not known here."""
    return f"{name} has schema {schema}, this revision reads schemas 1 to {newest}; use the one that wrote it"
