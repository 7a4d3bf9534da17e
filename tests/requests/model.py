"""What an op socket does with a sequence of steps: the state it keeps, and what each step gives.

Source: Documentation/crypto/userspace-if.rst, and crypto/af_alg.c, algif_hash.c, algif_skcipher.c, algif_aead.c.
The results of algorithms come from tests/oracle.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.afalg.constants import ALG_OP_ENCRYPT, RNG_MAX_READ
from tests.requests.steps import (
    Clone,
    Close,
    Control,
    Failure,
    Prediction,
    Recv,
    Rekey,
    Send,
    Step,
    Traits,
    Unknown,
    Value,
)

PAGE = 4096
READABLE = 0x041
"""EPOLLIN and EPOLLRDNORM."""
WRITABLE = 0x304
"""EPOLLOUT, EPOLLWRNORM and EPOLLWRBAND."""

_WMEM_DEFAULT = Path("/proc/sys/net/core/wmem_default")
"""SO_SNDBUF of a fresh socket (socket(7)): a multiple of what an sk_buff takes, which differs between architectures."""
DEFAULT_ROOM = (int(_WMEM_DEFAULT.read_text()) if _WMEM_DEFAULT.exists() else 212992) // PAGE * PAGE
"""Bytes a queue takes: SO_SNDBUF of a fresh op socket, whole pages."""

AGAIN = Failure(errno.EAGAIN)
INVALID = Failure(errno.EINVAL)


class Refused(ValueError):
    """The tag is right, and the length none that the cipher takes."""


class Cipher(Protocol):
    """What a queue of one type does with the bytes in it, at a recv."""

    def take(self, queue: Queue, room: int) -> Value | None:
        """Take input off the queue and return the output, or a failure; None when there is too little to begin."""
        ...

    def ready(self, queue: Queue) -> int:
        """Return the bytes a recv can give now, 0 where it would wait."""
        ...


class OpSocket(ABC):
    """An op socket, and the tfm socket it comes from; what each step does is the type's own.

    Attributes:
        key: of the tfm socket.
        open: whether there is an op socket.
    """

    key: bytes
    open: bool

    def __post_init__(self) -> None:
        self._fresh()

    def step(self, step: Step) -> Prediction:
        """Predict the step, and take it."""
        if isinstance(step, Close):
            self.open = False
            self._fresh()
            return Prediction(0)
        if isinstance(step, Rekey):
            return Prediction(self._rekey(step.key))
        self.open = True
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Recv):
            return self._recv(step.size)
        if isinstance(step, Clone):
            return Prediction(self._clone())
        return Prediction(self.poll())

    def _rekey(self, key: bytes) -> int | Failure:
        if self.open:
            return Failure(errno.EBUSY)
        self.key = key
        return 0

    @abstractmethod
    def poll(self) -> int:
        """Return the poll mask of the op socket."""

    @abstractmethod
    def ready(self) -> int:
        """Return the bytes a recv can give now, 0 where it would wait."""

    @abstractmethod
    def _fresh(self) -> None:
        """Be as an op socket is that was just accepted."""

    @abstractmethod
    def _send(self, step: Send) -> Prediction: ...

    @abstractmethod
    def _recv(self, size: int) -> Prediction: ...

    @abstractmethod
    def _clone(self) -> int | Failure: ...


@dataclass
class Queue(OpSocket):
    """The op socket of a skcipher or aead: what was sent waits in a queue, and recv does the work.

    Attributes:
        init: a request has begun.
        more: the last send said MSG_MORE.
        queued: what was sent and not consumed.
        tail: bytes in the last page of the queue, where the next send goes on (merge); 0 when it begins a page.
        encrypt, iv, assoclen: of the control data; an iv of None is one that an algorithm left behind.
    """

    cipher: Cipher
    traits: Traits
    key: bytes
    ivsize: int
    room: int = DEFAULT_ROOM
    open: bool = False

    def _fresh(self) -> None:
        self.init = self.more = self.encrypt = False
        self.queued = b""
        self.tail = self.assoclen = 0
        self.iv: bytes | None = bytes(self.ivsize)

    def poll(self) -> int:
        readable = not self.more or bool(self.queued)
        return (READABLE if readable else 0) | (WRITABLE if self.room - len(self.queued) >= PAGE else 0)

    def ready(self) -> int:
        return self.cipher.ready(self)

    def _clone(self) -> Failure:
        return Failure(errno.EOPNOTSUPP)

    def _send(self, step: Send) -> Prediction:
        begun = self.init or (step.spliced and not self.traits.splice_begins)
        if begun and not self.more and self.queued:
            return Prediction(INVALID)
        if not step.spliced or self.traits.splice_begins:
            self.init = True
        if step.control is not None and step.control != Control():
            self.encrypt = step.control.operation == ALG_OP_ENCRYPT
            self.assoclen = step.control.assoclen or 0
            self.iv = self.iv if step.control.iv is None else step.control.iv
        taken = self._append(step.data)
        if taken < len(step.data):
            # A send that takes less than it was given has not said whether there is more.
            return Prediction(taken or AGAIN, waits=True)
        self.more = step.more
        return Prediction(taken)

    def _append(self, data: bytes) -> int:
        taken = 0
        while taken < len(data):
            left = len(data) - taken
            if self.tail:
                size = min(left, PAGE - self.tail)
            else:
                free = self.room - len(self.queued)
                if free < PAGE:
                    break
                size = min(left, free)
            self.queued += data[taken : taken + size]
            self.tail = (self.tail + size) % PAGE
            taken += size
        return taken

    def _recv(self, size: int) -> Prediction:
        given: bytes | Unknown = b""
        while _length(given) < size:
            value = self.cipher.take(self, size - _length(given))
            if value is None:
                return Prediction(given if _length(given) else AGAIN, waits=True)
            if isinstance(value, Failure):
                hidden = _length(given) and value.errno != errno.EBADMSG
                return Prediction(given if hidden else value)
            assert not isinstance(value, int)
            if not _length(value):
                break
            given = _joined(given, value)
        return Prediction(given)

    def pull(self, size: int) -> bytes:
        """Take so many bytes off the queue. With the last of them the request ends, unless there is more."""
        taken, self.queued = self.queued[:size], self.queued[size:]
        if not self.queued:
            self.tail = 0
            self.init = self.more
        return taken


@dataclass(frozen=True)
class Skcipher:
    """A queue for a skcipher.

    Attributes:
        chunk: bytes it works on at a time while there may be more (chunksize).
        crypt: (key, iv, data, encrypt) to the output and the IV it leaves; ValueError for a refused length.
    """

    chunk: int
    crypt: Callable[[bytes, bytes, bytes, bool], tuple[bytes, bytes]]

    def ready(self, queue: Queue) -> int:
        size = len(queue.queued)
        return size - size % self.chunk if queue.more else size if queue.init else 0

    def take(self, queue: Queue, room: int) -> Value | None:
        if not queue.init or (queue.more and len(queue.queued) < self.chunk):
            return None
        size = min(len(queue.queued), room)
        if queue.more or size < len(queue.queued):
            size -= size % self.chunk
            if not size:
                return INVALID if queue.traits.short_recv_is_refused else b""
        data = queue.pull(size)
        known, queue.iv = queue.iv, None
        try:
            out, iv = self.crypt(queue.key, known or bytes(queue.ivsize), data, queue.encrypt)
        except ValueError:
            # How far it came, and what that left as IV, is the implementation's business.
            return INVALID
        if known is None:
            return Unknown(size)
        queue.iv = iv
        return out


@dataclass(frozen=True)
class Aead:
    """A queue for an aead, with a tag of ``authsize`` bytes.

    Attributes:
        seal: (key, iv, aad, plaintext) to ciphertext and tag.
        unseal: (key, iv, aad, ciphertext and tag) to plaintext; Refused, or another ValueError for a wrong tag.
        chains: whether its cipher leaves the last block of ciphertext where the IV was, as CBC does.
    """

    authsize: int
    seal: Callable[[bytes, bytes, bytes, bytes], bytes]
    unseal: Callable[[bytes, bytes, bytes, bytes], bytes]
    chains: bool = False

    def ready(self, queue: Queue) -> int:
        if not queue.init or queue.more:
            return 0
        return max(len(queue.queued) + (self.authsize if queue.encrypt else -self.authsize), 0)

    def take(self, queue: Queue, room: int) -> Value | None:
        if not queue.init or queue.more:
            return None
        tag = 0 if queue.encrypt else self.authsize
        if len(queue.queued) < queue.assoclen + tag:
            return INVALID
        payload = len(queue.queued) - queue.assoclen
        whole = len(queue.queued) + (self.authsize if queue.encrypt else -self.authsize)
        if room < whole:
            # It does as much of the message as there is room for, as if that were all of it.
            less = whole - room
            if payload < less + (tag if queue.traits.short_open_keeps else 0):
                return INVALID
            payload -= less
        aad, text = queue.pull(queue.assoclen), queue.pull(payload) if payload else b""
        if not aad and not text:
            queue.pull(0)
        if payload < tag:
            return INVALID
        known = queue.iv
        goes_on = self.chains and queue.traits.aead_iv_goes_on
        try:
            work = self.seal if queue.encrypt else self.unseal
            out = work(queue.key, known or bytes(queue.ivsize), aad, text)
        except ValueError as error:
            if not queue.encrypt and not isinstance(error, Refused):
                return Failure(errno.EBADMSG)
            # How far the cipher came is the implementation's business.
            queue.iv = None if goes_on else known
            return INVALID
        ciphertext = (out if queue.encrypt else text)[: -self.authsize]
        if goes_on and ciphertext and (known is not None or not queue.encrypt):
            queue.iv = ciphertext[-queue.ivsize :]
        return Unknown(len(aad + out)) if known is None else aad + out


@dataclass
class Hash(OpSocket):
    """The op socket of a hash: what was sent is digested at once, and no step ever waits.

    Attributes:
        digest: (key, message) to digest.
        keyed: whether it takes a key.
    """

    digest: Callable[[bytes, bytes], bytes]
    key: bytes
    keyed: bool
    open: bool = False

    def _fresh(self) -> None:
        self.message: bytes | None = None
        self.result: bytes | None = None

    def poll(self) -> int:
        return 0  # There is no poll method, so nothing is ever ready.

    def ready(self) -> int:
        return len(self.digest(self.key, b""))

    def _rekey(self, key: bytes) -> int | Failure:
        return super()._rekey(key) if self.open or self.keyed else Failure(errno.ENOSYS)

    def _clone(self) -> int:
        self.result = None  # A digest that is ready is not cloned.
        return 0

    def _send(self, step: Send) -> Prediction:
        self.result = None
        message = (self.message or b"") + step.data
        if step.more:
            self.message = message
        else:
            self.message, self.result = None, self.digest(self.key, message)
        return Prediction(len(step.data))

    def _recv(self, size: int) -> Prediction:
        result = self.digest(self.key, self.message or b"") if self.result is None else self.result
        self._fresh()
        return Prediction(result[:size])


@dataclass
class Rng(OpSocket):
    """The op socket of an rng: it keeps nothing, takes nothing, and never waits."""

    key: bytes
    open: bool = False

    def _fresh(self) -> None:
        """There is no state."""

    def poll(self) -> int:
        return 0

    def ready(self) -> int:
        return RNG_MAX_READ

    def _clone(self) -> Failure:
        return Failure(errno.EOPNOTSUPP)

    def _send(self, step: Send) -> Prediction:
        return Prediction(Failure(errno.EOPNOTSUPP))

    def _recv(self, size: int) -> Prediction:
        return Prediction(Unknown(min(size, RNG_MAX_READ)))


def _length(value: bytes | Unknown) -> int:
    return value.size if isinstance(value, Unknown) else len(value)


def _joined(first: bytes | Unknown, second: bytes | Unknown) -> bytes | Unknown:
    if isinstance(first, bytes) and isinstance(second, bytes):
        return first + second
    return Unknown(_length(first) + _length(second))
