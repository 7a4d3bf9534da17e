"""Every short sequence of steps on an op socket gives what its model says: results, errors, readiness, and whether
a call waits. Each ends with steps that show what state is left."""

from __future__ import annotations

import pytest

from tests.requests import model
from tests.requests.endpoint import PromptEndpoint
from tests.requests.subjects import SUBJECTS, TIGHT, Subject
from tests.requests.traits import traits
from tests.requests.walk import sequences, walk

DEFAULT_LENGTH, THOROUGH_LENGTH = 3, 4


def _cases(subjects: list[Subject]) -> pytest.MarkDecorator:
    cases = [pytest.param(s, first, id=f"{s.id}-{first}") for s in subjects for first in s.verbs]
    return pytest.mark.parametrize(("subject", "first"), cases)


@_cases(SUBJECTS)
@pytest.mark.deadline(60)
def test_every_sequence_that_begins_with(subject: Subject, first: str, request: pytest.FixtureRequest) -> None:
    """Three steps from a fresh socket, four with --thorough. None of them waits: what would gives EAGAIN or a part."""
    length = THOROUGH_LENGTH if request.config.option.thorough else DEFAULT_LENGTH
    _walk(subject, first, length, model.DEFAULT_ROOM, None)


@_cases([TIGHT])
@pytest.mark.deadline(60)
def test_every_sequence_with_room_for_one_page(subject: Subject, first: str, request: pytest.FixtureRequest) -> None:
    """The smallest send buffer: sends that do not fit take a part, and with no room none (EAGAIN, or they wait)."""
    _walk(subject, first, THOROUGH_LENGTH if request.config.option.thorough else DEFAULT_LENGTH, model.PAGE, 1)


def _walk(subject: Subject, first: str, length: int, room: int, sndbuf: int | None) -> None:
    known = traits()
    with subject.open() as transform, PromptEndpoint(transform, sndbuf) as endpoint:
        key = subject.key
        for sequence in sequences(subject.verbs, first, length):
            model_now = subject.make(key, known, room)
            walk(endpoint, model_now, sequence, subject.last)
            key = model_now.key
