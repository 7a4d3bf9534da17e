"""The tests of a run of teeth, in a guest: each puts one changed module in and runs the suite's tests against it.

Collected only by ``python -m vm teeth``. What each found is in its properties, which vm/teeth/report.py reads; a
verdict here says whether what was expected came.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vm.guest.worker import GuestPlugin
from vm.klog import taint
from vm.teeth import reach, zygote
from vm.teeth.changes import Mutant
from vm.teeth.modules import Spent, replaced
from vm.teeth.plan import Bite, Bites, Order, load

Record = Callable[[str, object], None]

# Under KVM, like every deadline: until the suite is collected, and what one test may take with its fixtures.
_COLLECT = 60.0
_ONE_TEST = 20.0
# All tests of a proof's folders have to run, and those of a bug that hangs do so until their deadline.
_PROOF = 60.0
# The tests of one folder, to see what each reaches.
_COUNT = 600.0
# Until a killed process is gone.
_DIES = 10.0


@dataclass
class Outcome:
    """What the tests of one mutant did.

    Attributes:
        ran: how many ran.
        failures: tests that failed, each with its reason.
        cut: whether time was up before the last.
        seconds: that each test took.
        reached: what each test reached, where that was asked for.
    """

    ran: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    cut: bool = False
    seconds: dict[int, float] = field(default_factory=dict)
    reached: dict[int, dict[str, str]] = field(default_factory=dict)


class Forker:
    """The suite, collected in a process that forks (vm/teeth/zygote.py)."""

    def __init__(self, folders: Sequence[str], factor: float) -> None:
        self.factor = factor
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        # Descriptors of this worker, which the suite's process does not have.
        inherited = {name: value for name, value in os.environ.items() if name not in ("VM_STATUS_FD", "VM_STDERR_FD")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "vm.teeth.zygote", "-p", "no:cacheprovider", "-q", *folders],
            env={**inherited, zygote.ENVIRONMENT: f"{commands},{answers},{factor}"},
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        os.close(commands)
        os.close(answers)
        self.buffer = b""
        self.child = 0
        said = self._next(_COLLECT * factor)
        self.tests: list[str] = [nodeid for nodeid, _ in said[1]]
        self.fixes: list[list[str]] = [fixes for _, fixes in said[1]]

    def run(self, numbers: Sequence[int], stop: bool, seconds: float, count: bool = False) -> Outcome:
        """Run tests in a fork, until the first failure when ``stop``, and for at most ``seconds``.

        With ``count`` it is noted what each reaches, in modules that tell.

        Raises:
            Spent: a test cannot be killed.
        """
        outcome = Outcome()
        os.write(self.commands, json.dumps({"tests": list(numbers), "stop": stop, "count": count}).encode() + b"\n")
        ends = time.monotonic() + seconds
        current: int | None = None
        began = time.monotonic()
        while True:
            try:
                said = self._next(_ONE_TEST * self.factor)
            except TimeoutError:
                if current is not None:
                    outcome.failures[current] = "it hangs"
                self._kill()
                return outcome
            match said:
                case ["child", int(process)]:
                    self.child = process
                case ["start", int(number)]:
                    if current is not None:
                        outcome.seconds[current] = time.monotonic() - began
                    current, began = number, time.monotonic()
                    if time.monotonic() > ends:
                        outcome.cut = True
                        self._kill()
                        return outcome
                    outcome.ran += 1
                case ["reached", int(number), dict(flags)]:
                    outcome.reached[number] = flags
                case ["failed", int(number), str(reason)]:
                    outcome.failures[number] = reason
                case ["end"]:
                    if current is not None:
                        outcome.seconds[current] = time.monotonic() - began
                    return outcome

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)
        try:
            while self._next(_DIES * self.factor) != ["end"]:
                pass
        except TimeoutError:
            raise Spent("a test cannot be killed") from None

    def _next(self, seconds: float) -> list[Any]:
        ends = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise TimeoutError(f"no answer in {seconds:g} s; {self._said()}")
            data = os.read(self.answers, 65536)
            if not data:
                raise RuntimeError(f"the suite ended: {self._said()}")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        words: list[Any] = json.loads(line)
        return words

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-2000:].decode(errors="replace")

    def close(self) -> None:
        """End it."""
        os.close(self.commands)
        self.process.wait(60)
        os.close(self.answers)
        self.log.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a mutant."""
    plan = load(Path(metafunc.config.getoption("vm_teeth")))
    params = [pytest.param(bite, id=bite.mutant.name, marks=_deadline(bite, plan)) for bite in plan.bites]
    metafunc.parametrize("bite", params)


def _deadline(bite: Bite, plan: Bites) -> pytest.MarkDecorator:
    return pytest.mark.deadline(_seconds(bite, plan) + _ONE_TEST + 2 * _DIES + _COLLECT)


def _seconds(bite: Bite, plan: Bites) -> float:
    if bite.counts:
        return _COUNT
    return max(plan.seconds, _PROOF) if bite.mutant.fix else plan.seconds


