"""A result that leaves an op socket by splice(2): what a recv would have given; and the calls that refuse."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.afalg import Aead, Hash, Pipe, Rng, Socket, sendfile, set_assoclen, set_iv, set_op, splice, tee, vmsplice
from tests.afalg.constants import ALG_OP_DECRYPT, MSG_MORE, SPLICE_F_MORE, SPLICE_F_MOVE, SPLICE_F_NONBLOCK
from tests.afalg.uring import OP_SPLICE, Request
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes
from tests.splice.cases import PAGE
from tests.splice.sources import ROOM, check_pipe
from tests.splice.targets import TARGETS, Target, check
from tests.splice.ways import ring

KEY, DATA = bytes(range(16)), bytes(i * 7 % 256 for i in range(4096))
ANYWHERE = (1 << 64) - 1
WITH_RESULT = [name for name in TARGETS if name != "rng"]

each_target = pytest.mark.parametrize("name", WITH_RESULT)


@pytest.mark.parametrize("size", [0, 1, 48, PAGE - 16, PAGE, PAGE + 16, 15 * PAGE - 16])
@each_target
def test_result_into_a_pipe(name: str, size: int) -> None:
    """Of up to 16 pages, in one splice that asks for as much as there is (splice(2))."""
    target = TARGETS[name]
    with target.open() as transform, Pipe(ROOM) as pipe:
        expected = request(target, transform.op, size)
        if not expected:
            assert splice(transform.op, pipe.write_end, 1) == 0
        elif isinstance(expected, int):
            with raises_errno(expected):
                splice(transform.op, pipe.write_end, target.size_of(bytes(size)))
        else:
            assert splice(transform.op, pipe.write_end, len(expected)) == len(expected)
            check_pipe(pipe, expected)
            target.works(transform.op)


@pytest.mark.parametrize("flags", [0, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE], ids=["-", "move", "nb", "more"])
@each_target
def test_flags_make_no_difference(name: str, flags: int) -> None:
    """splice(2): MOVE, NONBLOCK and MORE are hints; a result is copied (copy_splice_read, fs/splice.c)."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe:
        expected = request(target, transform.op, 128)
        assert isinstance(expected, bytes)
        assert splice(transform.op, pipe.write_end, len(expected), flags) == len(expected)
        check_pipe(pipe, expected)


@pytest.mark.parametrize("name", ["cbc(aes)", "ctr(aes)"])
def test_long_result_of_a_cipher_in_several_splices(name: str) -> None:
    """It goes on where the last ended, as with several recvs (_skcipher_recvmsg)."""
    target = TARGETS[name]
    size = 30 * PAGE
    with target.open() as transform, Pipe(ROOM) as pipe:
        expected = request(target, transform.op, size)
        assert isinstance(expected, bytes)
        moved = 0
        while moved < size:
            got = splice(transform.op, pipe.write_end, min(13 * PAGE, size - moved))
            check_pipe(pipe, expected[moved : moved + got])
            moved += got


@each_target
def test_recv_and_splice_are_the_same_queue(name: str) -> None:
    """Part of a cipher's result by recv, the rest by splice; and a digest that was spliced is gone (splice(2))."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe:
        op = transform.op
        expected = request(target, op, 256)
        assert isinstance(expected, bytes)
        if name in ("cbc(aes)", "ctr(aes)"):
            assert op.recv(96) == expected[:96]
            expected = expected[96:]
        assert splice(op, pipe.write_end, len(expected)) == len(expected)
        check_pipe(pipe, expected)
        if target.kind is Hash:
            check(op, 32, target.result(b""))
        target.works(op)


@pytest.mark.parametrize("name", ["sha256", "hmac(sha256)"])
def test_no_more_than_a_digest_comes_out(name: str) -> None:
    """However much room there is; the next is that of an empty message (hash_recvmsg)."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe:
        expected = request(target, transform.op, 100)
        assert isinstance(expected, bytes)
        for result in (expected, target.result(b"")):
            assert splice(transform.op, pipe.write_end, PAGE) == 32
            assert isinstance(result, bytes)
            check_pipe(pipe, result)


@each_target
def test_pipe_without_room_leaves_the_result_where_it_is(name: str) -> None:
    """EAGAIN where it does not wait (splice(2), SPLICE_F_NONBLOCK)."""
    target = TARGETS[name]
    with target.open() as transform, Pipe(PAGE) as pipe:
        expected = request(target, transform.op, 128)
        assert isinstance(expected, bytes)
        os.write(pipe.write_end, bytes(PAGE))
        os.set_blocking(pipe.write_end, False)
        with raises_errno(errno.EAGAIN):
            splice(transform.op, pipe.write_end, len(expected), SPLICE_F_NONBLOCK)
        check(transform.op, len(expected), expected)


@each_target
def test_result_by_io_uring(name: str) -> None:
    """IORING_OP_SPLICE (io_uring_enter(2)) does what splice(2) does, for every type of op socket."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe, ring() as uring:
        expected = request(target, transform.op, 2000)
        expected = expected if isinstance(expected, bytes) else b""
        splice_out = Request(
            OP_SPLICE,
            pipe.write_end,
            address=ANYWHERE,
            offset=-1,
            length=len(expected),
            splice_fd_in=transform.op.fd,
        )
        uring.submit([splice_out], wait=1)
        assert uring.completions()[0].result == len(expected)
        check_pipe(pipe, expected)
        target.works(transform.op)


@each_target
def test_result_into_a_file(name: str, tmp_path: Path) -> None:
    """Through a pipe, whose pages the file may take over; they are a copy of nothing that can change (splice(2))."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe, open(tmp_path / "result", "w+b") as file:
        expected = request(target, transform.op, PAGE)
        assert isinstance(expected, bytes)
        assert splice(transform.op, pipe.write_end, len(expected)) == len(expected)
        assert splice(pipe.read_end, file, len(expected), SPLICE_F_MOVE, offset_out=5) == len(expected)
        assert os.pread(file.fileno(), 2 * PAGE, 5) == expected
        # The pages of the pipe are not those of the next result.
        target.works(transform.op)
        assert os.pread(file.fileno(), 2 * PAGE, 5) == expected


