"""Which call is judged, and by what: of assertions as tests have them, on recordings that are made up."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from vm.guest.tracee import pack
from vm.reproducer import fault, follow
from vm.reproducer.check import Answer, Check, Differs, Events, Holds, Ready, Result, Returns, Success, Unsupported
from vm.reproducer.fault import Fault
from vm.reproducer.record import Event, Made, Note, Observed, Recording

RIGHT, WRONG = bytes(range(16)), bytes(range(15)) + b"!"


class Story:
    """A recording of one op socket, call by call."""

    def __init__(self) -> None:
        self.recording = Recording("t.py::test", complete=True)
        self.call("socket", [38, 5, 0], 10)
        self.call("accept4", [10, 0, 0, 0], 11)

    def call(self, name: str, arguments: list[Any], result: int | None, task: int = 0, **more: Any) -> int:
        number = 2 * len(self.recording.items) + 1
        event = Event(number, name, task, arguments, result, 0 if result is None else number + 1, **more)
        self.recording.items.append(event)
        return number

    def recv(self, data: bytes | None = None, error: int = 0) -> int:
        message = {"at": 1, "parts": [{"at": 4096, "length": 100}], "count": 1, "control": {"at": 0, "length": 0}}
        out = {1: {"parts": [pack(data)], "control": "x", "flags": 0}} if data is not None else {}
        return self.call("recvmsg", [11, message, 0], -error if data is None else len(data), out=out)

    def note(self, what: str, **values: Any) -> None:
        self.recording.items.append(Note(2 * len(self.recording.items) + 1, what, values))

    def fails(self, type_: str = "AssertionError", text: str = "", errno: int | None = None) -> Fault:
        """End the test so, and return its fault."""
        self.note("raised", type=type_, text=text, errno=errno)
        self.note("report", outcome="failed", when="call", splats=[], reason="")
        return self.found()

    def passes(self) -> Fault:
        self.note("report", outcome="passed", when="call", splats=[], reason="")
        return self.found()

    def uses(self) -> list[follow.Use]:
        return fault.with_pseudo(self.recording, follow.follow(self.recording))

    def found(self, good: Story | None = None) -> Fault:
        theirs = (good.recording, good.uses()) if good is not None else None
        return fault.find(self.recording, self.uses(), theirs)


def raw(data: bytes) -> dict[str, str]:
    return {"bytes": pack(data)}


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.mark.parametrize(
    ("got", "text", "check"),
    [
        (RIGHT, "expected EINVAL, got success: why", Result((-22,))),
        (RIGHT, "expected EINVAL or ENOENT, got success", Result((-22, -2))),
        (None, "expected EBUSY, got EAGAIN: a second writer", Result((-16,))),
        (None, "expected success, got EAGAIN", Success()),
    ],
    ids=["one", "two", "other", "success"],
)
def test_an_errno_that_was_wanted(story: Story, got: bytes | None, text: str, check: Check) -> None:
    number = story.recv(got, error=11)
    story.call("close", [11], 0)
    assert story.fails(text=text).checks == {number: [check]}


def test_an_error_that_nobody_wanted(story: Story) -> None:
    number = story.recv(error=28)
    story.recv(RIGHT)
    assert story.fails("OSError", "[Errno 28] recvmsg: No space left on device", 28).checks == {number: [Success()]}


def test_a_call_that_never_returned(story: Story) -> None:
    number = story.recv(error=512)
    found = story.fails("DeadlineExpired", "recvmsg still blocked after 2 s")
    assert found.checks == {number: [Returns()]}
    assert "still blocked" in found.hang


def test_bytes_that_are_wrong(story: Story) -> None:
    number = story.recv(WRONG)
    story.note("compared", op="==", left=raw(WRONG), right=raw(RIGHT))
    assert story.fails().checks == {number: [Holds(RIGHT)]}


def test_bytes_that_are_too_few_and_in_a_tuple_the_other_way_round(story: Story) -> None:
    number = story.recv(WRONG[:8])
    story.note("compared", op="==", left=[1, raw(RIGHT)], right=[1, raw(WRONG[:8])])
    assert story.fails().checks == {number: [Result((16,)), Holds(RIGHT)]}


def test_the_order_in_which_requests_are_done(story: Story) -> None:
    events = [[1, 0, 16, 0], [0, 0, 16, 0]]
    number = story.call("io_getevents", [1, 2, 8, {"at": 1}, {"at": 0}], 2, out={3: events})
    story.note("compared", op="==", left=[1, 0], right=[0, 1])
    assert story.fails().checks == {number: [Result((2,)), Events((0, 1))]}


def test_the_events_that_a_socket_is_ready_for(story: Story) -> None:
    """By their value: what poll(2) returns is how many there are."""
    story.call("write", [11, {"at": 1, "length": 5, "data": "x0102030405"}, 5], 5)
    number = story.call("poll", [[[11, 5, 0]], 1, 0], 1, out={0: [[11, 5, 5]]})
    story.note("compared", op="==", left=5, right=1)
    assert story.fails().checks == {number: [Ready((1,))]}


@pytest.mark.parametrize(
    ("call", "arguments", "out"),
    [("poll", [[[11, 5, 0]], 1, 0], {0: [[11, 5, 4]]}), ("epoll_wait", [7, {"at": 1}, 1, 0], {1: [4]})],
    ids=["poll", "epoll"],
)
def test_of_a_test_that_passed_events_are_judged(
    story: Story, call: str, arguments: list[Any], out: dict[int, Any]
) -> None:
    story.call("epoll_create1", [0], 7)
    story.call("epoll_ctl", [7, 1, 11, {"at": 1, "length": 12, "data": "x" + "05" + "00" * 11}], 0)
    number = story.call(call, arguments, 1, out=out)
    assert story.passes().checks[number] == [Result((1,)), Ready((4,))]


def ack(error: int) -> bytes:
    """Return an answer of netlink: struct nlmsghdr and struct nlmsgerr, with the request's header in it."""
    return struct.pack("@IHHII", 36, 2, 0, 0, 0) + struct.pack("@i", error) + bytes(16)


