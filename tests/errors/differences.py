"""The table of what differs between kernels: from the results of a run to data, and from data to the README.

``python -m tests.errors.differences RESULTS.json`` (`make differences` calls it) takes the answers that
tests/errors/test_differences.py recorded, keeps them in tests/errors/differences.json, and writes the README's table.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm.base.command import command
from vm.base.errors import UsageError
from vm.results import events, model

HERE = Path(__file__).parent
DATA = HERE / "differences.json"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- differences: begin, written by make differences -->\n", "<!-- differences: end -->\n"


@dataclass(frozen=True)
class Row:
    """One difference.

    Attributes:
        test: name of the function that asks.
        title: what is asked, Markdown.
        answers: by kernel.
    """

    test: str
    title: str
    answers: dict[str, str]


def questions() -> dict[str, str]:
    """Return the title of every test, by its name, in order."""
    tree = ast.parse((HERE / "test_differences.py").read_text())
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {test.name: (ast.get_docstring(test) or "").splitlines()[0] for test in tests}


def collect(run: model.Run) -> list[Row]:
    """Return the answers of a run.

    Raises:
        UsageError: a kernel has not answered a question, or all give the same answer to one.
    """
    answers: dict[str, dict[str, str]] = {name: {} for name in questions()}
    for kernel in run.kernels:
        for result in kernel.tests:
            name = result.test.partition("::")[2]
            if name in answers and not result.verdict.good:
                raise UsageError(f"{result.nodeid} {result.verdict.value}: its answer is none")
            found = [each.value for each in result.properties if each.name == "answer"]
            if name in answers and found:
                answers[name][kernel.name] = found[0]
    for name, given in answers.items():
        if len(given) < len(run.kernels):
            raise UsageError(f"not all kernels have answered {name}; see results of the run {run.id}")
        if len(set(given.values())) == 1 and len(run.kernels) > 1:
            print(f"note: all of these kernels give the same answer to {name}", file=sys.stderr)
    return [Row(name, title, answers[name]) for name, title in questions().items()]


def table(rows: list[Row]) -> str:
    """Return the rows as a table of Markdown."""
    kernels = list(rows[0].answers)
    lines = ["| | " + " | ".join(kernels) + " |", "|---" * (len(kernels) + 1) + "|"]
    lines += [f"| {row.title} | " + " | ".join(row.answers[kernel] for kernel in kernels) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def stored() -> list[Row]:
    """Return what the last run left."""
    return [Row(**row) for row in json.loads(DATA.read_text())]


def in_readme() -> str:
    """Return the README's table."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0]


@command
def main(arguments: Sequence[str]) -> None:
    """Take the answers of the run whose results.json is given, and show them.

    Raises:
        UsageError: there is no such run, or it has not all answers.
    """
    if len(arguments) != 1:
        raise UsageError("expected one argument, the results.json of a run (make differences makes one)")
    rows = collect(events.load(Path(arguments[0])))
    DATA.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    README.write_text(README.read_text().replace(BEGIN + in_readme() + END, BEGIN + table(rows) + END))
    print(table(rows), end="")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
