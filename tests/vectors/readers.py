"""The formats of the packages' files: first cut into records, and only the chosen ones are looked into.

A guest without KVM takes seconds to read megabytes of text line by line, and milliseconds to split them.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.vectors import AeadVector, HashVector, SkcipherVector


@dataclass(frozen=True)
class Refusal:
    """What must not be accepted: decrypting it is EBADMSG."""

    vector: AeadVector | SkcipherVector


Answer: TypeAlias = HashVector | SkcipherVector | AeadVector | Refusal
Record: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Reader:
    """How to read one format.

    Attributes:
        records: ``records(path, seed)`` gives the file's records, each read when it is asked for: all when ``seed`` is
            None; of a big file else only some, which the seed chooses.
        answer: ``answer(name, id, record)`` gives the answer of an algorithm that a record holds; None when it is
            about something the kernel does not do.
    """

    records: Callable[[Path, str | None], Sequence[Record]]
    answer: Callable[[str, str, Record], Answer | None]


class Paragraphs(Sequence[Record]):
    """Records of lines ``NAME = VALUE``, an empty line between two; what one lacks, a heading paragraph above says.

    Names come in capitals. ``[NAME = VALUE, …]`` counts like a line, ``# …`` not at all.
    """

    def __init__(self, text: str, needed: tuple[str, ...], last: str) -> None:
        """Take a text apart.

        Args:
            needed: names a record must have, if need be from above.
            last: a name by which a record is known from a paragraph that only says what the following have in common.
        """
        self._paragraphs = re.split(r"\n\s*\n", text)
        self._needed = needed
        mark = re.compile(rf"^{last}\s*=", re.MULTILINE | re.IGNORECASE)
        self._places = [i for i, text in enumerate(self._paragraphs) if mark.search(text)]
        self._shared = sorted(set(range(len(self._paragraphs))).difference(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: Any) -> Record:
        place = self._places[number]
        record = _fields(self._paragraphs[place])
        for above in reversed(self._shared[: bisect.bisect(self._shared, place)]):
            if all(name in record for name in self._needed):
                break
            record = {**_fields(self._paragraphs[above]), **record}
        return record


def _fields(paragraph: str) -> Record:
    """Return names and values; a ``FAIL`` on a line of its own becomes a name without a value."""
    lines = "\n".join(line for line in paragraph.splitlines() if not line.startswith("#"))
    found = {name.upper(): value for name, value in re.findall(r"(\w+)\s*=[ \t]*([^\s,\]]*)", lines)}
    return {**found, "FAIL": ""} if re.search(r"^FAIL$", lines, re.MULTILINE) else found


def _paragraphs(needed: str, last: str) -> Callable[[Path, str | None], Sequence[Record]]:
    return lambda path, seed: Paragraphs(_text(path, seed), tuple(needed.split()), last)


_WINDOW = 1 << 16


def _text(path: Path, seed: str | None) -> str:
    """Return a file's text, or the whole paragraphs of five windows into a big one (where none needs one above)."""
    if seed is None or path.stat().st_size <= 5 * _WINDOW:
        return path.read_text().replace("\r", "")
    chance, parts = random.Random(seed), []
    with path.open("rb") as file:
        for _ in range(5):
            file.seek(chance.randrange(path.stat().st_size - _WINDOW))
            window = file.read(_WINDOW).decode().replace("\r", "")
            parts.append(window[window.find("\n\n") : window.rfind("\n\n") + 2])
    return "".join(parts)


def _hex(record: Record, name: str, length: str | None = None) -> bytes:
    """Return the bytes of a field; so many of them as the field ``length`` says, for "00" also stands for none."""
    data = bytes.fromhex(record[name])
    return data if length is None else data[: int(record[length])]


