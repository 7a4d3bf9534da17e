"""What a guest sends through its ports comes out whole, at once, and without the word that ends it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from vm.kernels.spec import Kernel
from vm.machine.supervisor import Supervisor
from vm.machine.vm import Vm
from vm.shell.ports import Stream, copy

END = "0123456789abcdef"


def pass_through(chunks: list[bytes]) -> tuple[bytes, bool]:
    """Return what a stream makes of ``chunks``, each read at once, and whether it is complete."""
    reader, writer = os.pipe()
    stream = Stream(writer, END)
    os.set_blocking(stream.reader, False)
    for chunk in chunks:
        os.write(stream.writer, chunk)
        stream.take()
    os.close(stream.writer)
    while stream.take():
        pass
    os.close(writer)
    with open(reader, "rb") as passed:
        return passed.read(), stream.complete


@pytest.mark.parametrize(
    "chunks",
    [
        [b"output\n" + END.encode()],
        [b"output", b"\n", END.encode()],
        [b"output\n" + END.encode()[:5], END.encode()[5:]],
        [b"outp", b"ut\n0", b"123456789abcde", b"f"],
    ],
    ids=["at-once", "apart", "split", "pieces"],
)
def test_the_word_at_the_end_is_taken_off_however_it_arrives(chunks: list[bytes]) -> None:
    assert pass_through(chunks) == (b"output\n", True)


def test_output_that_looks_like_the_beginning_of_the_end_comes_through() -> None:
    data = END[:9].encode() * 3
    assert pass_through([data, END.encode()]) == (data, True)


def test_output_comes_out_as_soon_as_it_cannot_be_the_end() -> None:
    """Else a guest that hangs would take the last words of its command with it."""
    reader, writer = os.pipe()
    stream = Stream(writer, END)
    os.write(stream.writer, b"short\n")
    assert stream.take()
    assert os.read(reader, 100) == b"short\n"
    for descriptor in (reader, writer, stream.reader, stream.writer):
        os.close(descriptor)


def test_output_of_a_guest_that_died_comes_through_and_is_incomplete() -> None:
    assert pass_through([b"begun, and 01234"]) == (b"begun, and 01234", False)


class Endless(Stream):
    """An output that always has more; it ends after MOST times all the same, lest the test does not."""

    MOST = 1000

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY), END)
        self.reader = os.open("/dev/zero", os.O_RDONLY)
        self.taken = 0

    def take(self) -> bool:
        self.taken += 1
        return super().take() and self.taken < self.MOST


def guest(directory: Path, script: str) -> Supervisor:
    """Return the supervisor of a guest that is a shell script; ``$VM_STATUS_FD`` is its status port."""
    kernel = Kernel("6.1.0", "6.1", "6.1.0", None)
    return Supervisor(dataclasses.replace(Vm.of(kernel, "tcg"), command=["sh", "-c", script]), directory)


SAY = "exec 9>/dev/fd/$VM_STATUS_FD; say() { echo $1 >&9; }; "


def test_output_that_flows_on_does_not_keep_a_deadline_from_passing(tmp_path: Path) -> None:
    stream, supervisor = Endless(), guest(tmp_path, f"{SAY} say init; say ready; exec sleep 100")
    with supervisor.running(None, None):
        while supervisor.status.state != "up":
            supervisor.turn()
        copy(supervisor, [stream], seconds=0)
    assert stream.taken < stream.MOST
    assert supervisor.status.reason == "the command was not done"


def test_output_of_a_command_that_is_done_comes_through_after_its_deadline(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    stream = Stream(writer, END)
    script = f"{SAY} say init; say ready; say 'exit 3'; printf 'all of it{END}' >/dev/fd/{stream.writer}; sleep 100"
    supervisor = guest(tmp_path, script)
    with supervisor.running(None, None, [stream.writer]):
        while supervisor.code is None:
            supervisor.turn()
        copy(supervisor, [stream], seconds=0)
        assert (supervisor.code, supervisor.alive, stream.complete) == (3, True, True)
    assert os.read(reader, 100) == b"all of it"


@pytest.mark.parametrize("said", ["exit x", "exit -1", "x" * 4096, "exit "])
def test_a_status_that_is_none_is_passed_over(tmp_path: Path, said: str) -> None:
    supervisor = guest(tmp_path, f"{SAY} say '{said}'; say init; say ready; say 'exit 7'")
    with supervisor.running(None, None):
        copy(supervisor, [], None)
    assert (supervisor.status.state, supervisor.code) == ("up", 7)


@pytest.mark.parametrize(
    ("script", "state", "reason"),
    [
        ("echo no such option >&2; exit 1", "boot failed", "QEMU exited with status 1: no such option"),
        (f"{SAY} say init; say ready", "down", "the guest switched itself off"),
        (f"{SAY} say ready; kill -9 $$", "down", "QEMU was killed by SIGKILL"),
    ],
)
def test_a_guest_that_ends_by_itself_has_a_reason(tmp_path: Path, script: str, state: str, reason: str) -> None:
    supervisor = guest(tmp_path, script)
    with supervisor.running(None, None):
        copy(supervisor, [], None)
        supervisor.gone()
    assert (supervisor.code, supervisor.status.state, supervisor.status.reason) == (None, state, reason)
