"""The same run again and again, and which verdicts are not always the same: ``python -m vm flakes -n 20 …``.

A test whose verdict depends on what else the machine does tells nothing. So this machine is kept busy meanwhile, unless
it is told not to be. Every option of ``python -m vm test`` can follow.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vm.base import process, room
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.words import last_line, plural
from vm.results import events
from vm.results.model import Run
from vm.run.command import joined

# Ends with its parent, whatever ends that.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(100000): pass\n"
# Of one run: a day.
_DEADLINE = 86400.0

Seen = dict[str, list[str]]
"""Of each test, with its kernel, what it was in each run, in order."""


@command
def main(arguments: Sequence[str]) -> int:
    """Run the suite several times, and print what differed: ``python -m vm flakes --help``.

    Returns:
        0 when every test had the same verdict every time, 1 when not.

    Raises:
        UsageError: a run did not come to its end; what the others showed is printed before.
    """
    options, further = _parser().parse_known_args(joined(arguments))
    seen: Seen = {}
    with tempfile.TemporaryDirectory() as directory, _load(options.load):
        for number in range(1, options.n + 1):
            started = time.monotonic()
            try:
                run = _run(Path(directory, str(number)), further)
            except UsageError as error:
                print(table(seen))
                raise UsageError(f"run {number} of {options.n}: {error}") from error
            before = len(differing(seen))
            take(run, seen)
            more = len(differing(seen)) - before
            counts = sum((kernel.counts() for kernel in run.kernels), Counter())
            words = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())
            say(f"run {number} of {options.n}: {words}; {more} more differ; {time.monotonic() - started:.0f} s")
    print(table(seen))
    return 1 if differing(seen) else 0


def take(run: Run, seen: Seen) -> None:
    """Add the verdicts of a run; a test that another run had and this one has not is ``missing``."""
    runs = max(map(len, seen.values()), default=0)
    for kernel in run.kernels:
        for test in kernel.tests:
            seen.setdefault(f"{kernel.name}: {test.test}", ["missing"] * runs).append(test.verdict.value)
    for verdicts in seen.values():
        verdicts.extend(["missing"] * (runs + 1 - len(verdicts)))


def differing(seen: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the tests that did not always have the same verdict."""
    return [test for test, verdicts in seen.items() if len(set(verdicts)) > 1]


def table(seen: Mapping[str, Sequence[str]]) -> str:
    """Return a line for each test that differed: how often it was what; and a line that says how many did."""
    lines = []
    for test in differing(seen):
        counts = Counter(seen[test]).most_common()
        lines.append(f"{test}: " + ", ".join(f"{count} × {verdict}" for verdict, count in counts))
    runs = max(map(len, seen.values()), default=0)
    lines.append(f"{len(lines)} of {plural(len(seen), 'test')} differ in {plural(runs, 'run')}")
    return "\n".join(lines)


def _run(directory: Path, further: Sequence[str]) -> Run:
    directory.mkdir()
    words = ["test", "-q", "--tb=no", "-p", "no:cacheprovider", "--in-order", f"--results={directory}", *further]
    done = process.run([sys.executable, "-m", "vm", *words], deadline=_DEADLINE)
    if done.status not in (0, 1) or not (directory / "latest").exists():
        raise UsageError(f"exit status {done.status}: {last_line(done.errors, done.output)}")
    return events.load(directory / "latest")


@contextlib.contextmanager
def _load(processes: int) -> Iterator[None]:
    """Keep processors busy for the duration of the block."""
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def _parser() -> Parser:
    parser = Parser(prog="python -m vm flakes", description=__doc__)
    parser.add_argument("-n", type=int, default=20, metavar="RUNS", help="how often (default: %(default)s)")
    parser.add_argument("--load", type=int, default=room.processors(), metavar="N", help=(
        "processes that keep this machine busy meanwhile (default: one a processor)"
    ))  # fmt: skip
    return parser