def _sha(name: str, identity: str, record: Record) -> HashVector:
    message = _hex(record, "MSG")[: int(record["LEN"]) // 8]
    key = _hex(record, "KEY") if "KEY" in record else None
    return HashVector(identity, name, message, _hex(record, "MD"), key)


def _cmac(name: str, identity: str, record: Record) -> HashVector:
    return HashVector(identity, name, _hex(record, "MESSAGE"), _hex(record, "OUTPUT"), _key(record))


def _key(record: Record) -> bytes:
    """Return the key: whole, in three parts, or one part for all three (triple DES)."""
    if "KEYS" in record:
        return 3 * _hex(record, "KEYS")
    return _hex(record, "KEY") if "KEY" in record else b"".join(_hex(record, f"KEY{i}") for i in (1, 2, 3))


def _blake2_records(path: Path, seed: str | None) -> Sequence[Record]:
    return [
        dict(re.findall(r"(\w+):\t([0-9a-f]*)", text)) for text in path.read_text().split("\n\n") if "\nhash:" in text
    ]


def _blake2(name: str, identity: str, record: Record) -> HashVector:
    return HashVector(identity, name, _hex(record, "in"), _hex(record, "hash"), _hex(record, "key"))


def _chain_records(path: Path, seed: str | None) -> Sequence[Record]:
    return [{"MD": digest} for digest in re.findall(r"^digest: (\w+)$", path.read_text(), re.MULTILINE)]


def _chain(name: str, identity: str, record: Record) -> HashVector | None:
    """The hundredth of a chain, each the digest of all before it, the last one first; one chain a digest size."""
    function, size = {"blake2b": hashlib.blake2b, "blake2s": hashlib.blake2s}[name[:7]], int(name[8:]) // 8
    if len(record["MD"]) != 2 * size:
        return None
    message = b""
    for _ in range(99):
        message = function(message, digest_size=size).digest() + message
    return HashVector(identity, name, message, _hex(record, "MD"), None)


def _cipher(name: str, identity: str, record: Record) -> SkcipherVector:
    iv = _hex(record, "IV") if "IV" in record else b""
    return SkcipherVector(identity, name, _key(record), iv, _hex(record, "PLAINTEXT"), _hex(record, "CIPHERTEXT"))


def _xts(name: str, identity: str, record: Record) -> SkcipherVector | None:
    if int(record["DATAUNITLEN"]) % 8:
        return None
    return SkcipherVector(identity, name, *(_hex(record, field) for field in ("KEY", "I", "PT", "CT")))


def _kw(name: str, identity: str, record: Record) -> SkcipherVector | Refusal:
    """The first 8 bytes of a wrapped key travel as IV."""
    wrapped = _hex(record, "C")
    plaintext = b"" if "FAIL" in record else _hex(record, "P")
    vector = SkcipherVector(identity, name, _hex(record, "K"), wrapped[:8], plaintext, wrapped[8:])
    return Refusal(vector) if "FAIL" in record else vector


def _camellia_records(path: Path, seed: str | None) -> Sequence[Record]:
    """Lines ``K No.001 : 00 …``, then P and C for many numbers under that key."""
    key, records = "", []
    for kind, digits in re.findall(r"^([KPC]) No\.\d+ : (.*)$", path.read_text(), re.MULTILINE):
        if kind == "K":
            key = digits
        elif kind == "P":
            records.append({"KEY": key, "PLAINTEXT": digits})
        else:
            records[-1]["CIPHERTEXT"] = digits
    return records


def _arc4(name: str, identity: str, record: Record) -> SkcipherVector | None:
    """Of the keystream at an offset: the kernel gives it from the beginning only."""
    if int(record["OFFSET"]):
        return None
    return _cipher(name, identity, record)


def _chacha20(name: str, identity: str, record: Record) -> SkcipherVector:
    counter = int(record["INITIAL_BLOCK_COUNTER"]).to_bytes(4, "little")
    texts = (_hex(record, "PLAINTEXT"), _hex(record, "CIPHERTEXT"))
    return SkcipherVector(identity, name, _hex(record, "KEY"), counter + _hex(record, "NONCE"), *texts)


def _gcm(name: str, identity: str, record: Record) -> AeadVector | Refusal | None:
    """NIST's names are short, those of RFC 8998 long; the kernel takes IVs of 12 bytes."""
    ciphertext = _hex(record, "CT" if "CT" in record else "CIPHERTEXT")
    if len(record["IV"]) != 24:
        return None
    plain = "PT" if "PT" in record else "PLAINTEXT"
    plaintext = b"" if "FAIL" in record else _hex(record, plain)
    start = (_hex(record, "KEY"), _hex(record, "IV"), _hex(record, "AAD"))
    vector = AeadVector(identity, name, *start, plaintext, ciphertext, _hex(record, "TAG"))
    return Refusal(vector) if "FAIL" in record else vector


def _ccm(name: str, identity: str, record: Record) -> AeadVector | Refusal:
    tag, fails = int(record["TLEN"]), record.get("RESULT", "Pass") == "Fail"
    both = _hex(record, "CT")
    start = (_hex(record, "KEY"), ccm_iv(_hex(record, "NONCE")), _hex(record, "ADATA", "ALEN"))
    plaintext = b"" if fails else _hex(record, "PAYLOAD", "PLEN")
    vector = AeadVector(identity, name, *start, plaintext, both[:-tag], both[-tag:])
    return Refusal(vector) if fails else vector


def ccm_iv(nonce: bytes) -> bytes:
    """Return the kernel's IV of CCM for a nonce of 7 to 13 bytes: its length field's length, it, and zeros."""
    return (bytes([14 - len(nonce)]) + nonce).ljust(16, b"\0")


def _wycheproof_records(path: Path, seed: str | None) -> Sequence[Record]:
    return [test for group in json.loads(path.read_text())["testGroups"] for test in group["tests"]]


def _wycheproof_mac(name: str, identity: str, record: Record) -> HashVector | None:
    """A tag that is wrong says nothing about a MAC that only makes tags."""
    if record["result"] != "valid":
        return None
    return HashVector(identity, name, _hex(record, "msg"), _hex(record, "tag"), _hex(record, "key"))


def _wycheproof_aead(name: str, identity: str, record: Record) -> AeadVector | Refusal | None:
    iv, tag = _hex(record, "iv"), _hex(record, "tag")
    if name.startswith("ccm("):
        if not 7 <= len(iv) <= 13 or len(tag) not in (4, 6, 8, 10, 12, 14, 16):
            return None
        iv = ccm_iv(iv)
    elif len(iv) != 12 or len(tag) != 16:
        return None
    valid = record["result"] == "valid"
    plaintext = _hex(record, "msg") if valid else b""
    vector = AeadVector(
        identity, name, _hex(record, "key"), iv, _hex(record, "aad"), plaintext, _hex(record, "ct"), tag
    )
    return vector if valid else Refusal(vector)


SHA = Reader(_paragraphs("LEN MSG MD", "MD"), _sha)
CMAC = Reader(_paragraphs("MESSAGE OUTPUT", "OUTPUT"), _cmac)
BLAKE2 = Reader(_blake2_records, _blake2)
BLAKE2_CHAIN = Reader(_chain_records, _chain)
CIPHER = Reader(_paragraphs("PLAINTEXT CIPHERTEXT", "CIPHERTEXT"), _cipher)
XTS = Reader(_paragraphs("DATAUNITLEN KEY I PT CT", "CT"), _xts)
KW = Reader(_paragraphs("K C", "C"), _kw)
CAMELLIA = Reader(_camellia_records, _cipher)
ARC4 = Reader(_paragraphs("KEY OFFSET", "CIPHERTEXT"), _arc4)
CHACHA20 = Reader(_paragraphs("KEY NONCE", "CIPHERTEXT"), _chacha20)
GCM = Reader(_paragraphs("KEY IV AAD TAG", r"TAG"), _gcm)
CCM = Reader(_paragraphs("ALEN PLEN TLEN KEY NONCE ADATA", "CT"), _ccm)
WYCHEPROOF_MAC = Reader(_wycheproof_records, _wycheproof_mac)
WYCHEPROOF_AEAD = Reader(_wycheproof_records, _wycheproof_aead)
