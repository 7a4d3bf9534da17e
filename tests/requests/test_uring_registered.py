"""io_uring on AF_ALG sockets that have no descriptor, with rings and bundles of buffers, and by a thread of the kernel.

Source: io_uring_setup(2), io_uring_register(2), io_uring_enter(2).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Socket, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_MORE
from tests.afalg.memory import PAGE, Memory
from tests.afalg.uring import (
    IOSQE_BUFFER_SELECT,
    IOSQE_FIXED_FILE,
    OP_ACCEPT,
    OP_RECV,
    OP_SEND,
    OP_SENDMSG,
    RECVSEND_BUNDLE,
    SETUP_SQPOLL,
    BufferRing,
    Message,
    Request,
    Ring,
)
from tests.errors.subjects import Subject, each_keyed_type, each_type
from tests.need import need_ring, older
from tests.oracle import skciphers
from tests.requests.model import DEFAULT_ROOM
from tests.requests.rings import completed, done, need_buffer_ring, need_bundles
from tests.requests.subjects import CTR, STREAM

GROUP = 5
CONTROL = set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16))
SIZE = 32
"""Bytes of a buffer of a ring of buffers."""


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Give memory for a ring of buffers: a page for the ring, and one for the buffers."""
    with Memory(2) as made:
        yield made


def works(subject: Subject, ring: Ring, fd: int, flags: int = 0) -> None:
    """Send a request and receive its result by the ring alone.

    Args:
        fd: of an op socket, or with IOSQE_FIXED_FILE in ``flags`` its place among the registered files.
    """
    message = Message([subject.message], subject.control)
    sent = Request(OP_SENDMSG, fd, address=message.address, length=1, flags=flags)
    assert done(ring, sent) == len(subject.message)
    buffer = bytearray(len(subject.answer))
    assert done(ring, Request(OP_RECV, fd, buffer, flags=flags)) == len(buffer)
    assert buffer == subject.answer


# Sockets that only the ring holds ------------------------------------------------------------------------------------


@each_keyed_type
def test_op_socket_without_a_descriptor(subject: Subject, ring: Ring) -> None:
    """IOSQE_FIXED_FILE, after the descriptor was closed: the ring's reference keeps the socket.

    With the ring's it is gone: tests/requests/conftest.py looks for what is left behind.
    """
    with subject.open() as transform:
        op = transform.tfm.accept()
        ring.register_files([-1, op.fd])
        op.close()
        works(subject, ring, 1, IOSQE_FIXED_FILE)
        buffer = bytearray(len(subject.answer))
        assert done(ring, Request(OP_RECV, 0, buffer, flags=IOSQE_FIXED_FILE)) == -errno.EBADF
        ring.unregister_files()
        assert done(ring, Request(OP_RECV, 1, buffer, flags=IOSQE_FIXED_FILE)) == -errno.EBADF
        assert buffer == bytes(len(buffer))


@each_type
def test_tfm_socket_without_a_descriptor(subject: Subject, ring: Ring) -> None:
    """ACCEPT by its place gives an op socket that works, while the tfm socket's descriptor is closed."""
    with subject.open() as transform:
        ring.register_files([transform.tfm.fd])
        transform.tfm.close()
        with Socket(done(ring, Request(OP_ACCEPT, 0, flags=IOSQE_FIXED_FILE))) as op:
            subject.works(op)
        ring.unregister_files()


@each_keyed_type
def test_op_socket_that_never_has_a_descriptor(subject: Subject, ring: Ring) -> None:
    """ACCEPT into the table of registered files (``file_index``): the completion is 0, and no descriptor is taken."""
    ring.register_files([-1, -1])
    with subject.open() as transform:
        result = done(ring, Request(OP_ACCEPT, transform.tfm.fd, splice_fd_in=2))
        if result == -errno.EINVAL:
            older("kernel's io_uring has no ACCEPT into registered files")
        assert result == 0
        works(subject, ring, 1, IOSQE_FIXED_FILE)


# Rings and bundles of buffers ----------------------------------------------------------------------------------------


