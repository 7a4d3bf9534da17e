"""The walk over sequences of requests agrees with a faithful fake of the kernel, and finds every bug of others."""

from __future__ import annotations

import functools

import pytest

from tests.requests import model
from tests.requests.steps import Traits
from tests.requests.subjects import SUBJECTS, TIGHT, Subject
from tests.requests.walk import sequences, walk
from tests.selftests.op_sockets import (
    AEAD_BUGS,
    CHAIN_BUGS,
    HASH_BUGS,
    QUEUE_BUGS,
    RNG_BUGS,
    ROOM_BUGS,
    FakeHash,
    FakeQueue,
    FakeRng,
)

AUTHENC = "authenc(hmac(sha256),cbc(aes))"
BY_ID = {subject.id: subject for subject in [*SUBJECTS, TIGHT]}


def fake(subject: Subject, bug: str = "") -> FakeHash | FakeQueue | FakeRng:
    """Return a fake of the subject's sockets; the algorithm in it is that of the model."""
    made = subject.make(subject.key, Traits(), model.DEFAULT_ROOM)
    if isinstance(made, model.Hash):
        return FakeHash(subject.key, bool(subject.key), made.digest, bug)
    if isinstance(made, model.Rng):
        return FakeRng(subject.key, bug)
    assert isinstance(made, model.Queue)
    room = model.PAGE if subject is TIGHT else model.DEFAULT_ROOM
    if isinstance(made.cipher, model.Skcipher):
        return FakeQueue(subject.key, made.ivsize, made.cipher.chunk, crypt=made.cipher.crypt, sndbuf=room, bug=bug)
    assert isinstance(made.cipher, model.Aead)
    return FakeQueue(subject.key, made.ivsize, seal=made.cipher.seal, unseal=made.cipher.unseal, bug=bug)


def walk_all(subject: Subject, bug: str, length: int) -> None:
    endpoint = fake(subject, bug)
    room = model.PAGE if subject is TIGHT else model.DEFAULT_ROOM
    make = functools.partial(subject.make, subject.key, Traits(), room)
    for first in subject.verbs:
        for sequence in sequences(subject.verbs, first, length, make):
            walk(endpoint, subject.make(endpoint.key, Traits(), room), sequence, subject.last)


@pytest.mark.parametrize("subject", BY_ID.values(), ids=BY_ID)
@pytest.mark.deadline(60)
def test_the_model_agrees_with_a_faithful_fake(subject: Subject) -> None:
    walk_all(subject, "", 3)


@pytest.mark.parametrize(
    ("id_", "bug"),
    [("cbc(aes)", bug) for bug in QUEUE_BUGS]
    + [("ctr(aes)-one-page", bug) for bug in ROOM_BUGS]
    + [("gcm(aes)-decrypt", bug) for bug in AEAD_BUGS]
    + [(f"{AUTHENC}-{way}", bug) for way in ("encrypt", "decrypt") for bug in CHAIN_BUGS]
    + [("hmac(sha256)", bug) for bug in HASH_BUGS]
    + [("jitterentropy_rng", bug) for bug in RNG_BUGS],
)
@pytest.mark.deadline(60)
def test_the_walk_finds(id_: str, bug: str) -> None:
    with pytest.raises(AssertionError, match="the kernel and the model part here"):
        walk_all(BY_ID[id_], bug, 3)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.id)
@pytest.mark.deadline(60)
def test_random_sequences_agree_with_a_faithful_fake(subject: Subject) -> None:
    from tests.requests import machine

    machine.run(subject, Traits(), lambda: fake(subject), examples=10, steps=40, seed=None)


@pytest.mark.parametrize(
    ("id_", "bug"),
    [("ctr(aes)", bug) for bug in ("the last page is begun anew by each send", "a short recv drops what does not fit")]
    + [("gcm(aes)-encrypt", "the AAD does not come out"), ("sha256", "a clone is a fresh hash")],
)
@pytest.mark.deadline(60)
def test_random_sequences_find(id_: str, bug: str) -> None:
    from tests.requests import machine

    with pytest.raises(AssertionError, match="the kernel and the model part here"):
        machine.run(BY_ID[id_], Traits(), lambda: fake(BY_ID[id_], bug), examples=100, steps=40, seed=None)
