"""Whatever becomes of a message, the pages it was spliced from are as they were, and so is memory beside the result.

Every aead there is, sealing and opening, with a valid tag and a forged one; received as long as it is, into less and
into more room, not at all, and by a process that is killed.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.afalg import Aead, Pipe, Socket, calls
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.algorithms import catalogue
from tests.algorithms.catalogue import AeadRow
from tests.errors.raises import name_of, outcome, raises_errno
from tests.need import need
from tests.splice.cases import PAGE
from tests.splice.messages import OPEN, SEAL, AeadMessage, message_of
from tests.splice.sources import File, Source, source_of
from tests.splice.targets import receive
from tests.splice.ways import by_splice

pytestmark = pytest.mark.usefixtures("everything_loaded")

# Of all aeads only authencesn writes past its result, which is what shows the bug.
COPY_FAIL = pytest.mark.fixed_by(
    "a664bf3d603d", "crypto: algif_aead - Revert to operating out-of-place", cve="CVE-2026-31431"
)
ACROSS_PAGES = PAGE - 40
"""Where in the file messages begin, so that they end in another page than they began in."""


def is_esn(row: AeadRow) -> bool:
    return row.name.startswith("authencesn")


every_aead = pytest.mark.parametrize("row", catalogue.AEADS, ids=lambda row: row.name)
every_aead_that_opens = pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=[COPY_FAIL] if is_esn(row) else []) for row in catalogue.AEADS],
)


@every_aead
def test_sealing_leaves_what_it_sealed_as_it_was(row: AeadRow) -> None:
    """_aead_recvmsg (crypto/algif_aead.c) writes to the rsgl alone: pages in the tsgl may be those of a file."""
    message = message_of(row)
    leaves_its_source_alone(message, SEAL, message.plain, valid=True)


@every_aead_that_opens
def test_opening_leaves_what_it_opened_as_it_was(row: AeadRow) -> None:
    """Also what it refuses: that is decrypted, and perhaps written to, before the tag is known to be wrong.

    Source: _aead_recvmsg.
    """
    message = message_of(row)
    sealed = message.sealed
    leaves_its_source_alone(message, OPEN, sealed, valid=True)
    leaves_its_source_alone(message, OPEN, sealed[:-1] + bytes([sealed[-1] ^ 1]), valid=False)


def leaves_its_source_alone(message: AeadMessage, operation: int, stream: bytes, *, valid: bool) -> None:
    """Splice the stream from a file, once for each way to end the request, and look at the file each time."""
    size = len(stream) + (message.authsize if operation == SEAL else -message.authsize)
    with message.open() as aead, source_of("memfd", stream, ACROSS_PAGES) as file:
        for end in ("exact", "long", "short", "shorter", "closed"):
            with aead.tfm.accept() as op:
                splice_all(message, operation, file, op)
                if end in ("exact", "long"):
                    room, flags = (size, 0) if end == "exact" else (size + 80, MSG_DONTWAIT)
                    ended_right(message, operation, op, room, flags, valid)
                elif end != "closed":
                    # Part of a message is opened or sealed as if it were one, or refused: what matters is the file.
                    got = outcome(lambda op=op, end=end: receive(op, size - (16 if end == "short" else 1)))  # type: ignore[misc]
                    assert got in (0, errno.EBADMSG, errno.EINVAL), f"{end}: {name_of(got)}"
            file.check()


def ended_right(message: AeadMessage, operation: int, op: Socket, room: int, flags: int, valid: bool) -> None:
    """Receive the result; fail unless it is right, or refused when the tag is forged."""
    got = b""
    refused = 0
    try:
        got = receive(op, room, flags)
    except OSError as error:
        refused = error.errno or -1
    if not valid:
        assert refused == errno.EBADMSG, f"expected EBADMSG, got {name_of(refused)}"
    else:
        assert not refused, f"refused a good message: {name_of(refused)}"
        assert message.is_result(operation, got), f"wrong result: {got.hex()}"


def splice_all(message: AeadMessage, operation: int, source: Source, op: Socket) -> None:
    """Begin a request by its control data, and splice all of its content."""
    op.sendmsg([], message.control(operation), MSG_MORE)
    assert by_splice(source, op, 0, len(source.content), 0, False) == len(source.content)


ON_DISK = Path(__file__).parents[1] / "skips.toml"
"""A file of several pages, on whatever file system this project is on."""
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@pytest.mark.deadline(30)
@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        # essiv wants the IV it makes at the end of the AAD, where the file has something else.
        pytest.param(SEAL, [row for row in catalogue.AEADS if not row.name.startswith("essiv")], id="seal"),
        pytest.param(OPEN, [row for row in catalogue.AEADS if not is_esn(row)], id="open"),
        pytest.param(OPEN, [row for row in catalogue.AEADS if is_esn(row)], id="open-authencesn", marks=COPY_FAIL),
    ],
)
def test_file_on_disk_is_intact(operation: int, rows: Sequence[AeadRow]) -> None:
    """A file of others, of which one may read: its cached pages after each message, and at the end the disk's.

    Source: _aead_recvmsg.
    """
    # What is cached may be what another test has left.
    DROP_CACHES.write_text("1")
    before = ON_DISK.read_bytes()
    for at, row in enumerate(available(rows)):
        message = message_of(row)
        offset, size = PAGE - 32 + at % 16, 64 + len(message.aad) + len(message.room)
        stream = before[offset : offset + size]
        with message.open() as aead, File(stream, offset, os.open(ON_DISK, os.O_RDONLY | os.O_CLOEXEC)) as file:
            splice_all(message, operation, file, aead.op)
            if operation == SEAL:
                part = message.with_plain(stream)
                assert part.is_result(SEAL, receive(aead.op, size + message.authsize)), row.name
            else:
                with raises_errno(errno.EBADMSG, why=row.name):
                    receive(aead.op, size - message.authsize)
            file.check()
    DROP_CACHES.write_text("1")
    assert ON_DISK.read_bytes() == before, "the file has changed on the disk"


@pytest.mark.parametrize("state", ["spliced", "receiving"])
@pytest.mark.parametrize("name", ["authencesn(hmac(sha256),cbc(aes))", "gcm(aes)"])
def test_death_of_the_process_leaves_file_and_transform_as_they_were(name: str, state: str) -> None:
    """Killed with a message in the queue, or while it waits for the rest of it (aead_sock_destruct)."""
    message = message_of(next(row for row in catalogue.AEADS if row.name == name))
    with message.open() as aead, source_of("memfd", message.sealed, ACROSS_PAGES) as file, Pipe() as told:
        op = aead.tfm.accept()
        fd = op.fd
        child = os.fork()
        if not child:
            try:
                op.sendmsg([], message.control(OPEN), MSG_MORE)
                by_splice(file, op, 0, len(file.content), 0, more=state == "receiving")
                os.write(told.write_end, b"!")
                if state == "receiving":
                    op.recv(len(file.content), seconds=60)
                signal.pause()
            finally:
                os._exit(1)
        op.close()
        told.close_write()
        assert os.read(told.read_end, 1) == b"!"
        if state == "receiving":
            wait_until_blocked(child, fd)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        file.check()
        aead.op.sendmsg([message.sealed], message.control(OPEN))
        ended_right(message, OPEN, aead.op, len(message.sealed) - message.authsize, 0, valid=True)


def available(rows: Sequence[AeadRow]) -> Iterator[AeadRow]:
    """Yield the rows that the kernel has; skip the test when it has not even the first."""
    need(Aead, rows[0].name).close()
    for row in rows:
        if outcome(lambda row=row: Socket.bound("aead", row.name).close()) != errno.ENOENT:  # type: ignore[misc]
            yield row


def wait_until_blocked(process: int, fd: int) -> None:
    """Wait until the process sleeps in a system call on that descriptor (proc(5), syscall)."""
    end = time.monotonic() + 20
    while True:
        if calls.descriptor(Path(f"/proc/{process}")) == fd:
            return
        assert time.monotonic() < end, "the process does not wait in a call"
