"""Which descriptor is which thing, from its making to its closing; and what has to do with AF_ALG."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vm.guest import syscalls, uring
from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.record import Event, Made, Observed, Recording

NETLINK_CRYPTO = 21
CALLS = syscalls.named()
_MAKERS = {
    "socket": "socket", "accept4": "op", "accept": "op", "openat": "file", "open": "file", "memfd_create": "memfd",
    "dup": "", "dup2": "", "dup3": "", "eventfd2": "event", "epoll_create1": "epoll", "io_uring_setup": "ring",
}  # fmt: skip
_TIDYING = ("close", "dup2", "dup3", "fcntl", "mmap", "mprotect", "munmap", "clone", "openat", "read", "lseek")
_ALWAYS = ("io_setup", "io_destroy", "io_submit", "io_getevents", "io_cancel", "add_key", "keyctl", "request_key")
PRIVILEGES = ("setuid", "setgid", "setgroups", "setresuid", "setresgid", "capset", "unshare", "prctl", "seccomp")
"""Calls that change what a process may do."""

CHILD = "child"
"""An event that is none: another process begins, whose first thread's number is its argument."""


@dataclass(eq=False)
class Thing:
    """What a descriptor is one of.

    Attributes:
        kind: ``tfm``, ``op``, ``netlink``, ``socket``, ``pipe``, ``file``, ``memfd``, ``event``, ``epoll``, ``ring``.
        number: its descriptor when it was recorded.
        made: number of the event that made it.
        end: of a pair, which of the two.
        type_: of a tfm and its ops: ``hash``, ``rng``…
        path: of a file; of a tfm and its ops the algorithm's name.
        parent: what it was made of: an op's tfm, a pair's first.
    """

    kind: str
    number: int
    made: int
    end: int = 0
    type_: str = ""
    path: str = ""
    parent: Thing | None = None


@dataclass
class Use:
    """An event and the things it is about.

    Attributes:
        event: the call.
        fds: things by the number they were called by.
        made: what it made.
        process: number of the process that made the call: 0 for the test's own.
    """

    event: Event
    fds: dict[int, Thing] = field(default_factory=dict)
    made: list[Thing] = field(default_factory=list)
    process: int = 0

    @property
    def things(self) -> list[Thing]:
        """All of them."""
        return [*self.fds.values(), *self.made]


def follow(recording: Recording) -> list[Use]:
    """Return the events that have to do with AF_ALG, with keys, AIO and io_uring, and the things they are about."""
    process_of = {0: 0}
    tables: dict[int, dict[int, Thing]] = {0: {}}
    uses: list[Use] = []
    requests: dict[int, dict[str, Any]] = {}
    for item in recording.items:
        if isinstance(item, Observed):
            uses += _completions(item, tables[0], requests)
        elif isinstance(item, Made):
            parent = process_of.get(item.task, 0)
            process_of[item.made] = item.made if item.process else parent
            if item.process:
                tables[item.made] = dict(tables[parent])
                uses.append(Use(Event(item.number, CHILD, item.task, [item.made], 0, item.number), process=parent))
        elif isinstance(item, Event):
            use = _used(item, tables[process_of.setdefault(item.task, 0)])
            use.process = process_of[item.task]
            requests |= {request["data"]: request for request in item.more.get("submissions", ())}
            if use.things or item.call in (*_ALWAYS, *PRIVILEGES, "mmap", "mprotect", "munmap", "socket", "clone"):
                uses.append(use)
    return _without_helpers(_relevant(uses))


def completion_number(item: Observed, place: int) -> float:
    """Return the number of the event that a completion is taken for."""
    return item.number + place / 1000


def _completions(item: Observed, table: dict[int, Thing], requests: Mapping[int, dict[str, Any]]) -> Iterator[Use]:
    """Return what came out of rings as events; a descriptor that came is known from then on."""
    for place, (fd, (data, result, flags)) in enumerate(item.completions):
        if fd not in table or table[fd].kind != "ring":
            continue
        number = completion_number(item, place)
        use = Use(Event(number, "completion", 0, [fd, data, flags], result, item.number), {fd: table[fd]})  # type: ignore[arg-type]
        request = requests.get(data, {})
        opcode = request.get("opcode")
        if result >= 0 and opcode in (uring.ACCEPT, uring.SOCKET):
            thing = Thing(
                "op" if opcode == uring.ACCEPT else _kind_of(request["fd"], request["length"]), result, item.number
            )
            if opcode == uring.ACCEPT:
                _child(thing, table.get(request["fd"]))
            use.made.append(thing)
            table[result] = thing
        yield use


