"""A run that is stopped while it is starting: one line says so, and it leaves nothing that looks like a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from vm.tests.harness import Project

# Played programs, which the runner asks before it boots anything. Each stops the runner, and then answers no more.
STOP = "#!/bin/sh\nkill -{} $PPID\nexec sleep 60\n"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_stopped_before_it_began_leaves_no_directory(project: Project, number: signal.Signals) -> None:
    project.tests("def test_a(): pass\n")
    # Asked which revision of the suite it is: the last thing before the first event is written.
    put(project.directory / "bin/git", STOP.format(number.name.removeprefix("SIG")))
    path = f"{project.directory / 'bin'}:{os.environ['PATH']}"
    with project.started(environment={"PATH": path}) as process:
        done = project.finish(process)
    assert done.status == 2, done.output
    how = "stopped" if number == signal.SIGINT else f"stopped by {number.name}"
    assert f"\n{how} before the first test: this run has no results\n" in done.output
    assert "Traceback" not in done.output
    assert "INTERNALERROR" not in done.output
    assert [each.name for each in (project.directory / "results").iterdir()] == []
    project.assert_nothing_left()
