"""Moving pages into and out of op sockets, and long lists of them, with failures in turn."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.afalg import Pipe, Pointer, Socket, sendfile, splice, vmsplice
from tests.afalg.buffers import set_send_buffer
from tests.afalg.constants import MSG_MORE
from tests.afalg.memory import PAGE, Memory
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject, each_keyed_type, each_queued_type
from tests.faults.inject import CONTROL, COPIES, NO_MEMORY, Injector, Story
from tests.faults.ops import walk_op

BOTH = NO_MEMORY | COPIES


@returns("send-no-memory", "send-no-page", "hash-no-memory")
@each_keyed_type
@pytest.mark.parametrize("way", ["splice", "sendfile"])
def test_splice_in(inject: Injector, subject: Subject, way: str, tmp_path: Path) -> None:
    """What stays in the pipe or the file is what was not moved (splice(2); fs/splice.c)."""
    content = tmp_path / "content"
    content.write_bytes(subject.message)
    size = len(subject.message)
    with content.open("rb") as file:

        def story(op: Socket) -> Story:
            with Pipe() as pipe:
                if subject is not HASH:
                    op.sendmsg([], subject.control, MSG_MORE)
                splice(file, pipe.write_end, size, offset_in=0)
                if way == "splice":
                    ended = yield lambda: splice(pipe.read_end, op, size)
                else:
                    ended = yield lambda: sendfile(op, file, size, offset=0)
                if not ended.errno and ended.value == size:
                    subject.finish(op)

        assert 0 in walk_op(inject, subject, story, BOTH)


@returns("recv-no-memory", "hash-recv-no-memory")
@each_keyed_type
def test_splice_out(inject: Injector, subject: Subject) -> None:
    """The result comes into the pipe whole, or not at all (splice(2); fs/splice.c)."""
    size = len(subject.result or b"")

    def story(op: Socket) -> Story:
        with Pipe() as pipe:
            subject.begin(op)
            ended = yield lambda: splice(op, pipe.write_end, size)
            if not ended.errno:
                with Path(f"/proc/self/fd/{pipe.read_end}").open("rb", buffering=0) as reader:
                    assert reader.read(ended.value) == (subject.result or b"")[: ended.value]

    assert errno.ENOMEM in walk_op(inject, subject, story, BOTH)


@each_keyed_type
def test_vmsplice(inject: Injector, subject: Subject) -> None:
    """Pages of the caller's own go through the pipe by reference (vmsplice(2))."""
    size = len(subject.message)
    with Memory(1) as memory:
        memory.write(0, subject.message)

        def story(op: Socket) -> Story:
            with Pipe() as pipe:
                if subject is not HASH:
                    op.sendmsg([], subject.control, MSG_MORE)

                def move() -> int:
                    vmsplice(pipe.write_end, [memory.pointer(0, size)])
                    return splice(pipe.read_end, op, size)

                ended = yield move
                if not ended.errno and ended.value == size:
                    subject.finish(op)

        assert 0 in walk_op(inject, subject, story, BOTH)


@returns("send-no-memory", "send-no-page", "send-fault")
@each_queued_type
def test_second_list_of_pages(inject: Injector, subject: Subject) -> None:
    """A list has 126 pages; the next one is chained to it (af_alg_alloc_tsgl)."""
    with Memory(130) as memory:

        def story(op: Socket) -> Story:
            set_send_buffer(op, 140 * PAGE, force=True)
            op.sendmsg([memory.pointer(0, 125 * PAGE)], subject.control, MSG_MORE)
            ended = yield lambda: op.send(memory.pointer(0, 2 * PAGE))
            assert ended.errno or ended.value in (PAGE, 2 * PAGE)

        assert walk_op(inject, subject, story, BOTH) >= {0, errno.ENOMEM, errno.EFAULT}


@returns("recv-no-memory-output", "recv-no-memory")
@pytest.mark.parametrize("subject", [SKCIPHER, AEAD], ids=lambda subject: subject.type_)
def test_long_output(inject: Injector, subject: Subject) -> None:
    """Output of more than 16 pages takes several lists, the second from memory that can fail (af_alg_get_rsgl)."""
    size = 20 * PAGE
    extra = 16 if subject is AEAD else 0
    expected = subject.answer_to(bytes(size))
    with Memory(21) as memory:

        def story(op: Socket) -> Story:
            op.sendmsg([Pointer(memory.address, size)], subject.control)
            result = bytearray(size + extra)
            ended = yield lambda: op.recvmsg([memoryview(result)])
            assert ended.errno or result == expected

        assert errno.ENOMEM in walk_op(inject, subject, story, BOTH)


def test_send_of_control_data_alone(inject: Injector) -> None:
    """Control data too long for the kernel's stack is copied into memory of its own (net/socket.c)."""

    def story(op: Socket) -> Story:
        ended = yield lambda: op.sendmsg([], AEAD.control, MSG_MORE)
        if ended.errno:
            op.sendmsg([], AEAD.control, MSG_MORE)
        op.send(AEAD.message)
        AEAD.finish(op)

    assert walk_op(inject, AEAD, story, BOTH | CONTROL) == {0, errno.EFAULT, errno.ENOBUFS}
