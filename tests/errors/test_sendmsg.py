"""sendmsg(2): what an op socket refuses to take, and what it takes without a word."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading

import pytest

from tests.afalg import DeadlineExpired, Pointer, Socket, cmsg, set_assoclen, set_iv, set_op
from tests.afalg import constants as c
from tests.afalg.buffers import set_send_buffer
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.afalg.memory import PROT_NONE, Memory
from tests.errors import probes
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import (
    AEAD,
    HASH,
    KEYED,
    SKCIPHER,
    SOCKETS,
    Subject,
    each_keyed_type,
    each_queued_type,
    socket_of,
)
from tests.errors.threads import wait_until_inside_a_call
from tests.oracle import aeads, skciphers

MSG_ZEROCOPY = 0x4000000
MSG_SPLICE_PAGES = 0x8000000
MSG_BATCH = 0x40000
CMSG_HEADER = 16
PAGE_OF_DATA = bytes(i * 7 % 251 for i in range(4096))


def nothing_was_sent(op: Socket, subject: Subject) -> None:
    """No request has begun, and the next is right."""
    with raises_errno(errno.EAGAIN):
        op.recv(len(subject.message), MSG_DONTWAIT)
    subject.works(op)


# Control data --------------------------------------------------------------------------------------------------------


@returns("cmsg-malformed")
@each_queued_type
@pytest.mark.parametrize("length", [*range(CMSG_HEADER), 25, 64, 2**31, 2**32, 2**63, 2**64 - 1])
def test_impossible_length_of_a_control_message_is_einval(subject: Subject, length: int) -> None:
    """Shorter than its header, or longer than all there is: 20 bytes, padded to 24 (cmsg(3))."""
    with subject.open() as transform:
        message = cmsg(c.SOL_ALG, c.ALG_SET_OP, bytes(4), length)
        with raises_errno(errno.EINVAL):
            transform.op.sendmsg([subject.message], message)
        nothing_was_sent(transform.op, subject)


MALFORMED = {
    "iv-without-length": cmsg(c.SOL_ALG, c.ALG_SET_IV, b""),
    "iv-with-half-a-length": cmsg(c.SOL_ALG, c.ALG_SET_IV, bytes(3)),
    "iv-shorter-than-it-says": set_iv(bytes(16), 17),
    "iv-says-4-gib": set_iv(bytes(16), 0xFFFFFFFF),
    "iv-says-4-gib-less-4": set_iv(bytes(16), 0xFFFFFFFC),
    "op-empty": cmsg(c.SOL_ALG, c.ALG_SET_OP, b""),
    "op-of-3-bytes": cmsg(c.SOL_ALG, c.ALG_SET_OP, bytes(3)),
    "assoclen-empty": cmsg(c.SOL_ALG, c.ALG_SET_AEAD_ASSOCLEN, b""),
    "assoclen-of-3-bytes": cmsg(c.SOL_ALG, c.ALG_SET_AEAD_ASSOCLEN, bytes(3)),
}


@returns("cmsg-iv-short", "cmsg-iv-length", "cmsg-op-short", "cmsg-assoclen-short", "sendmsg-cmsg")
@each_queued_type
@pytest.mark.parametrize("control", MALFORMED.values(), ids=MALFORMED.keys())
def test_control_message_without_its_value_is_einval(subject: Subject, control: bytes) -> None:
    """Alone, and after good ones (af_alg_cmsg_send)."""
    with subject.open() as transform:
        for before in (b"", subject.control):
            with raises_errno(errno.EINVAL):
                transform.op.sendmsg([subject.message], before + control)
        nothing_was_sent(transform.op, subject)


@returns("cmsg-unknown")
@each_queued_type
def test_unknown_control_message_is_einval(subject: Subject) -> None:
    """The options of the tfm socket among them (af_alg_cmsg_send)."""
    with subject.open() as transform:
        for type_ in (0, c.ALG_SET_KEY, c.ALG_SET_AEAD_AUTHSIZE, c.ALG_SET_DRBG_ENTROPY, 7, 8, 99, -1):
            with raises_errno(errno.EINVAL, why=f"type {type_}"):
                transform.op.sendmsg([subject.message], subject.control + cmsg(c.SOL_ALG, type_, bytes(16)))
        nothing_was_sent(transform.op, subject)


@returns("send-op-value")
@each_queued_type
def test_operation_other_than_encrypt_or_decrypt_is_einval(subject: Subject) -> None:
    """af_alg_sendmsg (crypto/af_alg.c) knows ALG_OP_ENCRYPT and ALG_OP_DECRYPT, all 32 bits of them."""
    with subject.open() as transform:
        for value in (2, 3, 0x100, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            with raises_errno(errno.EINVAL, why=f"operation {value:#x}"):
                transform.op.sendmsg([subject.message], subject.control + set_op(value))
        nothing_was_sent(transform.op, subject)


@returns("send-iv-size")
@each_queued_type
def test_iv_of_a_wrong_length_is_einval(subject: Subject) -> None:
    """af_alg_sendmsg compares ivlen with the tfm's ivsize before it takes any data."""
    size = 16 if subject is SKCIPHER else 12
    with subject.open() as transform:
        for length in range(65):
            if length != size:
                with raises_errno(errno.EINVAL, why=f"IV of {length} bytes"):
                    transform.op.sendmsg([subject.message], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(length)))
        nothing_was_sent(transform.op, subject)


