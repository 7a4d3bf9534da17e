"""What a run of teeth found: a table by file, what survived, and which tests noticed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import files, toml
from vm.base.words import plural
from vm.klog import console
from vm.results import events
from vm.results.model import TestResult, Verdict
from vm.teeth.build import Built
from vm.teeth.changes import Mutant
from vm.teeth.plan import Bite

KILLERS = "killers.toml"
_HEADER = "# Which tests noticed a change, by `python -m vm teeth --record`: the next run begins with them.\n\n"


@dataclass(frozen=True)
class Finding:
    """What became of one mutant.

    Attributes:
        name: the mutant's.
        source: the file.
        outcome: ``killed``, ``survived``, ``equivalent``, ``wrong``, ``proven``, ``not built``, ``does not apply`` or
            ``not run``.
        why: in a line.
        noticed: the tests that did.
    """

    name: str
    source: str
    outcome: str
    why: str = ""
    noticed: tuple[str, ...] = ()


_DIED = (Verdict.CRASHED, Verdict.HUNG)
GOOD = ("killed", "equivalent", "proven", "quiet", "does not apply")
ORDER = (*GOOD, "survived", "wrong", "not built", "not run")


def recorded(data: Path) -> dict[str, tuple[str, ...]]:
    """Return the tests that noticed each mutant in an earlier run."""
    path = data / KILLERS
    return {name: tuple(tests) for name, tests in toml.read(path).items()} if path.exists() else {}


def main(built: Sequence[Built], directory: Path | None, record: Path | None) -> int:
    """Print the report of a run, and return its exit status.

    Args:
        built: all mutants.
        directory: of the run's results; None when there was nothing to run.
        record: directory in which to write down what noticed; None for not at all.
    """
    found = findings(built, directory)
    print(table(found))
    if record is not None:
        _record(found, record)
    return 0 if all(one.outcome in GOOD for one in found) else 1


def reached(bites: Iterable[Bite], directory: Path | None) -> tuple[list[str], dict[str, str]]:
    """Return what guests packed of what tests reach (vm/teeth/reach.py), and of what is missing the reason."""
    packed, lost = [], {bite.mutant.name: "not run" for bite in bites}
    for kernel in events.load(directory).kernels if directory else ():
        for test in kernel.tests:
            found = [each.value for each in test.properties if each.name == "reached"]
            packed += found
            if found and test.verdict is Verdict.PASSED:
                del lost[_name(test.test)]
            else:
                lost[_name(test.test)] = test.reason
    return packed, lost


def findings(built: Iterable[Built], directory: Path | None) -> list[Finding]:
    """Return what became of each mutant."""
    if directory is None:
        return [_finding(one, None, "") for one in built]
    found = {}
    for kernel in events.load(directory).kernels:
        consoles = {vm.name: directory / vm.console for vm in kernel.vms if vm.console}
        for test in kernel.tests:
            found[_name(test.test)] = test, _last_words(consoles, test)
    return [_finding(one, *found.get(one.mutant.name, (None, ""))) for one in built]


def _last_words(consoles: Mapping[str, Path], test: TestResult) -> str:
    """Return what was on the console of a machine while it ran a test that was its last; else nothing."""
    if test.verdict not in _DIED or test.vm not in consoles:
        return ""
    return console.split(files.text_of(consoles[test.vm])).tests.get(test.nodeid, "")


def _name(test: str) -> str:
    return test.partition("[")[2].removesuffix("]")


def _finding(one: Built, test: TestResult | None, last_words: str) -> Finding:
    name, source = one.mutant.name, one.mutant.sources[0]
    if not one.modules:
        return Finding(name, source, "not built" if one.applies else "does not apply", one.trouble)
    if test is None or not test.verdict.ran:
        return Finding(name, source, "not run", test.reason if test else "")
    said = {each.name: each.value for each in test.properties}
    # A machine that ends after it told what noticed is spent, and no more.
    died = not said and test.verdict in _DIED
    noticed = tuple(json.loads(said.get("noticed", "{}")))
    if died:
        noticed = tuple(re.findall(r"teeth: (\S+\.py::.*)", last_words)[-1:])
    outcome = _outcome(one.mutant, said, died, noticed)
    return Finding(name, source, outcome, one.mutant.equivalent if outcome == "equivalent" else test.reason, noticed)


def _outcome(mutant: Mutant, said: Mapping[str, str], died: bool, noticed: Sequence[str]) -> str:
    expected = "as_expected" in said
    if not said and not died:
        return "not run"  # an error before any test ran: of the machinery, not of the mutant
    if mutant.fix:
        # A crash ends the run of its tests: that it came in one of them is all there is to know.
        return "proven" if expected or (died and noticed) else "wrong"
    if mutant.equivalent or not mutant.changes:
        return ("equivalent" if mutant.equivalent else "quiet") if expected else "wrong"
    return "killed" if noticed or died else "survived"


def table(found: Sequence[Finding]) -> str:
    """Return the report: a line a file, what is not as it should be, and the tests that noticed most."""
    by_source: dict[str, Counter[str]] = {}
    for one in found:
        place = "fixes" if one.name.startswith("fix:") else one.source
        by_source.setdefault(place, Counter())[one.outcome] += 1
    columns = [outcome for outcome in ORDER if any(counts[outcome] for counts in by_source.values())]
    width = max(map(len, by_source), default=0)
    lines = [" ".join([" " * width, *columns])]
    for source, counts in by_source.items():
        lines.append(" ".join([f"{source:{width}}", *(f"{counts[name] or '-':>{len(name)}}" for name in columns)]))
    killed, survived = (sum(one.outcome == name for one in found) for name in ("killed", "survived"))
    if killed + survived:
        lines += ["", f"{killed} of {plural(killed + survived, 'mutant')} killed: {killed / (killed + survived):.1%}"]
    for outcome in ("survived", "wrong", "not built", "does not apply", "equivalent"):
        own = [one for one in found if one.outcome == outcome]
        lines += ["", f"{outcome}:"] * bool(own) + [f"  {one.name}: {one.why}" for one in own]
    # Of a run that was ended early there may be a thousand, for one reason.
    missing = Counter(one.why for one in found if one.outcome == "not run")
    lines += ["", "not run:"] * bool(missing) + [
        f"  {plural(count, 'mutant')}: {why}" for why, count in missing.items()
    ]
    lines += _by_test(found)
    return "\n".join(lines)


def _by_test(found: Sequence[Finding]) -> list[str]:
    counts = Counter(test.partition("[")[0] for one in found if one.outcome == "killed" for test in one.noticed)
    return ["", "what noticed most:", *(f"  {count:4} {test}" for test, count in counts.most_common(20))] * bool(counts)


def _record(found: Iterable[Finding], data: Path) -> None:
    known = recorded(data)
    known |= {one.name: one.noticed[:3] for one in found if one.outcome == "killed" and one.noticed}
    write_down(known, data / KILLERS)


def write_down(killers: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write which tests noticed what."""
    lines = [f"{_text(name)} = [{', '.join(map(_text, tests))}]\n" for name, tests in sorted(killers.items())]
    path.write_text(_HEADER + "".join(lines))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
