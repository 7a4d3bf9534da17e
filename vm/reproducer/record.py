"""What was recorded of a test (vm/guest/recorder.py), read back: events in the order of their beginnings, and notes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vm.guest import recorder

ERESTART = frozenset({-512, -513, -514, -516})
"""Results by which the kernel says that a signal ended a call; its program sees EINTR, or nothing at all."""
_EINTR = -4


@dataclass
class Event:
    """A system call.

    Attributes:
        number: of its entry; ``left`` that of its exit, 0 while there is none.
        call: its name.
        task: number of the thread that made it; 0 is the test's own.
        arguments: as the recorder has them.
        result: what it returned, a negative errno for an error; None when it did not return.
        out: what it wrote, by the number of the argument.
        more: what else the recorder says of it.
        interrupted: whether a signal came while it was in the kernel.
    """

    number: int
    call: str
    task: int
    arguments: list[Any]
    result: int | None = None
    left: int = 0
    out: dict[int, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def blocked(self) -> bool:
        """Whether it waited until a signal ended it."""
        return self.result in ERESTART or self.result == _EINTR or (self.interrupted and (self.result or 0) >= 0)


@dataclass
class Note:
    """What the test said (vm/guest/recording.py)."""

    number: int
    what: str
    values: dict[str, Any]


@dataclass
class Observed:
    """What had changed when the recorder looked.

    Attributes:
        number: of the event or note at which it did.
        after: whether that was at the end of a call: the kernel's doing; else the program's, or a request's.
        changed: ranges of memory with what they hold.
        completions: of rings: descriptor, then data, result and flags.
    """

    number: int
    after: bool
    changed: list[dict[str, Any]]
    completions: list[Any]


@dataclass
class Made:
    """A thread or a process began."""

    number: int
    task: int
    made: int
    process: bool


Item: TypeAlias = Event | Note | Observed | Made


@dataclass
class Recording:
    """One test.

    Attributes:
        test: its id.
        doc: what it says of itself; ``module`` what its file does.
        fixes: commits that its markers name.
        items: all of it, in order.
        complete: whether it came to its end.
        foreign: whether it made calls of another architecture (``int 0x80``).
    """

    test: str
    doc: str = ""
    module: str = ""
    fixes: tuple[str, ...] = ()
    items: list[Item] = field(default_factory=list)
    complete: bool = False
    foreign: bool = False

    @property
    def events(self) -> list[Event]:
        """Its system calls."""
        return [item for item in self.items if isinstance(item, Event)]

    def notes(self, what: str) -> list[Note]:
        """Return its notes of a kind."""
        return [item for item in self.items if isinstance(item, Note) and item.what == what]

    @property
    def outcome(self) -> str:
        """``passed``, ``failed``, ``skipped``, or ``lost`` when the machine did not come to its end."""
        if not self.complete:
            return "lost"
        said = [note.values["outcome"] for note in self.notes("report")]
        return next((word for word in ("failed", "skipped") if word in said), "passed")


def load(lines: Iterable[str]) -> Iterator[Recording]:
    """Read recordings; a line that is none, as of a machine that died while it wrote it, is left out."""
    current: Recording | None = None
    entered: dict[int, Event] = {}
    last: dict[int, Event] = {}
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if not isinstance(said, dict) or "n" not in said:
            continue
        if said.get("note") == recorder.END:
            if current is not None:
                current.complete = True
                yield current
            current = None
            continue
        if "note" in said:
            note = _note(said)
            if note is not None and note.what == "test":
                if current is not None:
                    yield current
                current = Recording(note.values["test"], note.values["doc"], note.values["module"])
                current.fixes = tuple(note.values["fixes"])
                entered, last = {}, {}
        if current is not None:
            _take(current, said, entered, last)
    if current is not None:
        yield current


def _note(said: dict[str, Any]) -> Note | None:
    with contextlib.suppress(ValueError, KeyError):
        values = json.loads(said["note"])
        return Note(said["n"], values.pop("what"), values)
    return None


def _take(recording: Recording, said: dict[str, Any], entered: dict[int, Event], last: dict[int, Event]) -> None:
    number = said["n"]
    if "changed" in said or "completions" in said:
        after = "of" in said
        recording.items.append(Observed(number, after, said.get("changed", []), said.get("completions", [])))
    if "note" in said:
        if (note := _note(said)) is not None:
            recording.items.append(note)
    elif "call" in said:
        more = {key: value for key, value in said.items() if key not in ("n", "call", "task", "arguments", "changed")}
        event = Event(number, said["call"], said["task"], said["arguments"], more=more)
        entered[number] = last[event.task] = event
        recording.items.append(event)
    elif "of" in said and (found := entered.get(said["of"])) is not None:
        found.result, found.left = said["result"], number
        found.out = {int(key[3:]): value for key, value in said.items() if key.startswith("out")}
    elif "made" in said:
        recording.items.append(Made(number, said["task"], said["made"], said["process"]))
    elif "foreign" in said:
        recording.foreign = True
    elif "signal" in said and (found := last.get(said["task"])) is not None:
        found.interrupted = True