@each_keyed_type
def test_result_into_a_buffer_of_a_ring(subject: Subject, ring: Ring, memory: Memory) -> None:
    """IORING_REGISTER_PBUF_RING: buffers in turn, each written once; with none left the request stays (ENOBUFS)."""
    size = len(subject.answer)
    buffers = BufferRing(memory, size, 2)
    need_buffer_ring(ring, buffers, GROUP)
    with subject.open() as transform:
        for number in range(2):
            subject.begin(transform.op)
            completion = completed(ring, _chosen(OP_RECV, transform.op.fd, size))
            assert (completion.result, completion.buffer) == (size, number)
            assert buffers.read(number) == subject.answer
            assert number or buffers.read(1) == bytes(size)
        subject.begin(transform.op)
        assert done(ring, _chosen(OP_RECV, transform.op.fd, size)) == -errno.ENOBUFS
        subject.finish(transform.op)


def test_bundle_of_a_result(ring: Ring, memory: Memory) -> None:
    """RECVSEND_BUNDLE: one RECV fills several buffers, the last in part; its completion names the first."""
    need_bundles(ring)
    buffers = BufferRing(memory, SIZE, 4)
    need_buffer_ring(ring, buffers, GROUP)
    text = STREAM[: 2 * SIZE + 16]
    with CTR.open() as cipher:
        cipher.op.sendmsg([text], CONTROL)
        completion = completed(ring, _chosen(OP_RECV, cipher.op.fd, 4 * SIZE, RECVSEND_BUNDLE))
        assert (completion.result, completion.buffer) == (len(text), 0)
    got = b"".join(buffers.read(number) for number in range(4))
    assert got[: len(text)] == skciphers.crypt(CTR.name, CTR.key, bytes(16), text)
    assert got[len(text) :] == bytes(4 * SIZE - len(text))


def test_bundle_of_a_message(ring: Ring, memory: Memory) -> None:
    """RECVSEND_BUNDLE: one SEND takes all the buffers of the group, as one message."""
    need_bundles(ring)
    buffers = BufferRing(memory, SIZE, 3)
    text = STREAM[: 3 * SIZE]
    memory.write(PAGE, text)
    need_buffer_ring(ring, buffers, GROUP)
    with CTR.open() as cipher:
        cipher.op.sendmsg([], CONTROL, MSG_MORE)
        completion = completed(ring, _chosen(OP_SEND, cipher.op.fd, 0, RECVSEND_BUNDLE))
        assert (completion.result, completion.buffer) == (len(text), 0)
        assert cipher.op.recv(len(text)) == skciphers.crypt(CTR.name, CTR.key, bytes(16), text)


# Control data that waits, and a thread that submits ------------------------------------------------------------------


def test_control_data_of_a_message_longer_than_the_buffer(ring: Ring) -> None:
    """SENDMSG that the queue cannot take whole: what it says it took was encrypted with the IV that came with it.

    It may end with what there is room for, or wait for more and go on: io_uring decides, by version.
    """
    text = (STREAM * 12)[: DEFAULT_ROOM + 5 * PAGE]
    iv = bytes(range(16))
    with CTR.open() as cipher:
        op = cipher.op
        message = Message([text], set_op(ALG_OP_ENCRYPT) + set_iv(iv))
        ring.submit([Request(OP_SENDMSG, op.fd, address=message.address, length=1, op_flags=MSG_MORE)])
        got = op.recv(DEFAULT_ROOM)
        (completion,) = ring.wait(1) if (now := ring.completions()) == [] else now
        assert completion.result in (DEFAULT_ROOM, len(text))
        op.send(b"")
        if completion.result > len(got):
            got += op.recv(completion.result - len(got))
    assert got == skciphers.crypt(CTR.name, CTR.key, iv, text[: completion.result])


@each_keyed_type
def test_thread_of_the_kernel_submits(subject: Subject) -> None:
    """SETUP_SQPOLL: it works for the process on its sockets, and its errors are in the completions as well."""
    with need_ring(8, SETUP_SQPOLL) as ring, subject.open() as transform:
        op = transform.op
        for _ in range(3):
            works(subject, ring, op.fd)
        message = Message([b"x"], b"\0" * 3)
        sent = Request(OP_SENDMSG, transform.tfm.fd, address=message.address, length=1)
        assert done(ring, sent) == -errno.EOPNOTSUPP


def _chosen(operation: int, fd: int, length: int, priority: int = 0) -> Request:
    """Return a request whose buffer the kernel chooses."""
    return Request(operation, fd, length=length, priority=priority, flags=IOSQE_BUFFER_SELECT, group=GROUP)