def asked(story: Story, error: int) -> int:
    """Ask netlink something, which answers so."""
    story.call("socket", [16, 3, 21], 12)
    story.call("sendto", [12, {"at": 1, "length": 1, "data": "x01"}, 1, 0, {"at": 0, "length": 0}, 0], 1)
    answer = ack(error)
    return story.call("recvfrom", [12, {"at": 1, "length": 4096}, 4096, 0], len(answer), out={1: pack(answer)})


def test_what_netlink_answers_is_judged(story: Story) -> None:
    """Of a test that passed, and of one that wanted another answer or got an error."""
    number = asked(story, -17)
    assert story.passes().checks[number] == [Success(), Answer(-17)]
    wanted = Story()
    number = asked(wanted, 0)
    assert wanted.fails(text="expected EEXIST, got success: twice").checks == {number: [Answer(-17)]}
    other = Story()
    number = asked(other, -17)
    assert other.fails("OSError", "[Errno 17] netlink message 0x10: File exists", 17).checks == {number: [Answer(0)]}


def request(opcode: int, fd: int, **more: Any) -> dict[str, Any]:
    """Return a submission as the recorder has it."""
    names = ("flags", "priority", "offset", "address", "length", "op_flags", "data", "group", "splice_fd_in", "option")
    return {**dict.fromkeys(names, 0), "opcode": opcode, "fd": fd, **more}


def enter(story: Story, one: dict[str, Any], result: int) -> None:
    """Submit a request to ring 30, and have it done."""
    number = story.call("io_uring_enter", [30, 1, 1, 1, 0, 0], 1, more={"submissions": [one]})
    story.recording.items.append(Observed(number + 1, True, [], [[30, [one["data"], result, 0]]]))


