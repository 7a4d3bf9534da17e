"""The algorithms whose sockets are walked, and the steps that are taken on each.

One of each kind of state: a hash with and without key; modes that carry their state on in the IV by the block (cbc)
and in a stream (ctr), and one that begins anew with every request (chacha20); an AEAD in both directions, and one whose
cipher carries its state on (authenc).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.afalg import Aead, Hash, Rng, Skcipher, Transform, authenc_key
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.requests import model
from tests.requests.steps import Clone, Close, Control, Poll, Recv, Rekey, Send, Step, Traits
from tests.requests.walk import Verb

STREAM = bytes((i * 89 + i // 251) % 256 for i in range(20000))
"""What is sent: no two pieces of it look alike."""

_KEY, _OTHER_KEY = bytes(range(32)), bytes(range(100, 132))
_IV, _OTHER_IV = bytes(range(0x30, 0x40)), bytes(range(0xE0, 0xF0))


@dataclass(frozen=True)
class Subject:
    """An algorithm, the model of its op socket, and the steps to take on it.

    Attributes:
        name: of the algorithm.
        key, other: two keys for it; empty for a hash without one.
        make: (key, traits, room in bytes) to the model.
        verbs: steps by name.
        last: what each sequence ends with: data that goes through what state it has left.
        id: of the test.
    """

    name: str
    key: bytes
    other: bytes
    kind: Callable[..., Transform]
    make: Callable[[bytes, Traits, int], model.OpSocket]
    verbs: Mapping[str, Verb]
    last: tuple[Verb, ...]
    id: str

    def open(self) -> Transform:
        """Return the transform with its key, or skip the test where the kernel lacks it."""
        return need(self.kind, self.name, *([self.key] if self.key else []))  # type: ignore[arg-type]


def always(step: Step) -> Verb:
    """Return a step that does not depend on the state."""
    return lambda _: step


def recv_what_there_is(op: model.OpSocket) -> Step:
    """Return a recv of exactly what can be had, and of 16 bytes where that is nothing."""
    return Recv(op.ready() or 16)


def _common(key: bytes, other: bytes) -> dict[str, Verb]:
    def rekey(op: model.OpSocket) -> Step:
        return Rekey(other if op.key == key else key)

    return {
        "recv-0": always(Recv(0)),
        "recv-exact": recv_what_there_is,
        "recv-long": always(Recv(400)),
        "poll": always(Poll()),
        "close": always(Close()),
        "rekey": rekey,
    }


@functools.cache
def _digest(name: str, key: bytes, message: bytes) -> bytes:
    return hashes.digest(name, message, key or None)


def hash_subject(name: str, key: bytes = b"", other: bytes = b"") -> Subject:
    digest = functools.partial(_digest, name)
    return Subject(
        name,
        key,
        other,
        Hash,
        lambda now, *_: model.Hash(digest, now, keyed=bool(key)),
        {
            "send": always(Send(STREAM[:70])),
            "send-more": always(Send(STREAM[70:83], more=True)),
            "send-empty": always(Send(b"")),
            "send-empty-more": always(Send(b"", more=True)),
            "send-control": always(Send(STREAM[3:9], Control(ALG_OP_ENCRYPT, _IV, 5))),
            "splice": always(Send(STREAM[200:240], spliced=True)),
            "splice-more": always(Send(STREAM[300:305], more=True, spliced=True)),
            "recv-short": always(Recv(7)),
            "clone": always(Clone()),
            **_common(key, other or bytes(32)),
        },
        (recv_what_there_is, recv_what_there_is),
        name,
    )


def rng_subject(name: str) -> Subject:
    """Return the subject of an rng; few bytes at a time, since each of them takes long."""
    return Subject(
        name,
        b"",
        bytes(32),
        Rng,
        lambda now, *_: model.Rng(now),
        {
            "send": always(Send(STREAM[:20])),
            "send-empty": always(Send(b"")),
            "send-control": always(Send(b"", Control(ALG_OP_ENCRYPT, _IV, 5), more=True)),
            "splice": always(Send(STREAM[:16], spliced=True)),
            "clone": always(Clone()),
            **_common(b"", bytes(32)),
            "recv-exact": always(Recv(1)),
        },
        (always(Recv(1)),),
        name,
    )


def skcipher_subject(
    name: str, key: bytes, other: bytes, ivsize: int, chunk: int, leaves: Callable[[bytes, bytes, bytes, bool], bytes]
) -> Subject:
    """Return the subject of a mode.

    Args:
        leaves: (iv, input, output, encrypt) to the IV the mode leaves behind.
    """

    @functools.cache
    def crypt(key: bytes, iv: bytes, data: bytes, encrypt: bool) -> tuple[bytes, bytes]:
        out = skciphers.crypt(name, key, iv, data, decrypt=not encrypt) if data else b""
        return out, leaves(iv, data, out, encrypt)

    return Subject(
        name,
        key,
        other,
        Skcipher,
        lambda now, traits, room: model.Queue(model.Skcipher(chunk, crypt), traits, now, ivsize, room),
        {
            "send": always(Send(STREAM[:32], Control(ALG_OP_ENCRYPT, _IV[:ivsize]))),
            "send-more": always(Send(STREAM[100:124], more=True)),
            "send-empty": always(Send(b"")),
            "send-iv-alone": always(Send(b"", Control(iv=_OTHER_IV[:ivsize]), more=True)),
            "send-operation-alone": always(Send(STREAM[150:166], Control(ALG_OP_DECRYPT), more=True)),
            "splice": always(Send(STREAM[200:216], spliced=True)),
            "splice-more": always(Send(STREAM[300:320], more=True, spliced=True)),
            "recv-short": always(Recv(20)),
            "recv-tiny": always(Recv(5)),
            **_common(key, other),
        },
        (always(Send(STREAM[600:616])), always(Recv(400))),
        name,
    )


def aead_subject(name: str, key: bytes, other: bytes, ivsize: int, encrypt: bool) -> Subject:
    iv, aad, text, size = _IV[:ivsize], STREAM[500:508], STREAM[510:550], 16
    sealed = {k: aeads.seal(name, k, iv, aad, text, size) for k in (key, other)}
    message = aad + (text if encrypt else sealed[key])

    @functools.cache
    def seal(key: bytes, iv: bytes, aad: bytes, text: bytes) -> bytes:
        return aeads.seal(name, key, iv, aad, text, size)

    def unseal(key: bytes, its_iv: bytes, its_aad: bytes, given: bytes) -> bytes:
        if (its_iv, its_aad, given) != (iv, aad, sealed[key]):
            raise ValueError("nothing else than these was ever sealed")
        return text

    control = Control(ALG_OP_ENCRYPT if encrypt else ALG_OP_DECRYPT, iv, len(aad))
    return Subject(
        name,
        key,
        other,
        Aead,
        lambda now, traits, room: model.Queue(model.Aead(size, seal, unseal), traits, now, ivsize, room),
        {
            "send": always(Send(message, control)),
            "send-begin": always(Send(message[:20], control, more=True)),
            "send-rest": always(Send(message[20:])),
            "send-more": always(Send(message[20:33], more=True)),
            "send-empty": always(Send(b"")),
            "send-control": always(Send(b"", control, more=True)),
            "send-iv-alone": always(Send(b"", Control(iv=_OTHER_IV[:ivsize]))),
            "splice": always(Send(message, spliced=True)),
            "splice-rest": always(Send(message[20:], spliced=True)),
            "recv-short": always(Recv(len(aad) + 13)),
            "recv-tiny": always(Recv(5)),
            **_common(key, other),
        },
        (always(Send(message[20:])), always(Recv(400))),
        f"{name}-{'encrypt' if encrypt else 'decrypt'}",
    )


def authenc_subject(name: str, key: bytes, other: bytes, encrypt: bool) -> Subject:
    """Return the subject of an aead whose cipher is CBC: fewer steps, and those have to do with its IV."""
    aad, text, size, ivsize = STREAM[500:508], STREAM[510:558], 16, 16

    @functools.cache
    def seal(key: bytes, iv: bytes, aad: bytes, text: bytes) -> bytes:
        return aeads.seal(name, key, iv, aad, text, size)

    @functools.cache
    def unseal(key: bytes, iv: bytes, aad: bytes, given: bytes) -> bytes:
        authkey, enckey = aeads.split_key(key)
        body, tag = given[:-size], given[-size:]
        if hashes.digest("hmac(sha256)", aad + body, authkey)[:size] != tag:
            raise ValueError("wrong tag")
        if len(body) % 16:
            raise model.Refused("CBC takes whole blocks")
        return skciphers.crypt("cbc(aes)", enckey, iv, body, decrypt=True)

    message = aad + (text if encrypt else seal(key, _IV, aad, text))
    operation = ALG_OP_ENCRYPT if encrypt else ALG_OP_DECRYPT
    return Subject(
        name,
        key,
        other,
        Aead,
        lambda now, traits, room: model.Queue(model.Aead(size, seal, unseal, chains=True), traits, now, ivsize, room),
        {
            "send": always(Send(message, Control(operation, _IV, len(aad)))),
            "send-without-iv": always(Send(message, Control(operation, None, len(aad)))),
            "send-again": always(Send(message)),
            "send-iv-alone": always(Send(b"", Control(operation, _OTHER_IV, len(aad)), more=True)),
            "recv-exact": recv_what_there_is,
            "recv-a-block-less": lambda model: Recv(max(model.ready() - 16, 1)),
            "recv-a-byte-less": lambda model: Recv(max(model.ready() - 1, 1)),
            "recv-long": always(Recv(400)),
            "close": always(Close()),
        },
        (always(Send(message)), recv_what_there_is),
        f"{name}-{'encrypt' if encrypt else 'decrypt'}",
    )


def _last_block(iv: bytes, data: bytes, out: bytes, encrypt: bool) -> bytes:
    """CBC, NIST SP 800-38A 6.2: the next block is chained to the last ciphertext block."""
    return ((out if encrypt else data) or iv)[-16:]


def _next_counter(iv: bytes, data: bytes, out: bytes, encrypt: bool) -> bytes:
    """CTR, NIST SP 800-38A 6.5: one count a block, begun or whole."""
    return ((int.from_bytes(iv, "big") - (-len(data) // 16)) % (1 << 128)).to_bytes(16, "big")


def _same(iv: bytes, data: bytes, out: bytes, encrypt: bool) -> bytes:
    """The kernel's chacha20 does not write its counter back."""
    return iv


