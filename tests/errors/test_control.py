"""Control messages of every length around the right one: programs send longer ones than they have to."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from tests.afalg import Socket, cmsg
from tests.afalg import constants as c
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import AEAD, SKCIPHER, Subject, each_queued_type

ALIGN = 8
"""Control messages begin at multiples of a long (cmsg(3))."""
HEADER = 16
LONGER = [*range(17), 20, 24, 40, 64, 255, 1000]

CASES = [
    pytest.param(subject, type_, id=f"{subject.type_}-{name}")
    for subject, names in ((SKCIPHER, ("iv", "op")), (AEAD, ("iv", "op", "assoclen")))
    for name in names
    for type_ in [{"iv": c.ALG_SET_IV, "op": c.ALG_SET_OP, "assoclen": c.ALG_SET_AEAD_ASSOCLEN}[name]]
]


def parts(subject: Subject) -> dict[int, bytes]:
    """Return the values of the subject's control messages by their types."""

    def walk(rest: bytes) -> Iterator[tuple[int, bytes]]:
        while rest:
            length, _, type_ = struct.unpack_from("@Nii", rest)
            yield type_, rest[HEADER:length]
            rest = rest[-(-length // ALIGN) * ALIGN :]

    return dict(walk(subject.control))


def control(subject: Subject, **changed: bytes) -> bytes:
    """Return the subject's control data, with other values for the types named ``t1`` and so on."""
    values = {type_: changed.get(f"t{type_}", value) for type_, value in parts(subject).items()}
    return b"".join(cmsg(c.SOL_ALG, type_, value) for type_, value in values.items())


@pytest.mark.parametrize(("subject", "type_"), CASES)
def test_control_message_longer_than_its_value_is_taken(subject: Subject, type_: int) -> None:
    """What comes behind the value is not looked at (af_alg_cmsg_send compares with ``<``).

    cryptsetup (lib/crypto_backend/crypto_cipher_kernel.c) sets cmsg_len of the IV by CMSG_SPACE: 40, not 36.
    """
    value = parts(subject)[type_]
    with subject.open() as transform:
        for more in LONGER:
            data = control(subject, **{f"t{type_}": value + b"\xff" * more})
            got = outcome(lambda data=data: transform.op.sendmsg([subject.message], data))  # type: ignore[misc]
            assert got == 0, f"{more} bytes more than needed"
            subject.finish(transform.op)


@returns("cmsg-iv-short", "cmsg-iv-length", "cmsg-op-short", "cmsg-assoclen-short")
@pytest.mark.parametrize(("subject", "type_"), CASES)
def test_control_message_shorter_than_its_value_is_einval(subject: Subject, type_: int) -> None:
    """By any number of bytes, though they are there as padding (af_alg_cmsg_send)."""
    value = parts(subject)[type_]
    with subject.open() as transform:
        for less in range(1, len(value) + 1):
            data = control(subject, **{f"t{type_}": value[:-less]})
            with raises_errno(errno.EINVAL, why=f"{less} bytes too few"):
                transform.op.sendmsg([subject.message], data)
        subject.works(transform.op)


@each_queued_type
def test_every_control_message_as_long_as_its_room(subject: Subject) -> None:
    """All three with cmsg_len = CMSG_SPACE, as programs do that use one macro for both (cmsg(3))."""
    data = b""
    for type_, value in parts(subject).items():
        data += cmsg(c.SOL_ALG, type_, value + bytes(-len(value) % ALIGN))
    with subject.open() as transform:
        transform.op.sendmsg([subject.message], data)
        subject.finish(transform.op)


@each_queued_type
def test_last_control_message_needs_no_padding(subject: Subject) -> None:
    """msg_controllen may end with the value of the last message, wherever that is (CMSG_OK, include/linux/socket.h)."""
    values = parts(subject)
    with subject.open() as transform:
        for last in values:
            ordered = [*(type_ for type_ in values if type_ != last), last]
            data = b"".join(cmsg(c.SOL_ALG, type_, values[type_]) for type_ in ordered)
            transform.op.sendmsg([subject.message], data[: len(data) - (-len(values[last]) % ALIGN)])
            subject.finish(transform.op)


@returns("cmsg-malformed")
@each_queued_type
def test_bytes_after_the_last_control_message(subject: Subject) -> None:
    """Less than a header is passed over (__cmsg_nxthdr); a header of zeros is a message of impossible length."""
    with subject.open() as transform:
        for rest in range(HEADER):
            transform.op.sendmsg([subject.message], subject.control + bytes(rest))
            subject.finish(transform.op)
        for rest in (HEADER, HEADER + 1, 64):
            with raises_errno(errno.EINVAL, why=f"{rest} bytes"):
                transform.op.sendmsg([subject.message], subject.control + bytes(rest))
        subject.works(transform.op)


def test_operation_is_four_bytes_of_a_longer_value() -> None:
    """The first four: what follows them would make another operation of eight (u32 in af_alg_cmsg_send)."""
    with SKCIPHER.open() as cipher:
        for more in (b"\1\0\0\0", b"\xff" * 4, bytes(12)):
            data = control(SKCIPHER, **{f"t{c.ALG_SET_OP}": struct.pack("@I", c.ALG_OP_ENCRYPT) + more})
            send(cipher.op, data)
            SKCIPHER.finish(cipher.op)


def send(op: Socket, data: bytes) -> None:
    op.sendmsg([SKCIPHER.message], data)