def test_sockets_that_come_out_of_a_ring_are_followed(story: Story) -> None:
    """What is called of them is of interest, and what they are is known."""
    story.call("io_uring_setup", [8, 4096], 30)
    address = b"\x26\0" + b"rng".ljust(14, b"\0") + bytes(8) + b"stdrng".ljust(64, b"\0")
    enter(story, request(45, 38, offset=5, data=1), 20)
    story.call("bind", [20, {"at": 1, "length": 88, "data": pack(address)}, 88], 0)
    enter(story, request(13, 20, data=2), 21)
    story.call("read", [21, {"at": 1, "length": 8}, 8], 8, out={1: pack(bytes(8))})
    found = story.passes()
    kinds = [[(thing.kind, thing.number) for thing in use.things] for use in found.uses]
    assert kinds[-5:] == [
        [("ring", 30), ("tfm", 20)],
        [("tfm", 20)],
        [("ring", 30), ("tfm", 20)],
        [("ring", 30), ("op", 21)],
        [("op", 21)],
    ]
    assert found.uses[-1].things[0].type_ == "rng"


@pytest.mark.parametrize(
    ("type_", "done", "judged"),
    [(b"hash", True, True), (b"hash", False, False), (b"rng", True, False)],
    ids=["done", "not done", "random"],
)
def test_memory_is_judged_when_a_ring_says_that_it_was_written(type_: bytes, done: bool, judged: bool) -> None:
    """Else it may be the program's own again; and what is random is never looked at."""
    story = Story()
    story.recording.items.pop()
    address = b"\x26\0" + type_.ljust(14, b"\0") + bytes(8) + b"x".ljust(64, b"\0")
    story.call("bind", [10, {"at": 1, "length": 88, "data": pack(address)}, 88], 0)
    story.call("accept4", [10, 0, 0, 0], 11)
    story.call("io_uring_setup", [8, 4096], 30)
    buffer = {"at": 1 << 20, "length": 16, "data": pack(bytes(16))}
    one = request(27, 11, address=1 << 20, length=16, data=1, buffer=buffer)
    number = story.call("io_uring_enter", [30, 1, 0, 0, 0, 0], 1, more={"submissions": [one]})
    changed = [{"at": 1 << 20, "length": 16, "data": pack(RIGHT)}]
    story.recording.items.append(Observed(number + 1, False, changed, [[30, [1, 16, 0]]] if done else []))
    checks = story.passes().checks
    assert ([Holds(RIGHT)] in checks.values()) == judged


def test_a_number_in_the_place_of_a_descriptor_is_none() -> None:
    """Of IORING_OP_SOCKET it is the family, of IORING_OP_PROVIDE_BUFFERS how many there are."""
    event = Event(1, "io_uring_enter", 0, [30, 2, 0, 0, 0, 0], 2)
    event.more["submissions"] = [request(45, 38), request(31, 4), request(27, 11)]
    assert follow.numbers_of(event) == [30, 11]


def test_digests_as_text(story: Story) -> None:
    number = story.recv(WRONG)
    story.note("compared", op="==", left=WRONG.hex(), right=RIGHT.hex())
    assert story.fails().checks == {number: [Holds(RIGHT)]}


def test_of_many_bytes_those_are_looked_at_that_differ(story: Story) -> None:
    right = bytes(i * 7 % 251 for i in range(5000))
    wrong = right[:1000] + b"?" + right[1001:]
    number = story.recv(wrong)
    story.note("compared", op="==", left=raw(wrong), right=raw(right))
    assert story.fails().checks == {number: [Holds(right[992:1024], 992)]}


def test_bytes_that_came_in_pieces(story: Story) -> None:
    story.recv(RIGHT)
    number = story.recv(WRONG)
    story.recv(RIGHT)
    story.note("compared", op="==", left=raw(RIGHT + WRONG + RIGHT), right=raw(RIGHT * 3))
    assert story.fails().checks == {number: [Holds(RIGHT)]}


def test_bytes_that_should_not_come(story: Story) -> None:
    number = story.recv(WRONG)
    story.note("compared", op="!=", left=raw(WRONG), right=raw(WRONG))
    assert story.fails().checks == {number: [Differs(WRONG)]}


