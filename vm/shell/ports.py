"""What a guest sends through its ports while it runs one command: its two outputs."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from vm.machine.supervisor import Supervisor


class Stream:
    """One output of the guest on its way to one of ours; holds back what may be the word that ends it.

    Args:
        target: our descriptor.
        end: the word.

    Attributes:
        reader, writer: ends of a pipe; the guest's output is to go into the writer.
        complete: whether the word has come.
    """

    def __init__(self, target: int, end: str) -> None:
        self.reader, self.writer = os.pipe()
        self.target = target
        self.end = end.encode()
        self.held = b""
        self.complete = False

    def take(self) -> bool:
        """Pass on what has come; say whether more can come."""
        try:
            data = os.read(self.reader, 1 << 16)
        except BlockingIOError:
            return True
        self.held += data
        if self.held.endswith(self.end):
            self.complete = True
            self.held = self.held[: -len(self.end)]
        keep = 0 if self.complete or not data else self._begun()
        certain = len(self.held) - keep
        passed, self.held = self.held[:certain], self.held[certain:]
        while passed:
            passed = passed[os.write(self.target, passed) :]
        return bool(data) and not self.complete

    def _begun(self) -> int:
        """Return how many bytes at the end of what is held may be the beginning of the word that ends it."""
        longest = min(len(self.end) - 1, len(self.held))
        return next((n for n in range(longest, 0, -1) if self.end.startswith(self.held[-n:])), 0)


def copy(supervisor: Supervisor, streams: Sequence[Stream], seconds: float | None) -> None:
    """Pass everything on until the command and its output have ended, or the VM has, however much comes.

    Args:
        supervisor: of the VM, which runs.
        streams: the outputs.
        seconds: limit from the end of the boot on; None for no limit.
    """
    left = {stream.reader: stream for stream in streams}
    for reader in left:
        os.set_blocking(reader, False)
        supervisor.poll.register(reader, select.POLLIN)
    due: float | None = None
    # What the guest wrote before its end is in the pipes.
    while supervisor.alive and (left or (supervisor.code is None and not supervisor.closed)):
        for descriptor in supervisor.turn(due):
            if not left[descriptor].take():
                supervisor.poll.unregister(descriptor)
                del left[descriptor]
        if supervisor.code is not None:
            due = None  # The command is done. What is left of its output has an end, or the VM has.
        elif due is None and seconds is not None and supervisor.status.state == "up":
            due = time.monotonic() + seconds
        elif due is not None and time.monotonic() >= due:
            supervisor.end("down", "the command was not done")
