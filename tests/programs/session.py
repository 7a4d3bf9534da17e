"""Running programs in a guest as somebody, under a policy, with what they do with AF_ALG recorded (vm/uses.py)."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.afalg.libc import checked
from tests.afalg.privileges import Identity, become
from vm import uses

SECONDS = 240.0
"""Deadline of one command, before scaling; an emulated machine takes ten times what a real one does."""

_SECONDS_TO_LEAVE = 5.0
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 24, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class Late(AssertionError):
    """A program did not come to its end, or not to the word that was waited for."""


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        status: of its exit, 128 + N for signal N.
        out: standard output.
        err: standard error.
    """

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The line in which it says what is wrong, its last one where none looks like that."""
        lines = [line.strip() for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line.lower() for word in _COMPLAINTS)]
        said = (telling or lines or [""])[0 if telling else -1]
        return said[:160] or f"exit status {self.status}"


@dataclass(frozen=True)
class Result:
    """What came of a program.

    Attributes:
        ok: its result is there and right.
        said: where it is not, in what words; where it is, to what it fell back, if that was seen.
    """

    ok: bool
    said: str = ""


def failed(done: Done) -> Result:
    """Return the result of a program that does not what it is for, in its own words."""
    return Result(False, done.complaint)


_COMPLAINTS = ("error", "fail", "cannot", "can't", "not ", "unable", "missing", "unsupported", "invalid", "denied")


@dataclass
class Session:
    """Where programs run, as whom, and what they did with AF_ALG so far.

    Attributes:
        place: working directory, which everybody may write to.
        identity: whom they run as.
        confine: called in the process that becomes the command.
        uses: what was recorded.
        environment: of the commands.
    """

    place: Path
    identity: Identity
    confine: Callable[[], object] = lambda: None
    uses: dict[tuple[str, str], uses.Use] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def run(self, *command: str, seconds: float = SECONDS) -> Done:
        """Run a command to its end.

        Raises:
            Late: it did not end in time.
        """
        with self.started(*command) as running:
            return running.wait(seconds)

    @contextlib.contextmanager
    def started(self, *command: str) -> Iterator[Running]:
        """Run a command as long as the block; it gets SIGTERM at its end."""
        number = next(self._numbers)
        files = [self.place / f".{name}-{number}" for name in ("out", "err")]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            self._record(command, files, writer)
        os.close(writer)
        running = Running(child, reader, files)
        try:
            yield running
        finally:
            running.end()
            self._keep(running.told)

    def _record(self, command: Sequence[str], files: Sequence[Path], writer: int) -> None:
        """Be the recorder of a command; tell through a pipe what was seen."""
        status = 127
        try:
            os.setpgid(0, 0)
            os.chdir(self.place)
            for number, file in enumerate(files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.update({"LC_ALL": "C", "HOME": str(self.place), "DM_DISABLE_UDEV": "1", **self.environment})
            ledger = uses.Ledger()
            tracer = uses.Tracer(ledger, self._begin)
            try:
                status = tracer.run(command)
            except uses.UsesError as error:
                os.write(2, f"{error}\n".encode())
            told = [
                [vars(use.who), use.type, use.name, sorted(use.operations), sorted(use.options), dict(use.calls)]
                for use in ledger.uses.values()
            ]
            with open(writer, "w") as pipe:
                json.dump([status, told], pipe)
        finally:
            os._exit(0)

    def _begin(self) -> None:
        if self.identity.uid == 0 and self.identity.capabilities is not None:
            # Or root has all of them again after the next exec (capabilities(7)).
            for capability in range(64):
                _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        self.confine()
        become(self.identity)
        if self.identity.capabilities:
            _keep_over_exec(self.identity.capabilities)

    def _keep(self, told: list[Any]) -> None:
        for who, type_, name, operations, options, calls in told:
            use = self.uses.setdefault((type_, name), uses.Use(uses.Who(**who), type_, name))
            use.operations.update(operations)
            use.options.update(options)
            use.calls.update(Counter(calls))


def _keep_over_exec(capabilities: frozenset[int]) -> None:
    """Have this process keep capabilities when it becomes another program, as ambient ones (capabilities(7))."""
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    for capability in capabilities:
        word, bit = divmod(capability, 32)
        for which in range(3):
            sets[3 * word + which] |= 1 << bit
    checked(_libc.capset(header, sets), "capset")
    for capability in capabilities:
        checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl(PR_CAP_AMBIENT)")


class Running:
    """A command that runs, below its recorder."""

    def __init__(self, recorder: int, reader: int, files: Sequence[Path]) -> None:
        self.recorder = recorder
        self.reader = reader
        self.files = files
        self.text = b""
        self.told: list[Any] = []
        self.status: int | None = None

    def wait(self, seconds: float) -> Done:
        """Wait until the command has ended.

        Raises:
            Late: it has not within some seconds.
        """
        if not self._heard(time.monotonic() + seconds):
            raise Late(f"no end within {seconds:g} s; so far: {self._said()[-300:]}")
        return self.done

    def wait_for(self, seconds: float, *words: str) -> bool:
        """Wait until the command has ended, or has said one of some words; say whether it has said it.

        Raises:
            Late: neither within some seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(word in self._said() for word in words):
                return True
            # What it writes goes to files, which nothing waits for: the end of its recorder does.
            if self._heard(min(end, time.monotonic() + 0.1)):
                return any(word in self._said() for word in words)
        raise Late(f"neither an end nor {' or '.join(words)} within {seconds:g} s; so far: {self._said()[-300:]}")

    def ended(self, seconds: float) -> bool:
        """Say whether the command ends within some seconds."""
        return self._heard(time.monotonic() + seconds)

    def end(self) -> None:
        """End it: kindly, then not."""
        try:
            # The second one is passed on as SIGKILL.
            for _ in range(2):
                if self.status is None:
                    os.kill(self.recorder, signal.SIGTERM)
                    self._heard(time.monotonic() + _SECONDS_TO_LEAVE)
        finally:
            # It is ours until it is waited for. What it traces ends with it (PTRACE_O_EXITKILL).
            os.kill(self.recorder, signal.SIGKILL)
            os.waitpid(self.recorder, 0)
            os.close(self.reader)

    @property
    def done(self) -> Done:
        """How it ended."""
        out, err = (file.read_text(errors="replace") if file.exists() else "" for file in self.files)
        return Done(-1 if self.status is None else self.status, out, err)

    def _said(self) -> str:
        return self.done.out + self.done.err

    def _heard(self, end: float) -> bool:
        """Read what the recorder tells, until it has ended or some time has come; say whether it has ended."""
        while self.status is None and select.select([self.reader], [], [], max(0.0, end - time.monotonic()))[0]:
            part = os.read(self.reader, 65536)
            self.text += part
            if not part:
                self.status, self.told = json.loads(self.text) if self.text else (127, [])
        return self.status is not None
