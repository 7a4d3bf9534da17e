"""What the kernel logs, as it comes to us: lines of a serial console, records of ``/dev/kmsg``.

The guest writes ``vm-test: begin ID`` and ``vm-test: end ID`` to ``/dev/kmsg`` around each test, at a level that
reaches the console.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

BEGIN = "vm-test: begin "
END = "vm-test: end "

_PREFIX = re.compile(r"\[ *(?P<time>\d+\.\d{6})\](?:\[ *(?P<caller>[TC]\d+)\])? ?")


class Line(NamedTuple):
    """One line of a console.

    Attributes:
        number: its place in the text, from 0.
        text: what it says, without level, stamp and caller.
        time: its stamp, in seconds since boot; None when unstamped.
        caller: ``T123`` (task) or ``C1`` (processor) with CONFIG_PRINTK_CALLER, else empty.
    """

    number: int
    text: str
    time: float | None = None
    caller: str = ""

    @property
    def marks_test(self) -> bool:
        """Whether it is one the guest writes around each test."""
        return self.text.startswith((BEGIN, END))


@dataclass(frozen=True)
class Record:
    """One record of ``/dev/kmsg`` (kernel document ABI/testing/dev-kmsg).

    Attributes:
        facility: 0 for the kernel itself, 1 and more for messages written by user space.
        microseconds: of the monotonic clock.
        text: the message, unescaped; it may have several lines.
        caller: ``T123`` (task) or ``C1`` (processor) with CONFIG_PRINTK_CALLER, else empty.
    """

    facility: int
    microseconds: int
    text: str
    caller: str = ""


def parse_lines(text: str) -> list[Line]:
    """Return every line of a console."""
    return [parse_line(number, raw) for number, raw in enumerate(text.split("\n"))]


def parse_line(number: int, raw: str) -> Line:
    """Return a line of a console, the ``number``-th of its text, taken apart."""
    plain = clean(raw)
    # Searched for, since a program may have left an unfinished line before the kernel's.
    if (prefix := _PREFIX.search(plain)) is not None:
        return Line(number, plain[prefix.end() :].rstrip(), float(prefix["time"]), prefix["caller"] or "")
    return Line(number, re.sub(r"^<\d{1,3}>", "", plain).rstrip())


def clean(raw: str) -> str:
    """Return a line without terminal sequences and control characters other than the tabulator."""
    if raw.isprintable():
        return raw
    raw = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[@-Z\\-_a-z])", "", raw)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", raw)


def parse_record(data: bytes) -> Record:
    r"""Return one record as ``read(2)`` gives it.

    The format is ``prefix,sequence,microseconds,flags[,more];text\n``, then lines `` KEY=value\n``. Bytes
    that are not printable and the backslash are escaped as ``\x..``. Further fields are ignored, as the
    document asks.

    Raises:
        ValueError: it is no such record.
    """
    head, separator, body = data.partition(b";")
    fields = head.decode(errors="replace").split(",")
    if not separator or len(fields) < 4 or not all(number.isdecimal() for number in fields[:3]):
        raise ValueError(f"expected a record of /dev/kmsg (level,sequence,microseconds,flags;text), got {data[:80]!r}")
    return Record(
        facility=int(fields[0]) >> 3,
        microseconds=int(fields[2]),
        text=_unescape(body.split(b"\n")[0]),
        caller=next((more.removeprefix("caller=") for more in fields[4:] if more.startswith("caller=")), ""),
    )


def render(record: Record) -> str:
    """Return a record as a console shows it, each of its lines stamped, without a newline at the end.

    A message of user space other than the markers of tests is marked as such, so that a program cannot
    utter a splat.
    """
    stamp = f"[{record.microseconds / 1e6:12.6f}]" + (f"[{record.caller:>6}]" if record.caller else "")
    theirs = record.facility != 0 and not record.text.startswith((BEGIN, END))
    return "\n".join(f"{stamp} {'user space: ' if theirs else ''}{line}" for line in record.text.split("\n"))


def _unescape(data: bytes) -> str:
    r"""Return a message with its ``\x..`` replaced by the bytes they stand for."""
    raw = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), data)
    return raw.decode(errors="replace")
