"""How a machine comes to its first test: from one that was saved, or by a boot, after which it is saved itself.

The first machine of a kernel boots, and is saved twice: when its Python is up, for whatever is to be tested, and when
it has collected, for the same tests again. Each further one goes on from the second, or else the first. One that does
not fit, is damaged or says nothing in time is thrown away, and a boot takes its place.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import IO

from vm.base import files
from vm.base.errors import UsageError
from vm.guest import internals, wake
from vm.klog import taint
from vm.klog.splats import find_splats
from vm.machine import log_file, migrate, saved
from vm.machine.monitor import MonitorError
from vm.machine.saved import NotFit, Saved
from vm.machine.supervisor import Supervisor
from vm.machine.vm import Vm

# The host's process sends it at once; a guest waits for it, and is not kept waiting.
_SECONDS_TO_ASK = 10.0
# Of QEMU, for 150 MB out or in on a busy disk.
_SECONDS_TO_SAVE = 60.0
# It does so at its start.
_SECONDS_TO_GREET = 5.0
# Of the deadline of a boot, and at least: what a machine that was resumed may take to answer.
_SHARE, _LEAST = 0.1, 5.0
_EVERY = 0.05
DID_NOT_GO_ON = "QEMU did not go on after it had saved the machine"
# The code of xdist's worker, and what it is told (xdist 3.8: WorkerController.setup).
_MESSAGES = 2
_MOST_SAID = 16 << 20


class Course:
    """What one machine goes on from, and whether it is saved.

    Args:
        vm: the machine.
        directory: of it.
        to_guest: what its worker is sent; what is read of it here is appended.

    Attributes:
        said: what its worker has said, as long as that is to be kept.
    """

    def __init__(self, vm: Vm, directory: Path, to_guest: bytearray) -> None:
        self.vm = vm
        self.directory = directory
        self.to_guest = to_guest
        self.said = bytearray()
        self._asked = b""
        self._fed = 0
        # By stage, the last first; and those of them that are ours to save.
        self._keys: dict[str, str] = {}
        self._ours: dict[str, IO[str]] = {}
        self._greeted = False
        self._thrown_away: list[str] = []

    def start(self, supervisor: Supervisor) -> tuple[Saved | None, list[str]]:
        """Decide how a machine starts; return what it goes on from, None for a boot, and QEMU's command line.

        Waits for the machine of another process that is about to be saved, when ours is to go on from that.

        Raises:
            UsageError: the command line cannot be had.
        """
        self._greeted = False
        for words in self._thrown_away:
            supervisor.note(words)
        if not self.vm.resumes:
            return None, []
        command = supervisor.command()
        try:
            self._name(command)
            found = self._found(supervisor)
        except (UsageError, OSError) as error:
            supervisor.note(f"not resumed: {error}")
            return None, command
        if found is None:
            return None, command
        (self.directory / "console.log").write_bytes(found.console)
        return found, [*command, *migrate.INCOMING]

    def goes_on(self, supervisor: Supervisor, found: Saved) -> bool:
        """Have a QEMU that waits for it go on where a saved machine was; False when that one is thrown away.

        What its worker was asked, and had said, is left out, and said again.
        """
        due = time.monotonic() + max(_LEAST, _SHARE * self.vm.boot_deadline)
        try:
            migrate.into(supervisor.monitor, found, due)
            self._greeted = True
            supervisor.resumed()
            supervisor.wake()
            if not supervisor.answers(due):
                raise NotFit("it did not answer")
        except (NotFit, MonitorError) as error:
            words = supervisor.last_words()
            self._throw_away(found.directory.name, f"{error}{f' ({words})' if words else ''}")
            for name in ("console.log", "qemu.log"):
                (self.directory / name).unlink(missing_ok=True)
            return False
        if found.stage == wake.COLLECTED:
            if found.facts:
                files.replace_text(self.directory / "guest.json", found.facts.decode(errors="replace"))
            del self.to_guest[: len(self._asked)]
            self._let_go(*self._ours)
        return True

    def fed(self, count: int) -> None:
        """Take it that the worker was sent so many bytes more."""
        self._fed += count

    def heard(self, data: bytes) -> None:
        """Take what the worker said."""
        if wake.COLLECTED in self._ours:
            self.said += data
            if len(self.said) > _MOST_SAID:
                self._let_go(wake.COLLECTED)

    def paused(self, supervisor: Supervisor) -> None:
        """Save a machine that has paused, where that is ours to do, and have it go on."""
        stage = supervisor.paused
        if stage in self._ours and self._worth_it(supervisor, stage):
            copied = {saved.CONSOLE: files.text_of(self.directory / "console.log").encode(errors="replace")}
            if stage == wake.COLLECTED:
                copied[saved.SAID] = bytes(self.said)
                copied[saved.FACTS] = files.text_of(self.directory / "guest.json").encode()
            due = time.monotonic() + _SECONDS_TO_SAVE
            try:
                reason = saved.save(self._keys[stage], stage, copied, lambda into: self._write(supervisor, into, due))
            except migrate.Stopped as error:
                supervisor.end("down", f"{DID_NOT_GO_ON}: {error}")
                return
            except MonitorError as error:
                reason = str(error)
            if reason:
                supervisor.note(f"{saved.COULD_NOT}: {reason}")
        self._let_go(stage)
        supervisor.wake()

    def _name(self, command: list[str]) -> None:
        """Find out by which keys machines like this one are kept."""
        if self._keys:
            return
        asked = self._first_messages()
        imported = saved.key(command, self.directory)
        if asked:
            self._asked = asked
            self._keys[wake.COLLECTED] = saved.collected(imported, asked)
        self._keys[wake.IMPORTED] = imported

    def _found(self, supervisor: Supervisor) -> Saved | None:
        """Return the machine to go on from; None for a boot. What is not there is ours to save."""
        due = time.monotonic() + self.vm.boot_deadline
        for stage, name in self._keys.items():
            while (found := self._fit(name, supervisor)) is None and stage not in self._ours:
                if (lock := saved.to_be_made(name)) is not None:
                    self._ours[stage] = lock  # Who had it may have made it since we looked.
                elif time.monotonic() >= due or _hung_up():
                    break
                else:
                    time.sleep(_EVERY)
            else:
                found = found or self._fit(name, supervisor)
            if found is not None:
                self._let_go(stage)
                return found
        return None

    def _fit(self, name: str, supervisor: Supervisor) -> Saved | None:
        try:
            return saved.find(name)
        except NotFit as error:
            self._throw_away(name, str(error))
            supervisor.note(self._thrown_away[-1])
        return None

    def _throw_away(self, name: str, why: str) -> None:
        saved.discard(name)
        self._thrown_away.append(f"a saved machine was thrown away: {why}")

    def _first_messages(self) -> bytes:
        """Return what a worker is sent before it collects; nothing when that does not come."""
        due = time.monotonic() + _SECONDS_TO_ASK
        while (length := internals.length_of_messages(self.to_guest, _MESSAGES)) is None:
            if not select.select([0], [], [], max(due - time.monotonic(), 0))[0]:
                return b""
            data = os.read(0, 1 << 16)
            if not data:
                return b""
            self.to_guest += data
        return bytes(self.to_guest[:length])

    def _worth_it(self, supervisor: Supervisor, stage: str) -> bool:
        """Whether others may go on from this machine; a kernel that has complained is nobody else's."""
        if supervisor.taint:
            letters = ", ".join(letter for letter, _ in taint.letters(supervisor.taint))
            supervisor.note(f"{saved.COULD_NOT}: its kernel is tainted: {letters}")
            return False
        if splats := find_splats(log_file.text(self.directory / "console.log")):
            supervisor.note(f"{saved.COULD_NOT}: its kernel complained: {splats[0].title}")
            return False
        # Of one that was sent more it is not known what it has read.
        return stage == wake.IMPORTED or self._fed == len(self._asked)

    def _write(self, supervisor: Supervisor, descriptor: int, due: float) -> saved.State:
        if not self._greeted:
            supervisor.monitor.greet(min(due, time.monotonic() + _SECONDS_TO_GREET))
            self._greeted = True
        return migrate.out(supervisor.monitor, descriptor, due)

    def _let_go(self, *stages: str) -> None:
        """Have others save such a machine, when they come to it."""
        for stage in stages:
            if (lock := self._ours.pop(stage, None)) is not None:
                lock.close()
        if wake.COLLECTED in stages:
            self.said.clear()


def _hung_up() -> bool:
    """Whether whoever wants this machine does no longer."""
    poll = select.poll()
    poll.register(0, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
