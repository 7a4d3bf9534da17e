"""One failure as a report to send: plain text that a maintainer wants to read, to be pasted into a mail.

python -m vm results mail TEST [RUN…] [--kernel NAME]

TEST is a test's id, or a part that only one bad test has. RUN is results/latest unless given; of several the newest in
which the test is bad is told of, and the others say since when. Of a bisection of this test that came to an end
(make bisect), the result is in it. Nothing is sent.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from vm.base import files
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.results import events, reproducers
from vm.results.cause import cause_of
from vm.results.history import History, histories
from vm.results.model import KernelRun, Run, TestResult, Verdict

WIDTH = 75
_MOST_DETAILS = 30
_LABEL = 14


def report(
    run: Run,
    kernel: KernelRun,
    test: TestResult,
    history: History | None,
    bisected: Sequence[str],
    program: str = "",
) -> str:
    """Return the text.

    Args:
        run: that it is of.
        kernel: that it is on.
        test: that is bad, or a known issue.
        history: of it, of the runs there are; None where it was run once.
        bisected: what a bisection said, in lines.
        program: path of a C program that shows it; empty where none was made.
    """
    lines = [_subject(kernel, test), "", *_head(run, kernel), "", *_what(test)]
    if test.splats:
        lines += ["", f"The kernel complained ({plural(len(test.splats), 'report')}):"]
        lines += [_quoted(splat.text or splat.title) for splat in test.splats]
    again = test.rerun or f"make test KERNEL={kernel.spec} TEST='{test.test}'"
    since = list(_since(history, bisected))
    lines += [*([""] if since else []), *since, "", "To run it again:", "", f"    {again}"]
    if program:
        lines += ["", "A C program that shows it, without this suite (to be attached):", "", f"    {program}"]
    elif test.verdict in (Verdict.FAILED, Verdict.CRASHED, Verdict.HUNG, Verdict.UNDECIDED):
        asked = f"make reproducer KERNEL={shlex.quote(kernel.spec)} TEST={shlex.quote(test.test)}"
        lines += ["", "To have a C program that shows it, without this suite:", "", f"    {asked}"]
    return "\n".join(lines) + "\n"


def _subject(kernel: KernelRun, test: TestResult) -> str:
    said = cause_of(test).title
    name = test.test.partition("[")[0].rpartition("::")[2]
    words = " ".join(f"Subject: {kernel.release or kernel.name}: {name} {test.verdict.value}: {said}".split())
    # Not at a word: a test's name may be longer than all there is room for.
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 4].rstrip()} ..."


def _head(run: Run, kernel: KernelRun) -> Iterator[str]:
    accelerator = f"QEMU, {kernel.accelerator}" if kernel.accelerator else "none, the machine itself"
    package = f" (package {kernel.version})" if kernel.version not in ("", kernel.release) else ""
    facts = {
        "Kernel": kernel.release + package,
        "Tree": kernel.spec if kernel.version == kernel.release and kernel.accelerator else "",
        "Commit": kernel.commit,
        "Architecture": kernel.architecture,
        "Compiler": kernel.compiler,
        "Machine": accelerator,
        "Processor": kernel.processor,
        "Command line": kernel.cmdline,
        "Tests": " ".join(filter(None, (run.revision and f"revision {run.revision},", run.started))),
    }
    for name, value in facts.items():
        if value:
            yield from _labelled(name, value)


def _what(test: TestResult) -> Iterator[str]:
    yield from _labelled("Test", test.test)
    if rule := rule_of(test.test):
        yield from ("", "Expected:")
        yield from _wrapped(rule)
    yield from ("", f"Got ({test.verdict.value}):")
    yield from _wrapped(test.known_issue or test.reason or test.verdict.value)
    asserted = [line[1:].strip() for line in test.details.splitlines() if line.startswith("E ")]
    if asserted and test.verdict in (Verdict.FAILED, Verdict.UNDECIDED, Verdict.KNOWN):
        yield ""
        yield _quoted("\n".join(asserted[:_MOST_DETAILS]))


def _since(history: History | None, bisected: Sequence[str]) -> Iterator[str]:
    if bisected:
        yield "Bisected:"
        for line in bisected:
            yield from _wrapped(line)
    if history is None:
        if not bisected:
            yield "Since when is not known: one run has the test, and nobody bisected it."
        return
    if history.first_bad:
        yield from textwrap.wrap(
            f"It fails since {plural(history.streak, 'run')}, the first of them {history.first_bad}"
            + ("." if history.flips else "; no run here has it pass."),
            WIDTH,
        )
    if history.flaky:
        yield from textwrap.wrap(
            f"It is not the same each time: on one kernel it passed and failed ({history.letters}, the oldest first).",
            WIDTH,
        )


def rule_of(test: str) -> str:
    """Return the docstring of a test's function, which says the rule that it checks; empty when there is none."""
    path, _, rest = test.partition("::")
    *_, name = rest.partition("[")[0].split("::")
    try:
        tree = ast.parse((files.ROOT / path).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def bisections(place: Path, test: str) -> list[str]:
    """Return what the newest bisection of a test that came to its end said, in lines; none when there is none.

    Args:
        place: where bisections are kept.
        test: its id, without the kernel.
    """
    found = []
    for path in place.glob("*/bisect.json"):
        kept = files.json_of(path)
        said = [str(line) for line in kept.get("found") or ()]
        asked = [word for line in said if line.startswith("test: ") for word in line.split()[1:]]
        if kept.get("finished") and any(test == one or test.startswith((f"{one}[", f"{one}::")) for one in asked):
            found.append((path.stat().st_mtime, said))
    return max(found)[1] if found else []


def choose(runs: Sequence[Run], wanted: str, kernel: str = "") -> tuple[Run, KernelRun, TestResult]:
    """Return the newest bad result of a test, with its kernel and run.

    Args:
        runs: to look in.
        wanted: the test's id, or a part of it.
        kernel: name of the kernel; empty for any.

    Raises:
        UsageError: there is none, or several tests have that part.
    """
    found = [
        (run, each, test)
        for run in sorted(runs, key=lambda run: run.started, reverse=True)
        for each in run.kernels
        if kernel in ("", each.name)
        for test in each.tests
        if wanted in test.test or wanted == test.nodeid
    ]
    exact = [one for one in found if wanted in (one[2].test, one[2].nodeid)]
    bad = [one for one in exact or found if not one[2].verdict.good or one[2].known_issue]
    bad = [one for one in bad if one[2].verdict.ran] or bad  # What was not run says nothing of the kernel.
    if not bad:
        there = f"{plural(len(found), 'result')} of it, none bad" if found else "no test of that name"
        raise UsageError(
            f"nothing to report of {wanted!r}: {there} in these runs (python -m vm results lists what is bad)"
        )
    names = list(dict.fromkeys(one[2].test for one in bad))
    if len(names) > 1:
        listed = "".join(f"\n  {name}" for name in names[:10])
        raise UsageError(f"{wanted!r} is in {plural(len(names), 'bad test')}; give one of them:{listed}")
    return bad[0]


@command
def main(arguments: Sequence[str]) -> None:
    """Print it; return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm results mail", description=__doc__, formatter_class=formatter)
    parser.add_argument("test", metavar="TEST", help="its id, or a part of it")
    results = files.ROOT / "results"
    parser.add_argument("results", metavar="RUN", nargs="*", type=Path, help="directory of a run, or a file in it")
    parser.add_argument("--kernel", default="", metavar="NAME", help="its name in the results; default: any")
    options = parser.parse_intermixed_args(arguments)
    found = events.load_all(options.results or [results / "latest"])
    runs = [run for _, run in found]
    run, kernel, test = choose(runs, options.test, options.kernel)
    history = None
    if len(runs) > 1:
        spec = kernel.spec or kernel.name
        history = next((each for each in histories(runs) if (each.kernel, each.test) == (spec, test.test)), None)
    made = [reproducers.path(place, kernel.name, test.test) for place, each in found if each is run]
    program = next((files.shown(path) for path in made if path.exists()), "")
    sys.stdout.write(report(run, kernel, test, history, bisections(results / "bisect", test.test), program))


def _labelled(name: str, value: str) -> list[str]:
    """Return a fact in lines; a word that is longer than a line stays whole, so that it can be copied."""
    label = f"{name + ':':{_LABEL}}"
    return _wrap(" ".join(value.split()), label, " " * _LABEL)


def _wrapped(text: str) -> list[str]:
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += ([""] if lines else []) + _wrap(_printable(paragraph), "  ", "  ")
    return lines


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _quoted(log: str) -> str:
    """Return a log as it is, set off: its lines are not wrapped."""
    return "\n".join(f"  | {_printable(line)}".rstrip() for line in log.splitlines())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text.expandtabs())
