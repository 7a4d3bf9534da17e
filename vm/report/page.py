"""Runs as one page: ``index.html``, a single file that needs no network, from the template beside this module.

Columns are kernels, or runs of one kernel; rows are tests. Without JavaScript it has the summary, what differs, the
failures by cause and what each kernel lacks. All verdicts are in it as one compressed text, of which a script draws the
rows that can be seen: 8 kernels of 8,000 tests are 64,000 cells, and a table of so many opens in half a minute.
"""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.util
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.base import files
from vm.klog import console
from vm.klog.printk import BEGIN, clean
from vm.results import absence, changes, matrix, reproducers
from vm.results.cause import groups, issue_of
from vm.results.changes import Change
from vm.results.history import histories
from vm.results.mail import rule_of
from vm.results.model import KernelRun, Run, TestResult, Verdict

NAME = "index.html"

_HERE = Path(__file__).parent
# Of one cell, characters of its details, of its log, of its console.
_MOST_OF_A_TEXT = 12_000
# Of all cells together: a run in which everything fails must open, too.
_MOST_OF_ALL = 12_000_000
_MOST_CONSOLE = 8 * 2**20
_CONSOLE_LINES = 60
# Without a script.
_MOST_TESTS = 5
_MOST_ROWS = 100
# Files of a run that are linked where they are there.
_FILES = (
    ("results.json", "everything, as JSON"),
    ("junit.xml", "JUnit"),
    ("results.ktap", "KTAP"),
    ("kcidb.json", "KCIDB"),
    ("events.jsonl", "the stream of events"),
    ("environment.json", "environment"),
    ("coverage/html/index.html", "coverage"),
    ("html/index.html", "coverage"),
    ("overhead.svg", "overhead"),
    ("programs.txt", "programs under each policy"),
)
_WRITTEN_TOGETHER = ("results.json", "junit.xml", "results.ktap", "kcidb.json")


@dataclass
class Column:
    """One kernel of one run.

    Attributes:
        name: unique on the page.
        kernel: that.
        run: it is of.
        place: directory of the run.
        consoles: text of each VM's console that was looked into.
    """

    name: str
    kernel: KernelRun
    run: Run
    place: Path
    consoles: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def exact(self) -> str:
        """The spec that means this kernel and no newer one, as its own commands have it."""
        for test in self.kernel.tests:
            for word in _words(test.rerun):
                if word.startswith("--kernel="):
                    return word.partition("=")[2]
        return self.kernel.spec or self.kernel.name


def available() -> str:
    """Return why no page can be made here, empty when it can."""
    if importlib.util.find_spec("jinja2") is None:
        return "no page: Jinja2 is not installed here; python -m vm results RUN --html FILE makes it elsewhere"
    return ""


def render(found: Sequence[tuple[Path, Run]], directory: Path) -> str:
    """Return the page of runs.

    Args:
        found: each run with its directory.
        directory: where the page will be: links to consoles lead from there.
    """
    import jinja2  # Not installed where tests run on the machine itself.

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    columns = _columns(found)
    template = environment.get_template("page.html.j2")
    return template.render(
        style=(_HERE / "page.css").read_text(),
        script=(_HERE / "page.js").read_text(),
        data=_packed(_data(columns, directory)),
        **_summary(columns, found, directory),
    )


def _columns(found: Sequence[tuple[Path, Run]]) -> list[Column]:
    """Return the columns: several runs in the order in which they began."""
    ordered = sorted(found, key=lambda each: each[1].started)
    named = matrix.named([(place, run, kernel) for place, run in ordered for kernel in run.kernels])
    return [Column(name, kernel, run, place) for name, place, run, kernel in named]


# ---- what the script draws


def _data(columns: Sequence[Column], directory: Path) -> dict[str, Any]:
    """Return everything that the script needs, in JSON's types."""
    tests = list(dict.fromkeys(test.test for column in columns for test in column.kernel.tests))
    index = {test: number for number, test in enumerate(tests)}
    budget = [_MOST_OF_ALL]
    verdicts = list(Verdict)
    passing = _passing(columns)
    return {
        "verdicts": [[each.value, each.letter, each.good, changes.fails(each)] for each in verdicts],
        "changes": [each.value for each in Change],
        # By the index of two verdicts, behind the last of them absent: the index of the class of the change, or -1.
        "change": [[_change_index(a, b) for b in (*verdicts, None)] for a in (*verdicts, None)],
        "absences": [each.value for each in absence.Absence],
        "tests": tests,
        "columns": [_column_data(column, directory) for column in columns],
        "cells": [_cells(column.kernel, tests) for column in columns],
        "said": [
            {
                index[test.test]: told
                for test in column.kernel.tests
                if (told := _told(column, test, directory, passing, budget))
            }
            for column in columns
        ],
        "seconds": [
            {index[test.test]: round(test.seconds, 2) for test in column.kernel.tests if test.seconds >= 1}
            for column in columns
        ],
        "history": _histories(columns, index),
    }


