"""Op sockets that are no kernel's: written after crypto/af_alg.c, page by page, with bugs to choose from.

The model of tests/requests is written after what a program sees; this after what the kernel does. That the two agree,
and that the walk finds each of the bugs, is what test_sequences.py shows.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.requests.model import DEFAULT_ROOM, PAGE, Refused
from tests.requests.steps import Control

QUEUE_BUGS = (
    "a second message is taken before the first is read",
    "a request does not end with its last byte",
    "MSG_MORE is cut to its lowest bit",
    "a send that was refused sets the IV",
    "operation and AAD length outlive control data without them",
    "control data without an IV clears the IV",
    "an empty send does not end a message",
    "a recv of nothing takes the data",
    "a short recv drops what does not fit",
    "the last page is begun anew by each send",
    "the IV is the same for the next request",
    "poll finds data where there is none",
    "poll finds no data",
    "a closed socket leaves its IV to the next",
    "the key changes under an op socket",
    "splice does not end a message",
)
ROOM_BUGS = (
    "a send takes more than there is room for",
    "a send goes on with less than a page of room",
    "a send that took a part says whether there is more",
    "poll finds room where there is none",
)
AEAD_BUGS = (
    "a wrong tag leaves the message",
    "a wrong tag gives the plaintext",
    "the AAD does not come out",
    "a message shorter than its tag is taken away",
)
CHAIN_BUGS = ("the IV of an aead goes on",)
RNG_BUGS = (
    "as many random bytes as are asked for",
    "data for an rng is thrown away",
    "a seed under an op socket",
    "an rng can be cloned",
)
HASH_BUGS = (
    "a digest can be read twice",
    "a short recv leaves the rest of the digest",
    "a recv of nothing leaves the digest",
    "a clone is a fresh hash",
    "a clone has the digest of a finished message",
    "an empty send with more to come begins anew",
    "a send goes on with a finished message",
    "a recv does not end an open message",
    "poll says ready",
)


def fail(number: int) -> OSError:
    return OSError(number, "fake")


@dataclass
class FakeQueue:
    """An endpoint with a queue of pages.

    Args:
        crypt: (key, iv, data, encrypt) to output and next IV, of a skcipher; None for an aead.
        seal, unseal: of an aead with a tag of 16 bytes.
    """

    key: bytes
    ivsize: int
    chunk: int = 1
    crypt: Callable[[bytes, bytes, bytes, bool], tuple[bytes, bytes]] | None = None
    seal: Callable[[bytes, bytes, bytes, bytes], bytes] | None = None
    unseal: Callable[[bytes, bytes, bytes, bytes], bytes] | None = None
    sndbuf: int = DEFAULT_ROOM
    bug: str = ""
    op: bool = False
    pages: list[list[int | bytearray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.iv = bytes(self.ivsize)
        self._reset()

    def _reset(self) -> None:
        self.pages, self.used, self.merge = [], 0, 0
        self.init = self.more = self.enc = False
        self.assoclen = 0
        if self.bug != "a closed socket leaves its IV to the next":
            self.iv = bytes(self.ivsize)

    def set_key(self, key: bytes) -> None:
        if self.op and self.bug != "the key changes under an op socket":
            raise fail(errno.EBUSY)
        self.key = key

    def close(self) -> None:
        self.op = False
        self._reset()

    def clone(self) -> None:
        raise fail(errno.EOPNOTSUPP)

    def poll(self) -> int:
        self.op = True
        mask = 0x41 if not self.more or self.used else 0
        mask |= 0x41 if self.bug == "poll finds data where there is none" else 0
        mask &= ~0x41 if self.bug == "poll finds no data" else ~0
        full = self._left() < PAGE and self.bug != "poll finds room where there is none"
        return mask if full else mask | 0x304

    def splice(self, data: bytes, more: bool) -> int:
        return self.send(data, None, more or self.bug == "splice does not end a message", wait=False)

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int:
        self.op = True
        if self.bug == "a send that was refused sets the IV" and control and control.iv:
            self.iv = control.iv
        second = "a second message is taken before the first is read"
        if self.init and not self.more and self.used and self.bug != second:
            raise fail(errno.EINVAL)
        self.init = True
        if control is not None:
            self._take(control)
        copied, failed = self._copy(data)
        if failed and self.bug != "a send that took a part says whether there is more":
            if not copied:
                raise fail(errno.EAGAIN)
            return copied
        self.more = more and self.bug != "MSG_MORE is cut to its lowest bit"
        if not data and self.bug == "an empty send does not end a message":
            self.more = self.more or bool(self.used)
        return copied

    def _take(self, control: Control) -> None:
        keep = self.bug == "operation and AAD length outlive control data without them"
        if control.operation is not None or not keep:
            self.enc = control.operation == 1
        if control.assoclen is not None or not keep:
            self.assoclen = control.assoclen or 0
        if control.iv is not None:
            self.iv = control.iv
        elif self.bug == "control data without an IV clears the IV":
            self.iv = bytes(self.ivsize)

    def _left(self) -> int:
        return max(max(self.sndbuf // PAGE * PAGE, PAGE) - self.used, 0)

    def _copy(self, data: bytes) -> tuple[int, bool]:
        copied = 0
        needed = 1 if self.bug == "a send goes on with less than a page of room" else PAGE
        while copied < len(data):
            rest = data[copied:]
            if self.merge:
                page = self.pages[-1][0]
                assert isinstance(page, bytearray)
                piece = rest[: PAGE - len(page)]
                if self.bug == "the last page is begun anew by each send":
                    page[-len(piece) :] = piece
                else:
                    page += piece
                self.merge = len(page) % PAGE
            else:
                if self._left() < needed and self.bug != "a send takes more than there is room for":
                    return copied, True
                piece = rest[:PAGE]
                self.pages.append([bytearray(piece), 0])
                self.merge = len(piece) % PAGE
            self.used += len(piece)
            copied += len(piece)
        return copied, False

    def _pull(self, size: int) -> bytes:
        out = b""
        while self.pages:
            page, offset = self.pages[0]
            assert isinstance(page, bytearray)
            assert isinstance(offset, int)
            piece = bytes(page[offset : offset + size])
            out, size, self.used = out + piece, size - len(piece), self.used - len(piece)
            if offset + len(piece) < len(page):
                self.pages[0][1] = offset + len(piece)
                return out
            self.pages.pop(0)
        self.merge = 0
        if self.bug != "a request does not end with its last byte":
            self.init = self.more
        return out

    def recv(self, size: int, wait: bool) -> bytes:
        self.op = True
        if not size and self.bug == "a recv of nothing takes the data":
            self._pull(self.used)
        given = b""
        while len(given) < size:
            try:
                piece = self._skcipher(size - len(given)) if self.crypt else self._aead(size - len(given))
            except OSError as error:
                if not given or error.errno == errno.EBADMSG:
                    raise
                return given
            given += piece
            if not piece:
                break
        return given

    def _skcipher(self, room: int) -> bytes:
        assert self.crypt
        if not self.init or (self.more and self.used < self.chunk):
            raise fail(errno.EAGAIN)
        size = min(self.used, room)
        if self.more or size < self.used:
            size = size // self.chunk * self.chunk
            if not size:
                raise fail(errno.EINVAL)
        short = size < self.used
        data = self._pull(size)
        if short and self.bug == "a short recv drops what does not fit":
            self._pull(self.used)
        try:
            out, iv = self.crypt(self.key, self.iv, data, self.enc)
        except ValueError:
            raise fail(errno.EINVAL) from None
        if self.bug != "the IV is the same for the next request":
            self.iv = iv
        return out

    def _aead(self, room: int) -> bytes:
        assert self.seal
        assert self.unseal
        if not self.init or self.more:
            raise fail(errno.EAGAIN)
        used, tag = self.used, 0 if self.enc else 16
        if used < self.assoclen + tag:
            if self.bug == "a message shorter than its tag is taken away":
                self._pull(used)
            raise fail(errno.EINVAL)
        outlen = used + 16 if self.enc else used - 16
        used -= self.assoclen
        if room < outlen:
            less = outlen - room
            if used < less + tag:
                raise fail(errno.EINVAL)
            used -= less
        if self.bug == "a wrong tag leaves the message":
            kept = [[bytearray(page), offset] for page, offset in self.pages], self.used, self.init
        data = self._pull(self.assoclen + used)
        aad, text = data[: self.assoclen], data[self.assoclen :]
        shown = b"" if self.bug == "the AAD does not come out" else aad
        try:
            out = (self.seal if self.enc else self.unseal)(self.key, self.iv, aad, text)
            if self.bug == "the IV of an aead goes on":
                self.iv = (out if self.enc else text)[-16 - self.ivsize : -16]
            return shown + out
        except ValueError as error:
            if self.enc or isinstance(error, Refused):
                raise fail(errno.EINVAL) from None
            if self.bug == "a wrong tag leaves the message":
                self.pages, self.used, self.init = kept
            if self.bug == "a wrong tag gives the plaintext":
                return aad + text[:-16]
            raise fail(errno.EBADMSG) from None


@dataclass
class FakeHash:
    """An endpoint that digests what it is sent."""

    key: bytes
    keyed: bool
    digest: Callable[[bytes, bytes], bytes]
    bug: str = ""
    op: bool = False

    def __post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.state, self.more, self.result = b"", False, None

    state: bytes = b""
    more: bool = False
    result: bytes | None = None

    def set_key(self, key: bytes) -> None:
        if self.op:
            raise fail(errno.EBUSY)
        if not self.keyed:
            raise fail(errno.ENOSYS)
        self.key = key

    def close(self) -> None:
        self.op = False
        self._reset()

    def poll(self) -> int:
        self.op = True
        return 5 if self.bug == "poll says ready" else 0

    def splice(self, data: bytes, more: bool) -> int:
        return self.send(data, None, more, wait=False)

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int:
        self.op = True
        if not self.more and self.bug != "a send goes on with a finished message":
            self.state = b""
        if more and not data and self.bug == "an empty send with more to come begins anew":
            self.state = b""
        self.result = None
        self.state += data
        self.more = more
        if not more:
            self.result = self.digest(self.key, self.state)
        return len(data)

    def recv(self, size: int, wait: bool) -> bytes:
        self.op = True
        if not size and self.bug == "a recv of nothing leaves the digest":
            return b""
        if self.result is None:
            self.result = self.digest(self.key, self.state if self.more else b"")
        given, rest = self.result[:size], self.result[size:]
        if self.bug != "a digest can be read twice":
            self.result = None
        if rest and self.bug == "a short recv leaves the rest of the digest":
            self.result = rest
        if self.bug != "a recv does not end an open message":
            self.more = False
        return given

    def clone(self) -> None:
        self.op = True
        if self.bug == "a clone is a fresh hash":
            self.more = False
        if self.bug != "a clone has the digest of a finished message":
            self.result = None


@dataclass
class FakeRng:
    """An endpoint that gives random bytes."""

    key: bytes
    bug: str = ""
    op: bool = False

    def set_key(self, key: bytes) -> None:
        if self.op and self.bug != "a seed under an op socket":
            raise fail(errno.EBUSY)
        self.key = key

    def close(self) -> None:
        self.op = False

    def poll(self) -> int:
        self.op = True
        return 0

    def splice(self, data: bytes, more: bool) -> int:
        return self.send(data, None, more, wait=False)

    def send(self, data: bytes, control: Control | None, more: bool, wait: bool) -> int:
        self.op = True
        if self.bug != "data for an rng is thrown away":
            raise fail(errno.EOPNOTSUPP)
        return len(data)

    def recv(self, size: int, wait: bool) -> bytes:
        self.op = True
        return os.urandom(size if self.bug == "as many random bytes as are asked for" else min(size, 128))

    def clone(self) -> None:
        self.op = True
        if self.bug != "an rng can be cloned":
            raise fail(errno.EOPNOTSUPP)
