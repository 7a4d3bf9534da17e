"""Programs written of recordings that are kept (vm/tests/data/recordings.jsonl, made on 5.10.223): what stands in them,
that compilers have nothing to say, and what they say when they run, here on a stand-in for the kernel."""

from __future__ import annotations

import functools
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vm.base import arch
from vm.base.files import ROOT
from vm.guest.tracee import pack
from vm.reproducer import fault, follow, guest, make, record, writer
from vm.reproducer.check import Result, Unsupported
from vm.reproducer.compile import WARNINGS, DoesNotCompile
from vm.reproducer.fault import Fault
from vm.reproducer.memory import Regions
from vm.reproducer.record import Recording

DATA = ROOT / "vm" / "tests" / "data"
AAD = "refuses_aad_without_a_whole_sequence_number[4]"
KEY = "refuses_a_key_whose_header_has_another_length[3]"
WRITER = "second_writer_is_told"
CACHE = "leaves_it_as_it_was[authencesn(hmac(sha256),cbc(aes))-4-valid-page-start]"
DIGEST = "failed_send_does_not_bring_the_digest_before_it_back"
ALL = [AAD, KEY, WRITER, CACHE, DIGEST, "room_for_less_than_a_block", "aad_of_2_gib_is_refused[2147483648]"]
# Of io_uring, AIO and epoll (vm/tests/data/requests.jsonl, made on 6.12.117).
REQUESTS = [
    "test_socket_and_close",
    "test_uring.py::test_bind",
    "into_a_buffer_that_the_kernel_chooses",
    "tag_size_by_a_command",
    "test_epoll_wakeup_events",
    "test_time_limit_of_a_recv",
    "test_poll_can_be_cancelled",
    "outside_the_registered_buffer",
]

# What compiles for whom, where it is installed; gcc is (vm/setup.sh).
COMPILERS = [
    ["gcc"],
    ["clang"],
    ["i686-linux-gnu-gcc"],
    ["aarch64-linux-gnu-gcc"],
    ["s390x-linux-gnu-gcc"],
    ["clang", "--target=i686-linux-gnu"],
    ["clang", "--target=aarch64-linux-gnu"],
    ["clang", "--target=s390x-linux-gnu"],
]


@functools.cache
def recordings() -> dict[str, Recording]:
    lines = [line for name in ("recordings", "requests") for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    return {each.test: each for each in record.load(lines)}


def recording(name: str) -> Recording:
    return next(each for test, each in recordings().items() if name in test)


def found(name: str) -> Fault:
    one = recording(name)
    return fault.find(one, fault.with_pseudo(one, follow.follow(one)))


def text_of(name: str, *, masked: bool = False) -> str:
    what = found(name)
    checks = {number: list(each) for number, each in what.checks.items()}
    plan = writer.Plan(what.uses, checks, Regions(what.uses), [name], hang=what.hang, masked=masked)
    return writer.write(plan)


def written(one: Recording) -> str:
    """Return the program of all that was recorded, with nothing judged."""
    uses = follow.follow(one)
    return writer.write(writer.Plan(uses, {}, Regions(uses)))


def test_there_is_a_recording_of_each() -> None:
    assert len(recordings()) == len(ALL) + len(REQUESTS)
    assert {recording(name).outcome for name in ALL} == {"passed", "failed"}


def test_the_errno_that_the_test_wanted_is_judged_and_nothing_after_it() -> None:
    what = found(AAD)
    assert what.uses[-1].event.call == "recvmsg"
    assert list(what.checks.values()) == [[Result((-22,))]]


def test_of_a_test_that_passed_every_call_is_judged() -> None:
    what = found(KEY)
    judged = {use.event.call for use in what.uses if use.event.number in what.checks}
    assert {"socket", "bind", "setsockopt"} <= judged
    assert [Result((-22,))] in what.checks.values()


def test_a_program_names_what_it_uses() -> None:
    text = text_of(AAD)
    for part in (
        '.salg_name = "authencesn(hmac(sha256),cbc(aes))"',
        "setsockopt(tfm, SOL_ALG, ALG_SET_KEY, key, 56)",
        "add(&m, ALG_SET_AEAD_ASSOCLEN, &(int){ 4 }, 4);",
        "got = recvmsg(op, &m, 0);",
        'printf("recvmsg: got %ld bytes, expected EINVAL\\n", got);',
    ):
        assert part in text
    assert "pthread" not in text


def test_what_a_file_holds_is_compared_where_the_test_did() -> None:
    text = text_of(CACHE)
    assert "splice(file, &(loff_t){ 0 }, pipefd[1], NULL, 36, 0)" in text
    assert "if (buffer[i + 32] == expected[i])" in text


def test_threads_are_there_where_the_test_had_them() -> None:
    text = text_of(WRITER)
    assert "pthread_create(&thread2, NULL, steps2, NULL);" in text
    assert text.count("blocks(") == 2  # its definition, and the call that waits
    assert "pthread_join" not in text  # the writer waited for a reader, which came after the fault
    turns = sorted(int(each) for each in re.findall(r"\tbegin\((\d+)\);", text))
    assert turns == list(range(len(turns)))  # a turn that nobody has would be waited for, for ever
    assert "if (got >= 0 || errno != EBUSY)" in text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("test_socket_and_close", ".opcode = IORING_OP_SOCKET, .fd = AF_ALG, .off = SOCK_SEQPACKET"),
        ("test_uring.py::test_bind", ".opcode = 56 /* IORING_OP_BIND */"),
        ("into_a_buffer_that_the_kernel_chooses", ".opcode = IORING_OP_PROVIDE_BUFFERS"),
        ("tag_size_by_a_command", ".addr = SOL_ALG | (__u64)ALG_SET_AEAD_AUTHSIZE << 32"),
        ("test_epoll_wakeup_events", "epoll_ctl(epoll, EPOLL_CTL_ADD, op,"),
        ("test_time_limit_of_a_recv", "&(struct __kernel_timespec){"),
        ("test_poll_can_be_cancelled", "syscall(SYS_io_cancel, context, &requests[0],"),
        ("outside_the_registered_buffer", "IORING_REGISTER_BUFFERS"),
    ],
)
def test_requests_are_named(name: str, part: str) -> None:
    assert part in text_of(name)


