"""Run the suite as a job of a CI system, tell that system what came of it, and end as it understands.

    python -m vm ci SYSTEM [option or test of "python -m vm test"]…

SYSTEM is one of

    github   appends the run in short to the job's summary ($GITHUB_STEP_SUMMARY)
    gitlab   leaves the newest run, with its junit.xml and its page, in results/ci
    lava     says each verdict as a signal: on the running kernel as it comes
    tmt      writes $TMT_TEST_DATA/results.yaml; goes on with what a reboot cut off
    nipa     leaves all in $RESULTS_DIR, and says the run as TAP

The exit status is 0 when all is well, and 1 whatever else: of pytest's other ones systems make what they like, NIPA of
4 (wrong usage) "skipped" and of 5 (nothing matched) a warning.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.command import USAGE, command, say
from vm.base.errors import UsageError
from vm.results import events, ktap, lava, markdown, tmt
from vm.results.model import Run
from vm.results.write import put
from vm.run import resume
from vm.run.command import RUNNING, run_tests

FAILED = 1
NO_RESULTS = "no results, the exit status is"


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        run: its results, None when there are none.
        directory: of them.
        status: the exit status of ``vm test``.
    """

    run: Run | None
    directory: Path | None
    status: int


@dataclass(frozen=True)
class System:
    """How a CI system has its job.

    Attributes:
        words: given those it is called with, those for ``vm test``.
        tell: called at the end.
    """

    words: Callable[[Sequence[str]], list[str]]
    tell: Callable[[Outcome], None]


@command
def main(arguments: Sequence[str]) -> int:
    """Do one job; return 0 when all is well, else 1."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__, end="")
        return 0 if arguments else FAILED
    name, *words = arguments
    if name not in SYSTEMS:
        say(f"error: no CI system {name!r}; there are {', '.join(SYSTEMS)} (python -m vm ci --help)")
        return FAILED
    try:
        return _job(SYSTEMS[name], words)
    except (UsageError, OSError) as error:
        say(f"error: {error}")
        return FAILED


def _job(system: System, words: Sequence[str]) -> int:
    try:
        status, directory = run_tests(system.words(words))
    except UsageError as error:
        say(f"error: {error}")
        status, directory = USAGE, None
    run = None
    if directory is not None and (directory / events.NAME).exists():
        run = events.load(directory)
        # What a plug-in of pytest says is not better than what the run has.
        status = status or run.status
    system.tell(Outcome(run, directory, status))
    return FAILED if status or run is None else 0


def _variable(name: str) -> Path:
    """Return the path in an environment variable.

    Raises:
        UsageError: it is not set.
    """
    if not os.environ.get(name):
        raise UsageError(f"${name} is not set: start this as a job of that system, or set it to a directory")
    return Path(os.environ[name])


def _in_place(words: Sequence[str]) -> bool:
    return any(word in (RUNNING, f"--kernel={RUNNING}", f"--kernels={RUNNING}") for word in words)


def _github(outcome: Outcome) -> None:
    with _variable("GITHUB_STEP_SUMMARY").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(markdown.render(outcome.run) if outcome.run else f"## Kernel tests: {NO_RESULTS} {outcome.status}\n")


def _gitlab(outcome: Outcome) -> None:
    """Artifacts are named before the job runs, and a link among them stays a link."""
    target = Path("results/ci")
    shutil.rmtree(target, ignore_errors=True)
    if outcome.directory is not None and outcome.directory.is_dir():
        shutil.copytree(outcome.directory, target)


def _lava_words(words: Sequence[str]) -> list[str]:
    return [*(["--stream=lava"] if _in_place(words) else []), *words]


def _lava(outcome: Outcome) -> None:
    # Beside the running kernel all were told as they came.
    if outcome.run and all(kernel.spec != RUNNING for kernel in outcome.run.kernels):
        sys.stdout.write(lava.render(outcome.run))


def _tmt_words(words: Sequence[str]) -> list[str]:
    results = _variable("TMT_TEST_DATA") / "af_alg"
    before = (results / "latest").resolve()
    with contextlib.suppress(UsageError):  # nothing that was cut off
        if _in_place(words):
            resume.load(before)
            return [f"--resume={before}"]
    return [f"--results={results}", *words]


def _tmt(outcome: Outcome) -> None:
    put(
        _variable("TMT_TEST_DATA") / "results.yaml",
        tmt.render(outcome.run) if outcome.run else tmt.nothing(outcome.status),
    )


def _nipa_words(words: Sequence[str]) -> list[str]:
    return [f"--results={_variable('RESULTS_DIR')}", *words]


def _nipa(outcome: Outcome) -> None:
    if outcome.run:
        sys.stdout.write(ktap.render_tap(outcome.run))


SYSTEMS = {
    "github": System(list, _github),
    "gitlab": System(list, _gitlab),
    "lava": System(_lava_words, _lava),
    "tmt": System(_tmt_words, _tmt),
    "nipa": System(_nipa_words, _nipa),
}
