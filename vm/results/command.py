"""Render a run again: ``python -m vm results RUN [--format table|ktap|json]``.

RUN is the directory of a run (``results/latest``), or a file in it: ``results.json``, or ``events.jsonl``, which a run
that was killed has as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vm.base.command import Parser, command
from vm.results import events, ktap, model
from vm.results.table import summary_lines, table


@command
def main(argv: Sequence[str]) -> None:
    """Print one view of a results.json; return the exit status."""
    parser = Parser(prog="python -m vm results", description=main.__doc__)
    parser.add_argument("results", metavar="RUN", type=Path, help="directory of a run, or its results.json")
    parser.add_argument("--format", choices=sorted(_FORMATS), default="table", help="default: %(default)s")
    options = parser.parse_args(argv)
    text = _FORMATS[options.format](events.load(options.results))
    sys.stdout.write(text)


def _table(run: model.Run) -> str:
    return "\n".join([*summary_lines(run), "", table(run), ""])


_FORMATS = {"table": _table, "ktap": ktap.render, "json": model.dump}
