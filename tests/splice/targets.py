"""What data is spliced into, and what must come of it: by the oracle, or the error that such a message ends with."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tests.afalg import Aead, Hash, Rng, Skcipher, Socket, Transform, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT
from tests.algorithms.data import message
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers

KEY = bytes(range(16))
BLOCK = 16
AADLEN = 4
TAG = 16
MARGIN = 64

Outcome = bytes | int
"""The bytes of a result, or the errno in its place."""


def cut(size: int) -> bytes:
    """Return the first ``size`` bytes of a message without end."""
    return (message() * (size // len(message()) + 1))[:size]


@dataclass(frozen=True)
class Target:
    """One algorithm, and one direction where there are two.

    Attributes:
        kind: the class of its transforms.
        algorithm: its name.
        keyed: whether KEY is set.
        iv: of requests that have control data.
        opens: whether requests with control data decrypt; those without always do.
    """

    kind: type[Transform]
    algorithm: str
    keyed: bool = True
    iv: bytes = b""
    opens: bool = False

    def open(self) -> Transform:
        """Return the transform, or skip the test where the kernel lacks it."""
        return need(self.kind, self.algorithm, *([KEY] if self.keyed else []))

    @property
    def queued(self) -> bool:
        """Whether data waits in a queue until it is read, and a request has to begin."""
        return self.kind in (Skcipher, Aead)

    @property
    def control(self) -> bytes:
        """Control data of a request."""
        if not self.queued:
            return b""
        operation = ALG_OP_DECRYPT if self.opens else ALG_OP_ENCRYPT
        return set_op(operation) + set_iv(self.iv) + (set_assoclen(AADLEN) if self.kind is Aead else b"")

    def stream(self, size: int, bare: bool = False) -> bytes:
        """Return ``size`` bytes to send; what is to be opened was sealed, AAD first and tag last.

        Args:
            bare: of a request without control data: to be opened, with an IV of zeros and without AAD.
        """
        aadlen = 0 if bare else AADLEN
        if not self.opens or size < aadlen + TAG:
            return cut(size)
        aad, plaintext = cut(aadlen), cut(size - TAG)[aadlen:]
        return aad + aeads.seal(self.algorithm, KEY, bytes(12) if bare else self.iv, aad, plaintext, TAG)

    def result(self, stream: bytes, bare: bool = False) -> Outcome:
        """Return what a whole message of these bytes must give."""
        if self.kind is Hash:
            return hashes.digest(self.algorithm, stream, KEY if self.keyed else None)
        if self.kind is Skcipher:
            iv = bytes(len(self.iv)) if bare else self.iv
            if self.algorithm.startswith("cbc") and len(stream) % BLOCK:
                return errno.EINVAL
            return skciphers.crypt(self.algorithm, KEY, iv, stream, decrypt=bare)
        aadlen = 0 if bare else AADLEN
        if len(stream) < aadlen + (TAG if self.opens else 0):
            return errno.EINVAL
        aad = stream[:aadlen]
        if not self.opens:
            return aad + aeads.seal(self.algorithm, KEY, self.iv, aad, stream[aadlen:], TAG)
        if stream != self.stream(len(stream), bare):
            return errno.EBADMSG
        return aad + cut(len(stream) - TAG)[aadlen:]

    def size_of(self, stream: bytes) -> int:
        """Return how many bytes to ask for: more than there are would wait for ever."""
        grown = {Hash: 512, Skcipher: len(stream), Aead: len(stream) + (-TAG if self.opens else TAG)}[self.kind]
        return max(grown, 1)

    def works(self, op: Socket) -> None:
        """Make one ordinary request, and fail unless its result is right."""
        if self.kind is Rng:
            first, second = op.recv(128), op.recv(128)
            assert (len(first), len(second)) == (128, 128)
            assert first != second, "random bytes are the same twice"
            return
        stream = self.stream(48)
        op.sendmsg([stream], self.control)
        check(op, self.size_of(stream), self.result(stream))


def check(op: Socket, size: int, expected: Outcome, flags: int = 0) -> None:
    """Receive, and fail unless it is that, and nothing beside the buffer was written to."""
    if isinstance(expected, int):
        with raises_errno(expected):
            receive(op, size, flags)
        return
    got = receive(op, size, flags)
    assert got == expected, f"{len(got)} bytes, wrong from byte {_differ(got, expected)}; expected {len(expected)}"


def check_waits(op: Socket, size: int = BLOCK) -> None:
    """Fail unless there is nothing to read."""
    with raises_errno(errno.EAGAIN, why="of a message that is not at its end"):
        receive(op, size, MSG_DONTWAIT)


def receive(op: Socket, size: int, flags: int = 0) -> bytes:
    """Receive into the middle of a buffer, and fail when the kernel wrote outside or behind the result."""
    canary = b"\xa5\x5a" * (MARGIN // 2 + size // 2 + 1)
    buffer = bytearray(canary[:MARGIN] + canary[:size] + canary[:MARGIN])
    end = MARGIN + size
    try:
        got = op.recvmsg([memoryview(buffer)[MARGIN:end]], flags=flags).size
    finally:
        assert buffer[:MARGIN] == canary[:MARGIN], "wrote before the buffer"
        assert buffer[end:] == canary[:MARGIN], "wrote behind the buffer"
    assert buffer[MARGIN + got : end] == canary[got:size], "wrote behind the result"
    return bytes(buffer[MARGIN : MARGIN + got])


def _differ(a: bytes, b: bytes) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


TARGETS = {
    "sha256": Target(Hash, "sha256", keyed=False),
    "hmac(sha256)": Target(Hash, "hmac(sha256)"),
    "cbc(aes)": Target(Skcipher, "cbc(aes)", iv=bytes(range(50, 66))),
    "ctr(aes)": Target(Skcipher, "ctr(aes)", iv=bytes(range(50, 66))),
    "gcm(aes)-seal": Target(Aead, "gcm(aes)", iv=bytes(range(12))),
    "gcm(aes)-open": Target(Aead, "gcm(aes)", iv=bytes(range(12)), opens=True),
    "rng": Target(Rng, "jitterentropy_rng", keyed=False),
}