def _change_index(a: Verdict | None, b: Verdict | None) -> int:
    kind = changes.change(a, b)
    return -1 if kind is None else list(Change).index(kind)


def _column_data(column: Column, directory: Path) -> dict[str, str]:
    kernel = column.kernel
    return {
        "name": column.name,
        "release": kernel.release,
        "run": column.run.id,
        "directory": _link(column.place, directory),
    }


def _cells(kernel: KernelRun, tests: Sequence[str]) -> str:
    """Return one letter a test: ``a`` is the first verdict, ``-`` that of an absent test."""
    verdicts = list(Verdict)
    own = {test.test: chr(ord("a") + verdicts.index(test.verdict)) for test in kernel.tests}
    return "".join(own.get(test, "-") for test in tests)


def _passing(columns: Sequence[Column]) -> dict[str, Column]:
    """Return for each test a column in which it passed."""
    return {test.test: column for column in columns for test in column.kernel.tests if test.verdict is Verdict.PASSED}


def _told(
    column: Column, test: TestResult, directory: Path, passing: Mapping[str, Column], budget: list[int]
) -> dict[str, Any]:
    """Return what there is to say of a test that did not simply pass: the empty members are left out."""
    if test.verdict is Verdict.PASSED:
        return {}
    told: dict[str, Any] = {"reason": test.reason, "absence": test.absence}
    if test.known_issue:
        issue = issue_of(test.known_issue)
        told |= {"issue": [issue.name, issue.state, issue.fix, issue.link, issue.cve, issue.cve_link]}
    if not test.verdict.good or test.known_issue:
        told |= {"rerun": test.rerun, "bisect": _bisect(column, test, passing), "vm": test.vm}
        told |= {"splats": [[each.kind, each.title, each.fingerprint] for each in test.splats]}
        told |= _texts(column, test, directory, budget)
    return {name: value for name, value in told.items() if value}


def _texts(column: Column, test: TestResult, directory: Path, budget: list[int]) -> dict[str, Any]:
    excerpt, link = _console(column, test, directory)
    texts = {
        "splat": "\n\n".join(each.text for each in test.splats),
        "details": test.details,
        "log": test.kernel_log,
        "console": excerpt,
    }
    if budget[0] < 0:
        return {"more": True, "consoleLink": link}
    texts = {name: _bounded(text) for name, text in texts.items()}
    budget[0] -= sum(map(len, texts.values()))
    return {**texts, "consoleLink": link}


