"""What is put into the directory of a run when it ends."""

from __future__ import annotations

from pathlib import Path

from vm.report import kcidb, page
from vm.results import write as results
from vm.results.model import Run


def write(run: Run, directory: Path) -> list[str]:
    """Write all files of a run; return what could not be made, and why, in lines.

    Raises:
        UsageError: the directory cannot be written, or the disk is full.
    """
    results.write(run, directory)
    results.put(directory / kcidb.NAME, kcidb.render(run))
    if why := page.available():
        return [why]
    results.put(directory / page.NAME, page.render([(directory, run)], directory))
    return []