@returns("cmsg-assoclen-huge", "aead-too-short")
@pytest.mark.parametrize("length", [2**31, 2**31 + 20, 2**32 - 1])
def test_aad_of_2_gib_is_einval(length: int) -> None:
    """At once, or at the latest when the result is asked for.

    Linux kernel commit e4c06479d705 ("crypto: af_alg - Cap AEAD AD length to 0x80000000") (in v7.2) refuses at once.
    """
    with AEAD.open() as aead:
        control = set_op(ALG_OP_ENCRYPT) + set_iv(bytes(12)) + set_assoclen(length)
        if not outcome(lambda: aead.op.sendmsg([AEAD.message], control)):
            with raises_errno(errno.EINVAL):
                aead.op.recv(16, MSG_DONTWAIT)
        else:
            with raises_errno(errno.EINVAL):
                aead.op.sendmsg([AEAD.message], control)
            nothing_was_sent(aead.op, AEAD)


@returns("cmsg-unknown", "send-op-value", "send-iv-size")
@each_queued_type
def test_refused_control_data_changes_nothing(subject: Subject) -> None:
    """Operation, IV and AAD length of a message that has begun stay, though good ones came before the bad.

    Source: af_alg_cmsg_send fills a struct of its own.
    """
    size = 16 if subject is SKCIPHER else 12
    others = set_op(ALG_OP_DECRYPT) + set_iv(b"\xff" * size) + set_assoclen(1)
    with subject.open() as transform:
        transform.op.sendmsg([subject.message[:5]], subject.control, MSG_MORE)
        for bad in (set_op(2), set_iv(bytes(size + 1)), cmsg(c.SOL_ALG, 99, bytes(4))):
            for flags in (0, MSG_MORE):
                with raises_errno(errno.EINVAL):
                    transform.op.sendmsg([b"more"], others + bad, flags)
        transform.op.send(subject.message[5:])
        subject.finish(transform.op)


@each_queued_type
def test_control_messages_of_other_levels_are_passed_over(subject: Subject) -> None:
    """Even SCM_RIGHTS with a descriptor that is none."""
    foreign = cmsg(c.SOL_SOCKET, 1, (-1).to_bytes(4, sys.byteorder, signed=True)) + cmsg(0, 2, bytes(8))
    with subject.open() as transform:
        transform.op.sendmsg([subject.message], foreign + subject.control + foreign)
        subject.finish(transform.op)


@each_queued_type
def test_the_last_of_repeated_control_messages_counts(subject: Subject) -> None:
    """af_alg_cmsg_send overwrites what it has read, in whatever order they come; af_alg_sendmsg checks the rest."""
    with subject.open() as transform:
        size = 16 if subject is SKCIPHER else 12
        control = set_iv(b"\xff" * size) + set_op(0) + set_assoclen(3) + set_op(77) + subject.control
        transform.op.sendmsg([subject.message], control)
        subject.finish(transform.op)


@each_queued_type
def test_without_an_operation_it_is_decryption(subject: Subject) -> None:
    """Whatever was asked for before; also of control data that holds no message (af_alg_sendmsg)."""
    iv_and_aad = subject.control[len(set_op(ALG_OP_ENCRYPT)) :]
    with subject.open() as transform:
        subject.works(transform.op)
        transform.op.sendmsg([subject.result or b""], iv_and_aad)
        assert transform.op.recv(len(subject.message)) == subject.message
    with SKCIPHER.open() as cipher:
        cipher.op.sendmsg([], SKCIPHER.control, MSG_MORE)
        cipher.op.sendmsg([SKCIPHER.result or b""], bytes(7))
        assert cipher.op.recv(32) == SKCIPHER.message