def _console(column: Column, test: TestResult, directory: Path) -> tuple[str, list[Any]]:
    """Return what the console has of a test, and where that is: path and line; nothing where it is not there."""
    vm = next((vm for vm in column.kernel.vms if vm.name == test.vm and vm.console), None)
    if vm is None:
        return "", []
    if vm.console not in column.consoles:
        column.consoles[vm.console] = _start_of(column.place / vm.console)
    text = column.consoles[vm.console]
    if not text:
        return "", []
    line = next((n for n, raw in enumerate(text.split("\n"), 1) if f"{BEGIN}{test.nodeid}" in raw), 0)
    lines = console.split(text).tests.get(test.nodeid, "").split("\n") if line else text.split("\n")[-_CONSOLE_LINES:]
    if len(lines) > _CONSOLE_LINES:
        lines = [*lines[: _CONSOLE_LINES // 2], "…", *lines[-_CONSOLE_LINES // 2 :]]
    return "\n".join(map(clean, lines)), [_link(column.place / vm.console, directory), line]


def _start_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_CONSOLE).decode(errors="replace")
    except OSError:
        return ""


def _bisect(column: Column, test: TestResult, passing: Mapping[str, Column]) -> str:
    """Return the command that finds what broke a test, as far as the page knows a good kernel."""
    bad, good = column.exact, passing.get(test.test)
    if test.test.startswith("machine[") or bad == "running":
        return ""
    words = ["make", "bisect", f"TEST={test.test}"]
    if "/" in bad and Path(bad.partition("+")[0]).is_absolute():
        return shlex.join([*words, f"TREE={bad.partition('+')[0]}"]) + " GOOD=COMMIT BAD=COMMIT"
    known = good.exact if good is not None and good.exact != bad else ""
    return shlex.join([*words, f"BAD={bad}", *([f"GOOD={known}"] if known else [])]) + (
        "" if known else " GOOD=VERSION"
    )


def _histories(columns: Sequence[Column], index: Mapping[str, int]) -> list[list[Any]]:
    """Return what changed from run to run of one kernel, or fails: the index of the test first."""
    runs = list({id(column.run): column.run for column in columns}.values())
    if len(runs) < 2:
        return []
    return [
        [index[each.test], each.kernel, each.letters, each.streak, each.flips, each.first_bad, each.flaky]
        for each in histories(runs)
        if each.notable and each.test in index
    ]


def _packed(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


# ---- what stands there without a script


def _summary(columns: Sequence[Column], found: Sequence[tuple[Path, Run]], directory: Path) -> dict[str, Any]:
    kernels = [column.kernel for column in columns]
    counts = sum((kernel.counts() for kernel in kernels), Counter[Verdict]())
    names = {id(column.kernel): column.name for column in columns}
    causes = groups(kernels)
    differences = matrix.differences([_renamed(column) for column in columns]) if len(columns) > 1 else []
    return {
        "runs": [run for _, run in found],
        "columns": columns,
        "verdicts": [verdict for verdict in Verdict if counts[verdict]],
        "well": all(run.status == 0 for _, run in found),
        "cut_off": [run for _, run in found if run.finished is None],
        "causes": [group for group in causes if not group.cause.issue],
        "issues": [group for group in causes if group.cause.issue],
        "names": lambda group: list(dict.fromkeys(names[id(kernel)] for kernel, _ in group.tests)),
        "name_of": lambda kernel: names[id(kernel)],
        "differences": differences,
        "absences": _absences(columns),
        "answers": _answers(columns),
        "stalls": [(column.name, stall) for column in columns for stall in column.kernel.stalls],
        "flaky": [each for each in histories([run for _, run in found]) if each.flaky] if len(found) > 1 else [],
        "links": _links(found, directory),
        "most_tests": _MOST_TESTS,
        "most_rows": _MOST_ROWS,
    }


def _renamed(column: Column) -> KernelRun:
    return KernelRun(column.name, column.kernel.spec, tests=column.kernel.tests)


def _absences(columns: Sequence[Column]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return what each kernel lacks, by class: each with the number of tests of every column, most first."""
    numbers: dict[str, dict[str, int]] = {}
    for column in columns:
        for test in column.kernel.tests:
            if test.verdict is Verdict.SKIPPED:
                own = numbers.setdefault(test.absence or "other reasons", {})
                own[column.name] = own.get(column.name, 0) + 1
    ordered = sorted(numbers.items(), key=lambda each: -sum(each[1].values()))
    return [(name, [(column.name, own.get(column.name, 0)) for column in columns]) for name, own in ordered]


def _answers(columns: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """Return what kernels answered to tests that ask, where the answers are not all the same."""
    said: dict[str, dict[str, str]] = {}
    for column in columns:
        for test in column.kernel.tests:
            for each in test.properties:
                if each.name == "answer":
                    said.setdefault(test.test, {})[column.name] = each.value
    rows = []
    for name, own in said.items():
        line = [own.get(column.name, "") for column in columns]
        if len(set(filter(None, line))) > 1:
            rule = rule_of(name).partition("\n")[0]
            parameters = name[len(name.partition("[")[0]) :] if rule else ""
            rows.append((f"{rule or name} {parameters}".strip(), line))
    return rows


def _links(found: Sequence[tuple[Path, Run]], directory: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    links = []
    for place, run in found:
        own = [(_link(place / name, directory), title) for name, title in _FILES if _there(place, name, directory)]
        for each in sorted(place.glob(f"kernels/*/reproducers/*/{reproducers.NAME}")):
            own.append((_link(each, directory), f"{each.parents[2].name}: {each.parent.name}.c"))
        links.append((run.id, own))
    return links


def _there(place: Path, name: str, directory: Path) -> bool:
    # Those that are written together with the page come after it.
    beside = place.resolve() == directory.resolve() and name in _WRITTEN_TOGETHER
    return beside or (place / name).exists()


def _link(path: Path, directory: Path) -> str:
    return os.path.relpath(path.absolute(), directory.absolute())


def _bounded(text: str) -> str:
    if len(text) <= _MOST_OF_A_TEXT:
        return text
    half = _MOST_OF_A_TEXT // 2
    return f"{text[:half]}\n(… {len(text) - 2 * half} characters left out …)\n{text[-half:]}"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def write(found: Sequence[tuple[Path, Run]], path: Path) -> None:
    """Write the page of runs, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    files.replace_text(path, render(found, path.parent))
