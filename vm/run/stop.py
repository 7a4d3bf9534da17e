"""Ends that come from outside: a run that is told to stop, or that nobody reads any more, still leaves its results."""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import select
import signal
import sys
from types import FrameType
from typing import NoReturn, TextIO

from vm.base.command import to_nowhere

# A pipe without a reader, a terminal that was closed.
_GONE = (errno.EPIPE, errno.EIO, errno.ENOSPC)
# What time limits (timeout(1), CI systems) and terminals that close send.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_ending = False


def as_ctrl_c() -> None:
    """Have signals that would kill this process end the run as Ctrl-C does; the first counts, make sends another.

    What is ignored, as under nohup(1), stays ignored.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def no_more() -> None:
    """From now on results are written, and the run ends anyway."""
    global _ending
    _ending = True
    for number in (*_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def bear_lost_output() -> None:
    """Have standard output bear that its reader goes (``| less``), and characters that its encoding does not have.

    The run is stopped then. It must not fail over words that nobody reads. Standard error may go without that.
    """
    sys.stdout = _bearing(sys.stdout, stops=True)
    sys.stderr = _bearing(sys.stderr, stops=False)


def _bearing(old: TextIO, stops: bool) -> TextIO:
    try:
        output = _Output(old.fileno(), stops)
    except (OSError, ValueError, AttributeError):
        return old  # closed, or none
    atexit.register(_give_up_unwritten, old)
    with contextlib.suppress(OSError):
        old.flush()
    return _Text(io.BufferedWriter(output), encoding=old.encoding, errors="backslashreplace")


class _Text(io.TextIOWrapper):
    """Keeps nothing back: pytest puts the old standard output in place before it ends, and nobody flushes this one."""

    def write(self, text: str) -> int:
        count = super().write(text)
        self.flush()
        return count


class _Output(io.FileIO):
    """Writes to what may go away; from then on to nothing."""

    def __init__(self, number: int, stops: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.stops = stops

    def write(self, data: object) -> int:
        try:
            # None: a pipe or terminal that somebody else, with whom we share it, set to O_NONBLOCK is full.
            while (written := super().write(data)) is None:  # type: ignore[arg-type]
                select.select([], [self], [])
            return written
        except OSError as error:
            if error.errno not in _GONE:
                raise
        lost = os.fstat(self.fileno())
        # Standard error often goes to the same place; what pytest and others then write to it must not fail either.
        for number in {self.fileno(), 1, 2}:
            with contextlib.suppress(OSError):  # closed
                if os.path.samestat(os.fstat(number), lost):
                    to_nowhere(number)
        if self.stops and not _ending:
            _stop(signal.SIGPIPE)
        return len(memoryview(data).cast("B"))  # type: ignore[arg-type]


def _give_up_unwritten(old: TextIO) -> None:
    """Have the interpreter's last flush of ``old`` succeed, which would turn the exit status into 120.

    pytest puts it back between its tests, and plug-ins may hold it; what they print waits in its buffer.
    """
    try:
        old.flush()
    except OSError:
        to_nowhere(old.fileno())
    except ValueError:
        pass  # closed


def _stop(number: int, _frame: FrameType | None = None) -> NoReturn:
    no_more()
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")