@each_queued_type
def test_without_an_iv_it_is_zero_at_first(subject: Subject) -> None:
    """A new op socket has one of zeros (accept in algif_skcipher.c and algif_aead.c), and no AAD."""
    key, message = subject.key or b"", subject.message
    if subject is SKCIPHER:
        expected = skciphers.crypt(subject.name, key, bytes(16), message)
    else:
        expected = aeads.seal(subject.name, key, bytes(12), b"", message, 16)
    with subject.open() as transform, transform.tfm.accept() as other:
        for op, iv in ((transform.op, b""), (other, set_iv(bytes(16 if subject is SKCIPHER else 12)))):
            op.sendmsg([message], set_op(ALG_OP_ENCRYPT) + iv)
            assert op.recv(len(expected)) == expected


def test_without_an_aad_length_there_is_none() -> None:
    """Though the message before had some (af_alg_sendmsg copies con.aead_assoclen, which is 0)."""
    with AEAD.open() as aead:
        AEAD.works(aead.op)
        expected = aeads.seal("gcm(aes)", AEAD.key or b"", bytes(12), b"", b"plaintext", 16)
        aead.op.sendmsg([b"plaintext"], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(12)))
        assert aead.op.recv(25) == expected


def test_a_hash_does_not_look_at_control_data() -> None:
    """hash_sendmsg (crypto/algif_hash.c) never calls af_alg_cmsg_send; malformed control data passes too."""
    with HASH.open() as h:
        for control in (*MALFORMED.values(), cmsg(c.SOL_ALG, c.ALG_SET_OP, bytes(4), 3), set_op(9), bytes(7)):
            h.op.sendmsg([HASH.message], control)
            HASH.finish(h.op)


@returns("sendmsg-generic")
@each_keyed_type
def test_control_data_that_cannot_be_copied(subject: Subject) -> None:
    """EFAULT where it cannot be read, ENOBUFS beyond the limit of option memory or of an int.

    Source: ____sys_sendmsg, net/socket.c.
    """
    with subject.open() as transform:
        for control, error in (
            (Pointer(8, 24), errno.EFAULT),
            (bytes(probes.optmem_max() + 1), errno.ENOBUFS),
            (Pointer(8, 2**31), errno.ENOBUFS),
        ):
            with raises_errno(error):
                transform.op.sendmsg([subject.message], control)
        subject.works(transform.op)


# Flags, addresses, buffers -------------------------------------------------------------------------------------------

IGNORED = {
    "oob": socket.MSG_OOB,
    "peek": socket.MSG_PEEK,
    "dontroute": socket.MSG_DONTROUTE,
    "ctrunc": socket.MSG_CTRUNC,
    "trunc": socket.MSG_TRUNC,
    "dontwait": MSG_DONTWAIT,
    "eor": socket.MSG_EOR,
    "waitall": socket.MSG_WAITALL,
    "confirm": 0x800,
    "nosignal": socket.MSG_NOSIGNAL,
    "batch": MSG_BATCH,
    "zerocopy": MSG_ZEROCOPY,
    "splice-pages": MSG_SPLICE_PAGES,
    "fastopen": 0x20000000,
}


@each_keyed_type
@pytest.mark.parametrize("flag", IGNORED.values(), ids=IGNORED.keys())
def test_flag_has_no_effect(subject: Subject, flag: int) -> None:
    """MSG_SPLICE_PAGES is the kernel's own and is taken off; the data of MSG_ZEROCOPY is copied."""
    with subject.open() as transform:
        data = bytearray(subject.message)
        transform.op.sendmsg([data], subject.control, flag)
        data[:] = bytes(len(data))
        subject.finish(transform.op)


@each_keyed_type
def test_destination_is_not_looked_at(subject: Subject) -> None:
    """Neither af_alg_sendmsg nor hash_sendmsg reads msg_name, which sendmsg(2) lets a connected socket ignore."""
    with subject.open() as transform:
        for name in (b"\0", bytes(16), b"\xff" * 128):
            transform.op.sendmsg([subject.message], subject.control, name=name)
            subject.finish(transform.op)


@returns("send-fault", "hash-fault")
@each_keyed_type
def test_unreadable_data_is_efault(subject: Subject) -> None:
    """memcpy_from_msg in af_alg_sendmsg, extract_iter_to_sg in hash_sendmsg: nothing is taken, the next is right."""
    with subject.open() as transform, Memory(1, PROT_NONE) as memory:
        for pointer in (Pointer(0, 16), memory.pointer(4096, 16)):
            with raises_errno(errno.EFAULT):
                transform.op.sendmsg([pointer], subject.control)
        subject.works(transform.op)


