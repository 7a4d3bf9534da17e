"""What was wrong: which call of a recording is to be judged, and by what.

A test that passed says of all its calls that they are right. Of one that failed, the test's own comparison tells: the
errno that it wanted (tests/errors/raises.py), or both sides of an assertion, of which one is what a call gave. Where
neither is, a recording of the same test on a kernel on which it passes can tell: the first call that ends otherwise.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vm.guest import uring
from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Answer, Check, Differs, Events, Holds, Ready, Result, Returns, Success, Unsupported
from vm.reproducer.follow import CHILD, Thing, Use, completion_number, connected
from vm.reproducer.record import Event, Made, Note, Observed, Recording

_WORDS = re.compile(r"expected (?P<wanted>[\w ]+?), got (?P<got>\w+(?: \d+)?)(?:: (?P<why>.*))?$", re.MULTILINE)
_READS = ("read", "pread64", "readv", "preadv", "recvfrom", "recvmsg", "completion")
_POLLS = ("poll", "ppoll", "epoll_wait", "epoll_pwait")
# struct nlmsghdr, and NLMSG_ERROR.
_MESSAGE_HEADER, _MESSAGE_ERROR = 16, 2
_KEYLESS = ("rng",)
# What begins so gives something else each time: files, and templates that make IVs with a salt of their own.
_RANDOM = ("/dev/", "/proc/", "/sys/", "echainiv(", "seqiv(")
# What returns a number that says something.
_COUNTING = (
    *_READS, "write", "pwrite64", "writev", "pwritev", "sendto", "sendmsg", "splice", "tee", "vmsplice", "sendfile",
    "sendmmsg", "recvmmsg", "io_submit", "io_getevents", "io_uring_enter", "poll",
)  # fmt: skip


@dataclass
class Fault:
    """What a program shows.

    Attributes:
        uses: the calls that it makes.
        checks: what it looks at, by the number of the event.
        said: the fault in the test's words.
        complains, dies: whether the kernel complains, or goes down.
        hang: what the program says when its deadline has passed.
        source: where the expectation comes from: ``assertion``, ``good kernel``, ``test``.
    """

    uses: list[Use]
    checks: dict[int, list[Check]] = field(default_factory=dict)
    said: str = ""
    complains: bool = False
    dies: bool = False
    hang: str = ""
    source: str = "assertion"


def with_pseudo(recording: Recording, uses: Sequence[Use]) -> list[Use]:
    """Return the uses, with what the kernel wrote into memory as events of their own."""
    written = Written()
    by_number: dict[float, Use] = {use.event.number: use for use in uses}
    found: list[Use] = []
    for item in recording.items:
        if isinstance(item, Observed):
            numbers = (completion_number(item, place) for place in range(len(item.completions)))
            found += [by_number[number] for number in numbers if number in by_number]
            found += _changes(item, written)
        elif isinstance(item, Event | Made) and (use := by_number.get(item.number)) is not None:
            found.append(use)
            _note_targets(use, written)
    return found


@dataclass
class Written:
    """Memory that requests are to write into: ranges, with the things that these are of.

    Attributes:
        rings: of io_uring. A range may be the program's again once its request is done.
        aio: of AIO.
        groups: ranges of rings that are of groups: whose they are is known when one is asked for.
    """

    rings: dict[tuple[int, int], dict[int, Thing]] = field(default_factory=dict)
    aio: dict[tuple[int, int], dict[int, Thing]] = field(default_factory=dict)
    groups: set[tuple[int, int]] = field(default_factory=set)


def _changes(item: Observed, written: Written) -> Iterator[Use]:
    for place, each in enumerate(item.changed):
        at, length = each["at"], each["length"]
        ours = (at, length) in written.aio or ((at, length) in written.rings and item.completions)
        if item.after or ours:
            things = written.rings.get((at, length)) or written.aio.get((at, length)) or {}
            number = item.number + (500 + place) / 1000
            event = Event(number, "memory", 0, [at, length], length, item.number, out={0: each["data"]})  # type: ignore[arg-type]
            yield Use(event, things)


def _note_targets(use: Use, written: Written) -> None:
    """Remember which memory requests are to write into."""
    event = use.event
    for request in event.more.get("submissions", ()):
        found = []
        if request["opcode"] in (*uring.WRITES, uring.PROVIDE_BUFFERS) and "buffer" in request:
            found = [request["buffer"]]
        if request["opcode"] in (uring.READV, uring.RECVMSG) and "message" in request:
            found = request["message"].get("parts", ())
        if request["opcode"] == uring.COMMAND and request["offset"] == uring.GETSOCKOPT:
            found = [request["value"]]
        ranges = {(each["at"], each["length"]) for each in found}
        if request["opcode"] == uring.PROVIDE_BUFFERS:
            written.groups |= ranges
        if request["flags"] & uring.SELECT:
            ranges |= written.groups
        things = {fd: thing for fd, thing in use.fds.items() if fd == request["fd"] and thing.kind != "ring"}
        written.rings.update(dict.fromkeys(ranges, things))
    if event.call == "io_submit":
        for block in event.arguments[2]:
            if block.get("command") in (0, 7):
                things = {fd: thing for fd, thing in use.fds.items() if fd == block["fd"]}
                written.aio.update({(part["at"], part["length"]): things for part in block["parts"]})


def find(recording: Recording, uses: Sequence[Use], good: tuple[Recording, Sequence[Use]] | None = None) -> Fault:
    """Return what is wrong in a recording, or, of a test that passed, that everything is right.

    Args:
        recording: of the test.
        uses: its calls (vm/reproducer/follow.py), with :func:`with_pseudo`.
        good: the same of a kernel on which the test passes.

    Raises:
        Unsupported: it cannot be told.
    """
    fault = _find(recording, uses, good)
    if any(use.process != use.event.task for use in fault.uses if use.process):
        raise Unsupported("threads of another process")
    return fault


def _find(recording: Recording, uses: Sequence[Use], good: tuple[Recording, Sequence[Use]] | None = None) -> Fault:
    if recording.foreign:
        raise Unsupported("calls of a 32-bit program by int 0x80")
    if recording.outcome == "passed":
        return everything(uses)
    if recording.outcome == "skipped":
        raise Unsupported("the test was skipped")
    if recording.outcome == "lost":
        return _lost(uses)
    if splats := [splat for note in recording.notes("report") for splat in note.values["splats"]]:
        return _complaint(uses, splats)
    why = "the test's assertion is not about what a call gave"
    try:
        return _asserted(recording, uses)
    except Unsupported as error:
        why = str(error)
    if good is not None:
        return compared(recording, uses, good)
    raise Unsupported(why)


def everything(uses: Sequence[Use]) -> Fault:
    """Return a fault that is none: each call has to end as it did."""
    fault = Fault(list(uses), source="test")
    for use in uses:
        if checks := _as_it_was(use):
            fault.checks[use.event.number] = checks
    return fault


def _as_it_was(use: Use) -> list[Check]:
    """Return the checks for a call of which everything was right, as far as it is the same each time."""
    event = use.event
    if event.call in ("mmap", "mprotect", "munmap", "close", "clone", CHILD):
        return []
    if event.call == "memory":
        return [] if _random(use) else [Holds(unpack(event.out[0]))]
    if event.result is None:
        return []
    if event.blocked:
        return [Result((-4,))] if event.result < 0 else [Result((event.result,))]
    if event.result < 0:
        return [Result((event.result,))]
    if event.call in _POLLS:
        return [Result((event.result,)), *([Ready(told)] if any(told := ready(event)) else [])]
    if use.made or event.call in ("add_key", "keyctl", "fcntl", "io_setup", "getsockname", "ioctl"):
        return [Success()]
    if any(thing.kind == "netlink" for thing in use.things) and event.call in _READS:
        return [Success(), *([Answer(error)] if (error := answer(use)) is not None else [])]
    checks: list[Check] = [Result((event.result,))]
    if event.call in _READS and not _random(use) and (data := output(event)) is not None:
        checks.append(Holds(data))
    return checks


def answer(use: Use) -> int | None:
    """Return the error, or 0 for none, in what netlink answered (struct nlmsgerr); None where there is none."""
    if not any(thing.kind == "netlink" for thing in use.things):
        return None
    data = output(use.event) or b""
    while len(data) >= _MESSAGE_HEADER:
        length, type_ = struct.unpack_from("@IH", data)
        if type_ == _MESSAGE_ERROR and len(data) >= _MESSAGE_HEADER + 4:
            return int(struct.unpack_from("@i", data, _MESSAGE_HEADER)[0])
        if length < _MESSAGE_HEADER:
            break
        data = data[(length + 3) & ~3 :]
    return None


def ready(event: Event) -> tuple[int, ...]:
    """Return the events that poll(2) or epoll_wait(2) told of."""
    if event.call.startswith("epoll"):
        return tuple(event.out.get(1, ()))
    return tuple(revents & 0xFFFF for _, _, revents in event.out.get(0, ()))


def _random(use: Use) -> bool:
    return any(thing.type_ in _KEYLESS or thing.path.startswith(_RANDOM) for thing in use.things)


def output(event: Event) -> bytes | None:
    """Return what a call wrote for its caller; None when it is not of that kind, or failed."""
    if event.call == "memory":
        return unpack(event.out[0])
    if event.call not in _READS or event.result is None or event.result < 0:
        return None
    found = event.out.get(1)
    if isinstance(found, str):
        return unpack(found)[: event.result]
    if isinstance(found, dict):
        return b"".join(unpack(part) for part in found["parts"])[: event.result]
    return None


# ---- a test that failed


def _asserted(recording: Recording, uses: Sequence[Use]) -> Fault:
    raised = recording.notes("raised")
    if not raised:
        raise Unsupported("the failure is not the test's own (a fixture's)")
    note = raised[-1]
    before = [use for use in uses if use.event.number < note.number]
    text, error = note.values["text"], note.values["errno"]
    if note.values["type"] == "DeadlineExpired":
        use = _last(before, lambda use: use.event.blocked)
        hang = f"{use.event.call}: still blocked after 30 s, expected it to end"
        return Fault(_until(before, use), {use.event.number: [Returns()]}, text, hang=hang)
    if match := _WORDS.search(text):
        return _errnos(before, match, text)
    if isinstance(error, int) and error > 0:
        use = _last(before, lambda use: use.event.result == -error or answer(use) == -error)
        return Fault(_until(before, use), {use.event.number: _ends(use, (0,))}, text)
    found = [each for each in recording.notes("compared") if each.number < note.number][-1:]
    why = ""
    for each in found or [each for each in recording.notes("sides") if each.number < note.number]:
        try:
            return _compared(before, each, text)
        except Unsupported as error:
            why = str(error)
    raise Unsupported(why or "the test's assertion compares nothing that a call gave")


def _until(uses: Sequence[Use], last: Use) -> list[Use]:
    """Return the calls up to the last one that matters, without those that have nothing to do with it."""
    wanted = connected(uses, last.event)
    return [
        use for use in uses if use.event.number <= last.event.number and (use.event.number in wanted or use is last)
    ]


def _last(uses: Sequence[Use], right: Callable[[Use], bool]) -> Use:
    for use in reversed(uses):
        event = use.event
        if event.call in ("close", "mmap", "munmap", "mprotect", "clone") and event.result == 0:
            continue
        if event.result is not None and right(use):
            return use
    raise Unsupported("no call ended as the test says")


def _errnos(uses: Sequence[Use], match: re.Match[str], text: str) -> Fault:
    wanted = [names.ERRNO_BY_NAME.get(word.strip()) for word in match["wanted"].split(" or ")]
    got = names.ERRNO_BY_NAME.get(match["got"])
    if got is None or None in wanted:
        raise Unsupported("an errno without a name")
    use = _last(uses, lambda use: _ended(use, got))
    checks = _ends(use, tuple(-(each or 0) for each in wanted))
    return Fault(_until(uses, use), {use.event.number: checks}, text.splitlines()[0])


def _ended(use: Use, error: int) -> bool:
    """Say whether a call failed so, or succeeded; of netlink its answer."""
    told = answer(use)
    result = told if told is not None else use.event.result
    return result is not None and (result == -error if error else result >= 0)


def _ends(use: Use, wanted: tuple[int, ...]) -> list[Check]:
    """Return the checks of a call that has to end so; 0 stands for any success."""
    if answer(use) is not None and len(wanted) == 1:
        return [Answer(wanted[0])]
    return [Success()] if wanted == (0,) else [Result(wanted)]


def _compared(uses: Sequence[Use], note: Note, text: str) -> Fault:
    op, left, right = note.values["op"], note.values["left"], note.values["right"]
    said = text.splitlines()[0] if text else ""
    if op == "!=":
        for data in filter(None, (_bytes(left), _bytes(right))):
            if (use := _giving(uses, data)) is not None:
                return Fault(_until(uses, use), {use.event.number: [Differs(data)]}, said)
        raise Unsupported("the test's assertion is not about what a call gave")
    if op != "==":
        raise Unsupported(f"the test's assertion compares by {op}")
    if (fault := _order(uses, left, right)) is not None:
        fault.said = said
        return fault
    for one, other in _leaves(left, right):
        for got, wanted in ((one, other), (other, one)):
            if (fault := _leaf(uses, got, wanted)) is not None:
                fault.said = said
                return fault
    raise Unsupported("the test's assertion is not about what a call gave")


def _order(uses: Sequence[Use], left: Any, right: Any) -> Fault | None:
    """Return the fault of io_getevents(2) where the order of its events is compared."""
    if not (isinstance(left, list) and isinstance(right, list) and len(left) == len(right) > 1):
        return None
    for use in reversed(uses):
        told = [data for data, *_ in use.event.out.get(3, ())] if use.event.call == "io_getevents" else []
        for got, wanted in ((left, right), (right, left)):
            if told and got == told and sorted(map(str, wanted)) == sorted(map(str, told)):
                return Fault(_until(uses, use), {use.event.number: [Result((len(told),)), Events(tuple(wanted))]})
    return None


def _leaves(left: Any, right: Any) -> Iterator[tuple[Any, Any]]:
    """Return the values in two structures that differ."""
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for one, other in zip(left, right, strict=True):
            yield from _leaves(one, other)
    elif left != right:
        yield left, right


def _leaf(uses: Sequence[Use], got: Any, wanted: Any) -> Fault | None:
    data, right = _bytes(got), _bytes(wanted)
    if got == {} and right:
        # What was compared with it is not known: it was what a call gave, and not made again to be looked at.
        given = (output(use.event) or b"" for use in reversed(uses))
        data = next((each for each in given if len(each) == len(right) and each != right), None)
    if data is not None and right is not None:
        return _content(uses, data, right)
    number, other = _number(got), _number(wanted)
    if number is not None and other is not None:
        for use in reversed(uses):
            event = use.event
            if event.call in _POLLS and number and (told := ready(event)).count(number) == 1:
                wanted = tuple(other if each == number else each for each in told)
                return Fault(_until(uses, use), {event.number: [Ready(wanted)]})
            if event.result == number and (number < 0 or event.call in _COUNTING):
                return Fault(_until(uses, use), {use.event.number: [Result((other,))]})
    return None


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value in names.ERRNO_BY_NAME:
        return -names.ERRNO_BY_NAME[value]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, dict) and "bytes" in value:
        return unpack(value["bytes"])
    if isinstance(value, str) and len(value) >= 8 and re.fullmatch(r"([0-9a-f]{2})+", value):
        return bytes.fromhex(value)
    return None


def _giving(uses: Sequence[Use], data: bytes) -> Use | None:
    return next((use for use in reversed(uses) if output(use.event) == data), None)


def _content(uses: Sequence[Use], data: bytes, right: bytes) -> Fault | None:
    """Return the fault of a call that gave ``data`` instead of what is right."""
    if (use := _giving(uses, data)) is not None:
        event = use.event
        checks: list[Check] = []
        if event.result != len(right) and event.call != "memory":
            checks.append(Result((len(right),)))
        checks.append(_window(data, right))
        return Fault(_until(uses, use), {event.number: checks})
    reads = [use for use in uses if output(use.event)]
    for last in reversed(range(len(reads))):
        # Perhaps it came in pieces, one after the other.
        joined, first = b"", last + 1
        while first > 0 and len(joined) < len(data):
            first -= 1
            joined = (output(reads[first].event) or b"") + joined
        if joined == data and first < last:
            return _pieces(uses, reads[first : last + 1], right)
    for use in reversed(reads):
        whole = output(use.event) or b""
        if len(data) >= 4 and data in whole and len(right) == len(data):
            at = whole.index(data)
            return Fault(_until(uses, use), {use.event.number: [_window(data, right, at)]})
    return None


def _window(data: bytes, right: bytes, base: int = 0) -> Check:
    """Return what to look at: all that is right, or where it differs when that is long."""
    if len(right) <= 512 or data[: len(right)] == right[: len(data)]:
        return Holds(right, base)
    at = next(i for i in range(min(len(data), len(right))) if data[i] != right[i])
    begin = at // 16 * 16
    return Holds(right[begin : begin + 32], base + begin)


def _pieces(uses: Sequence[Use], reads: Sequence[Use], right: bytes) -> Fault | None:
    at = 0
    for use in reads:
        data = output(use.event) or b""
        wanted = right[at : at + len(data)]
        if data != wanted:
            return Fault(_until(uses, use), {use.event.number: [_window(data, wanted)]}) if wanted else None
        at += len(data)
    return None


# ---- a kernel that complains, or dies


def _complaint(uses: Sequence[Use], splats: Sequence[Sequence[str]]) -> Fault:
    return Fault(list(uses), said="; ".join(title for _, title in splats), complains=True)


def _lost(uses: Sequence[Use]) -> Fault:
    """The machine went down, in the last call or while nobody called."""
    if not uses:
        raise Unsupported("the machine went down before the test called anything")
    last = next((use for use in reversed(uses) if use.event.result is None), uses[-1])
    wanted = connected(uses, last.event) if last.event.call != "memory" else {use.event.number for use in uses}
    kept = [use for use in uses if use.event.number in wanted or use is last]
    hang = f"{last.event.call}: still not done after 30 s, expected it to end"
    return Fault(kept, {last.event.number: [Returns()]}, "the machine went down", complains=True, dies=True, hang=hang)


# ---- beside a good kernel


def compared(recording: Recording, uses: Sequence[Use], good: tuple[Recording, Sequence[Use]]) -> Fault:
    """Return the fault by a recording of a kernel on which the test passes: the first call that ends otherwise there.

    Raises:
        Unsupported: the recordings do not go together, or have no difference.
    """
    theirs = [use for use in good[1] if use.event.call not in ("mmap", "munmap", "mprotect")]
    ours = [use for use in uses if use.event.call not in ("mmap", "munmap", "mprotect")]
    for mine, other in zip(ours, theirs, strict=False):
        if mine.event.call != other.event.call or mine.event.task != other.event.task:
            break
        wanted = _as_it_was(other)
        if wanted != _as_it_was(mine) and wanted:
            return Fault(_until(uses, mine), {mine.event.number: wanted}, recording.test, source="good kernel")
    raise Unsupported("the calls do not differ from those on the good kernel")
