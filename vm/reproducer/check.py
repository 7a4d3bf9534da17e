"""What a program looks at: kinds of checks, each of one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


class Unsupported(Exception):
    """A recording that cannot be written as a program, or not judged; says why in a few words."""


@dataclass(frozen=True)
class Result:
    """A call ends with one of these: a negative errno, or what it returns.

    Attributes:
        wanted: what is right, first what is usual.
    """

    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Success:
    """A call succeeds, whatever it returns."""


@dataclass(frozen=True)
class Returns:
    """A call that may block ends by itself."""


@dataclass(frozen=True)
class Holds:
    """What a call wrote is this, from ``offset`` on."""

    wanted: bytes
    offset: int = 0


@dataclass(frozen=True)
class Differs:
    """What a call wrote is not this."""

    unwanted: bytes


@dataclass(frozen=True)
class Events:
    """io_getevents(2) tells of requests with these data, in this order."""

    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Ready:
    """poll(2) or epoll_wait(2) tells of these events: of each descriptor, or of each that has any."""

    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """What netlink answers has this error in it: negative, or 0 for success."""

    error: int


Check: TypeAlias = Result | Success | Returns | Holds | Differs | Events | Ready | Answer
