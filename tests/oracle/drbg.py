"""HMAC_DRBG of NIST SP 800-90A, section 10.1.2: a generator whose output follows from its seed."""

from __future__ import annotations

import hmac


class HmacDrbg:
    """The generator after Instantiate.

    Args:
        hash_name: ``sha256``, ``sha512``…
        seed: entropy, nonce and personalisation string, one after the other.
    """

    def __init__(self, hash_name: str, seed: bytes) -> None:
        self.hash_name = hash_name
        size = len(hmac.digest(b"", b"", hash_name))
        self.key, self.value = bytes(size), b"\1" * size
        self._update(seed)

    def generate(self, size: int, additional: bytes = b"") -> bytes:
        """Return ``size`` bytes."""
        if additional:
            self._update(additional)
        output = b""
        while len(output) < size:
            self.value = self._hmac(self.value)
            output += self.value
        self._update(additional)
        return output[:size]

    def _update(self, data: bytes) -> None:
        for mark in (b"\0", b"\1") if data else (b"\0",):
            self.key = self._hmac(self.value + mark + data)
            self.value = self._hmac(self.value)

    def _hmac(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, self.hash_name)
