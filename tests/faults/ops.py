"""Stories of one op socket: whatever fails on it, a fresh one of the same tfm works."""

from __future__ import annotations

from collections.abc import Callable

from tests.afalg import Socket
from tests.errors.subjects import Subject
from tests.faults.inject import Allowed, Injector, Story


def walk_op(inject: Injector, subject: Subject, story: Callable[[Socket], Story], allowed: Allowed) -> set[int]:
    """Tell the story with every place failing in turn, each time on an op socket of its own.

    After each the socket is closed, and a fresh one of the same tfm makes a request.

    Returns:
        The errnos that were seen, 0 for success.
    """
    with subject.open() as transform:

        def told() -> Story:
            with transform.tfm.accept() as op:
                yield from story(op)
            with transform.tfm.accept() as op:
                subject.works(op)

        return inject.walk(told, allowed)
