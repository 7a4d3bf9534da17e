"""What an op socket must give, step by step, in a few lines of Python each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Send:
    """One sendmsg of buffers of these sizes; ``more`` sets MSG_MORE."""

    sizes: tuple[int, ...]
    more: bool
    op: int = 0


@dataclass(frozen=True)
class Recv:
    """One recvmsg into one buffer."""

    size: int
    op: int = 0


@dataclass(frozen=True)
class Clone:
    """accept on an op socket of a hash."""

    op: int = 0


@dataclass
class HashModel:
    """One op socket of a hash (Documentation/crypto/userspace-if.rst, "Message Digest API").

    Attributes:
        digest: the oracle.
        pending: what was sent with MSG_MORE and goes on; None when nothing does.
        message: what the next recv gives the digest of, when nothing is pending.
    """

    digest: Callable[[bytes], bytes]
    pending: bytes | None = None
    message: bytes = b""

    def send(self, data: bytes, more: bool) -> None:
        """Go on with what is pending, else begin anew."""
        whole = (self.pending or b"") + data
        self.pending, self.message = (whole, b"") if more else (None, whole)

    def recv(self, size: int) -> bytes:
        """Give the digest, cut to ``size``; afterwards nothing is left, and the next is that of nothing."""
        whole = self.message if self.pending is None else self.pending
        self.pending, self.message = None, b""
        return self.digest(whole)[:size]

    def clone(self) -> HashModel:
        """Give what goes on; a digest that waits to be read is not copied."""
        return HashModel(self.digest, self.pending)


@dataclass(frozen=True)
class Message:
    """One message through a skcipher.

    Attributes:
        decrypt: the direction.
        iv: number of the IV it begins with; None goes on from where the last message ended.
        sends: the sizes of buffers of each sendmsg; all but the last have MSG_MORE.
        reads: how much is asked for after each send. What is left is read at the end.
    """

    decrypt: bool
    iv: int | None
    sends: tuple[tuple[int, ...], ...]
    reads: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return sum(map(sum, self.sends))


@dataclass
class SkcipherModel:
    """One op socket of a skcipher whose messages may be read in parts (crypto/algif_skcipher.c).

    A part is whole chunks of what has been sent, unless the message ends with it.

    Attributes:
        chunk: bytes.
        waiting: bytes sent and not read.
        more: whether the message goes on.
    """

    chunk: int
    waiting: int = 0
    more: bool = False

    def send(self, size: int, more: bool) -> None:
        self.waiting, self.more = self.waiting + size, more

    def recv(self, size: int) -> int:
        """Return how many bytes a recv of ``size`` that does not wait gives; 0 when it has nothing to give.

        The kernel fills the buffer part by part.
        """
        total = 0
        while part := self._part(size - total):
            total += part
            self.waiting -= part
        return total

    def _part(self, room: int) -> int:
        part = min(room, self.waiting)
        return part - part % self.chunk if self.more or part < self.waiting else part


@dataclass(frozen=True)
class Request:
    """One request of an aead.

    Attributes:
        aad, text: bytes of associated data and plaintext.
        cuts: where the input is cut into sends; in each, ``pieces`` says into how many buffers.
        targets: sizes of buffers before the last, for the result.
        spare: bytes of room beyond the result, which must stay as they were.
        flip: place of a bit turned in the input of a decryption, counted from the end of tag; None for none.
    """

    decrypt: bool
    iv: int
    aad: int
    text: int
    cuts: tuple[int, ...] = ()
    pieces: int = 1
    targets: tuple[int, ...] = ()
    spare: int = 0
    flip: int | None = None


@dataclass
class StreamModel:
    """Output that does not depend on how it is asked for.

    Attributes:
        produce: gives the first so many bytes.
        given: bytes read so far.
    """

    produce: Callable[[int], bytes]
    given: int = field(default=0)

    def read(self, size: int) -> bytes:
        self.given += size
        return self.produce(self.given)[self.given - size :]
