"""Published known answers as data: one JSON file a source, which says where it comes from.

A file with ``"use": "oracle"`` holds answers that the kernel's own self-tests check already: only the oracles are
compared with them, on the host.

A file holds ``source``, ``licence`` and any of the lists ``hash``, ``skcipher``, ``aead`` and ``rng``; bytes are hex.
An entry has the kernel's name of the algorithm and:

- hash: ``message``, ``digest``, and ``key`` when it is keyed;
- skcipher: ``key``, ``iv`` (the kernel's), ``plaintext``, ``ciphertext``;
- aead: ``key``, ``iv``, ``aad``, ``plaintext``, ``ciphertext``, ``tag``;
- rng, of a DRBG: ``entropy``, ``expected`` of the second of two calls, and what is not empty of ``personalization``,
  ``addtla`` and ``addtlb`` (additional input of each call), ``entpra`` and ``entprb`` (entropy for each, with
  prediction resistance); of ansi_cprng: the seed as ``entropy``, ``expected``, and ``skip``, the bytes before.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class HashVector:
    """A digest of ``message``; ``key`` is None for an unkeyed hash."""

    id: str
    name: str
    message: bytes
    digest: bytes
    key: bytes | None


@dataclass(frozen=True)
class SkcipherVector:
    """A ciphertext and its plaintext, equally long."""

    id: str
    name: str
    key: bytes
    iv: bytes
    plaintext: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class AeadVector:
    """A ciphertext with its tag."""

    id: str
    name: str
    key: bytes
    iv: bytes
    aad: bytes
    plaintext: bytes
    ciphertext: bytes
    tag: bytes


@dataclass(frozen=True)
class RngVector:
    """The second output of a DRBG, or part of the one of ansi_cprng.

    Attributes:
        entropy: with the nonce after it; the seed of ansi_cprng.
        additional: input of each of the two calls.
        reseeds: entropy for each of the two calls; empty without prediction resistance.
        skip: bytes before those expected, of ansi_cprng.
    """

    id: str
    name: str
    entropy: bytes
    personalization: bytes
    additional: tuple[bytes, bytes]
    reseeds: tuple[bytes, bytes]
    expected: bytes
    skip: int = 0


def hashes(*, all_files: bool = False) -> list[HashVector]:
    """Return the known answers of hashes; those for the oracles alone too with ``all_files``."""
    return [
        HashVector(
            identity,
            entry["name"],
            _bytes(entry["message"]),
            _bytes(entry["digest"]),
            _bytes(entry["key"]) if "key" in entry else None,
        )
        for identity, entry in _entries("hash", all_files)
    ]


def skciphers(*, all_files: bool = False) -> list[SkcipherVector]:
    """Return the known answers of skciphers, as hashes does."""
    fields = ("key", "iv", "plaintext", "ciphertext")
    return [
        SkcipherVector(identity, entry["name"], *(_bytes(entry[field]) for field in fields))
        for identity, entry in _entries("skcipher", all_files)
    ]


def aeads(*, all_files: bool = False) -> list[AeadVector]:
    """Return the known answers of aeads, as hashes does."""
    fields = ("key", "iv", "aad", "plaintext", "ciphertext", "tag")
    return [
        AeadVector(identity, entry["name"], *(_bytes(entry[field]) for field in fields))
        for identity, entry in _entries("aead", all_files)
    ]


def rngs() -> list[RngVector]:
    """Return the known answers of rngs."""
    found = []
    for identity, entry in _entries("rng", True):
        first, second, *pairs = (
            _bytes(entry.get(field, ""))
            for field in ("entropy", "personalization", "addtla", "addtlb", "entpra", "entprb")
        )
        additional, reseeds = (pairs[0], pairs[1]), (pairs[2], pairs[3])
        expected = _bytes(entry["expected"])
        skip = int(entry.get("skip", 0))
        found.append(RngVector(identity, entry["name"], first, second, additional, reseeds, expected, skip))
    return found


@functools.cache
def files() -> list[tuple[str, dict[str, Any]]]:
    """Return every file: its name without suffix, and what it holds."""
    return [(path.stem, json.loads(path.read_text())) for path in sorted(_HERE.glob("*.json"))]


def _entries(kind: str, all_files: bool) -> list[tuple[str, dict[str, str]]]:
    """Return id and fields of the entries of a kind: the id is ``name-source-number``."""
    return [
        (f"{entry['name']}-{stem}-{number}", entry)
        for stem, content in files()
        if all_files or content.get("use") != "oracle"
        for number, entry in enumerate(content.get(kind, []))
    ]


def _bytes(text: str) -> bytes:
    """Return the bytes of hex; ``AB*n`` repeats."""
    digits, _, times = text.partition("*")
    return bytes.fromhex(digits) * int(times or 1)
