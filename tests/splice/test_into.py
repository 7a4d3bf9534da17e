"""Data that is spliced, sent by sendfile or the like is as good as data that is sent: every case (cases.py).

A covering array of the factors is always run; all of the product, some 200000 cases, with ``--thorough``.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import itertools
import os
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Rng, Skcipher, Socket, Transform
from tests.afalg.buffers import set_send_buffer
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.errors import probes
from tests.errors.leaks import option_memory
from tests.errors.raises import raises_errno
from tests.splice import cases
from tests.splice.cases import LENGTHS, OFFSETS, PAGE, PLACES, Case
from tests.splice.sources import Source, huge_pages, source_of
from tests.splice.targets import BLOCK, TARGETS, Target, check, check_waits
from tests.splice.ways import WAYS, splices

SNDBUF = 4 * PAGE
"""What a socket holds whose buffer is smaller than the data."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The full product is made only where it is run: to make it takes seconds."""
    if "group" in metafunc.fixturenames:
        thorough = getattr(metafunc.config.option, "thorough", False)
        groups = [
            list(group) for _, group in itertools.groupby(cases.every_case() if thorough else (), lambda c: c[:3])
        ]
        metafunc.parametrize("group", groups, ids=lambda group: "-".join(group[0][:3]))


@pytest.fixture(scope="module")
def kept_huge_pages() -> Iterator[None]:
    with huge_pages():
        yield


@pytest.fixture(scope="module")
def kept_rng() -> Iterator[Transform]:
    """Give an rng for all cases: to make one takes longer than the rest of them."""
    with TARGETS["rng"].open() as rng:
        yield rng


@contextlib.contextmanager
def opened(target: Target, request: pytest.FixtureRequest) -> Iterator[Transform]:
    """Give the target's transform, with a fresh op socket."""
    if target.kind is not Rng:
        with target.open() as transform:
            yield transform
        return
    rng = copy.copy(request.getfixturevalue("kept_rng"))
    rng.tfm = Socket(os.dup(rng.tfm.fd))
    with rng:
        yield rng


@pytest.mark.parametrize("case", cases.covering(), ids=str)
def test_spliced_data_gives_what_sent_data_does(case: Case, request: pytest.FixtureRequest) -> None:
    """The result is the oracle's, of all that the socket took; the source is as it was; the socket goes on working.

    Source: splice(2).
    """
    run(case, request)


@pytest.mark.thorough
@pytest.mark.deadline(300)
def test_every_case_there_is(group: list[Case], request: pytest.FixtureRequest) -> None:
    """The full product; one test for each source, way and target (splice(2), sendfile(2), vmsplice(2))."""
    wrong = []
    for case in group:
        try:
            run(case, request)
        except (AssertionError, OSError) as error:
            wrong.append(f"{case}: {error}")
    assert not wrong, f"{len(wrong)} of {len(group)} cases are wrong, among them\n" + "\n".join(wrong[:20])


def run(case: Case, request: pytest.FixtureRequest) -> None:
    """Make one message of which a part is spliced, and fail unless all that comes of it is right."""
    if case.source == "huge":
        request.getfixturevalue("kept_huge_pages")
    target, place, length = TARGETS[case.target], PLACES[case.place], LENGTHS[case.length]
    bare = case.place == "alone"
    stream = target.stream(place.before + length + (place.after or 0), bare)
    spliced = stream[place.before : place.before + length]
    with opened(target, request) as transform, source_of(case.source, spliced, OFFSETS[case.offset]) as source:
        op = transform.op
        possible = splices(case.way, source)
        if target.kind is Rng or not possible:
            refusal = errno.EOPNOTSUPP if possible else errno.EINVAL
            with raises_errno(refusal, *([] if length else [0])):
                put(case, source, op, 0, length, False)
            target.works(op)
            return
        idle = option_memory(op)
        message = send(case, stream, source, op)
        finish(target, op, message, bare)
        # A message too short for its AAD or tag stays in the queue for ever.
        stuck = target.kind is Aead and target.result(message.sent, bare) == errno.EINVAL
        with transform.tfm.accept() if stuck else contextlib.nullcontext(op) as usable:
            target.works(usable)
            assert option_memory(usable) == idle, "memory of the socket is not given back"


class Message:
    """What a socket was given so far.

    Attributes:
        sent: the bytes it took.
        begun: whether that begins a request.
        more: whether there is more to come.
    """

    def __init__(self) -> None:
        self.sent, self.begun, self.more = b"", False, False

    def took(self, data: bytes, more: bool, begins: bool = True) -> None:
        self.sent += data
        self.begun |= begins
        self.more = more


def send(case: Case, stream: bytes, source: Source, op: Socket) -> Message:
    """Send and splice the message as its place says."""
    target, place, length = TARGETS[case.target], PLACES[case.place], LENGTHS[case.length]
    message = Message()
    limited = case.length == "over-sndbuf"
    if limited:
        set_send_buffer(op, SNDBUF)
        os.set_blocking(op.fd, False)
    if place.begins:
        op.sendmsg([stream[: place.before]], target.control, MSG_MORE)
        message.took(stream[: place.before], more=True)
    edges = sorted({0, length // 3, length // 2, length}) if place.pieces > 1 else [0, length]
    for start, end in itertools.pairwise(edges):
        more = place.more or end < length
        taken = put(case, source, op, start, end - start, more)
        if limited and target.queued:
            # Linux before 6.5 takes the pages of a pipe whole, and those of sockets are large.
            most = length if case.source in ("unix", "tcp") else SNDBUF - place.before
            assert 0 < taken <= most, f"took {taken} bytes, with room for {SNDBUF - place.before}"
            more |= taken < length
        else:
            assert taken == end - start
        # A splice of no bytes is nothing that the socket hears of.
        if taken or case.way == "sendmsg":
            begins = case.way == "sendmsg" or (target.queued and probes.splice_begins_a_request())
            message.took(source.content[start : start + taken], more, begins)
    if place.after is not None and not place.read_open:
        rest = stream[len(stream) - place.after :]
        op.sendmsg([rest], b"" if place.begins else target.control)
        message.took(rest, more=False)
    return message


def finish(target: Target, op: Socket, message: Message, bare: bool) -> None:
    """Receive what must come of the message; what is not at its end yet is ended on the way."""
    sent = message.sent
    expected, read = target.result(sent, bare), 0
    if target.queued and (message.more or not message.begun):
        if target.kind is Skcipher and message.begun and len(sent) >= BLOCK:
            # Whole blocks may be read already.
            read = len(sent) // BLOCK * BLOCK
            check(op, read, target.result(sent[:read], bare), MSG_DONTWAIT)
        else:
            check_waits(op)
        op.send(b"")
    check(op, max(target.size_of(sent) - read, 1), expected if isinstance(expected, int) else expected[read:])


def put(case: Case, source: Source, op: Socket, start: int, length: int, more: bool) -> int:
    return WAYS[case.way](source, op, start, length, cases.FLAGS[case.flags], more)
