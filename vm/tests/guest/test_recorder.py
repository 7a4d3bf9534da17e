"""What is recorded: calls of a process, its threads and children, with their data, and notes between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.guest import recorder, syscalls
from vm.guest.tracee import pack, unpack
from vm.reproducer import record
from vm.reproducer.record import Recording

pytestmark = [
    pytest.mark.deadline(60),
    pytest.mark.skipif(not syscalls.known(), reason="the recorder knows no system calls of this machine"),
]

HEAD = """
import json, os, socket, threading
from vm.guest import recorder
def note(what, **values):
    recorder.note(json.dumps({"what": what, **values}))
assert recorder.begin()
note("test", test="t", doc="", module="", fixes=[])
"""
TAIL = """
recorder.note(recorder.END)
"""


def recorded(body: str) -> list[Recording]:
    """Return what is recorded of lines of Python."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "vm.guest.recorder", str(writing), "--", sys.executable, "-c", HEAD + body + TAIL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading) as file:
        found = list(record.load(file))
    assert process.wait() == 0
    return found


@pytest.fixture
def one_processor() -> Iterator[None]:
    """What is started meanwhile has one, like a guest."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_calls_have_their_data_and_results() -> None:
    (one,) = recorded('r, w = os.pipe()\nos.write(w, b"abc")\nos.read(r, 10)\n')
    calls = [event for event in one.events if event.call in ("pipe2", "write", "read")]
    assert [event.call for event in calls] == ["pipe2", "write", "read"]
    assert unpack(calls[1].arguments[1]["data"]) == b"abc"
    assert (calls[2].result, unpack(calls[2].out[1])) == (3, b"abc")
    assert one.complete


def test_messages_are_taken_apart() -> None:
    (one,) = recorded(
        "a, b = socket.socketpair()\n"
        'a.sendmsg([b"one", b"two"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, (0).to_bytes(4, "little"))])\n'
        "b.recvmsg(100, 100)\n"
    )
    sent = next(event for event in one.events if event.call == "sendmsg")
    assert [unpack(part["data"]) for part in sent.arguments[1]["parts"]] == [b"one", b"two"]
    assert sent.arguments[1]["control"]["length"] >= 16
    got = next(event for event in one.events if event.call == "recvmsg")
    assert b"".join(unpack(part) for part in got.out[1]["parts"])[: got.result] == b"onetwo"


def test_what_cannot_be_read_ends_where_it_does() -> None:
    (one,) = recorded(
        "import ctypes, mmap\nlibc = ctypes.CDLL(None, use_errno=True)\nr, w = os.pipe()\n"
        "libc.write(w, ctypes.c_void_p(16), 4)\n"
    )
    event = next(each for each in one.events if each.call == "write" and each.result == -14)
    assert unpack(event.arguments[1]["data"]) == b""


def test_threads_and_children_are_recorded_too() -> None:
    (one,) = recorded(
        "r, w = os.pipe()\n"
        'thread = threading.Thread(target=os.write, args=(w, b"t"))\nthread.start()\nthread.join()\n'
        'child = os.fork()\nif not child:\n    os.write(w, b"c")\n    os._exit(0)\nos.waitpid(child, 0)\n'
    )
    wrote = {unpack(event.arguments[1]["data"]): event.task for event in one.events if event.call == "write"}
    assert len({0, wrote[b"t"], wrote[b"c"]}) == 3
    made = {item.made: item.process for item in one.items if isinstance(item, record.Made)}
    assert (made[wrote[b"t"]], made[wrote[b"c"]]) == (False, True)


def test_one_process_is_recorded_again_and_again() -> None:
    """A thread that sleeps is let go each time."""
    again = (
        'recorder.note(recorder.END)\nassert recorder.begin()\nnote("test", test="{}", doc="", module="", fixes=[])\n'
    )
    sleeper = "import time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    found = recorded(sleeper + "".join(again.format(number) for number in range(5)))
    assert [one.test for one in found] == ["t", "0", "1", "2", "3", "4"]
    assert all(one.complete for one in found)


def test_what_a_file_holds_is_recorded_where_a_call_moves_it(tmp_path: Path) -> None:
    """Whatever the file is called, and also where the call does not say from where on."""
    path = tmp_path / "others.toml"
    path.write_bytes(bytes(range(200)))
    (one,) = recorded(
        f"file = os.open({str(path)!r}, os.O_RDONLY)\n"
        "r, w = os.pipe()\n"
        "os.splice(file, w, 10, offset_src=100)\n"
        "os.lseek(file, 50, 0)\n"
        "os.splice(file, w, 10)\n"
        "os.splice(r, os.open('/dev/null', os.O_WRONLY), 20)\n"
    )
    spliced = [event for event in one.events if event.call == "splice"]
    assert [event.more.get("source") for event in spliced] == [
        {"offset": 100, "data": pack(bytes(range(100, 110)))},
        {"offset": 50, "data": pack(bytes(range(50, 60)))},
        None,
    ]


def test_without_a_recorder_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(recorder.ENVIRONMENT, raising=False)
    assert not recorder.begin()


@pytest.mark.parametrize("data", [b"", b"short", bytes(1000), os.urandom(500)], ids=["none", "short", "many", "chance"])
def test_bytes_come_back(data: bytes) -> None:
    assert unpack(pack(data)) == data


def test_both_tables_have_the_same_calls() -> None:
    """But for those that newer architectures never had."""
    x86, generic = ({call.name for call in syscalls.known(column).values()} for column in ("first", "generic"))
    assert generic < x86
    assert x86 - generic == {"open", "poll", "dup2", "fork", "vfork", "rename", "unlink", "epoll_wait"}


def test_numbers_are_those_of_this_machine() -> None:
    """The C library's headers have them, where they are installed."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    text = header.read_text()
    wrong = [
        call.name for number, call in syscalls.known("first").items() if f"__NR_{call.name} {number}\n" not in text
    ]
    assert not wrong


def test_a_thread_that_asks_again_and_again_keeps_no_other_one_waiting(one_processor: None) -> None:
    """The one that asks is the newest: the kernel tells of it first (ptrace_link, kernel/ptrace.c)."""
    (one,) = recorded(
        "import select\n"
        "r, w = os.pipe()\n"
        "asked = select.poll()\n"
        "asked.register(r, select.POLLIN)\n"
        "def ask():\n"
        "    while not asked.poll(0):\n"
        "        pass\n"
        "thread = threading.Thread(target=ask)\n"
        "thread.start()\n"
        "for _ in range(50):\n"
        "    os.close(os.dup(w))\n"
        "os.write(w, b'x')\n"
        "thread.join()\n"
    )
    assert sum(event.call == "dup" for event in one.events) >= 50 or sum(e.call == "fcntl" for e in one.events) >= 50
    assert one.complete


def test_of_threads_that_have_stopped_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the scheduler does: here all of them have stopped again whenever the recorder looks."""
    stopped = 0x057F

    def waitpid(thread: int, _: int) -> tuple[int, int]:
        return (max(looks.tasks) if thread == -1 else thread), stopped

    looks = recorder.Recorder(1)
    looks.tasks = {number: recorder.Task(number, number, 1) for number in (1, 2, 3)}
    monkeypatch.setattr(os, "waitpid", waitpid)
    assert sorted(looks._next()[0] for _ in range(9)) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
