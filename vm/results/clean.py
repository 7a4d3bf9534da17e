"""Remove the results of old runs: ``python -m vm clean-results [--keep N] [DIRECTORY]``, or ``make clean-results``.

Nothing does it by itself: somebody may want to compare with last quarter's. What is no directory of a run stays, and so
does what a run may still write to.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vm.base import files
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.words import plural

KEEP = 10
"""Runs that are kept."""
MANY = 50
"""Runs of which the user is told that they can be removed."""

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.(\d+))?")
# Of a run's directory, any of these.
_PARTS = ("events.jsonl", "results.json", "vms", "kernels")
_MAY_RUN_SECONDS = 3600.0


def runs(directory: Path) -> list[Path]:
    """Return the directories of runs in ``directory``, the newest first."""
    found = []
    for path in directory.glob("*T*"):
        named = _NAME.fullmatch(path.name)
        if named and path.is_dir() and not path.is_symlink() and any((path / part).exists() for part in _PARTS):
            found.append((path.name.partition(".")[0], int(named[2] or 1), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def clean(directory: Path, keep: int = KEEP) -> list[Path]:
    """Remove all runs of ``directory`` but the newest ``keep``, ``latest``, and those of the last hour; return those.

    Raises:
        UsageError: one cannot be removed.
    """
    latest = (directory / "latest").resolve()
    old = [run for run in runs(directory)[keep:] if run.resolve() != latest and _idle(run) > _MAY_RUN_SECONDS]
    for run in old:
        try:
            shutil.rmtree(run)
        except OSError as error:
            raise UsageError(f"cannot remove {run}: {error.strerror}; remove it as who may") from error
    return old


def hint(directory: Path) -> str:
    """Return a line for the user where there are many runs, else nothing."""
    number = len(runs(directory))
    if number <= MANY:
        return ""
    return f"{files.shown(directory)} has {number} runs; make clean-results keeps the newest {KEEP}"


def _idle(run: Path) -> float:
    """Return the seconds since anything of a run was written."""
    ages = [files.age(run.stat().st_mtime)]
    for path in [run / "events.jsonl", *run.glob("vms/*/witness")]:
        with contextlib.suppress(OSError):
            ages.append(files.age(path.stat().st_mtime))
    return min(ages)


@command
def main(arguments: Sequence[str]) -> None:
    """Remove old runs; return the exit status."""
    parser = Parser(prog="python -m vm clean-results", description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=files.ROOT / "results", help="default: results/")
    parser.add_argument(
        "--keep", type=int, default=KEEP, metavar="N", help="newest runs to keep (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.keep < 0:
        raise UsageError(f"--keep is {options.keep}; expected how many runs to keep, 0 or more")
    removed = clean(options.directory, options.keep)
    left = len(runs(options.directory))
    print(f"{plural(len(removed), 'run')} removed from {files.shown(options.directory)}, {left} left")
