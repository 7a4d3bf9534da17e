"""From a test to a program that shows its fault: record, write, try, cut down, and try again where it matters.

A program is believed when it was tried: it shows its fault on the kernel on which the test is red, and says ``as
expected`` on a good one where that is given. Steps are left out by delta debugging in the guest (vm/guest/shorten.py).
Without a good kernel, what sets up a transform stays: without it, a program may well end the same way on every kernel.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.base.words import plural
from vm.reproducer import guest, record, writer
from vm.reproducer.check import Unsupported
from vm.reproducer.compile import DoesNotCompile, compiled
from vm.reproducer.fault import Fault, find, with_pseudo
from vm.reproducer.follow import CHILD, Use, follow
from vm.reproducer.guest import Machine, Outcome
from vm.reproducer.memory import Regions
from vm.reproducer.record import Recording

EXPECTED = "as expected"
_SETS_UP = ("socket", "bind", "setsockopt", "accept4", "accept", "fcntl", "mprotect", "mmap", "io_setup",
            "io_uring_setup", "pipe2", "memfd_create", "openat", "ftruncate")  # fmt: skip
_SHORTEN_SECONDS = 60


@dataclass
class Program:
    """One test's.

    Attributes:
        test: its id, without the kernel.
        outcome: how the test ended when it was recorded: ``passed``, ``failed``, ``skipped``, ``lost``.
        kernel: release of the kernel it was recorded on.
        fault: what it shows; None when nothing can be shown, and ``reason`` says why.
        text: the program.
        shown: what it said on that kernel; ``good`` what on the good one, None without one.
        steps: how many calls it makes, and how many it made before it was cut down.
        within: shell words before its command on that kernel, with which that becomes what the test is red on.
    """

    test: str
    outcome: str
    kernel: str = ""
    fault: Fault | None = None
    reason: str = ""
    text: str = ""
    shown: Outcome | None = None
    good: Outcome | None = None
    steps: tuple[int, int] = (0, 0)
    recording: Recording | None = field(default=None, repr=False)
    within: str = ""

    @property
    def works(self) -> bool:
        """Whether it shows what the test found, and nothing on a good kernel."""
        return not self.reason and self._shows(self.shown) and self.good_as_expected

    @property
    def good_as_expected(self) -> bool:
        """Whether it says so on the good kernel, as far as there is one."""
        return self.good is None or is_expected(self.good)

    def _shows(self, outcome: Outcome | None) -> bool:
        if outcome is None or self.fault is None:
            return False
        if self.outcome == "passed":
            return is_expected(outcome)
        return shows(outcome, self.fault)


def is_expected(outcome: Outcome) -> bool:
    """Say whether a program found nothing wrong."""
    return outcome.status == 0 and outcome.line == EXPECTED


def shows(outcome: Outcome, fault: Fault) -> bool:
    """Say whether a program showed its fault: by its line, or by taking the machine down where the test did."""
    return outcome.status == 1 or (outcome.status is None and fault.dies)


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        machine: with the kernel on which tests are red.
        good: one with a kernel on which they pass; None without.
        architecture: of both.
        named: what the kernel is called in the program.
        place: directory for what is made on the way; guests see it.
        whole: leave nothing out.
        passed: make programs of tests that passed as well.
    """

    machine: Machine
    good: Machine | None
    architecture: Architecture
    named: str
    place: Path
    whole: bool = False
    passed: bool = True
    fixes: Callable[[Sequence[str]], Sequence[str]] = lambda found: found


def programs(order: Order, tests: Sequence[str], arguments: Sequence[str], progress: Progress) -> list[Program]:
    """Record tests and make a program of each.

    Args:
        order: what and where.
        tests: ids without the kernel, or whatever selects them.
        arguments: further options for pytest.
        progress: told in one line each what is done.

    Raises:
        UsageError: nothing could be recorded.
    """
    progress(f"recording on {order.machine.spec}")
    lines = guest.record(order.machine, tests, arguments, order.place, progress)
    recordings = list(record.load(lines))
    if not recordings:
        raise UsageError(f"{order.machine.spec}: no test was run")
    theirs: dict[str, Recording] = {}
    unclear = [each.test for each in recordings if each.outcome == "failed" and not tells(each)]
    if order.good is not None and unclear:
        progress(f"recording {plural(len(unclear), 'test')} on {order.good.spec}")
        theirs = {each.test: each for each in record.load(guest.record(order.good, unclear, (), order.place, progress))}
    return of_recordings(order, recordings, theirs, progress)


def tells(recording: Recording) -> bool:
    """Say whether the test's own words are enough."""
    try:
        find(recording, with_pseudo(recording, follow(recording)))
    except Unsupported:
        return False
    return True


