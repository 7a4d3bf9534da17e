"""Every short sequence of steps on an op socket gives what its model says: results, errors, readiness, and whether
a call waits. Each ends with steps that show what state is left."""

from __future__ import annotations

import functools
import random

import pytest

from tests.requests import model
from tests.requests.endpoint import PromptEndpoint, WaitingEndpoint
from tests.requests.subjects import STATEFUL, SUBJECTS, TIGHT, Subject
from tests.requests.traits import traits
from tests.requests.walk import changes_nothing, sequences, walk


def _cases(subjects: list[Subject]) -> pytest.MarkDecorator:
    cases = [pytest.param(s, first, id=f"{s.id}-{first}") for s in subjects for first in s.verbs]
    return pytest.mark.parametrize(("subject", "first"), cases)


@_cases(SUBJECTS)
@pytest.mark.deadline(60)
def test_every_sequence_that_begins_with(subject: Subject, first: str, request: pytest.FixtureRequest) -> None:
    """Up to three steps from a fresh socket, two where the first or the second changes nothing.

    With --thorough one more, and whatever they change. None of them waits: what would gives EAGAIN or a part.
    The model is that of crypto/af_alg.c and algif_*.c.
    """
    _walk(subject, first, request.config.option.thorough, model.DEFAULT_ROOM, None)


@_cases([TIGHT])
@pytest.mark.deadline(60)
def test_every_sequence_with_room_for_one_page(subject: Subject, first: str, request: pytest.FixtureRequest) -> None:
    """The smallest send buffer: sends that do not fit take a part, and with no room none (EAGAIN, or they wait).

    Source: af_alg_sndbuf.
    """
    _walk(subject, first, request.config.option.thorough, model.PAGE, 1)


def _walk(subject: Subject, first: str, thorough: bool, room: int, sndbuf: int | None) -> None:
    known = traits()
    make = functools.partial(subject.make, subject.key, known, room)
    length = (2 if changes_nothing(make(), subject.verbs[first]) else 3) + thorough
    with subject.open() as transform, PromptEndpoint(transform, sndbuf) as endpoint:
        key = subject.key
        for sequence in sequences(subject.verbs, first, length, None if thorough else make):
            model_now = subject.make(key, known, room)
            walk(endpoint, model_now, sequence, subject.last)
            key = model_now.key


@pytest.mark.parametrize("subject", STATEFUL, ids=lambda subject: subject.id)
@pytest.mark.deadline(60)
def test_long_random_sequences(subject: Subject, request: pytest.FixtureRequest) -> None:
    """The same few each time by default; with --thorough many, of a new seed, which is printed.

    Here calls do wait, under a deadline, where the model says that they return.
    The model is that of crypto/af_alg.c and algif_*.c.
    """
    from tests.requests import machine

    thorough = request.config.option.thorough
    seed = random.SystemRandom().randrange(1 << 32) if thorough else None
    print(f"seed: {seed}")
    with subject.open() as transform, WaitingEndpoint(transform) as endpoint:
        machine.run(
            subject,
            traits(),
            lambda: endpoint,
            examples=200 if thorough else 4,
            steps=100 if thorough else 40,
            seed=seed,
        )
