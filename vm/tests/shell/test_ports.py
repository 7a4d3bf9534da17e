"""What a guest sends through its ports comes out whole, at once, and without the word that ends it."""

from __future__ import annotations

import os
import time

import pytest

from vm.shell.ports import PortStatus, Stream, copy

END = "0123456789abcdef"


def pass_through(chunks: list[bytes]) -> tuple[bytes, bool]:
    """Return what a stream makes of ``chunks``, each read at once, and whether it is complete."""
    reader, writer = os.pipe()
    stream = Stream(writer, END)
    stream.start()
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


def test_output_that_flows_on_does_not_keep_a_deadline_from_passing() -> None:
    stream, status = Endless(), PortStatus()
    os.write(status.writer, b"init\n")
    copy([stream], status, boot=time.monotonic() + 60, seconds=0)
    assert stream.taken < stream.MOST
    assert status.timed_out == "the command was not done"


def test_output_of_a_command_that_is_done_comes_through_after_its_deadline() -> None:
    reader, writer = os.pipe()
    stream, status = Stream(writer, END), PortStatus()
    stream.start()
    os.write(status.writer, b"init\nexit 3\n")
    os.write(stream.writer, b"all of it" + END.encode())
    copy([stream], status, boot=time.monotonic() + 60, seconds=0)
    assert (status.code, status.timed_out, stream.complete) == (3, "", True)
    assert os.read(reader, 100) == b"all of it"


@pytest.mark.parametrize("said", [b"exit x\n", b"exit -1\n", b"x" * 4096, b"exit \n"])
def test_a_status_that_is_none_is_passed_over(said: bytes) -> None:
    status = PortStatus()
    os.write(status.writer, said + b"\ninit\nexit 7\n")
    while status.take():
        pass
    assert (status.booted, status.code) == (True, 7)