def of_recordings(
    order: Order,
    recordings: Sequence[Recording],
    theirs: Mapping[str, Recording],
    progress: Progress,
    within: Sequence[str] = (),
) -> list[Program]:
    """Make a program of each recording, try them, cut them down, and try them again.

    Args:
        order: what and where.
        recordings: of the tests.
        theirs: those of a good kernel, by test.
        progress: told in one line each what is done.
        within: of each recording the words that a command on its kernel begins with; none at all for none.
    """
    made = [_begun(each, theirs, order) for each in recordings]
    for program, words in zip(made, within, strict=False):
        program.within = words
    wanted = [each for each in made if not each.reason and (order.passed or each.outcome != "passed")]
    if not wanted:
        return made
    kept: dict[int, Sequence[Use]] = {}
    if not order.whole and (red := [each for each in wanted if each.outcome == "failed"]):
        progress(f"cutting down {plural(len(red), 'program')} on {order.machine.spec}")
        kept = _cut_down(order, red, progress)
    for number, program in enumerate(wanted):
        _finish(program, kept.get(id(program)), order, number)
    wanted = [each for each in wanted if not each.reason]
    _try(order, wanted, progress)
    # What was cut down too far says something else, there or on the good kernel: then it stays whole.
    again = [each for each in wanted if not each.works and id(each) in kept]
    for number, program in enumerate(again):
        _finish(program, None, order, number)
    if again:
        _try(order, again, progress)
    for program in wanted:
        if not program.works and not program.reason:
            program.reason = _what_it_did(program)
    return made


def _what_it_did(program: Program) -> str:
    if program.shown is None:
        return "it was not tried"
    if not program._shows(program.shown):
        if program.shown.status is None:
            return "it takes the machine down"
        return f"it says: {program.shown.line or 'nothing'} (status {program.shown.status})"
    good = program.good.line if program.good is not None else ""
    return f"on the good kernel it says: {good or 'nothing'}"


def _begun(recording: Recording, theirs: Mapping[str, Recording], order: Order) -> Program:
    program = Program(recording.test, recording.outcome, recording=recording)
    uses = with_pseudo(recording, follow(recording))
    other = theirs.get(recording.test)
    good = None
    if other is not None and other.outcome == "passed":
        good = (other, with_pseudo(other, follow(other)))
    try:
        program.fault = find(recording, uses, good)
        program.steps = (len(program.fault.uses), len(uses))
        if not program.fault.uses:
            raise Unsupported("the test makes no call that has to do with AF_ALG")
        program.text = writer.write(_plan(program, program.fault.uses, order))
    except Unsupported as error:
        program.reason = str(error)
    return program


def _plan(program: Program, uses: Sequence[Use], order: Order, masked: bool = False) -> writer.Plan:
    fault = program.fault
    assert fault is not None
    return writer.Plan(
        uses,
        {number: list(checks) for number, checks in fault.checks.items()},
        Regions(uses),
        header(program, order),
        complains=fault.complains,
        hang=fault.hang,
        masked=masked,
    )


def header(program: Program, order: Order) -> list[str]:
    """Return the comment at the beginning of a program."""
    recording = program.recording
    assert recording is not None
    assert program.fault is not None
    said = [" ".join(part.split()) for part in re.split(r"\n\s*\n", recording.doc.strip()) if part.strip()]
    lines = [program.test, ""]
    # What the test is about, and where its rule comes from.
    lines += said[:1] + [each for each in said[1:] if each.startswith("Source")]
    if program.outcome == "passed":
        lines.append(f"Recorded where it is right: {order.named}")
    else:
        lines.append(f"Seen on: {order.named}")
        lines.append(f"The test said: {program.fault.said}")
        if program.fault.source == "good kernel" and order.good is not None:
            lines.append(f"Expected is what {order.good.spec} does, where the test passes.")
    lines += [f"Fixed by: {each}" for each in order.fixes(recording.fixes)]
    how = "cc -pthread reproducer.c && ./a.out, as root, says 'as expected' and ends with 0, or what it got and with 1"
    return [*lines, "", f"{how}; with 2 when it does not come so far."]


def _masked(program: Program, order: Order, number: int) -> Path | None:
    """Return the program whose steps can be left out when it runs."""
    assert program.fault is not None
    source = order.place / f"masked-{number}.c"
    source.write_text(writer.write(_plan(program, program.fault.uses, order, masked=True)))
    compiled(source, source.with_suffix(""), order.architecture)
    return source.with_suffix("")