@each_target
def test_result_in_a_pipe_can_be_duplicated(name: str) -> None:
    """tee(2): the pages in the pipe hold a result already, so the copy is the same and nothing is computed twice."""
    target = TARGETS[name]
    with target.open() as transform, Pipe() as first, Pipe() as second:
        expected = request(target, transform.op, 160)
        assert isinstance(expected, bytes)
        assert splice(transform.op, first.write_end, len(expected)) == len(expected)
        assert tee(first.read_end, second.write_end, PAGE) == len(expected)
        check_pipe(first, expected)
        check_pipe(second, expected)


def test_result_of_one_op_socket_into_another() -> None:
    """A ciphertext straight into the hash of it (splice(2))."""
    cipher, hash_ = TARGETS["cbc(aes)"], TARGETS["sha256"]
    with cipher.open() as first, hash_.open() as second, Pipe() as pipe:
        expected = request(cipher, first.op, 3 * PAGE)
        assert isinstance(expected, bytes)
        assert splice(first.op, pipe.write_end, len(expected)) == len(expected)
        assert splice(pipe.read_end, second.op, len(expected)) == len(expected)
        check(second.op, 32, hash_.result(expected))


@each_target
def test_calls_that_need_a_file_or_a_pipe_refuse(name: str) -> None:
    """sendfile from a socket, tee and splice without a pipe, vmsplice into what is none; the result stays.

    Source: tee(2), sendfile(2).
    """
    target = TARGETS[name]
    with target.open() as transform, Pipe() as pipe, open("/dev/null", "wb") as sink:
        op = transform.op
        expected = request(target, op, 64)
        calls: list[Callable[[], object]] = [
            lambda: sendfile(sink, op, 16),
            lambda: tee(op, pipe.write_end, 16),
            lambda: tee(pipe.read_end, op, 16),
            lambda: splice(op, sink, 16),
            lambda: os.copy_file_range(op.fd, sink.fileno(), 16),
        ]
        for call in calls:
            with raises_errno(errno.EINVAL):
                call()
        with raises_errno(errno.EBADF):
            vmsplice(op, [b"no pipe"])
        assert isinstance(expected, bytes)
        check(op, len(expected), expected)


def test_message_without_its_end_gives_nothing() -> None:
    """An aead waits for the rest; a cipher gives whole blocks (af_alg_wait_for_data)."""
    with TARGETS["gcm(aes)-seal"].open() as transform, Pipe() as pipe:
        op = transform.op
        op.sendmsg([DATA], TARGETS["gcm(aes)-seal"].control, MSG_MORE)
        os.set_blocking(op.fd, False)
        with raises_errno(errno.EAGAIN):
            splice(op, pipe.write_end, 16)
        op.send(b"")
        expected = TARGETS["gcm(aes)-seal"].result(DATA)
        assert isinstance(expected, bytes)
        assert splice(op, pipe.write_end, len(expected)) == len(expected)
        check_pipe(pipe, expected)


def test_digest_into_a_pipe() -> None:
    """splice(2) ends in hash_recvmsg (crypto/algif_hash.c), which gives the digest and no more."""
    with need(Hash, "sha256") as h, Pipe() as pipe:
        h.op.send(DATA)
        assert splice(h.op, pipe.write_end, 32) == 32
        assert os.read(pipe.read_end, 64) == hashes.digest("sha256", DATA)


def test_wrong_tag_gives_ebadmsg_and_an_empty_pipe() -> None:
    """The recvmsg under splice(2) is -EBADMSG (crypto/algif_aead.c): nothing of the plaintext gets into the pipe."""
    forged = bytearray(aeads.seal("gcm(aes)", KEY, bytes(12), b"", DATA, 16))
    forged[-1] ^= 1
    with need(Aead, "gcm(aes)", KEY) as aead, Pipe() as pipe:
        aead.op.sendmsg([forged], set_op(ALG_OP_DECRYPT) + set_assoclen(0) + set_iv(bytes(12)))
        with raises_errno(errno.EBADMSG):
            splice(aead.op, pipe.write_end, len(DATA))
        pipe.close_write()
        assert os.read(pipe.read_end, len(DATA)) == b""


def test_random_bytes_into_a_pipe() -> None:
    """At most 128 at a time, different each time (MAXSIZE in crypto/algif_rng.c)."""
    with need(Rng, "jitterentropy_rng") as rng, Pipe() as pipe:
        assert splice(rng.op, pipe.write_end, 32) == 32
        first = os.read(pipe.read_end, 64)
        assert splice(rng.op, pipe.write_end, PAGE) == 128
        second = os.read(pipe.read_end, PAGE)
        assert (len(first), len(second)) == (32, 128)
        assert len({first, second[:32], second[32:64], bytes(32)}) == 4


def request(target: Target, op: Socket, size: int) -> bytes | int:
    """Send a request of ``size`` bytes, and return what it must give."""
    stream = target.stream(size)
    op.sendmsg([stream], target.control)
    return target.result(stream)