def _without_helpers(uses: Sequence[Use]) -> list[Use]:
    """Leave out children that only tidy up before they become another program: what subprocess makes."""
    busy = {use.process for use in uses if use.event.call not in (*_TIDYING, *PRIVILEGES, CHILD)}
    return [
        use
        for use in uses
        if (not use.process or use.process in busy) and (use.event.call != CHILD or use.event.arguments[0] in busy)
    ]


def numbers_of(event: Event) -> list[int]:
    """Return the descriptors a call names, wherever it does."""
    found = [
        value for (letter, _), value in zip(CALLS[event.call].arguments, event.arguments, strict=False) if letter == "f"
    ]
    if event.call in ("poll", "ppoll"):
        found += [fd for fd, _, _ in event.arguments[0]]
    if event.call == "io_submit":
        for block in event.arguments[2]:
            found += [block.get("fd", -1), *([block["resfd"]] if block.get("flags", 0) & 1 else [])]
    for request in event.more.get("submissions", ()):
        if request["opcode"] not in uring.WITHOUT_DESCRIPTOR:
            found.append(request["fd"])
        if request["opcode"] == uring.SPLICE:
            found.append(request["splice_fd_in"])
    if event.call == "openat" and (path := _path(event)).startswith("/proc/self/fd/") and path[14:].isdigit():
        found.append(int(path[14:]))
    return [each for each in found if isinstance(each, int) and each >= 0]


def _path(event: Event) -> str:
    text = event.arguments[1 if event.call == "openat" else 0]
    return unpack(text).decode(errors="replace") if text else ""


def _used(event: Event, table: dict[int, Thing]) -> Use:
    use = Use(event, {each: table[each] for each in numbers_of(event) if each in table})
    result = event.result if event.result is not None else -1
    if event.call == "bind" and result >= 0 and isinstance(event.arguments[1], dict):
        _bound(table.get(event.arguments[0]), event.arguments[1])
    for request in event.more.get("submissions", ()):
        if request["opcode"] == uring.BIND:
            _bound(table.get(request["fd"]), request["buffer"])
    if result < 0:
        return use
    if event.call in _MAKERS:
        use.made.append(_made(event, table, result))
    elif event.call == "fcntl" and event.arguments[1] in (0, 1030):
        use.made.append(_copy(table, event, result))
    elif event.call in ("pipe2", "socketpair"):
        place = 0 if event.call == "pipe2" else 3
        ends = struct.unpack("@ii", unpack(event.out[place]))
        first = Thing("pipe" if event.call == "pipe2" else "pair", ends[0], event.number)
        use.made += [first, Thing(first.kind, ends[1], event.number, 1, parent=first)]
    elif event.call == "close":
        table.pop(event.arguments[0], None)
    for thing in use.made:
        table[thing.number] = thing
    return use


def _made(event: Event, table: dict[int, Thing], result: int) -> Thing:
    if event.call.startswith("dup"):
        return _copy(table, event, result)
    kind = _MAKERS[event.call]
    thing = Thing(kind, result, event.number)
    if event.call == "socket":
        thing.kind = _kind_of(event.arguments[0], event.arguments[2])
    elif kind == "op":
        _child(thing, table.get(event.arguments[0]))
    elif kind == "file":
        thing.path = _path(event)
    return thing


def _kind_of(family: int, protocol: int) -> str:
    """Return what a socket is."""
    if family == names.AF_NETLINK and protocol == NETLINK_CRYPTO:
        return "netlink"
    return "tfm" if family == names.AF_ALG else "socket"


