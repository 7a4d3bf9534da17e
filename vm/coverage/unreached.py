"""Lines of the kernel that no test reached: each with the reason why user space cannot get there, or without.

The reasons are a TOML file (ini option ``coverage_reasons``) of tables ``[[unreached]]``, by the text of the source,
which changes less than line numbers do:

    function   name of the function
    lines      texts of lines, without indentation; default: all lines of the function
    after      tells equal lines apart: a text that is in one of the four lines above; default: no such condition
    because    why no test can have it executed
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vm.base import toml

if TYPE_CHECKING:
    from vm.coverage.plugin import FileCoverage

LINES_BEFORE = 4


@dataclass(frozen=True)
class Reason:
    """One table of the file; see above for its members."""

    function: str
    because: str
    lines: tuple[str, ...] = ()
    after: str = ""

    def covers(self, line: Line) -> bool:
        """Whether this is a reason for that line."""
        return (
            self.function == line.function
            and (not self.lines or line.text in self.lines)
            and (not self.after or any(self.after in text for text in line.before))
        )


@dataclass(frozen=True)
class Line:
    """A line with code.

    Attributes:
        file: as the kernel's tree has it.
        number: from 1.
        function: it is in.
        text: without indentation.
        before: texts of the few lines before it, the nearest first, down to one of the same text.
        count: how often it ran.
    """

    file: str
    number: int
    function: str
    text: str
    before: tuple[str, ...]
    count: int


def load(path: Path) -> list[Reason]:
    """Read a file of reasons.

    Raises:
        UsageError: it cannot be read, or a table is not as described above.
    """
    return toml.tables(path, "unreached", Reason, "the reasons", "vm/coverage/unreached.py")


def describe(total: Mapping[str, FileCoverage], reasons: Sequence[Reason]) -> str:
    """Return the lines not reached, with and without a reason, and reasons that are wrong."""
    lines = [line for name, one in total.items() for line in lines_of(f"crypto/{name}.c", one)]
    missing = [line for line in lines if not line.count]
    explained = {line: next((reason for reason in reasons if reason.covers(line)), None) for line in missing}
    text = [f"{len(missing)} of {len(lines)} lines were not reached"]
    for reason in reasons:
        if own := [line for line, by in explained.items() if by is reason]:
            text += ["", *map(_shown, own), f"    because: {reason.because}"]
    if unknown := [line for line, by in explained.items() if by is None]:
        text += ["", f"{len(unknown)} of them for no reason that is known:", *map(_shown, unknown)]
    wrong = [line for line in lines if line.count and any(reason.lines and reason.covers(line) for reason in reasons)]
    if wrong:
        text += ["", "reached, although there is a reason why they cannot be:", *map(_shown, wrong)]
    return "\n".join(text)


def lines_of(file: str, one: FileCoverage) -> list[Line]:
    """Return the lines of a file that have code."""
    source = [text.strip() for text in one.source.splitlines()]
    starts = sorted((first, name) for name, (first, _) in one.functions.items())
    found = []
    for number, count in sorted(one.lines.items()):
        at = bisect.bisect_right(starts, (number, "\uffff")) - 1
        function = starts[at][1] if at >= 0 else ""
        text = source[number - 1] if number <= len(source) else ""
        before = reversed(source[max(0, number - 1 - LINES_BEFORE) : number - 1])
        near = tuple(itertools.takewhile(lambda other, text=text: other != text, before))  # type: ignore[misc]
        found.append(Line(file, number, function, text, near, count))
    return found


def _shown(line: Line) -> str:
    return f"  {line.file}:{line.number} {line.function}: {line.text}"