@pytest.fixture(scope="session")
def plan(request: pytest.FixtureRequest) -> Bites:
    """What this run is."""
    return load(Path(request.config.getoption("vm_teeth")))


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest) -> GuestPlugin:
    """The plugin of this worker: modules, sysctls, and what deadlines are multiplied by."""
    found: Any = request.config.pluginmanager.get_plugin("vm-guest")
    assert isinstance(found, GuestPlugin)
    return found


@pytest.fixture(scope="session")
def forker(plan: Bites, guest: GuestPlugin) -> Iterator[Forker]:
    """The suite: whatever some mutant's tests are."""
    places = {place.partition("::")[0] for bite in plan.bites for place in bite.mutant.tests} | {*plan.folders}
    outermost = [one for one in places if not any(one.startswith(f"{other}/") for other in places)]
    every = Forker(sorted(outermost), guest.factor)
    yield every
    every.close()


@pytest.fixture(scope="session")
def order(forker: Forker, plan: Bites) -> Order:
    """Learns while mutants are tested."""
    found = Order(forker.tests, known=plan.known)
    for test, seconds in zip(plan.known, plan.took, strict=True):
        found.takes(test, seconds)
    return found


@pytest.fixture(autouse=True)
def _complaints_are_theirs(guest: GuestPlugin) -> Iterator[None]:
    """What the kernel says when a mutant is taken out is not this test's failure either."""
    yield
    guest.log.read()


@pytest.fixture
def _changed(bite: Bite, plan: Bites, guest: GuestPlugin) -> Iterator[None]:
    """Put a mutant in. A machine that cannot let go of it ends here: its result is known by then."""
    before = taint.read()
    files = {name: Path(file) for name, file in bite.files}
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(files, guest.modules, guest.sysctls, pkgutil.resolve_name(plan.release)))
        yield
        try:
            if taint.read() & ~before:
                raise Spent("the kernel complained, and may be broken for the next")
            stack.close()
        except Spent as error:
            Path("/dev/kmsg").write_text(f"teeth: {error}\n")
            Path("/proc/sysrq-trigger").write_text("c")


@pytest.mark.usefixtures("_changed")
def test_mutant(
    bite: Bite, plan: Bites, guest: GuestPlugin, forker: Forker, order: Order, record_property: Record
) -> None:
    """Some test notices; for a fix, each that claims it; for an equivalent change and for none, no test.

    The kernel is changed after the suite, a fixture of the session, was collected.
    """
    mutant = bite.mutant
    if bite.counts:
        _count(bite, forker, order, guest.factor, record_property)
        guest.log.read()
        guest.taint = -1
        return
    claim = [number for number, fixes in enumerate(forker.fixes) if mutant.fix in fixes]
    outcome = forker.run(
        list(dict.fromkeys([*claim, *order.of(bite)])),
        stop=not plan.whole and bool(mutant.changes) and not mutant.fix,
        seconds=_seconds(bite, plan) * guest.factor,
    )
    for number in outcome.failures:
        order.learn(mutant, number)
    for number, seconds in outcome.seconds.items():
        order.took(number, seconds / guest.factor)
    noticed = {forker.tests[number]: reason for number, reason in outcome.failures.items()}
    record_property("ran", outcome.ran)
    record_property("cut", int(outcome.cut))
    record_property("noticed", json.dumps(noticed))
    # It was an inner test's failure, and is not this one's.
    guest.log.read()
    guest.taint = -1
    if mutant.fix:
        _judge_fix(mutant, {forker.tests[number] for number in claim}, set(noticed), outcome.cut)
    elif mutant.equivalent or not mutant.changes:
        assert not noticed, f"{next(iter(noticed))} notices: {next(iter(noticed.values()))}"
    else:
        assert noticed, f"no test notices, of {outcome.ran}"
    # Told apart from the verdict: that of a machine which then ends is worse.
    record_property("as_expected", 1)


def _count(bite: Bite, forker: Forker, order: Order, factor: float, record_property: Record) -> None:
    """Note what each test of a folder reaches."""
    outcome = forker.run(order.of(bite), stop=False, seconds=_COUNT * factor, count=True)
    found = {
        forker.tests[number]: (round(outcome.seconds[number] / factor, 4), flags)
        for number, flags in outcome.reached.items()
        if number in outcome.seconds
    }
    record_property("reached", reach.pack(found))
    assert not outcome.cut, f"time was up after {outcome.ran} tests"


def _judge_fix(mutant: Mutant, claim: set[str], failed: set[str], cut: bool) -> None:
    unshown = {nodeid for nodeid in claim for case, _ in mutant.unshown if nodeid.endswith(f"::{case}")}
    silent = sorted(claim - failed - unshown)
    others = sorted(nodeid for nodeid in failed - claim if not nodeid.startswith(mutant.also))
    assert claim, f"no test is marked with {mutant.fix}"
    assert not silent, f"does not notice: {silent[0]}" + (f", and {len(silent) - 1} more" if len(silent) > 1 else "")
    assert not others, f"notices as well: {others[0]}" + (f", and {len(others) - 1} more" if len(others) > 1 else "")
    assert not cut, "time was up before all tests had run"