@pytest.mark.parametrize(("name", "most"), [(KEY, 60), (AAD, 80), (CACHE, 100)], ids=["key", "message", "file"])
def test_a_program_is_short(name: str, most: int) -> None:
    """Whoever mends a kernel reads it: nothing stands in it that this program does not use."""
    text = text_of(name)
    assert len(text.splitlines()) <= most
    for each in re.findall(r"^static [^;=\n]*?\b(\w+)\(", text, re.MULTILINE):
        assert text.count(f"{each}(") > 1, f"{each} is not used"


@pytest.mark.parametrize("name", ALL + REQUESTS)
def test_the_same_recording_gives_the_same_text(name: str) -> None:
    first = text_of(name)
    recordings.cache_clear()
    assert text_of(name) == first


@pytest.mark.deadline(120)
@pytest.mark.parametrize("command", COMPILERS, ids=" ".join)
def test_compilers_have_nothing_to_say(command: list[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if command[1:]:
        headers = Path("/usr", command[1].partition("=")[2], "include")
        if not headers.exists():
            pytest.skip(f"no {headers}: the headers of that architecture are not installed")
        command = [*command, "-isystem", str(headers)]
    for number, name in enumerate(ALL + REQUESTS):
        for masked in (False, True):
            source = tmp_path / f"{number}.c"
            source.write_text(text_of(name, masked=masked))
            words = [*command, *WARNINGS, "-O2", "-c", "-o", str(tmp_path / "object"), str(source)]
            done = subprocess.run(words, capture_output=True, text=True)
            assert not done.stderr, f"{name}: {done.stderr}"
            assert done.returncode == 0


def run(name: str, tmp_path: Path, *left_out: str, masked: bool = False, **stub: str) -> tuple[int, str]:
    """Return exit status and output of a program on the stand-in."""
    return started(text_of(name, masked=masked), tmp_path, *left_out, **stub)


def started(text: str, tmp_path: Path, *left_out: str, **stub: str) -> tuple[int, str]:
    """Return exit status and output of the text of a program on the stand-in."""
    source, binary = tmp_path / "program.c", tmp_path / "program"
    source.write_text(text)
    command = ["gcc", *WARNINGS, "-pthread", "-o", str(binary), str(source), str(DATA / "kernel_stub.c")]
    subprocess.run(command, check=True)
    environment = {**os.environ, **stub}
    done = subprocess.run([str(binary), *left_out], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.strip()


@pytest.mark.deadline(60)
def test_a_program_says_what_it_got_and_what_is_right(tmp_path: Path) -> None:
    assert run(AAD, tmp_path, STUB_RESULT="-22") == (0, "as expected")
    assert run(AAD, tmp_path, STUB_RESULT="20") == (1, "recvmsg: got 20 bytes, expected EINVAL")
    assert run(AAD, tmp_path, STUB_RESULT="-5") == (1, "recvmsg: got EIO, expected EINVAL")


@pytest.mark.deadline(60)
def test_a_program_of_a_test_that_passed_judges_each_call(tmp_path: Path) -> None:
    assert run(KEY, tmp_path, STUB_OPTION="1", STUB_RESULT="-22") == (0, "as expected")
    assert run(KEY, tmp_path) == (1, "setsockopt: got success, expected EINVAL")


@pytest.mark.deadline(60)
def test_steps_can_be_left_out_when_it_runs(tmp_path: Path) -> None:
    last = len(found(AAD).uses) - 1
    assert run(AAD, tmp_path, masked=True, STUB_RESULT="20")[0] == 1
    assert run(AAD, tmp_path, str(last), masked=True, STUB_RESULT="20") == (0, "as expected")


@pytest.mark.parametrize(
    ("outcome", "why"), [("skipped", "the test was skipped"), ("passed", "int 0x80")], ids=["skipped", "32-bit"]
)
def test_what_cannot_be_written_says_why(outcome: str, why: str) -> None:
    one = Recording("test", complete=True, foreign=outcome == "passed")
    one.items.append(record.Note(1, "report", {"outcome": outcome, "when": "call", "splats": []}))
    with pytest.raises(Unsupported, match=why):
        fault.find(one, [])


def test_a_descriptor_that_nobody_uses_has_no_variable() -> None:
    """As of a test that only binds, and whose socket is bound to nothing after the fault is cut down to one call."""
    what = found(AAD)
    only = what.uses[:1]
    text = writer.write(writer.Plan(only, {}, Regions(only)))
    assert "tfm" not in text
    assert 'must("socket", socket(AF_ALG, SOCK_SEQPACKET, 0));' in text


def test_a_file_that_was_there_is_made_as_far_as_it_is_read() -> None:
    one = Recording("test", complete=True)
    calls: list[tuple[str, list[Any], int, dict[str, Any]]] = [
        ("socket", [38, 5, 0], 10, {}),
        ("openat", [-100, pack(b"/etc/passwd"), 0, 0], 11, {}),
        ("sendfile", [10, 11, 7, 4], 4, {"source": {"offset": 7, "data": pack(b"root")}}),
    ]
    for place, (call, arguments, result, more) in enumerate(calls):
        one.items.append(record.Event(2 * place + 1, call, 0, arguments, result, 2 * place + 2, more=more))
    text = written(one)
    assert 'file_with("/tmp/reproducer-0", "root", 4, 7);' in text
    assert 'open("/tmp/reproducer-0", O_RDONLY)' in text


def test_memory_for_nothing_is_there_all_the_same() -> None:
    one = Recording("test", complete=True)
    one.items.append(record.Event(1, "socket", 0, [38, 5, 0], 10, 2))
    one.items.append(record.Event(3, "read", 0, [10, {"at": 1 << 30, "length": 0}, 0], 0, 4))
    text = written(one)
    assert "static unsigned char buffer[1];" in text
    assert "read(tfm, buffer, 0)" in text


def test_vectors_of_aio_are_iovecs() -> None:
    one = Recording("test", complete=True)
    block: dict[str, Any] = {"at": 1 << 30, "data": 0, "command": 8, "fd": 10, "offset": 0, "flags": 0, "resfd": 0}
    block["parts"] = [{"at": (1 << 30) + at, "length": 1, "data": pack(b"d")} for at in (64, 80)]
    one.items.append(record.Event(1, "socket", 0, [38, 5, 0], 10, 2))
    one.items.append(record.Event(3, "io_submit", 0, [1, 1, [block]], 1, 4))
    text = written(one)
    assert ".aio_lio_opcode = IOCB_CMD_PWRITEV" in text
    assert "(struct iovec[]){ { shared, 1 }, { shared2, 1 } }" in text
    assert ".aio_nbytes = 2" in text


def test_what_netlink_answers_is_taken_from_its_message() -> None:
    one = Recording("test", complete=True)
    answer = struct.pack("@IHHIIi", 36, 2, 0, 0, 0, -17) + bytes(16)
    calls: list[tuple[str, list[Any], int, dict[int, Any]]] = [
        ("socket", [16, 3, 21], 10, {}),
        ("recvfrom", [10, {"at": 1 << 30, "length": 4096}, 4096, 0], 36, {1: pack(answer)}),
    ]
    for place, (call, arguments, result, out) in enumerate(calls):
        one.items.append(record.Event(2 * place + 1, call, 0, arguments, result, 2 * place + 2, out=out))
    what = fault.everything(follow.follow(one))
    text = writer.write(writer.Plan(what.uses, what.checks, Regions(what.uses)))
    assert 'got = succeeds("recv", recv(netlink, buffer, 4096, 0));' in text
    assert 'expect_answer("recv", buffer, got, -EEXIST, "EEXIST");' in text


@pytest.mark.deadline(60)
def test_a_socket_of_another_family_hides_no_call(tmp_path: Path) -> None:
    one = Recording("test", complete=True)
    calls: list[tuple[str, list[Any], int]] = [
        ("socket", [1, 5, 0], 9),
        ("socket", [38, 5, 0], 10),
        ("sendfile", [9, 10, None, 4], -22),
    ]
    for place, (call, arguments, result) in enumerate(calls):
        one.items.append(record.Event(2 * place + 1, call, 0, arguments, result, 2 * place + 2))
    assert "as expected" in started(written(one), tmp_path)


def test_what_does_not_compile_is_told_of_and_hinders_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, *_: object) -> None:
        if source.name == "program-0.c":
            raise DoesNotCompile("program-0.c does not compile: error")

    def run(_: object, jobs: dict[str, str], *__: object) -> dict[str, guest.Outcome]:
        return dict.fromkeys(jobs, guest.Outcome(0, "as expected"))

    monkeypatch.setattr(make, "compiled", refused)
    monkeypatch.setattr(guest, "run", run)
    machine = guest.Machine("6.12")
    order = make.Order(machine, None, arch.default(), "Linux", tmp_path, whole=True)
    made = make.of_recordings(order, [recording(KEY), recording(KEY)], {}, lambda _: None)
    assert [each.reason for each in made] == ["program-0.c does not compile: error", ""]


def of_two_processes(error: int, *, ends: bool = True) -> Recording:
    """Return what is recorded of a child that is nobody, and whose setsockopt(2) fails so."""
    one = Recording("test", complete=True)
    events: list[tuple[str, int, list[Any], int | None]] = [
        ("socket", 0, [38, 5, 0], 10),
        ("setresuid", 1, [65534, 65534, 65534], 0),
        ("setsockopt", 1, [10, 279, 1, {"at": 1 << 30, "length": 1, "data": pack(b"k")}, 1], -error),
        ("write", 0, [10, {"at": 1 << 30, "length": 1, "data": pack(b"d")}, 1], 1),
    ]
    if not ends:
        events.append(("read", 1, [10, {"at": 1 << 30, "length": 1}, 1], None))
    for place, (call, task, arguments, result) in enumerate(events):
        if place == 1:
            one.items.append(record.Made(2, 0, 1, process=True))
        left = 0 if result is None else 10 * place + 11
        one.items.append(record.Event(10 * place + 10, call, task, arguments, result, left))
    return one


@pytest.mark.deadline(60)
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "waits for ever"])
def test_another_process_is_one(ends: bool, tmp_path: Path) -> None:
    """It has a user of its own, and what it finds wrong the whole program says; the stand-in takes any option."""
    if os.getuid():
        pytest.skip("only root can be somebody else")
    for error, said in ((0, (0, "as expected")), (22, (1, "setsockopt: got 0, expected EINVAL"))):
        one = of_two_processes(error, ends=ends)
        what = fault.everything(fault.with_pseudo(one, follow.follow(one)))
        text = writer.write(writer.Plan(what.uses, what.checks, Regions(what.uses)))
        assert "syscall(SYS_setresuid, 65534, 65534, 65534)" in text
        assert 'child1 = must("fork", fork());' in text
        assert "pthread_create" not in text
        assert started(text, tmp_path) == said


def test_memory_that_is_too_large_to_be_kept_is_written_about_all_the_same() -> None:
    one = Recording("test", complete=True)
    size = 1 << 27
    calls: list[tuple[str, list[Any], int]] = [
        ("mmap", [0, size, 1, 0x22, -1, 0], 1 << 40),
        ("socket", [38, 5, 0], 10),
        ("write", [10, {"at": (1 << 40) + 16, "length": 2, "data": "x6162"}, 2], 2),
    ]
    for place, (call, arguments, result) in enumerate(calls):
        one.items.append(record.Event(2 * place + 1, call, 0, arguments, result, 2 * place + 2))
    text = written(one)
    assert "mmap(NULL, 134217728, PROT_READ," in text
    assert "write(tfm, memory + 16, 2)" in text
