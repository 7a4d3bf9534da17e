"""The table: what works under which policy, from the results of a run to text, JSON and the README.

``python -m tests.programs.table RESULTS.json`` (`make programs` calls it) takes what tests/programs/test_programs.py
recorded, writes ``programs.json`` and ``programs.txt`` beside it, and prints the text. With ``--readme`` it keeps the
cells in tests/programs/programs.json, and writes the README's table of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from tests.programs.catalogue import NOT_TRIED
from tests.programs.policies import POLICIES
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.report import page
from vm.results import events, model

HERE = Path(__file__).parent
DATA = HERE / "programs.json"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- programs: begin, written by make programs -->\n", "<!-- programs: end -->\n"

WORDS = {"works": "works", "falls back": "falls back", "fails": "FAILS", "does not use AF_ALG": "no use", "": "-"}
"""Verdicts as they stand in the table of text; nothing was tried where there is none."""

_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("allowed", ("none",)),
    ("level 1: root", ("level-1,root", "level-1,cap-sys-admin")),
    (
        "level 1: user, container",
        ("level-1,plain-user", "level-1,root-without-capabilities", "level-1,user-namespace-root"),
    ),
    ("level 2", ("level-2",)),
    ("blacklisted, seccomp, AppArmor", ("no-af_alg", "seccomp", "apparmor")),
)
"""Columns of the README's table, and the policies that each stands for."""


@dataclass(frozen=True)
class Row:
    """A program under a policy on a kernel.

    Attributes:
        kernel: its name.
        program, policy: their names.
        verdict, said, refused, used, who, version: of tests.programs.cells.Cell.
    """

    kernel: str
    program: str
    policy: str
    verdict: str
    said: str = ""
    refused: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    who: str = ""
    version: str = ""


def collect(run: model.Run) -> list[Row]:
    """Return the cells of a run.

    Raises:
        UsageError: it has none.
    """
    rows = []
    for kernel in run.kernels:
        for result in kernel.tests:
            named = re.search(r"test_programs\.py::test_program\[(.+)\]$", result.test)
            found = {each.name: each.value for each in result.properties}
            if named and "cell" in found:
                cell = json.loads(found["cell"])
                program, policy = _split(named[1])
                rows.append(_row({"kernel": kernel.name, "program": program, "policy": policy, **cell}))
    if not rows:
        raise UsageError(f"the run {run.id} has tried no program: make programs does")
    return rows


def _split(name: str) -> tuple[str, str]:
    """Split the id of a test into program and policy, both of which have dashes."""
    policy = max((each.name for each in POLICIES if name.endswith(f"-{each.name}")), key=len)
    return name.removesuffix(f"-{policy}"), policy


def _row(values: dict[str, Any]) -> Row:
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Row(**given)


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for people: a block a kernel, and below it what failed, and in what words."""
    rows, blocks = _apart(rows), []
    for kernel in dict.fromkeys(row.kernel for row in rows):
        own = [row for row in rows if row.kernel == kernel]
        tried = {row.policy for row in own}
        columns = [policy.name for policy in POLICIES if policy.name in tried]
        programs = list(dict.fromkeys(row.program for row in own))
        cells = {(row.program, row.policy): row for row in own}
        numbers = [f"{number:>2} {_policy(name)}" for number, name in enumerate(columns, 1)]
        width = max(len(program) for program in programs)
        head = " ".join([" " * width, *(f"{number:^10}" for number in range(1, len(columns) + 1))])
        lines = [f"{kernel}", *(f"  {number}" for number in numbers), "", head.rstrip()]
        for program in programs:
            words = [_word(cells.get((program, column))) for column in columns]
            lines.append(" ".join([f"{program:{width}}", *(f"{word:^10}" for word in words)]).rstrip())
        blocks.append("\n".join([*lines, "", *_uses(own), "", *_failures(own)]))
    blocks.append("\n".join(["not tried:", *(f"  {name}: {why}" for name, why in NOT_TRIED.items())]))
    return "\n\n".join(blocks) + "\n"


def _apart(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the version in the name of a program of which there are several."""
    versions: dict[str, set[str]] = {}
    for row in rows:
        versions.setdefault(row.program, set()).update(row.version.split()[1:])
    return [
        replace(row, program=f"{row.program}, {row.version.partition(' ')[2]}")
        if len(versions[row.program]) > 1
        else row
        for row in rows
    ]


