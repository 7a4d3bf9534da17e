"""Only what changed between two kernels: verdicts of tests, algorithms that came and went.

python -m vm diff RUN [OTHER] [--a KERNEL --b KERNEL] [--format text|json]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vm.base import files
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.results.matrix import Difference, differences, load, shortened, untested
from vm.results.model import KernelRun


@dataclass(frozen=True)
class Diff:
    """What is not the same on both.

    Attributes:
        a, b: names of the kernels.
        tests: whose verdict changed.
        gone, come: algorithms of ``/proc/crypto`` at the end of the run, on one of the two alone.
        issues_gone, issues_come: known issues that tests showed, on one of the two alone.
        untested: for each of the two that has some, how many tests did not run on it.
        unknown: names of those of the two whose algorithms are not known: then none is gone or come.
    """

    a: str
    b: str
    tests: tuple[Difference, ...]
    gone: tuple[str, ...]
    come: tuple[str, ...]
    issues_gone: tuple[str, ...]
    issues_come: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    untested: dict[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing changed, as far as is known."""
        return not any((self.tests, self.gone, self.come, self.issues_gone, self.issues_come))


def diff(a: KernelRun, b: KernelRun, algorithms: tuple[frozenset[str] | None, frozenset[str] | None]) -> Diff:
    """Return what changed from ``a`` to ``b``; ``algorithms`` has the names each knows, None where nobody said."""
    known_a, known_b = algorithms
    both = known_a is not None and known_b is not None
    in_a, in_b = (known_a or frozenset(), known_b or frozenset()) if both else (frozenset[str](), frozenset[str]())
    issues = [{_commit(test.known_issue) for test in run.tests if test.known_issue} for run in (a, b)]
    return Diff(
        a.name,
        b.name,
        tuple(differences([a, b])),
        tuple(sorted(in_a - in_b)),
        tuple(sorted(in_b - in_a)),
        tuple(sorted(issues[0] - issues[1])),
        tuple(sorted(issues[1] - issues[0])),
        tuple(run.name for run, known in ((a, known_a), (b, known_b)) if known is None),
        untested([a, b]),
    )


def render(changed: Diff) -> str:
    """Return it as text for a terminal."""
    lines = [f"{changed.a} → {changed.b}"]
    together: dict[str, list[str]] = {}
    for each in changed.tests:
        was, now = (each.verdicts[name] for name in (changed.a, changed.b))
        cases = f" ({each.cases} cases)" if each.cases > 1 else ""
        why = each.reasons.get(changed.b) or each.reasons.get(changed.a, "")
        lines_of = together.setdefault(f"{was} → {now}", [])
        lines_of += [f"  {each.test}{cases}", *([f"      {shortened(why)}"] if why else [])]
    for change, tests in sorted(together.items()):
        lines += ["", change, *tests]
    for title, names in (
        (f"known issues shown by {changed.a} alone", changed.issues_gone),
        (f"known issues shown by {changed.b} alone", changed.issues_come),
        (f"algorithms in /proc/crypto at the end on {changed.a} alone (loaded or built in)", changed.gone),
        (f"algorithms in /proc/crypto at the end on {changed.b} alone", changed.come),
    ):
        lines += ["", title, *(f"  {name}" for name in names)] if names else []
    if changed.empty:
        lines += ["", "no change is known" if changed.untested else "nothing changed"]
    for name, count in changed.untested.items():
        lines += ["", f"not run on {name}: {plural(count, 'test')}; nothing is known of them"]
    for name in changed.unknown:
        lines += ["", f"algorithms of {name}: not known (no machine of it said what is in its /proc/crypto)"]
    return "\n".join(lines) + "\n"


def dump(changed: Diff) -> str:
    """Return it as JSON: an object with the members of :class:`Diff`."""
    return json.dumps(asdict(changed), indent=1) + "\n"


def choose(paths: Sequence[Path], a: str, b: str) -> tuple[tuple[Path, KernelRun], tuple[Path, KernelRun]]:
    """Return the two kernels and the directories of their runs: those named, else the first and the last.

    Raises:
        UsageError: there are no two, or none of that name; a file cannot be read.
    """
    found = load(paths)
    names = ", ".join(kernel.name for _, kernel in found)
    if len(found) < 2:
        raise UsageError(f"expected results of two kernels, found {names or 'none'}; give a run of two, or two files")
    ends = []
    for name, default in ((a, found[0]), (b, found[-1])):
        fitting = [each for each in found if each[1].name == name] if name else [default]
        if not fitting:
            raise UsageError(f"no kernel {name!r} in these results; they have {names}")
        ends.append(fitting[0])
    return ends[0], ends[1]


@command
def main(arguments: Sequence[str]) -> None:
    """Print what changed; return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm diff", description=__doc__, formatter_class=formatter)
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or its results.json")
    parser.add_argument("--a", default="", metavar="KERNEL", help="its name in the results; default: the first")
    parser.add_argument("--b", default="", metavar="KERNEL", help="default: the last")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    options = parser.parse_args(arguments)
    (place_a, a), (place_b, b) = choose(options.results, options.a, options.b)
    changed = diff(a, b, (_algorithms(a, place_a), _algorithms(b, place_b)))
    sys.stdout.write(dump(changed) if options.format == "json" else render(changed))


def _algorithms(kernel: KernelRun, results: Path) -> frozenset[str] | None:
    """Return the names of /proc/crypto, None when it is not there, or empty as of no kernel with a crypto API."""
    text = kernel.proc_crypto
    if text and "\n" not in text:
        text = files.text_of(results / text)
    return frozenset(re.findall(r"^name\s*: (\S+)$", text, re.MULTILINE)) or None


def _commit(issue: str) -> str:
    """Return a known issue without what differs from series to series: the version it is fixed in."""
    return re.sub(r": (fixed in \S+|never fixed in .*|not fixed anywhere) by ", ": ", issue)
