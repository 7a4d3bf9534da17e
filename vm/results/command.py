"""Show, convert, merge and compare runs: ``python -m vm results RUN… [--format FORMAT] [--merge DIR]``.

RUN is the directory of a run (``results/latest``), or a file in it: ``results.json``, or ``events.jsonl``, which a run
that was killed has as well. Several runs are shown as one, in which a test that failed once has failed; matrix and diff
keep them apart.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.results import diff, events, junit, ktap, matrix, model, write
from vm.results.merge import keep_files, merge, placed
from vm.results.table import summary_lines, table


@command
def main(argv: Sequence[str]) -> int:
    """Print one view of runs; return the exit status."""
    options = _options(argv)
    if options.format in _COMPARISONS:
        if options.merge or options.status:
            raise UsageError(f"--format {options.format} keeps runs apart: give no --merge and no --status")
        return _COMPARISONS[options.format]([str(path) for path in options.results])
    run = _merged(options.results, options.merge)
    if not options.merge:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # as the XML says of itself
        sys.stdout.write(_FORMATS[options.format](run))
    return run.status if options.status else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm results", description=__doc__, formatter_class=formatter)
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or a file in it")
    formats = [*_FORMATS, *_COMPARISONS]
    parser.add_argument("--format", choices=formats, default="table", help="what to print (default: %(default)s)")
    parser.add_argument("--merge", metavar="DIR", type=Path, help="write one run's files into DIR, print nothing")
    parser.add_argument("--status", action="store_true", help="end with the exit status that the run has")
    return parser.parse_args(argv)


def _merged(paths: Sequence[Path], target: Path | None) -> model.Run:
    """Return the runs as one, and write it to ``target`` when there is one."""
    found = events.load_all(paths)
    if target is None:
        return found[0][1] if len(found) == 1 else merge([placed(run, str(place)) for place, run in found])
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise UsageError(f"{target} is there already; give --merge a directory that is new")
    # Two directories may have runs of one name, from two machines.
    names = [f"{number}-{run.id[:40]}" for number, (_, run) in enumerate(found, 1)]
    run = merge([placed(run, name) for (_, run), name in zip(found, names, strict=True)])
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    for (place, each), name in zip(found, names, strict=True):
        keep_files(each, place, target / name)
    write.write(run, target)
    return run


def _table(run: model.Run) -> str:
    return "\n".join([*summary_lines(run), "", table(run), ""])


_FORMATS = {"table": _table, "json": model.dump, "junit": junit.render, "ktap": ktap.render}
_COMPARISONS = {"matrix": matrix.main, "diff": diff.main}
