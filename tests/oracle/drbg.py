"""The deterministic generators of NIST SP 800-90A, whose output follows from entropy and additional input.

``Drbg`` is what a kernel does with them: it draws no entropy of its own once it was given some (ALG_SET_DRBG_ENTROPY),
and takes the same again for every reseeding.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from typing import Protocol

from tests.oracle import blocks
from tests.oracle.bits import blocks_of, xor


class Mechanism(Protocol):
    """One of the three; ``reseed`` takes entropy and additional input one after the other."""

    def reseed(self, material: bytes) -> None: ...

    def generate(self, size: int, additional: bytes = b"") -> bytes: ...


class Drbg:
    """A generator by the kernel's name of it: ``drbg_pr_sha256``, ``drbg_nopr_ctr_aes128``.

    Raises:
        LookupError: there is no such generator.
    """

    def __init__(self, name: str, entropy: bytes, personalization: bytes = b"") -> None:
        found = re.fullmatch(r"drbg_(no)?pr_(ctr_aes|hmac_sha|sha)(\d+)", name)
        if not found:
            raise LookupError(f"no oracle for the rng {name}")
        self.entropy = entropy
        self._resistant = found[1] is None
        seed = entropy + personalization
        self._mechanism: Mechanism
        match found[2]:
            case "hmac_sha":
                self._mechanism = HmacDrbg(f"sha{found[3]}", seed)
            case "sha":
                self._mechanism = HashDrbg(f"sha{found[3]}", seed)
            case _:
                self._mechanism = CtrDrbg(int(found[3]) // 8, seed)

    def generate(self, size: int, additional: bytes = b"") -> bytes:
        """Return ``size`` bytes, at most 65536. One with prediction resistance reseeds first (section 9.3.1)."""
        if self._resistant:
            self._mechanism.reseed(self.entropy + additional)
            additional = b""
        return self._mechanism.generate(size, additional)


class HmacDrbg:
    """HMAC_DRBG, section 10.1.2."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._name = name
        size = hashlib.new(name).digest_size
        self._key, self._value = bytes(size), b"\1" * size
        self.reseed(seed)

    def reseed(self, material: bytes) -> None:
        for byte in (b"\0", b"\1"):
            self._key = self._hmac(self._value + byte + material)
            self._value = self._hmac(self._value)
            if not material:
                break

    def generate(self, size: int, additional: bytes = b"") -> bytes:
        if additional:
            self.reseed(additional)
        out = b""
        while len(out) < size:
            self._value = self._hmac(self._value)
            out += self._value
        self.reseed(additional)
        return out[:size]

    def _hmac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, self._name)


class HashDrbg:
    """Hash_DRBG, section 10.1.1. Its state has 440 bits, with SHA-384 and SHA-512 888."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._hash = functools.partial(hashlib.new, name)
        self._size = 111 if name in ("sha384", "sha512") else 55
        self._value = self._constant = b""
        self._set(seed)

    def reseed(self, material: bytes) -> None:
        self._set(b"\1" + self._value + material)

    def generate(self, size: int, additional: bytes = b"") -> bytes:
        if additional:
            self._add(self._hash(b"\2" + self._value + additional).digest())
        out, counter = b"", int.from_bytes(self._value, "big")
        while len(out) < size:
            out += self._hash((counter % self._modulus).to_bytes(self._size, "big")).digest()
            counter += 1
        self._add(self._hash(b"\3" + self._value).digest(), self._constant, self._count.to_bytes(8, "big"))
        self._count += 1
        return out[:size]

    @property
    def _modulus(self) -> int:
        return 1 << (8 * self._size)

    def _set(self, material: bytes) -> None:
        self._value = self._derived(material)
        self._constant = self._derived(b"\0" + self._value)
        self._count = 1

    def _add(self, *terms: bytes) -> None:
        total = sum(int.from_bytes(term, "big") for term in (self._value, *terms))
        self._value = (total % self._modulus).to_bytes(self._size, "big")

    def _derived(self, data: bytes) -> bytes:
        """Hash_df, section 10.3.1."""
        head = (8 * self._size).to_bytes(4, "big")
        out, counter = b"", 1
        while len(out) < self._size:
            out += self._hash(bytes([counter]) + head + data).digest()
            counter += 1
        return out[: self._size]


class CtrDrbg:
    """CTR_DRBG with a derivation function over AES, section 10.2.1."""

    def __init__(self, keylen: int, seed: bytes) -> None:
        self._keylen = keylen
        self._key, self._value = bytes(keylen), bytes(16)
        self.reseed(seed)

    def reseed(self, material: bytes) -> None:
        self._update(self._derived(material))

    def generate(self, size: int, additional: bytes = b"") -> bytes:
        seed = bytes(self._keylen + 16)
        if additional:
            seed = self._derived(additional)
            self._update(seed)
        out = self._stream(size)
        self._update(seed)
        return out

    def _stream(self, size: int) -> bytes:
        block, counter = blocks.cipher("aes", self._key), int.from_bytes(self._value, "big")
        count = -(-size // 16)
        values = [((counter + i) % (1 << 128)).to_bytes(16, "big") for i in range(count + 1)]
        self._value = values[-1]
        return block.encrypt(b"".join(values[1:]))[:size]

    def _update(self, seed: bytes) -> None:
        mixed = xor(self._stream(self._keylen + 16), seed)
        self._key, self._value = mixed[: self._keylen], mixed[self._keylen :]

    def _derived(self, data: bytes) -> bytes:
        """Block_Cipher_df, section 10.3.2."""
        size = self._keylen + 16
        padded = len(data).to_bytes(4, "big") + size.to_bytes(4, "big") + data + b"\x80"
        padded += bytes(-len(padded) % 16)
        first = blocks.cipher("aes", bytes(range(self._keylen)))
        parts = [_cbc_mac(first, i.to_bytes(4, "big") + bytes(12) + padded) for i in range(-(-size // 16))]
        joined = b"".join(parts)[:size]
        block, value, out = blocks.cipher("aes", joined[: self._keylen]), joined[self._keylen :], b""
        while len(out) < size:
            value = block.encrypt(value)
            out += value
        return out[:size]


def _cbc_mac(block: blocks.Block, data: bytes) -> bytes:
    """BCC, section 10.3.3."""
    chain = bytes(16)
    for piece in blocks_of(data, 16):
        chain = block.encrypt(xor(chain, piece))
    return chain
