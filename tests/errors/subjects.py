"""One algorithm of each type, with a published answer that proves a socket works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.afalg import Aead, Hash, Rng, Skcipher, Socket, Transform, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT
from tests.need import need
from tests.oracle import aeads, hashes, skciphers


@dataclass(frozen=True)
class Subject:
    """An algorithm and one request to it.

    Attributes:
        type_: ``hash``, ``skcipher``, ``aead`` or ``rng``.
        name: of the algorithm.
        key: for ALG_SET_KEY; None where there is none.
        control: control data of the request.
        message: what is sent; AAD first.
        result: what is received; None for an rng, whose 16 bytes are any.
    """

    type_: str
    name: str
    key: bytes | None
    control: bytes
    message: bytes
    result: bytes | None

    @property
    def answer(self) -> bytes:
        """The result, of a type that has one."""
        assert self.result is not None
        return self.result

    def open(self) -> Transform:
        """Return the transform with its key, or skip the test where the kernel lacks it."""
        return need(_KINDS[self.type_], self.name, self.key)

    def open_without_key(self) -> Transform:
        return need(_KINDS[self.type_], self.name)

    def begin(self, op: Socket, flags: int = 0) -> None:
        """Send the request, control data and all."""
        op.sendmsg([self.message], self.control, flags)

    def finish(self, op: Socket) -> None:
        """Receive the request's result and compare it."""
        if self.result is None:
            assert len(op.recv(16)) == 16, f"{self.name} gave fewer bytes than asked for"
        else:
            assert op.recv(len(self.result)).hex() == self.result.hex(), f"{self.name} gave a wrong result"

    def answer_to(self, data: bytes) -> bytes:
        """Return what the request gives when this is its message instead, AAD first, as the oracle has it."""
        key = self.key or b""
        if self.type_ == "hash":
            return hashes.digest(self.name, data, key)
        if self.type_ == "skcipher":
            return skciphers.crypt(self.name, key, SKCIPHER_IV, data)
        return data[:20] + aeads.seal(self.name, key, AEAD_IV, data[:20], data[20:], 16)

    def works(self, op: Socket) -> None:
        """Make the whole request."""
        if self.result is not None:
            self.begin(op)
        self.finish(op)


SKCIPHER_IV, AEAD_IV = bytes(range(16)), bytes.fromhex("cafebabefacedbaddecaf888")

_KINDS: dict[str, type[Transform]] = {"hash": Hash, "skcipher": Skcipher, "aead": Aead, "rng": Rng}

# RFC 4231, test case 4: its key is long enough for FIPS mode.
HASH = Subject(
    "hash",
    "hmac(sha256)",
    bytes(range(1, 26)),
    b"",
    b"\xcd" * 50,
    bytes.fromhex("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
)

# NIST SP 800-38A, F.2.1, the first two blocks.
SKCIPHER = Subject(
    "skcipher",
    "cbc(aes)",
    bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"),
    set_op(ALG_OP_ENCRYPT) + set_iv(SKCIPHER_IV),
    bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"),
    bytes.fromhex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"),
)

# McGrew and Viega, The Galois/Counter Mode of Operation, test case 4. The AAD comes out before the ciphertext.
_AAD = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
AEAD = Subject(
    "aead",
    "gcm(aes)",
    bytes.fromhex("feffe9928665731c6d6a8f9467308308"),
    set_op(ALG_OP_ENCRYPT) + set_iv(AEAD_IV) + set_assoclen(20),
    _AAD
    + bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    ),
    _AAD
    + bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        "5bc94fbc3221a5db94fae95ae7121a47"
    ),
)

RNG = Subject("rng", "jitterentropy_rng", None, b"", b"", None)

EVERY = [HASH, SKCIPHER, AEAD, RNG]
KEYED = [HASH, SKCIPHER, AEAD]
QUEUED = [SKCIPHER, AEAD]
"""Those whose input waits in a queue until it is read."""


def _parametrised(subjects: list[Subject]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("subject", subjects, ids=lambda subject: subject.type_)


each_type = _parametrised(EVERY)
each_keyed_type = _parametrised(KEYED)
each_queued_type = _parametrised(QUEUED)

SOCKETS = ["unbound", *(f"{s.type_}-tfm" for s in EVERY), *(f"{s.type_}-op" for s in EVERY)]
SOCKETS += [f"{s.type_}-nokey" for s in KEYED]
"""Every kind of AF_ALG socket: ``nokey`` ones were accepted before a key was set."""

each_socket = pytest.mark.parametrize("kind", SOCKETS)


@contextlib.contextmanager
def socket_of(kind: str) -> Iterator[Socket]:
    """Give a fresh socket of a kind named in SOCKETS; at the end of the block it must work like one."""
    if kind == "unbound":
        SKCIPHER.open().close()
        with Socket.create() as sock:
            yield sock
            bound_works(sock)
        return
    type_, role = kind.split("-")
    subject = next(subject for subject in EVERY if subject.type_ == type_)
    with subject.open_without_key() if role == "nokey" else subject.open() as transform:
        if role == "tfm":
            yield transform.tfm
            with transform.tfm.accept() as op:
                subject.works(op)
            return
        yield transform.op
        if role == "nokey":
            transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


def bound_works(tfm: Socket) -> None:
    """Bind a socket, whatever it was bound to before, and make a request."""
    tfm.bind(SKCIPHER.type_, SKCIPHER.name)
    tfm.set_key(SKCIPHER.key or b"")
    with tfm.accept() as op:
        SKCIPHER.works(op)
