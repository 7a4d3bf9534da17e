"""``python -m vm teeth --reproducers DIRECTORY``: a C program of each mutant, which shows that, and else nothing.

The test that noticed a mutant (tests/teeth/killers.toml) is recorded on the mutated kernel and on the unchanged one,
written as a program (vm/reproducer), and that is tried on both. One machine serves many mutants, one after the other:
each command there has its modules put in place before (vm/teeth/within.py).
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vm.base.errors import UsageError
from vm.base.progress import Progress
from vm.base.words import plural
from vm.kernels.build.plan import Plan
from vm.kernels.resolve import resolve_one
from vm.reproducer import guest, make, record
from vm.reproducer.command import fixed_by
from vm.reproducer.compile import compiler
from vm.reproducer.guest import Machine
from vm.reproducer.make import Order, Program
from vm.reproducer.record import Recording
from vm.teeth.build import Built

# Like the machines of teeth: what is done with memory that is gone shows.
_ARGUMENTS = ("--memory=1536", "--kernel-argument=slub_debug=FZPU")
_SECONDS = 3000.0


class Shown(NamedTuple):
    """What became of one mutant.

    Attributes:
        name: the mutant's.
        test: that noticed it.
        program: of it; None when there is none, and ``reason`` says why.
        reason: why the program does not do, in a few words; empty when it does.
    """

    name: str
    test: str
    program: Program | None
    reason: str


def main(
    kernel: Plan,
    spec: str,
    built: Sequence[Built],
    killers: Mapping[str, Sequence[str]],
    release: str,
    directory: Path,
    whole: bool,
    progress: Progress,
) -> int:
    """Write programs into a directory, with ``summary.json``, and say how many do; return 0 when all do.

    Args:
        kernel: that is changed.
        spec: of it.
        built: mutants.
        killers: tests that noticed, by the mutant's name.
        release: as in tests/teeth/base.toml.
        directory: for what is made.
        whole: whether no step is left out.
        progress: told in one line each what is done.
    """
    known = [one for one in built if one.modules and one.mutant.changes and killers.get(one.mutant.name)]
    if not known:
        raise UsageError(
            f"{kernel.label}: of none of these mutants a test is known that notices (make teeth ARGS=--record)"
        )
    found = resolve_one(spec, progress)
    compiler(found.architecture)
    with tempfile.TemporaryDirectory(prefix="vm-teeth-") as name:
        machine = Machine(spec, (*_ARGUMENTS, *_places(known)), _SECONDS)
        named = f"Linux {found.release}, built for tests"
        order = Order(machine, machine, found.architecture, named, Path(name), whole=whole, fixes=fixed_by)
        shown = _shown(order, known, killers, release, progress)
    _keep(shown, directory)
    print(table(shown))
    return 0 if all(not each.reason for each in shown) else 1


def _places(known: Sequence[Built]) -> list[str]:
    """Return options that have a guest see the files of modules."""
    return [f"--place={path}" for path in sorted({str(file.parent) for one in known for file in one.modules.values()})]


def _within(one: Built, release: str) -> str:
    pairs = [f"{name}={file}" for name, file in one.modules.items()]
    return f"{shlex.join(['python', '-m', 'vm.teeth.within', release, *pairs, '--'])} "


def _shown(
    order: Order, known: Sequence[Built], killers: Mapping[str, Sequence[str]], release: str, progress: Progress
) -> list[Shown]:
    tests = [killers[one.mutant.name][0] for one in known]
    progress(f"recording on {plural(len(known), 'mutant')} of {order.machine.spec}")
    words = [_within(one, release) for one in known]
    jobs = {f"record-{n}": guest.recording([test], (), words[n]) for n, test in enumerate(tests)}
    done = guest.run(order.machine, jobs, order.place, progress)
    recordings: dict[int, Recording] = {}
    reasons: dict[int, str] = {}
    for number in range(len(known)):
        outcome = done[f"record-{number}"]
        lines = (outcome.output if outcome.status is not None else outcome.before).splitlines()
        one = next(iter(record.load(lines)), None)
        if one is None or one.outcome in ("passed", "skipped"):
            reasons[number] = "nothing was recorded" if one is None else f"the test {one.outcome}"
        else:
            recordings[number] = one
    unclear = sorted({each.test for each in recordings.values() if each.outcome == "failed" and not make.tells(each)})
    theirs: dict[str, Recording] = {}
    if unclear:
        progress(f"recording {plural(len(unclear), 'test')} on {order.machine.spec} as it is")
        theirs = {
            each.test: each for each in record.load(guest.record(order.machine, unclear, (), order.place, progress))
        }
    made = make.of_recordings(order, [*recordings.values()], theirs, progress, [words[number] for number in recordings])
    programs = dict(zip(recordings, made, strict=True))
    return [
        Shown(one.mutant.name, tests[n], programs.get(n), reasons.get(n) or programs[n].reason)
        for n, one in enumerate(known)
    ]


def _keep(shown: Sequence[Shown], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for each in shown:
        if each.program is not None and each.program.text:
            (directory / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', each.name)}.c").write_text(each.program.text)
        said = {} if each.program is None else json.loads(make.summary([each.program]))[0]
        rows.append({"mutant": each.name, "test": each.test, "reason": each.reason, **said, "works": not each.reason})
    (directory / "summary.json").write_text(json.dumps(rows, indent=1) + "\n")


def table(shown: Sequence[Shown]) -> str:
    """Return what there is to say: how many programs do, and of the others each reason with its mutants."""
    working = [each for each in shown if not each.reason]
    lines = [
        f"{len(working)} of {plural(len(shown), 'mutant')} are shown by a program, which says as expected without them"
    ]
    return "\n".join([*lines, *make.reasons([(each.reason, f"{each.name}  {each.test}") for each in shown])])
