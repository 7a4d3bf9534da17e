"""The easy path: one class a type of algorithm, three lines a result."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from tests.afalg.abi import set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.afalg.sockets import Socket

_Self = TypeVar("_Self", bound="Transform")

_LONGEST_DIGEST = 512
"""More than any hash gives; a hash cuts its result to the buffer and never blocks."""


class Transform:
    """A bound tfm socket, and the op socket in use.

    Attributes:
        tfm: the tfm socket, key and tag size set.
    """

    type_ = ""

    def __init__(self, name: str, key: bytes | None = None, authsize: int | None = None) -> None:
        self.name = name
        self._op: Socket | None = None
        self.tfm = Socket.bound(self.type_, name)
        try:
            if key is not None:
                self.tfm.set_key(key)
            if authsize is not None:
                self.tfm.set_authsize(authsize)
        except BaseException:
            self.close()
            raise

    @property
    def op(self) -> Socket:
        """The op socket, accepted when first asked for."""
        if self._op is None:
            self._op = self.tfm.accept()
        return self._op

    def close(self) -> None:
        if self._op is not None:
            self._op.close()
            self._op = None
        self.tfm.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Hash(Transform):
    """A hash, keyed or not.

    >>> with Hash("sha256") as h:
    ...     h.digest(b"abc")
    """

    type_ = "hash"

    def __init__(self, name: str, key: bytes | None = None) -> None:
        super().__init__(name, key)

    def digest(self, data: bytes) -> bytes:
        """Return the digest of ``data``, by one send and one recv."""
        self.op.send(data)
        return self.op.recv(_LONGEST_DIGEST)


class Skcipher(Transform):
    """A symmetric cipher with its mode.

    >>> with Skcipher("cbc(aes)", key) as cipher:
    ...     cipher.encrypt(b"sixteen bytes ..", iv)
    """

    type_ = "skcipher"

    def __init__(self, name: str, key: bytes | None = None) -> None:
        super().__init__(name, key)

    def encrypt(self, data: bytes, iv: bytes = b"") -> bytes:
        """Return ``data`` encrypted, as long as it was. An empty ``iv`` sends none."""
        return self.crypt(ALG_OP_ENCRYPT, data, iv)

    def decrypt(self, data: bytes, iv: bytes = b"") -> bytes:
        """Return ``data`` decrypted, as long as it was. An empty ``iv`` sends none."""
        return self.crypt(ALG_OP_DECRYPT, data, iv)

    def crypt(self, operation: int, data: bytes, iv: bytes = b"") -> bytes:
        """One request: one send, one recv of the same length (at most 52 pages, the socket's buffer)."""
        self.op.sendmsg([data], set_op(operation) + (set_iv(iv) if iv else b""))
        # A recv of 0 bytes would not reach the cipher; of an empty request, any size returns 0.
        return self.op.recv(max(len(data), 1))


class Aead(Transform):
    """Authenticated encryption with associated data.

    >>> with Aead("gcm(aes)", key, authsize=16) as aead:
    ...     aead.encrypt(b"secret", aad=b"header", iv=nonce)
    """

    type_ = "aead"

    def __init__(self, name: str, key: bytes | None = None, authsize: int = 16) -> None:
        super().__init__(name, key, authsize)
        self.authsize = authsize

    def encrypt(self, plaintext: bytes, aad: bytes = b"", iv: bytes = b"") -> bytes:
        """Return ciphertext and tag (``len(plaintext) + authsize`` bytes), without the AAD before them."""
        return self.crypt(ALG_OP_ENCRYPT, plaintext, aad, iv, len(plaintext) + self.authsize)[len(aad) :]

    def decrypt(self, ciphertext_and_tag: bytes, aad: bytes = b"", iv: bytes = b"") -> bytes:
        """Return the plaintext, without the AAD before it.

        Raises:
            OSError: EBADMSG when the tag is wrong.
        """
        length = len(ciphertext_and_tag) - self.authsize
        return self.crypt(ALG_OP_DECRYPT, ciphertext_and_tag, aad, iv, length)[len(aad) :]

    def crypt(self, operation: int, data: bytes, aad: bytes, iv: bytes, length: int) -> bytes:
        """One request; returns AAD and result as the kernel wrote them.

        Args:
            length: bytes of result to expect after the AAD.
        """
        control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
        self.op.sendmsg([aad, data], control)
        return self.op.recv(max(len(aad) + length, 1))


class Rng(Transform):
    """A random number generator.

    >>> with Rng("stdrng", seed=b"") as rng:
    ...     rng.read(32)
    """

    type_ = "rng"

    def __init__(self, name: str, seed: bytes | None = None) -> None:
        super().__init__(name, seed)

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, at most 128 of them (one recv)."""
        return self.op.recv(size)


__all__ = ["Aead", "Hash", "Rng", "Skcipher", "Transform"]