def _cut_down(order: Order, red: Sequence[Program], progress: Progress) -> dict[int, Sequence[Use]]:
    """Return which calls of each program are enough."""
    jobs: dict[str, str] = {}
    for number, program in enumerate(red):
        assert program.fault is not None
        try:
            binary = _masked(program, order, number)
        except (Unsupported, DoesNotCompile):
            continue  # it stays whole, where it can be written so
        protected = [] if order.good is not None else [
            place for place, use in enumerate(program.fault.uses) if use.event.call in _SETS_UP
        ]  # fmt: skip
        judged = [
            place
            for place, use in enumerate(program.fault.uses)
            if use.event.number in program.fault.checks or use.event.call == CHILD
        ]
        words = ["python", "-m", "vm.guest.shorten", str(binary), str(len(program.fault.uses)), str(_SHORTEN_SECONDS)]
        kept = [str(place) for place in sorted({*protected, *judged})]
        # The line is what it says when all steps are there.
        text = f'{shlex.join(words)} "$({shlex.quote(str(binary))} | tail -n 1)" {" ".join(kept)}'
        jobs[f"cut-{number}"] = f"{program.within}sh -c {shlex.quote(text)}"
    done = guest.run(order.machine, jobs, order.place, progress)
    found: dict[int, Sequence[Use]] = {}
    for number, program in enumerate(red):
        assert program.fault is not None
        outcome = done.get(f"cut-{number}")
        if outcome is not None and outcome.status == 0:
            dropped = {int(word) for word in outcome.line.split()}
            found[id(program)] = [use for place, use in enumerate(program.fault.uses) if place not in dropped]
    return found


def _finish(program: Program, uses: Sequence[Use] | None, order: Order, number: int) -> None:
    """Write and compile a program as it is to be."""
    assert program.fault is not None
    uses = program.fault.uses if uses is None else uses
    source = order.place / f"program-{number}.c"
    try:
        program.text = writer.write(_plan(program, uses, order))
        program.steps = (len(uses), program.steps[1])
        source.write_text(program.text)
        compiled(source, source.with_suffix(""), order.architecture)
    except (Unsupported, DoesNotCompile) as error:
        program.reason = str(error)


def _try(order: Order, wanted: Sequence[Program], progress: Progress) -> None:
    """Run programs on the kernel, and on the good one."""
    if not wanted:
        return
    binaries: dict[int, Path] = {}
    for number, program in enumerate(wanted):
        source = order.place / f"try-{number}.c"
        source.write_text(program.text)
        compiled(source, source.with_suffix(""), order.architecture)
        binaries[number] = source.with_suffix("")
    jobs = {f"try-{number}": shlex.quote(str(binary)) for number, binary in binaries.items()}
    progress(f"trying {plural(len(jobs), 'program')} on {order.machine.spec}")
    changed = {f"try-{number}": wanted[number].within + jobs[f"try-{number}"] for number in binaries}
    done = guest.run(order.machine, changed, order.place, progress)
    for number, program in enumerate(wanted):
        program.shown = done[f"try-{number}"]
    if order.good is None:
        return
    red = {number: program for number, program in enumerate(wanted) if program.outcome != "passed"}
    if red:
        progress(f"trying {plural(len(red), 'program')} on {order.good.spec}")
        done = guest.run(order.good, {f"try-{n}": jobs[f"try-{n}"] for n in red}, order.place, progress)
        for number, program in red.items():
            program.good = done[f"try-{number}"]


def table(made: Sequence[Program], good: str) -> str:
    """Return how many programs do what they are to do, and of the others each reason with its tests.

    Args:
        made: all of them.
        good: what the good kernel is called; empty without one.
    """
    lines = []
    for red in (True, False):
        those = [each for each in made if each.outcome != "skipped" and (each.outcome != "passed") == red]
        what = "show it" + (f", and say as expected on {good}" if good else "") if red else "say as expected"
        if those:
            tests = plural(len(those), "red test" if red else "passed test")
            lines.append(f"{sum(each.works for each in those)} of the programs of {tests} {what}")
    if skipped := sum(each.outcome == "skipped" for each in made):
        lines.append(f"{plural(skipped, 'test')} skipped: no program is made")
    return "\n".join([*lines, *reasons([(each.reason, each.test) for each in made if each.outcome != "skipped"])])


def reasons(found: Sequence[tuple[str, str]]) -> list[str]:
    """Return lines with each reason, what is most frequent first, and below it what it is of; an empty one is none."""
    lines = []
    for reason, _ in Counter(reason for reason, _ in found if reason).most_common():
        lines += [f"{reason}:", *(f"  {what}" for each, what in found if each == reason)]
    return lines


def summary(made: Sequence[Program]) -> str:
    """Return what was made, as JSON."""
    rows = [
        {
            "test": each.test,
            "outcome": each.outcome,
            "works": each.works,
            "reason": each.reason,
            "shown": each.shown.line if each.shown else None,
            "good": each.good.line if each.good else None,
            "steps": each.steps,
            "lines": len(each.text.splitlines()),
            "source": each.fault.source if each.fault else None,
        }
        for each in made
    ]
    return json.dumps(rows, indent=1)