@returns("send-fault")
@each_queued_type
def test_unreadable_second_buffer_takes_the_first_with_it(subject: Subject) -> None:
    """Data is copied by the page: what shares one with a fault is not queued (af_alg_sendmsg)."""
    with subject.open() as transform, Memory(1, PROT_NONE) as memory:
        with raises_errno(errno.EFAULT):
            transform.op.sendmsg([bytes(16), memory.pointer(4096, 16)], subject.control)
        with raises_errno(errno.EFAULT):
            transform.op.sendmsg([memory.pointer(4096 - 8, 16)], subject.control)
        with raises_errno(errno.EFAULT):
            transform.op.sendmsg([bytes(16), memory.pointer(4096, 16), bytes(16)], subject.control)
        subject.works(transform.op)


@returns("send-fault")
@each_queued_type
def test_unreadable_buffer_in_the_middle_takes_the_pages_before(subject: Subject) -> None:
    """What comes after it is not queued (af_alg_sendmsg)."""
    with subject.open() as transform, Memory(1, PROT_NONE) as memory:
        memory.write(0, PAGE_OF_DATA)
        parts = [memory.pointer(0, 4096), memory.pointer(4096, 16), bytes(16)]
        assert transform.op.sendmsg(parts, subject.control) == 4096
        expected = subject.answer_to(PAGE_OF_DATA)
        assert transform.op.recv(len(expected)) == expected
        subject.works(transform.op)


@returns("send-fault-append")
@each_queued_type
def test_unreadable_data_after_good_leaves_the_good(subject: Subject) -> None:
    """af_alg_sendmsg counts what it merges into a page (sg->length, ctx->used) only after memcpy_from_msg."""
    with subject.open() as transform, Memory(1, PROT_NONE) as memory:
        transform.op.sendmsg([subject.message[:25]], subject.control, MSG_MORE)
        for flags in (MSG_MORE, 0):
            with raises_errno(errno.EFAULT):
                transform.op.send(memory.pointer(4096, 16), flags)
        transform.op.send(subject.message[25:])
        subject.finish(transform.op)


@returns("send-fault")
@each_queued_type
def test_fault_in_a_later_page_takes_what_came_before(subject: Subject) -> None:
    """A number of bytes, not EFAULT: and those bytes are queued (``copied ?: err`` in af_alg_sendmsg)."""
    with subject.open() as transform, Memory(2, PROT_NONE) as memory:
        memory.write(0, 2 * PAGE_OF_DATA)
        assert transform.op.sendmsg([memory.pointer(0, 3 * 4096)], subject.control) == 8192
        expected = subject.answer_to(2 * PAGE_OF_DATA)
        assert transform.op.recv(len(expected)) == expected


@returns("hash-fault")
def test_fault_in_a_hash_is_efault_or_the_bytes_before() -> None:
    """Either way the message is over and the next one is right (hash_sendmsg)."""
    with HASH.open() as h, Memory(1, PROT_NONE) as memory:
        sent: list[int] = []
        got = outcome(lambda: sent.append(h.op.sendmsg([bytes(16), memory.pointer(4096, 16)])))
        assert (got, sent) in ((errno.EFAULT, []), (0, [16]))
        HASH.works(h.op)


@returns("sendmsg-generic")
@each_keyed_type
def test_impossible_vectors_of_buffers(subject: Subject) -> None:
    """More than UIO_MAXIOV of them is EMSGSIZE, a negative length EINVAL."""
    with subject.open() as transform, Memory(1) as memory:
        with raises_errno(errno.EMSGSIZE):
            transform.op.sendmsg([memory.pointer(0, 1)] * 1025, subject.control)
        with raises_errno(errno.EINVAL):
            transform.op.sendmsg([memory.pointer(0, 2**63)], subject.control)
        if probes.refuses_compat_flag():
            with raises_errno(errno.EINVAL):
                transform.op.sendmsg([memory.pointer(0, 16)], subject.control, probes.MSG_CMSG_COMPAT)
        subject.works(transform.op)
        memory.write(0, b"four")
        transform.op.sendmsg([memory.pointer(0, 4)] * 1024, subject.control)
        expected = subject.answer_to(b"four" * 1024)
        assert transform.op.recv(len(expected)) == expected
        subject.works(transform.op)


@each_keyed_type
def test_empty_buffers_between_others_are_passed_over(subject: Subject) -> None:
    """writev(2): an iov_len of 0 adds nothing, first, last or between (iov_iter under memcpy_from_msg)."""
    with subject.open() as transform:
        parts = [b"", subject.message[:5], b"", b"", subject.message[5:], b""]
        assert transform.op.sendmsg(parts, subject.control) == len(subject.message)
        subject.finish(transform.op)