def _child(thing: Thing, parent: Thing | None) -> None:
    """Note what was accepted from what."""
    thing.parent = parent
    thing.type_ = parent.type_ if parent else ""
    thing.path = parent.path if parent else ""
    if parent is not None and parent.kind not in ("tfm", "op"):
        thing.kind = "socket"


def _bound(thing: Thing | None, address: dict[str, Any]) -> None:
    """Note what a transform is one of."""
    if thing is not None and thing.kind == "tfm":
        raw = unpack(address.get("data", "x"))
        thing.type_ = raw[2:16].partition(b"\0")[0].decode(errors="replace")
        thing.path = raw[24:88].partition(b"\0")[0].decode(errors="replace")


def _copy(table: dict[int, Thing], event: Event, result: int) -> Thing:
    old = table.get(event.arguments[0])
    if old is None:
        return Thing("unknown", result, event.number)
    # Of a ring's memory there is one, whoever has a descriptor of it.
    kind = "unknown" if old.kind == "ring" else old.kind
    return Thing(kind, result, event.number, type_=old.type_, parent=old)


def is_root(use: Use) -> bool:
    """Say whether an event is of interest by itself."""
    event = use.event
    if event.call == "socket":
        family, _, protocol = event.arguments
        return bool(family == names.AF_ALG or (family == names.AF_NETLINK and protocol == NETLINK_CRYPTO))
    if event.call in (*_ALWAYS, *PRIVILEGES, CHILD) or event.call == "io_uring_setup":
        return True
    if event.call in ("openat", "open"):
        writes = event.arguments[2 if event.call == "openat" else 1] & 3
        return bool(writes) and _path(event).startswith(("/proc/", "/sys/"))
    return False


def _relevant(uses: Sequence[Use]) -> list[Use]:
    wanted: set[int] = {id(thing) for use in uses if is_root(use) for thing in use.things}
    while True:
        more = {
            id(thing)
            for use in uses
            if _binds(use) and any(id(each) in wanted for each in use.things)
            for thing in use.things
        } | {id(use.made[0]) for use in uses for _ in [0] if len(use.made) == 2 and id(use.made[1]) in wanted}
        if more <= wanted:
            break
        wanted |= more
    return _waited(
        [
            use
            for use in uses
            if is_root(use)
            or any(id(thing) in wanted for thing in use.things)
            or (use.event.call in ("mmap", "mprotect", "munmap") and not use.fds)
        ]
    )


def _waited(uses: Sequence[Use]) -> list[Use]:
    """Return the uses with one poll in place of many that were made until something was so."""
    found: list[Use] = []
    for use in uses:
        event, before = use.event, found[-1].event if found else None
        if event.call == "poll" and before is not None and before.call == "poll" and _asked(event) == _asked(before):
            found.pop()
            event.arguments[2] = 1000 if event.result else event.arguments[2]
        found.append(use)
    return found


def _asked(event: Event) -> tuple[object, ...]:
    return (event.task, [(fd, events) for fd, events, _ in event.arguments[0]])


def _binds(use: Use) -> bool:
    """Say whether what one thing of an event is, is of interest for the others."""
    return use.event.call not in ("poll", "ppoll")


def connected(uses: Iterable[Use], wanted: Event) -> set[int]:
    """Return the numbers of events whose things have, by any number of calls, to do with those of one event."""
    uses = list(uses)
    found = {id(thing) for use in uses if use.event is wanted for thing in use.things}
    while True:
        more = {id(t) for use in uses if any(id(each) in found for each in use.things) for t in use.things}
        more |= {id(t.parent) for use in uses for t in use.things if id(t) in found and t.parent is not None}
        if more <= found:
            break
        found |= more
    free = (*_ALWAYS, *PRIVILEGES, CHILD, "mmap", "mprotect", "munmap")
    return {
        use.event.number
        for use in uses
        if any(id(thing) in found for thing in use.things) or (use.event.call in free and not use.things)
    }


def buffers(value: Any) -> Iterable[dict[str, Any]]:
    """Return every range of memory that an argument names."""
    if isinstance(value, dict):
        if "at" in value and "length" in value:
            yield value
        for each in value.values():
            yield from buffers(each)
    elif isinstance(value, list):
        for each in value:
            yield from buffers(each)