def _policy(name: str) -> str:
    return next(policy.says for policy in POLICIES if policy.name == name)


def _word(row: Row | None) -> str:
    return WORDS.get(row.verdict, "cannot") if row else WORDS[""]


def _uses(rows: Iterable[Row]) -> list[str]:
    """Return what each program does with AF_ALG where it is allowed to."""
    return [
        f"{row.program} ({row.version}), {row.who or 'root'}: {'; '.join(row.used) or row.said or row.verdict}"
        for row in rows
        if row.policy == "none"
    ]


def _failures(rows: Iterable[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row.verdict in ("fails", "falls back"):
            refused = f" [{'; '.join(row.refused[:3])}{' …' * (len(row.refused) > 3)}]" if row.refused else ""
            lines.append(f"{row.program}, {_policy(row.policy)}: {row.verdict}: {row.said}{refused}")
    return lines


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the short table of the README: of several policies that a column stands for the worst, kernels apart."""
    rows = _apart(rows)
    kernels = list(dict.fromkeys(row.kernel for row in rows))
    head = ["program", "what it uses", *(title for title, _ in _COLUMNS)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for program in dict.fromkeys(row.program for row in rows):
        own = [row for row in rows if row.program == program]
        used = next((row.used for row in own if row.policy == "none" and row.used), ())
        cells = [_merged(own, policies, kernels) for _, policies in _COLUMNS]
        lines.append("| " + " | ".join([program, _short(used), *cells]) + " |")
    versions = ", ".join(dict.fromkeys(row.version for row in rows if row.version))
    lines += ["", f"Kernels: {', '.join(kernels)}; one word where those that were asked agree. Packages: {versions}."]
    return "\n".join(lines) + "\n"


def _short(used: Sequence[str]) -> str:
    names = list(dict.fromkeys(f"`{each.split(':')[0].split(' ', 1)[1]}`" for each in used))
    return ", ".join(names[:4]) + ", …" * (len(names) > 4) if names else "nothing"


def _merged(rows: Sequence[Row], policies: Sequence[str], kernels: Sequence[str]) -> str:
    """Return the worst verdict of some policies, once where all kernels that were asked agree."""
    order = ["does not use AF_ALG", "works", "falls back", "fails"]
    worst: dict[str, str] = {}
    for kernel in kernels:
        found = [
            row.verdict for row in rows if row.kernel == kernel and row.policy in policies and row.verdict in order
        ]
        if found:
            worst[kernel] = max(found, key=order.index)
    if not worst:
        return "–"
    if len(set(worst.values())) == 1:
        return "works" if set(worst.values()) == {"does not use AF_ALG"} else next(iter(worst.values()))
    return ", ".join(f"{verdict} ({kernel})" for kernel, verdict in worst.items())


def stored() -> list[Row]:
    """Return what the last run with --readme left."""
    return [_row(row) for row in json.loads(DATA.read_text())]


def in_readme() -> str:
    """Return the README's table."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


@command
def main(arguments: Sequence[str]) -> None:
    """Show the cells of the run whose results.json is given, and write them beside it.

    Raises:
        UsageError: there is no such run, or it tried no program.
    """
    parser = Parser(prog="python -m tests.programs.table", description="What works under which policy.")
    parser.add_argument("results", metavar="RESULTS.json", nargs="+", help="of several the last word on a cell counts")
    parser.add_argument("--readme", action="store_true", help="write the README's table")
    options = parser.parse_args(arguments)
    path = Path(options.results[-1])
    cells = {
        (*row[:3], row[-1]): row for name in options.results for row in map(astuple, collect(events.load(Path(name))))
    }
    rows = [Row(*cell) for cell in cells.values()]
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    for name, content in (("programs.json", text), ("programs.txt", as_text(rows))):
        (path.parent / name).write_text(content, encoding="utf-8")
    if (path.parent / "index.html").exists() and not page.available():
        # It was written before these were there.
        page.write([(path.parent, events.load(path))], path.parent / "index.html")
    if options.readme:
        DATA.write_text(text, encoding="utf-8")
        whole = README.read_text(encoding="utf-8")
        README.write_text(whole.replace(BEGIN + in_readme() + END, BEGIN + as_markdown(rows) + END), encoding="utf-8")
    print(as_text(rows), end="")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