# State ---------------------------------------------------------------------------------------------------------------


@returns("not-on-tfm", "rng-send")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm") or k == "rng-op"])
def test_socket_that_takes_no_data_is_eopnotsupp(kind: str) -> None:
    """Only op sockets do, and not those of an rng (sock_no_sendmsg of alg_proto_ops and algif_rng_ops)."""
    with socket_of(kind) as sock:
        for flags in (0, MSG_MORE, MSG_DONTWAIT):
            with raises_errno(errno.EOPNOTSUPP):
                sock.send(b"data", flags)
        with raises_errno(errno.EOPNOTSUPP):
            sock.sendmsg([], set_op(0))


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@pytest.mark.parametrize("subject", KEYED, ids=lambda subject: subject.type_)
def test_sending_without_a_key_is_enokey(subject: Subject) -> None:
    """CVE-2015-8970.

    Linux kernel commit 6de62f15b581 ("crypto: algif_hash - Require setkey before accept(2)") (in v4.5).
    """
    with subject.open_without_key() as transform:
        for data in (subject.message, b""):
            with raises_errno(errno.ENOKEY):
                transform.op.sendmsg([data], subject.control)
        with raises_errno(errno.ENOKEY):
            transform.op.send(Pointer(8, 16))
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


@returns("send-before-read")
@each_queued_type
def test_second_message_before_the_first_is_read_is_einval(subject: Subject) -> None:
    """And the first is as it was: operation, IV and data (af_alg_sendmsg)."""
    with subject.open() as transform:
        subject.begin(transform.op)
        for flags in (0, MSG_MORE, MSG_DONTWAIT):
            with raises_errno(errno.EINVAL):
                transform.op.sendmsg([b"more"], set_op(0), flags)
            with raises_errno(errno.EINVAL):
                transform.op.send(b"more", flags)
        subject.finish(transform.op)
        subject.works(transform.op)


@returns("wait-for-room")
@each_queued_type
def test_full_socket_is_eagain_when_not_waiting(subject: Subject) -> None:
    """By MSG_DONTWAIT as by O_NONBLOCK; the end of the message needs no room."""
    with subject.open() as transform:
        set_send_buffer(transform.op, 4096)
        transform.op.sendmsg([PAGE_OF_DATA], subject.control, MSG_MORE)
        with raises_errno(errno.EAGAIN):
            transform.op.send(b"x", MSG_DONTWAIT | MSG_MORE)
        os.set_blocking(transform.op.fd, False)
        with raises_errno(errno.EAGAIN):
            transform.op.send(b"x")
        transform.op.send(b"")
        expected = subject.answer_to(PAGE_OF_DATA)
        assert transform.op.recv(len(expected)) == expected
        subject.works(transform.op)


@returns("wait-for-room-signal")
@each_queued_type
def test_wait_for_room_ends_with_a_signal(subject: Subject) -> None:
    """af_alg_wait_for_wmem returns -ERESTARTSYS when a signal is pending (signal(7)); nothing was taken."""
    with subject.open() as transform:
        set_send_buffer(transform.op, 4096)
        transform.op.sendmsg([bytes(4096)], subject.control, MSG_MORE)
        with pytest.raises(DeadlineExpired) as caught:
            transform.op.send(bytes(16), seconds=0.2)
        assert caught.value.partial == 0


@returns("send-concurrent")
@each_queued_type
def test_second_writer_is_refused_while_the_first_waits(subject: Subject) -> None:
    """EBUSY; EINVAL where writers were not told apart.

    Linux kernel commit 1b34cbbf4f01 ("crypto: af_alg - Disallow concurrent writes in af_alg_sendmsg") (in v6.17).
    """
    with subject.open() as transform:
        op, results = transform.op, []
        set_send_buffer(op, 4096)
        control = subject.control
        writer = threading.Thread(
            target=lambda: results.append(outcome(lambda: op.sendmsg([bytes(8192)], control, seconds=60)))
        )
        writer.start()
        try:
            wait_until_inside_a_call(writer, op)
            with raises_errno(errno.EBUSY, errno.EINVAL):
                op.send(b"x", MSG_DONTWAIT)
            assert writer.is_alive(), "the first writer was not waiting"
        finally:
            # Room for the rest: the writer ends.
            size = 4096 + (16 if subject is AEAD else 0)
            assert len(op.recv(size)) == size
            writer.join(60)
        assert results == [0]
        with transform.tfm.accept() as other:
            subject.works(other)
