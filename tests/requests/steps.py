"""The steps of a sequence, what each may give, and who can take them: a kernel, a model, a fake of either."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from tests.afalg import cmsg
from tests.afalg.constants import ALG_SET_AEAD_ASSOCLEN, ALG_SET_IV, ALG_SET_OP, SOL_ALG


class Control(NamedTuple):
    """Control data of a send. The kernel takes a missing operation for decryption, a missing AAD length for 0.

    Attributes:
        operation: ALG_OP_ENCRYPT or ALG_OP_DECRYPT; None sends no ALG_SET_OP.
        iv: None sends no ALG_SET_IV.
        assoclen: None sends no ALG_SET_AEAD_ASSOCLEN.
    """

    operation: int | None = None
    iv: bytes | None = None
    assoclen: int | None = None

    def packed(self) -> bytes:
        """Return the control messages as sendmsg takes them."""
        return b"".join(cmsg(SOL_ALG, type_, value) for type_, value in self.messages())

    def messages(self) -> list[tuple[int, bytes]]:
        """Return type and value of each control message."""
        return [
            *([] if self.operation is None else [(ALG_SET_OP, _u32(self.operation))]),
            *([] if self.iv is None else [(ALG_SET_IV, _u32(len(self.iv)) + self.iv)]),
            *([] if self.assoclen is None else [(ALG_SET_AEAD_ASSOCLEN, _u32(self.assoclen))]),
        ]


class Send(NamedTuple):
    """sendmsg, or splice of a pipe that holds the data; gives the bytes taken."""

    data: bytes
    control: Control | None = None
    more: bool = False
    spliced: bool = False


class Recv(NamedTuple):
    """recvmsg into one buffer; gives what was written."""

    size: int


class Poll(NamedTuple):
    """Gives the poll mask; each sequence is also followed by one."""


class Close(NamedTuple):
    """Close the op socket; the next step that needs one accepts another. Gives 0."""


class Rekey(NamedTuple):
    """ALG_SET_KEY on the tfm socket; gives 0."""

    key: bytes


class Clone(NamedTuple):
    """accept on the op socket of a hash, and go on with the clone alone. Gives 0."""


Step: TypeAlias = Send | Recv | Poll | Close | Rekey | Clone


class Failure(NamedTuple):
    """The step failed."""

    errno: int

    def __repr__(self) -> str:
        return errno.errorcode.get(self.errno, f"errno {self.errno}")


class Unknown(NamedTuple):
    """Bytes that depend on the implementation: only their number is known."""

    size: int


Value: TypeAlias = int | bytes | Failure | Unknown


class Prediction(NamedTuple):
    """What a step must give.

    Attributes:
        value: its result, when it does not wait: EAGAIN or a part where it would have to.
        waits: whether a call that may wait would.
    """

    value: Value
    waits: bool = False


class Endpoint(Protocol):
    """A tfm socket with its key, and at most one op socket. Every call raises OSError."""

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int: ...

    def splice(self, data: bytes, more: bool) -> int: ...

    def recv(self, size: int, wait: bool) -> bytes: ...

    def poll(self) -> int: ...

    def clone(self) -> None: ...

    def close(self) -> None: ...

    def set_key(self, key: bytes) -> None: ...


@dataclass(frozen=True)
class Traits:
    """In what kernels differ without one of them being wrong, or wrong in a way that has a test of its own.

    Attributes:
        splice_begins: data that is spliced into a fresh op socket begins a request, as a send does; else it only
            lies there, in the way of another splice.
        short_recv_is_refused: room for less than a block is EINVAL; else 0 bytes.
        short_open_keeps: decryption with room for less than the AAD is EINVAL and keeps the message; else it is
            tried with what there is room for, which is then gone.
        aead_iv_goes_on: an aead's request without an IV goes on where the one before it has ended, if its cipher does;
            else it has the IV that was sent last.
    """

    splice_begins: bool = True
    short_recv_is_refused: bool = True
    short_open_keeps: bool = True
    aead_iv_goes_on: bool = False


def _u32(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
