"""NETLINK_CRYPTO: the kernel's list of algorithms, asked and changed by messages.

Source: include/uapi/linux/cryptouser.h and include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

NETLINK_CRYPTO = 21

CRYPTO_MSG_NEWALG = 0x10
CRYPTO_MSG_DELALG = 0x11
CRYPTO_MSG_UPDATEALG = 0x12
CRYPTO_MSG_GETALG = 0x13
CRYPTO_MSG_DELRNG = 0x14
CRYPTO_MSG_GETSTAT = 0x15

CRYPTOCFGA_PRIORITY_VAL = 1
REPORTS = {3: "hash", 4: "skcipher", 5: "aead", 7: "rng", 8: "cipher"}
"""Attributes that describe an algorithm of a kind, CRYPTOCFGA_REPORT_…, and the kind."""

NAME_SIZE = 64
ALG_SIZE = 208
"""sizeof(struct crypto_user_alg): three names of 64 bytes and four u32."""

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("@IHHII")
_ATTRIBUTE = struct.Struct("@HH")
_NUMBERS = struct.Struct("@IIII")
_FIELDS = {
    "hash": ("blocksize", "digestsize"),
    "skcipher": ("blocksize", "min keysize", "max keysize", "ivsize"),
    "aead": ("blocksize", "maxauthsize", "ivsize"),
    "rng": ("seedsize",),
    "cipher": ("blocksize", "min keysize", "max keysize"),
}
_HAVE_GENIV = ("skcipher", "aead")


@dataclass(frozen=True)
class Algorithm:
    """One reply to CRYPTO_MSG_GETALG.

    Attributes:
        name, driver, module: texts of the reply.
        refcnt: references, one of which is the list's own.
        flags: ``cru_flags``.
        priority: None when the reply has none.
        kind: ``hash``, ``skcipher``, ``aead``, ``rng``, ``cipher``; empty when no such report was in it.
        report: the numbers of that report, by their labels in /proc/crypto.
        padding: every byte of the reply after the end of a text; all should be 0.
        type_: the text that the report begins with: ``shash``, ``ahash``, ``skcipher``.
    """

    name: str
    driver: str
    module: str
    refcnt: int
    flags: int
    priority: int | None = None
    kind: str = ""
    report: dict[str, int] = field(default_factory=dict)
    padding: bytes = b""
    type_: str = ""


def alg(name: str | bytes = "", driver: str | bytes = "", type_: int = 0, mask: int = 0) -> bytes:
    """Return a ``struct crypto_user_alg``; names of 64 bytes and more have no NUL, on purpose."""
    texts = [text.encode() if isinstance(text, str) else text for text in (name, driver, "")]
    return b"".join(text[:NAME_SIZE].ljust(NAME_SIZE, b"\0") for text in texts) + _NUMBERS.pack(type_, mask, 0, 0)


def attribute(type_: int, data: bytes) -> bytes:
    """Return a netlink attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), type_) + data + bytes(-len(data) % 4)


def priority(value: int) -> bytes:
    """Return the attribute that asks for a priority, a u32."""
    return attribute(CRYPTOCFGA_PRIORITY_VAL, struct.pack("@I", value))


class CryptoNetlink:
    """A socket to the kernel's crypto configuration. Closes with the ``with`` block.

    Args:
        seconds: deadline of each answer.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_CRYPTO)
        self.socket.settimeout(seconds)
        self.sequence = 0

    def request(self, type_: int, payload: bytes = b"", flags: int = NLM_F_ACK) -> list[bytes]:
        """Send one message and return the payloads of the replies.

        Args:
            type_: CRYPTO_MSG_….
            flags: beside NLM_F_REQUEST. With NLM_F_DUMP the replies end with a message of their own, else with
                the acknowledgement, which must be asked for.

        Raises:
            OSError: the errno of the acknowledgement.
        """
        self.sequence += 1
        header = _HEADER.pack(_HEADER.size + len(payload), type_, flags | NLM_F_REQUEST, self.sequence, 0)
        self.socket.send(header + payload)
        replies: list[bytes] = []
        while True:
            for kind, data in _messages(self.socket.recv(1 << 17)):
                if kind == _NLMSG_DONE:
                    return replies
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("@i", data)
                    if code:
                        raise OSError(-code, f"netlink message {type_:#x}: {os.strerror(-code)}")
                    return replies
                replies.append(data)

    def get(self, name: str = "", driver: str = "") -> Algorithm:
        """CRYPTO_MSG_GETALG of one algorithm."""
        (reply,) = self.request(CRYPTO_MSG_GETALG, alg(name, driver))
        return parse(reply)

    def dump(self) -> list[Algorithm]:
        """CRYPTO_MSG_GETALG of all."""
        return [parse(reply) for reply in self.request(CRYPTO_MSG_GETALG, flags=NLM_F_DUMP)]

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> CryptoNetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse(reply: bytes) -> Algorithm:
    """Return what a reply to CRYPTO_MSG_GETALG says."""
    texts = [reply[at : at + NAME_SIZE] for at in (0, NAME_SIZE, 2 * NAME_SIZE)]
    padding = b"".join(_after_nul(text) for text in texts)
    _, _, refcnt, flags = _NUMBERS.unpack_from(reply, 3 * NAME_SIZE)
    name, driver, module = map(_text, texts)
    found = Algorithm(name, driver, module, refcnt, flags, padding=padding)
    for type_, data in _attributes(reply[ALG_SIZE:]):
        if type_ == CRYPTOCFGA_PRIORITY_VAL:
            found = replace(found, priority=struct.unpack("@I", data)[0])
        elif type_ in REPORTS:
            found = _reported(found, REPORTS[type_], data)
    return found


def _reported(found: Algorithm, kind: str, data: bytes) -> Algorithm:
    """Return an algorithm with what a report says of it: one text or two, then numbers."""
    labels = _FIELDS[kind]
    names = 2 if kind in _HAVE_GENIV else 1
    texts = [data[at * NAME_SIZE : (at + 1) * NAME_SIZE] for at in range(names)]
    numbers = struct.unpack_from(f"@{len(labels)}I", data, names * NAME_SIZE)
    padding = b"".join(map(_after_nul, texts)) + data[names * NAME_SIZE + 4 * len(labels) :]
    return replace(
        found,
        kind=kind,
        report=dict(zip(labels, numbers, strict=True)),
        padding=found.padding + padding,
        type_=_text(texts[0]),
    )


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode()


def _after_nul(padded: bytes) -> bytes:
    return padded.partition(b"\0")[2]


def drop_default_generator() -> None:
    """Have the kernel let go of the generator that templates take IVs from, and of its modules (CRYPTO_MSG_DELRNG).

    One that is in use stays, and so does one that nobody can ask to go: without CONFIG_CRYPTO_USER, or privilege.
    """
    with contextlib.suppress(OSError), CryptoNetlink() as crypto:
        crypto.request(CRYPTO_MSG_DELRNG)
