"""The four types of AF_ALG, and a published answer by which each is seen to work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.afalg import Aead, Hash, Rng, Skcipher


@dataclass(frozen=True)
class Kind:
    """One type of algorithm, and how to see whether it works.

    Attributes:
        name: of the type, as bind(2) takes it.
        module: implements it; alias ``algif-<name>``.
        option: of the kernel's configuration, without CONFIG_.
        algorithms: to try, in order: a name, and a function that says whether the answer is right.
        implementations: values of ``type`` in /proc/crypto that serve it.
    """

    name: str
    module: str
    option: str
    algorithms: Sequence[tuple[str, Callable[[], bool]]]
    implementations: frozenset[str]


def _sha256() -> bool:
    # FIPS 180-4, example of SHA-256: "abc".
    with Hash("sha256") as transform:
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        return transform.digest(b"abc").hex() == expected


def _sha1() -> bool:
    # FIPS 180-4, example of SHA-1: "abc".
    with Hash("sha1") as transform:
        return transform.digest(b"abc").hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"


_AES_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
_AES_BLOCK = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")


def _cbc() -> bool:
    # NIST SP 800-38A, F.2.1, first block.
    with Skcipher("cbc(aes)", _AES_KEY) as transform:
        answer = transform.encrypt(_AES_BLOCK, bytes(range(16)))
        return answer.hex() == "7649abac8119b246cee98e9b12e9197d"


def _ecb() -> bool:
    # NIST SP 800-38A, F.1.1, first block.
    with Skcipher("ecb(aes)", _AES_KEY) as transform:
        return transform.encrypt(_AES_BLOCK).hex() == "3ad77bb40d7a3660a89ecaf32466ef97"


def _gcm() -> bool:
    # McGrew and Viega, The Galois/Counter Mode of Operation, test case 2.
    with Aead("gcm(aes)", bytes(16), 16) as transform:
        answer = transform.encrypt(bytes(16), b"", bytes(12))
        return answer.hex() == "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"


def _ccm() -> bool:
    # RFC 3610, section 8, packet vector 1; the IV is L - 1, then the nonce (RFC 3610, section 2.3).
    key = bytes(range(0xC0, 0xD0))
    with Aead("ccm(aes)", key, 8) as transform:
        nonce = bytes.fromhex("00000003020100a0a1a2a3a4a5")
        answer = transform.encrypt(bytes(range(8, 31)), bytes(range(8)), b"\1" + nonce + bytes(2))
        return answer.hex() == "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0"


def _random(name: str) -> Callable[[], bool]:
    def differs() -> bool:
        # A DRBG gives nothing until it has been seeded, which for AF_ALG is setting its key.
        with Rng(name, bytes(range(48))) as transform:
            first, second = transform.read(16), transform.read(16)
            return len(first) == len(second) == 16 and first != second

    return differs


KINDS: tuple[Kind, ...] = (
    Kind(
        "hash",
        "algif_hash",
        "CRYPTO_USER_API_HASH",
        [("sha256", _sha256), ("sha1", _sha1)],
        frozenset({"shash", "ahash"}),
    ),
    Kind(
        "skcipher",
        "algif_skcipher",
        "CRYPTO_USER_API_SKCIPHER",
        [("cbc(aes)", _cbc), ("ecb(aes)", _ecb)],
        frozenset({"skcipher", "lskcipher"}),
    ),
    Kind(
        "aead",
        "algif_aead",
        "CRYPTO_USER_API_AEAD",
        [("gcm(aes)", _gcm), ("ccm(aes)", _ccm)],
        frozenset({"aead"}),
    ),
    Kind(
        "rng",
        "algif_rng",
        "CRYPTO_USER_API_RNG",
        [(name, _random(name)) for name in ("stdrng", "jitterentropy_rng", "ansi_cprng")],
        frozenset({"rng"}),
    ),
)
"""In the order of a table."""