def test_one_side_is_enough_where_the_other_was_a_call(story: Story) -> None:
    number = story.recv(WRONG)
    story.note("sides", op="==", left={}, right=raw(RIGHT))
    assert story.fails(text="the file has changed").checks == {number: [Holds(RIGHT)]}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"op": "<", "left": 1, "right": 0}, "compares by <"),
        ({"op": "==", "left": 11, "right": 12}, "not about what a call gave"),
        ({"op": "==", "left": raw(b"of another source"), "right": raw(RIGHT)}, "not about what a call gave"),
    ],
    ids=["order", "a descriptor", "elsewhere"],
)
def test_what_is_not_about_a_call_says_so(story: Story, values: dict[str, Any], why: str) -> None:
    story.recv(b"neither of them")
    story.note("compared", **values)
    with pytest.raises(Unsupported, match=why):
        story.fails()


def test_a_good_kernel_tells_where_the_assertion_does_not(story: Story) -> None:
    number = story.recv(WRONG)
    with pytest.raises(Unsupported):
        story.fails(text="assert sum(found) < 3")
    good = Story()
    good.recv(RIGHT)
    good.passes()
    found = story.found(good)
    assert found.checks == {number: [Result((16,)), Holds(RIGHT)]}
    assert found.source == "good kernel"


def test_what_has_nothing_to_do_with_the_fault_is_left_out(story: Story) -> None:
    story.call("socket", [38, 5, 0], 20)
    story.call("setsockopt", [20, 279, 1, {"at": 1, "length": 1, "data": "x00"}, 1], 0)
    number = story.recv(WRONG)
    story.note("compared", op="==", left=raw(WRONG), right=raw(RIGHT))
    found = story.fails()
    assert [use.event.call for use in found.uses] == ["socket", "accept4", "recvmsg"]
    assert found.uses[-1].event.number == number


def test_a_kernel_that_complains_is_asked_for_its_taint(story: Story) -> None:
    story.recv(RIGHT)
    story.note("report", outcome="failed", when="call", splats=[["warning", "WARNING: at crypto/x.c"]], reason="")
    found = story.found()
    assert (found.complains, found.said, found.checks) == (True, "WARNING: at crypto/x.c", {})


def test_a_machine_that_went_down_did_so_in_the_last_call(story: Story) -> None:
    number = story.call("recvmsg", [11, {"at": 1}, 0], None)
    story.recording.complete = False
    found = story.found()
    assert found.dies
    assert found.checks == {number: [Returns()]}


@pytest.mark.parametrize(
    ("type_", "name"), [(b"rng", b"stdrng"), (b"aead", b"echainiv(authenc(hmac(sha256),cbc(aes)))")], ids=["rng", "iv"]
)
def test_what_is_random_is_not_looked_at_again(type_: bytes, name: bytes) -> None:
    """It is another each time; of a hash it is."""
    story = Story()
    address = b"\x26\0" + type_.ljust(14, b"\0") + bytes(8) + name.ljust(64, b"\0")
    story.recording.items.pop()
    story.call("bind", [10, {"at": 1, "length": 88, "data": pack(address)}, 88], 0)
    story.call("accept4", [10, 0, 0, 0], 11)
    number = story.recv(RIGHT)
    assert story.passes().checks[number] == [Result((16,))]


def test_threads_of_another_process_are_too_many(story: Story) -> None:
    story.recording.items.append(Made(100, 0, 1, process=True))
    story.recording.items.append(Made(102, 1, 2, process=False))
    message = {"at": 1, "parts": [], "count": 0, "control": {"at": 0, "length": 0}}
    story.call("sendmsg", [11, message, 0], 0, task=2)
    with pytest.raises(Unsupported, match="threads of another process"):
        story.passes()


def test_a_child_that_has_nothing_to_do_with_it_is_left_out(story: Story) -> None:
    """As what subprocess makes, and one that only gives up what it may do."""
    story.recording.items.append(Made(100, 0, 1, process=True))
    story.call("close", [11], 0, task=1)
    story.call("setresuid", [65534, 65534, 65534], 0, task=1)
    assert {use.process for use in story.uses()} == {0}
    assert follow.CHILD not in {use.event.call for use in story.uses()}
