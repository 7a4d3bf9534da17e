"""Commands in a guest, one after the other, on a fresh machine after one that went down: recording, and trying."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.base.words import last_line

_MARK = re.compile(rb"^@@ (begin|end) (\S+) ?(\d*)$", re.MULTILINE)
_LOST = 255
SPENT = "/run/vm/spent"
"""A job that leaves this file ends its machine: the next one has a fresh one."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: its exit status; None when the machine went down.
        output: what it said; of a machine that went down why.
        before: what it had said until then.
    """

    status: int | None
    output: str
    before: str = ""

    @property
    def line(self) -> str:
        """The last line of it."""
        return self.output.strip().splitlines()[-1] if self.output.strip() else ""


@dataclass(frozen=True)
class Machine:
    """Where commands run.

    Attributes:
        spec: of the kernel.
        arguments: for ``python -m vm shell``: the kernel's command line, processors…
        seconds: that all commands together may take.
    """

    spec: str
    arguments: tuple[str, ...] = ()
    seconds: float = 1800.0

    def command(self, text: str, place: Path) -> list[str]:
        """Return the command that runs shell lines in a guest that sees ``place``."""
        words = [sys.executable, "-m", "vm", "shell", self.spec, "--timeout", f"{self.seconds:g}"]
        return [*words, "--place", str(place), *self.arguments, "--command", text]


def run(machine: Machine, jobs: Mapping[str, str], place: Path, progress: Progress) -> dict[str, Outcome]:
    """Run shell commands in a guest; return how each ended.

    Args:
        machine: where.
        jobs: commands by a name of letters, digits and hyphens.
        place: directory that the guest sees: what they need is there.
        progress: told of machines that went down.

    Raises:
        UsageError: the guest cannot be had, or does not boot.
    """
    left = dict(jobs)
    found: dict[str, Outcome] = {}
    while left:
        script = "".join(
            f"echo '@@ begin {name}'\n({text})\necho \"@@ end {name} $?\"\n[ ! -e {SPENT} ] || poweroff -f\n"
            for name, text in left.items()
        )
        (place / "jobs.sh").write_text(script)
        done = subprocess.run(
            machine.command(f"sh {shlex.quote(str(place / 'jobs.sh'))}", place),
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        ended, lost, before = outcomes(done.stdout)
        found |= ended
        for name in [*ended, *([lost] if lost else [])]:
            left.pop(name, None)
        if lost:
            found[lost] = Outcome(None, _why(done.stderr), before)
            progress(f"{machine.spec}: the machine went down in {lost}")
        elif not ended or (left and done.returncode != _LOST):
            raise UsageError(f"{machine.spec}: {last_line(done.stderr.decode(errors='replace'))}")
    return found


def outcomes(said: bytes) -> tuple[dict[str, Outcome], str, str]:
    """Return how commands ended, by what the guest said, and the name of one that did not with what that said.

    The name is empty when all did.
    """
    found: dict[str, Outcome] = {}
    begun, at = "", 0
    for mark in _MARK.finditer(said):
        word, name, status = (each.decode() for each in mark.groups())
        if word == "begin":
            begun, at = name, mark.end()
        elif name == begun:
            found[name] = Outcome(int(status), said[at : mark.start()].decode(errors="replace").strip())
            begun = ""
    return found, begun, said[at:].decode(errors="replace") if begun else ""


def recording(tests: Sequence[str], arguments: Sequence[str], within: str = "") -> str:
    """Return shell that records tests and prints the record; ``within`` are words before it all."""
    pytest = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "vm.guest.recording"]
    pytest += ["--no-known-issues", "--color=no", *arguments, *tests]
    return f"{within}{shlex.join(['python3', '-m', 'vm.guest.recorder', '3', '--', *pytest])} 3>&1 >&2"


def record(
    machine: Machine, tests: Sequence[str], arguments: Sequence[str], place: Path, progress: Progress
) -> list[str]:
    """Record tests in guests; return the lines of the record (vm/guest/recorder.py).

    What a test that took its machine down had done is there as far as it came; the tests behind it have a fresh one.

    Raises:
        UsageError: the guest cannot be had, or pytest ran nothing.
    """
    lines: list[str] = []
    begun: list[str] = []
    while True:
        # In a file, since they may be more than fit into a command.
        words = [*tests, *(f"--deselect={each}" for each in begun)]
        (place / "tests").write_text("".join(f"{word}\n" for word in words))
        text = recording([f"@{place / 'tests'}"], arguments)
        done = subprocess.run(machine.command(text, place), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
        heard = done.stdout.decode(errors="replace").splitlines()
        fresh = begun_in(heard)
        if not lines and not any('"note"' in line for line in heard):
            said = done.stderr.decode(errors="replace")
            raise UsageError(f"{machine.spec}: nothing was recorded: {last_line(*_errors(said), said)}")
        lines += heard
        begun += fresh
        if done.returncode != _LOST:
            return lines
        progress(f"{machine.spec}: the machine went down" + (f" in {fresh[-1]}" if fresh else ""))
        if not fresh or {*tests} <= {*begun}:
            return lines


def begun_in(lines: Sequence[str]) -> list[str]:
    """Return the ids of the tests that lines of a record are of, in order."""
    found = []
    for line in lines:
        if '"note"' in line:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                note = json.loads(json.loads(line)["note"])
                found += [note["test"]] if note["what"] == "test" else []
    return found


def _errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("ERROR", "error", "E  "))][-1:]


def _why(said: bytes) -> str:
    lines = said.decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if "the guest ended" in line), last_line(*lines[-1:]))
