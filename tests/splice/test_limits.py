"""Where lists of pages fill up: 16 pages of user memory at a time, 126 entries of a chunk, the option memory."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from tests.afalg import Pipe, Skcipher, Socket, splice
from tests.afalg.buffers import set_receive_buffer, set_send_buffer
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE, SPLICE_F_MORE
from tests.afalg.memory import Memory
from tests.algorithms import catalogue
from tests.errors.raises import name_of, outcome, raises_errno
from tests.splice.cases import PAGE
from tests.splice.messages import SEAL, message_of
from tests.splice.sources import check_pipe, source_of
from tests.splice.targets import BLOCK, TAG, TARGETS, Target, check, check_waits, cut, receive
from tests.splice.ways import WAYS

# Entries of one list of pages on 64-bit (MAX_SGL_ENTS in include/crypto/if_alg.h).
FULL_LIST = 126
IOV_MAX = 1024
CIPHERS = ["cbc(aes)", "gcm(aes)-seal", "gcm(aes)-open"]
TYPES = ["sha256", *CIPHERS]

# Only an aead walks the socket's own lists, and only where spliced pages are in them one by one.
walks_off_the_list = pytest.mark.fixed_by(
    "62397b493e14", "crypto: af-alg - fix NULL pointer dereference in scatterwalk", cve="CVE-2026-43043"
)


@pytest.mark.parametrize("entries", [FULL_LIST - 1, FULL_LIST])
@pytest.mark.parametrize("name", TYPES)
def test_tiny_splices_up_to_a_full_list(name: str, entries: int) -> None:
    """A byte each: where pages are kept, each is an entry (MAX_SGL_ENTS, af_alg_alloc_tsgl)."""
    tiny_splices(TARGETS[name], entries)


@pytest.mark.parametrize("entries", [FULL_LIST + 1, FULL_LIST + 2, 2 * FULL_LIST, 2 * FULL_LIST + 1])
@pytest.mark.parametrize("name", ["sha256", "cbc(aes)"])
def test_tiny_splices_beyond_a_full_list(name: str, entries: int) -> None:
    """af_alg_alloc_tsgl chains another list after MAX_SGL_ENTS entries (a hash keeps none): every byte counts."""
    tiny_splices(TARGETS[name], entries)


@walks_off_the_list
@pytest.mark.parametrize("entries", [FULL_LIST + 1, 2 * FULL_LIST + 1])
def test_tiny_splices_beyond_a_full_list_of_an_aead(entries: int) -> None:
    """The last entry stayed marked as the end of all, and the walk ended in nothing (af_alg_alloc_tsgl)."""
    tiny_splices(TARGETS["gcm(aes)-seal"], entries)


def tiny_splices(target: Target, entries: int) -> None:
    """Splice bytes one by one, and as the last entry send what makes it whole blocks."""
    stream = target.stream(entries + 15 - (entries - 1) % BLOCK)
    with target.open() as transform, Pipe() as pipe:
        op = transform.op
        op.sendmsg([], target.control, MSG_MORE)
        byte_by_byte(op, pipe, stream[: entries - 1])
        op.send(stream[entries - 1 :])
        if target.kind is Skcipher:
            # One recv of all needs memory for each entry once more, and may not get it.
            check_in_parts(op, target, stream)
        else:
            check(op, target.size_of(stream), target.result(stream))
        target.works(op)


def check_in_parts(op: Socket, target: Target, stream: bytes) -> None:
    """Receive the result of a cipher four blocks at a time."""
    expected = target.result(stream)
    assert isinstance(expected, bytes)
    for start in range(0, len(stream), 4 * BLOCK):
        part = expected[start : start + 4 * BLOCK]
        check(op, len(part), part, MSG_DONTWAIT)


def byte_by_byte(op: Socket, pipe: Pipe, content: bytes) -> None:
    for at in range(len(content)):
        os.write(pipe.write_end, content[at : at + 1])
        assert splice(pipe.read_end, op, 1, SPLICE_F_MORE) == 1


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        *((name, pages) for name in TYPES for pages in (FULL_LIST - 1, FULL_LIST)),
        *((name, FULL_LIST + 1) for name in ("sha256", "cbc(aes)")),
        pytest.param("gcm(aes)-seal", FULL_LIST + 1, marks=walks_off_the_list),
    ],
)
def test_spliced_pages_around_a_full_list(name: str, pages: int) -> None:
    """Of a file, nine splices to a list: where one ends with the list, its last entry is marked as the end of all.

    Source: sg_mark_end.
    """
    target = TARGETS[name]
    stream = target.stream(pages * PAGE)
    with target.open() as transform, source_of("memfd", stream, 0) as source:
        op = transform.op
        set_send_buffer(op, 2 << 20, force=True)
        set_receive_buffer(op, 2 << 20, force=True)
        op.sendmsg([], target.control, MSG_MORE)
        step = FULL_LIST // 9 * PAGE
        for start in range(0, len(stream), step):
            size = min(step, len(stream) - start)
            assert WAYS["splice"](source, op, start, size, 0, start + size < len(stream)) == size
        check(op, target.size_of(stream), target.result(stream))


def test_option_memory_that_runs_out_loses_nothing() -> None:
    """Where each tiny splice is an entry, their lists exhaust it: what was taken is there, and no more.

    Source: sock_kmalloc.
    """
    target = TARGETS["cbc(aes)"]
    stream = target.stream(640)
    with target.open() as transform, Pipe() as pipe:
        op = transform.op
        op.sendmsg([], target.control, MSG_MORE)
        taken = 0
        refused = 0
        while taken < len(stream) and not refused:
            refused = outcome(lambda at=taken: byte_by_byte(op, pipe, stream[at : at + 1]))  # type: ignore[misc]
            taken += not refused
        assert refused in (0, errno.ENOMEM), name_of(refused)
        check_pipe(pipe, stream[taken : taken + bool(refused)])
        whole = taken // BLOCK * BLOCK
        check_in_parts(op, target, stream[:whole])
        check_waits(op)


@pytest.mark.parametrize("name", TYPES)
def test_a_splice_of_more_than_the_pipe_holds_takes_what_there_is(name: str) -> None:
    """And that is the whole message: nobody announced more (splice(2); MSG_MORE)."""
    target = TARGETS[name]
    stream = target.stream(3 * PAGE + 80)
    with target.open() as transform, Pipe() as pipe:
        transform.op.sendmsg([], target.control, MSG_MORE)
        os.write(pipe.write_end, stream)
        assert splice(pipe.read_end, transform.op, 2 * len(stream)) == len(stream)
        check(transform.op, target.size_of(stream), target.result(stream))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, FULL_LIST, FULL_LIST + 1, IOV_MAX - 1, IOV_MAX])
def test_message_in_many_buffers(count: int, name: str) -> None:
    """An iovec of up to 1024 entries, of three bytes each and an empty one among them; one more is EMSGSIZE.

    Source: UIO_MAXIOV.
    """
    target = TARGETS[name]
    stream = target.stream(3 * count + 16 - 3 * count % 16)
    pieces = [stream[3 * at : 3 * at + 3] for at in range(count - 1)] + [stream[3 * count - 3 :]]
    if count > 2:
        pieces[count // 2 - 1 : count // 2 + 1] = [b"", b"".join(pieces[count // 2 - 1 : count // 2 + 1])]
    assert len(pieces) == count
    with target.open() as transform:
        op = transform.op
        with raises_errno(errno.EMSGSIZE):
            op.sendmsg([*pieces, *[b""] * (IOV_MAX + 1 - count)], target.control)
        op.sendmsg(pieces, target.control)
        check(op, target.size_of(stream), target.result(stream))


@pytest.mark.parametrize("name", CIPHERS)
@pytest.mark.parametrize("count", [2, 15, 16, 17, 33, FULL_LIST, IOV_MAX])
def test_result_into_many_buffers(count: int, name: str) -> None:
    """Each entry may take memory of the socket, and ENOMEM keeps the request; up to 16 entries there is enough.

    Source: af_alg_get_rsgl.
    """
    target = TARGETS[name]
    stream = target.stream(4 * count // 16 * 16 + 64)
    expected = target.result(stream)
    assert isinstance(expected, bytes)
    buffers = [bytearray(4) for _ in range(count - 1)] + [bytearray(len(expected) - 4 * (count - 1))]
    with target.open() as transform:
        op = transform.op
        op.sendmsg([stream], target.control)
        refused = outcome(lambda: op.recvmsg(buffers))
        if refused:
            assert refused == errno.ENOMEM, name_of(refused)
            assert count > 16, "no memory for 16 buffers"
            check(op, len(expected), expected)
        else:
            assert b"".join(buffers) == expected
        target.works(op)


@pytest.mark.parametrize("offset", [0, 1, PAGE - 1])
@pytest.mark.parametrize("pages", [15, 16, 17, 32, 33])
def test_pages_around_16_from_memory_and_into_memory(pages: int, offset: int) -> None:
    """The kernel takes 16 pages of user memory at a time (ALG_MAX_PAGES), wherever they begin."""
    size = pages * PAGE
    for name in ("sha256", "cbc(aes)", "gcm(aes)-seal"):
        target = TARGETS[name]
        stream = target.stream(size)
        with target.open() as transform, Memory(pages + 2) as memory:
            memory.write(offset, stream)
            transform.op.sendmsg([memory.pointer(offset, size)], target.control)
            expected = target.result(stream)
            assert isinstance(expected, bytes)
            assert transform.op.recvmsg([memory.pointer(offset, len(expected))]).size == len(expected)
            assert memory.read(offset, len(expected)) == expected, name
            assert memory.read(offset + size + TAG, PAGE - offset) == bytes(PAGE - offset), "wrote behind the result"


@pytest.mark.parametrize("way", ["vmsplice", "splice"])
@pytest.mark.parametrize("name", ["gcm(aes)", "ccm(aes)", "authenc(hmac(sha256),cbc(aes))"])
def test_long_aad_of_spliced_pages(name: str, way: str) -> None:
    """AAD of nearly 64 KiB comes out as it went in, and is authenticated whole (af_alg_count_tsgl, crypto/af_alg.c)."""
    row = next(row for row in catalogue.AEADS if row.name == name)
    message = dataclasses.replace(message_of(row), aad=cut(16 * PAGE - 32))
    with message.open() as aead, source_of("memfd", message.plain, 1) as source:
        aead.op.sendmsg([], message.control(SEAL), MSG_MORE)
        assert WAYS[way](source, aead.op, 0, len(message.plain), 0, False) == len(message.plain)
        assert receive(aead.op, len(message.plain) + message.authsize) == message.sealed
