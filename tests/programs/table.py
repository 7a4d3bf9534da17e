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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.programs.catalogue import NOT_TRIED, PROGRAMS
from tests.programs.cells import FAILS, FALLS_BACK, IMPOSSIBLE, UNUSED, WORKS, Cell
from tests.programs.policies import POLICIES
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.report import page
from vm.results import events, model

HERE = Path(__file__).parent
DATA = HERE / "programs.json"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- programs: begin, written by make programs -->\n", "<!-- programs: end -->\n"

WORDS = {WORKS: "works", FALLS_BACK: "falls back", FAILS: "FAILS", UNUSED: "no use", IMPOSSIBLE: "cannot"}
"""Verdicts as they stand in the table of text."""
FIPS = "@fips"
"""What ends the name of a kernel in FIPS mode (vm/kernels/axes.py), which is a column of its kernel's."""

_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("allowed", ("none",)),
    ("level 1: root", ("level-1,root", "level-1,cap-sys-admin")),
    (
        "level 1: user, container",
        ("level-1,plain-user", "level-1,root-without-capabilities", "level-1,user-namespace-root"),
    ),
    ("level 2", ("level-2", "level-2,plain-user", "level-2,user-namespace-root")),
    ("blacklisted, seccomp, AppArmor", ("no-af_alg", "seccomp", "apparmor")),
    ("fips=1", ("fips",)),
)
"""Columns of the README's table, and the policies that each stands for."""


@dataclass(frozen=True)
class Row:
    """A program under a policy on a kernel.

    Attributes:
        kernel: its name.
        program, policy: their names.
        cell: what came of it.
    """

    kernel: str
    program: str
    policy: str
    cell: Cell


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
                rows.append(Row(kernel.name, *_split(named[1]), _cell(json.loads(found["cell"]))))
    if not rows:
        raise UsageError(f"the run {run.id} has tried no program: make programs does")
    return rows


def _split(name: str) -> tuple[str, str]:
    """Split the id of a test into program and policy, both of which have dashes."""
    policy = max((each.name for each in POLICIES if name.endswith(f"-{each.name}")), key=len)
    return name.removesuffix(f"-{policy}"), policy


def _cell(values: dict[str, Any]) -> Cell:
    return Cell(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


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
        versions.setdefault(row.program, set()).update(row.cell.version.split()[1:])
    return [
        replace(row, program=f"{row.program}, {row.cell.version.partition(' ')[2]}")
        if len(versions[row.program]) > 1
        else row
        for row in rows
    ]


def _policy(name: str) -> str:
    return next(policy.says for policy in POLICIES if policy.name == name)


def _word(row: Row | None) -> str:
    return WORDS[row.cell.verdict] if row else "-"


def _uses(rows: Iterable[Row]) -> list[str]:
    """Return what each program does with AF_ALG where it is allowed to, and below it by which calls."""
    lines = []
    for row in (row for row in rows if row.policy == "none"):
        cell = row.cell
        what = "; ".join(cell.used) or cell.said or cell.verdict
        lines.append(f"{row.program} ({cell.version}), {cell.who or 'root'}: {what}")
        lines += [f"    {calls}" for calls in cell.calls]
    return lines


def _failures(rows: Iterable[Row]) -> list[str]:
    lines = []
    for row in rows:
        cell = row.cell
        if cell.verdict in (FAILS, FALLS_BACK):
            refused = f" [{'; '.join(cell.refused[:3])}{' …' * (len(cell.refused) > 3)}]" if cell.refused else ""
            lines.append(f"{row.program}, {_policy(row.policy)}: {cell.verdict}: {cell.said}{refused}")
    return lines


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the short table of the README: of several policies that a column stands for the worst, kernels apart."""
    kernels = list(dict.fromkeys(row.kernel.removesuffix(FIPS) for row in rows))
    rows = [replace(row, kernel=row.kernel.removesuffix(FIPS)) for row in _apart(sorted(rows, key=_place))]
    head = ["program", "what it uses", *(title for title, _ in _COLUMNS)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for program in dict.fromkeys(row.program for row in rows):
        own = [row for row in rows if row.program == program]
        used = next((row.cell.used for row in own if row.policy == "none" and row.cell.used), ())
        cells = [_merged(own, policies, kernels) for _, policies in _COLUMNS]
        lines.append("| " + " | ".join([program, _short(used), *cells]) + " |")
    versions = ", ".join(dict.fromkeys(row.cell.version for row in rows if row.cell.version))
    lines += ["", f"Kernels: {', '.join(kernels)}; one word where those that were asked agree. Packages: {versions}."]
    lines += ["", "Not tried: " + "; ".join(f"{name} ({why})" for name, why in NOT_TRIED.items()) + "."]
    return "\n".join(lines) + "\n"


def _short(used: Sequence[str]) -> str:
    names = list(dict.fromkeys(f"`{each.split(':')[0].split(' ', 1)[1]}`" for each in used))
    return ", ".join(names[:4]) + ", …" * (len(names) > 4) if names else "nothing"


def _merged(rows: Sequence[Row], policies: Sequence[str], kernels: Sequence[str]) -> str:
    """Return the worst verdict of some policies, once where all kernels that were asked agree."""
    order = [IMPOSSIBLE, UNUSED, WORKS, FALLS_BACK, FAILS]
    worst: dict[str, str] = {}
    for kernel in kernels:
        found = [row.cell.verdict for row in rows if row.kernel == kernel and row.policy in policies]
        if found:
            worst[kernel] = max(found, key=order.index)
    words = {kernel: WORKS if verdict == UNUSED else verdict for kernel, verdict in worst.items()}
    if len(set(words.values())) < 2:
        return next(iter(words.values()), "–")
    return ", ".join(f"{verdict} ({kernel})" for kernel, verdict in words.items())


def stored() -> list[Row]:
    """Return what the last run with --readme left."""
    return [Row(**{**row, "cell": _cell(row["cell"])}) for row in json.loads(DATA.read_text())]


def _newest(rows: Iterable[Row]) -> list[Row]:
    """Return the last of the rows of each cell: kernels by their versions, programs as the catalogue has them."""
    last = {(row.kernel, row.program, row.policy, row.cell.version): row for row in rows}

    def place(row: Row) -> tuple[list[int], str, int]:
        return [int(number) for number in re.findall(r"\d+", row.kernel)], row.kernel, _place(row)

    return sorted(last.values(), key=place)


def _place(row: Row) -> int:
    """Return where the catalogue has its program; behind all where it has none of that name."""
    names = [program.name for program in PROGRAMS]
    return names.index(row.program) if row.program in names else len(names)


def _as_json(rows: Iterable[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


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
    parser.add_argument("--keep", action="store_true", help="in the README's, keep the cells that no run here has")
    options = parser.parse_args(arguments)
    path = Path(options.results[-1])
    found = [row for name in options.results for row in collect(events.load(Path(name)))]
    rows = _newest(found)
    for name, content in (("programs.json", _as_json(rows)), ("programs.txt", as_text(rows))):
        (path.parent / name).write_text(content, encoding="utf-8")
    if (path.parent / "index.html").exists() and not page.available():
        # It was written before these were there.
        page.write([(path.parent, events.load(path))], path.parent / "index.html")
    if options.readme:
        shown = _newest([*stored(), *rows] if options.keep else rows)
        DATA.write_text(_as_json(shown), encoding="utf-8")
        whole = README.read_text(encoding="utf-8")
        README.write_text(whole.replace(BEGIN + in_readme() + END, BEGIN + as_markdown(shown) + END), encoding="utf-8")
    print(as_text(rows), end="")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
