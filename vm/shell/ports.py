"""What a guest sends through its ports while it runs one command: two outputs, and a status."""

from __future__ import annotations

import os
import select
import time


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

    def start(self) -> None:
        """Have take() not wait from now on."""
        os.set_blocking(self.reader, False)

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


class PortStatus:
    """What the guest's process 1 says on its status port: ``init``, then ``exit N``.

    Attributes:
        reader, writer: ends of a pipe, as of a Stream.
        booted: whether it said ``init``.
        code: N of ``exit N``, None before.
        timed_out: what a deadline passed before, in words; else empty.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.booted = False
        self.code: int | None = None
        self.timed_out = ""
        self._lines = b""

    def take(self) -> bool:
        """Read what it said; say whether more can come."""
        data = os.read(self.reader, 1 << 12)
        *lines, rest = (self._lines + data).split(b"\n")
        # What is longer than all it may say is no line.
        self._lines = rest[:100]
        for line in lines:
            word, _, value = line.decode(errors="replace").strip().partition(" ")
            self.booted = self.booted or word == "init"
            if word == "exit" and value.isdecimal():
                self.code = int(value)
        return bool(data) and self.code is None


def copy(streams: list[Stream], status: PortStatus, boot: float | None, seconds: float | None) -> None:
    """Pass everything on until the status and the streams have ended, or a deadline has passed, however much comes.

    Args:
        boot: monotonic time when the guest must have started its process 1; None for no limit.
        seconds: limit from then on; None for no limit.
    """
    everything: list[Stream | PortStatus] = [*streams, status]
    sources = {source.reader: source for source in everything}
    due = boot
    while sources:
        poll = select.poll()
        for descriptor in sources:
            poll.register(descriptor, select.POLLIN)
        left = None if due is None else max(0.0, due - time.monotonic()) * 1000
        events = poll.poll(left)
        if due is not None and time.monotonic() >= due:
            status.timed_out = "the command was not done" if status.booted else "the guest was not up"
            return
        was_booted = status.booted
        for descriptor, _ in events:
            if not sources[descriptor].take():
                del sources[descriptor]
        if status.booted and not was_booted:
            due = None if seconds is None else time.monotonic() + seconds
        if status.code is not None:
            due = None  # The command is done. What is left of its output has an end, or the machine has.
        if not streams and status.code is not None:
            return
