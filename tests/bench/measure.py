"""Measure on the running kernel; prints JSON. ``python -m tests.bench`` runs it in a guest and shows it.

Both sides are called from Python, which adds the same few microseconds to each; what is compared is a ratio.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_MORE
from tests.afalg.trace import calls_of

SIZES = [16, 64, 256, 1024, 4096, 16384, 65536]
REPEATS = 5
SECONDS = 0.1
"""How long one measurement lasts, at least."""

KEY, IV, NONCE = bytes(range(16)), bytes(16), bytes(12)
Act = Callable[[bytes], bytes]


@dataclass
class Way:
    """One way to one result.

    Attributes:
        algorithm: the kernel's name.
        way: ``AF_ALG``, ``AF_ALG, splice`` or ``library``.
        descriptors: it holds open.
        setup_calls, calls: system calls to get ready and be done, and of one operation on 16 bytes.
        setup: seconds to get ready and be done.
        rates: operations a second by message size.
    """

    algorithm: str
    way: str
    descriptors: int = 0
    setup_calls: int = 0
    calls: int = 0
    setup: float = 0.0
    rates: dict[int, float] = field(default_factory=dict)


def main() -> int:
    """Measure everything, and print a list of ways."""
    found = []
    for algorithm, ways in WAYS.items():
        right = None
        for name, ready in ways.items():
            print(f"{algorithm}, {name}", file=sys.stderr, flush=True)
            with ready() as act:
                result = act(bytes(range(64)))
            right = right or result
            if result != right:
                print(f"error: {name} gives another {algorithm} than the library", file=sys.stderr)
                return 1
            found.append(_measure(Way(algorithm, name), ready))
    print(json.dumps([asdict(way) for way in found]))
    return 0


def _measure(way: Way, ready: Callable[[], AbstractContextManager[Act]]) -> Way:
    def whole() -> None:
        with ready():
            pass

    before = _descriptors()
    with ready() as act:
        way.descriptors = _descriptors() - before
        way.calls = len(calls_of(lambda: act(bytes(16))))
        way.rates = {size: _rate(lambda data=bytes(size): act(data)) for size in SIZES}  # type: ignore[misc]
    way.setup_calls = len(calls_of(whole))
    # What a block with nothing in it takes is Python's.
    way.setup = max(0.0, 1 / _rate(whole) - 1 / _rate(_nothing))
    return way


def _nothing() -> None:
    with _library(bytes)():
        pass


def _rate(function: Callable[[], object]) -> float:
    """Return calls a second: of several measurements the fastest, for nothing makes things faster than they are."""
    function()
    count, best = 1, 0.0
    for _ in range(REPEATS):
        while True:
            started = time.perf_counter()
            for _ in range(count):
                function()
            took = time.perf_counter() - started
            if took >= SECONDS / 2:
                break
            count *= 2
        best = max(best, count / took)
    return best


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# Ways ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _op(type_: str, name: str, key: bytes | None) -> Iterator[socket.socket]:
    """Give an op socket; Python's own class, which makes no calls but the ones asked for."""
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as tfm:
        tfm.bind((type_, name))
        if key is not None:
            tfm.setsockopt(socket.SOL_ALG, socket.ALG_SET_KEY, key)
        if type_ == "aead":
            tfm.setsockopt(socket.SOL_ALG, socket.ALG_SET_AEAD_AUTHSIZE, None, 16)
        op, _ = tfm.accept()
        with op:
            yield op


def _options(type_: str, iv: bytes) -> dict[str, Any]:
    """Return the control messages of a request."""
    return {"op": ALG_OP_ENCRYPT, "iv": iv, **({"assoclen": 0} if type_ == "aead" else {})}


def _hash(name: str, key: bytes | None = None) -> Callable[[], AbstractContextManager[Act]]:
    @contextmanager
    def ready() -> Iterator[Act]:
        with _op("hash", name, key) as op:

            def act(data: bytes) -> bytes:
                op.send(data)
                return op.recv(64)

            yield act

    return ready


def _cipher(type_: str, name: str, iv: bytes, more: int) -> Callable[[], AbstractContextManager[Act]]:
    options = _options(type_, iv)

    @contextmanager
    def ready() -> Iterator[Act]:
        with _op(type_, name, KEY) as op:

            def act(data: bytes) -> bytes:
                op.sendmsg_afalg([data], **options)
                return op.recv(len(data) + more)

            yield act

    return ready


def _spliced(
    type_: str, name: str, key: bytes | None, iv: bytes, more: int
) -> Callable[[], AbstractContextManager[Act]]:
    """Data through a pipe: what spares a copy, or is meant to."""
    options = _options(type_, iv)

    @contextmanager
    def ready() -> Iterator[Act]:
        reader, writer = os.pipe()
        try:
            with _op(type_, name, key) as op:

                def act(data: bytes) -> bytes:
                    if type_ != "hash":
                        op.sendmsg_afalg([], flags=MSG_MORE, **options)
                    os.write(writer, data)
                    _splice(reader, op.fileno(), len(data))
                    return op.recv(len(data) + more if type_ != "hash" else 64)

                yield act
        finally:
            os.close(reader)
            os.close(writer)

    return ready


def _splice(source: int, target: int, length: int) -> None:
    """splice(2) of everything; os.splice came with Python 3.10."""
    while length:
        length -= os.splice(source, target, length)


def _library(act: Act) -> Callable[[], AbstractContextManager[Act]]:
    @contextmanager
    def ready() -> Iterator[Act]:
        yield act

    return ready


@contextmanager
def _cbc_of_library() -> Iterator[Act]:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(KEY), modes.CBC(IV))
    yield lambda data: cipher.encryptor().update(data)


@contextmanager
def _gcm_of_library() -> Iterator[Act]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(KEY)
    yield lambda data: cipher.encrypt(NONCE, data, None)


WAYS: dict[str, dict[str, Callable[[], AbstractContextManager[Act]]]] = {
    "sha256": {
        "library": _library(lambda data: hashlib.sha256(data).digest()),
        "AF_ALG": _hash("sha256"),
        "AF_ALG, splice": _spliced("hash", "sha256", None, b"", 0),
    },
    "hmac(sha256)": {
        "library": _library(lambda data: hmac.digest(KEY, data, "sha256")),
        "AF_ALG": _hash("hmac(sha256)", KEY),
        "AF_ALG, splice": _spliced("hash", "hmac(sha256)", KEY, b"", 0),
    },
    "cbc(aes)": {
        "library": _cbc_of_library,
        "AF_ALG": _cipher("skcipher", "cbc(aes)", IV, 0),
        "AF_ALG, splice": _spliced("skcipher", "cbc(aes)", KEY, IV, 0),
    },
    "gcm(aes)": {
        "library": _gcm_of_library,
        "AF_ALG": _cipher("aead", "gcm(aes)", NONCE, 16),
        "AF_ALG, splice": _spliced("aead", "gcm(aes)", KEY, NONCE, 16),
    },
}


if __name__ == "__main__":
    sys.exit(main())