CTR = skcipher_subject("ctr(aes)", _KEY[:16], _OTHER_KEY[:16], 16, 16, _next_counter)

TIGHT = dataclasses.replace(
    CTR,
    verbs={
        "send-more-3000": always(Send(STREAM[:3000], Control(ALG_OP_ENCRYPT, _IV), more=True)),
        "send-more-1096": always(Send(STREAM[3000:4096], more=True)),
        "send-more-5000": always(Send(STREAM[4096:9096], more=True)),
        "send-9000": always(Send(STREAM[9096:18096])),
        "send-100": always(Send(STREAM[18096:18196])),
        "send-empty": always(Send(b"")),
        "recv-exact": recv_what_there_is,
        "recv-16": always(Recv(16)),
        "recv-3000": always(Recv(3000)),
        "recv-long": always(Recv(9000)),
        "close": always(Close()),
    },
    last=(always(Send(STREAM[18196:18212])), always(Recv(9000))),
    id="ctr(aes)-one-page",
)
"""Of a socket with the smallest send buffer: room for one page."""

STATEFUL = [
    hash_subject("sha256"),
    hash_subject("hmac(sha256)", _KEY, _OTHER_KEY),
    skcipher_subject("cbc(aes)", _KEY[:16], _OTHER_KEY[:16], 16, 16, _last_block),
    CTR,
    skcipher_subject("chacha20", _KEY, _OTHER_KEY, 16, 64, _same),
    aead_subject("gcm(aes)", _KEY[:16], _OTHER_KEY[:16], 12, encrypt=True),
    aead_subject("gcm(aes)", _KEY[:16], _OTHER_KEY[:16], 12, encrypt=False),
    *(
        authenc_subject(
            "authenc(hmac(sha256),cbc(aes))",
            authenc_key(_KEY[:20], _KEY[:16]),
            authenc_key(_OTHER_KEY[:20], _OTHER_KEY[:16]),
            encrypt,
        )
        for encrypt in (True, False)
    ),
]
SUBJECTS = [*STATEFUL, rng_subject("jitterentropy_rng")]
