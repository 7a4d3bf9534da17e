"""The walk over injected failures sees what it must: wrong errnos, wrong ends of a story, what is left behind."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.faults import inject
from tests.faults.inject import NO_MEMORY, Ended, Injector, Story


class Scripted(Injector):
    """Has the call end as the script says, one entry a place; after the last it succeeds with nothing injected."""

    def __init__(self, *script: int) -> None:
        self.script = script

    def attempt(self, n: int, call: Callable[[], object]) -> Ended:
        value = call()
        return Ended(self.script[n - 1], value, True) if n <= len(self.script) else Ended(0, value, False)


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "_held", lambda: (0, ""))
    monkeypatch.setattr(inject, "_SETTLE_SECONDS", 0.0)


def story() -> Story:
    yield lambda: None


def test_a_walk_goes_on_until_nothing_is_injected() -> None:
    told: list[tuple[int, object, bool]] = []

    def counted() -> Story:
        ended = yield lambda: len(told)
        told.append((ended.errno, ended.value, ended.injected))

    assert Scripted(errno.ENOMEM, 0).walk(counted, NO_MEMORY) == {0, errno.ENOMEM}
    assert told == [(errno.ENOMEM, 0, True), (0, 1, True), (0, 2, False)]


def test_an_errno_that_is_not_allowed_fails() -> None:
    with pytest.raises(AssertionError, match="place 2: EIO; allowed are success, ENOMEM"):
        Scripted(errno.ENOMEM, errno.EIO).walk(story, NO_MEMORY)


def test_an_error_with_nothing_injected_fails() -> None:
    class Broken(Scripted):
        def attempt(self, n: int, call: Callable[[], object]) -> Ended:
            return Ended(errno.ENOMEM, None, False)

    with pytest.raises(AssertionError, match="ENOMEM with no failure injected"):
        Broken().walk(story, NO_MEMORY)


@pytest.mark.parametrize("wrong", [AssertionError("not as it was"), OSError(errno.EBUSY, "still in use")], ids=str)
def test_what_a_story_finds_afterwards_is_told_with_the_place(wrong: Exception) -> None:
    def broken() -> Story:
        ended = yield lambda: None
        if ended.errno:
            raise wrong

    with pytest.raises(AssertionError, match=r"after place 1, ENOMEM: .*(as it was|in use)"):
        Scripted(errno.ENOMEM).walk(broken, NO_MEMORY)


def test_what_is_left_behind_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(100))
    monkeypatch.setattr(inject, "_held", lambda: (next(counts), ""))
    with pytest.raises(AssertionError, match="place 1: left behind"):
        Scripted(errno.ENOMEM).walk(story, NO_MEMORY)


def test_a_walk_without_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "MOST_PLACES", 3)
    with pytest.raises(AssertionError, match="no end after 3 places"):
        Scripted(*[errno.ENOMEM] * 10).walk(story, NO_MEMORY)


def test_a_story_that_yields_twice_fails() -> None:
    def twice() -> Story:
        yield lambda: None
        yield lambda: None

    with pytest.raises(AssertionError, match="a story yields once"):
        Scripted(errno.ENOMEM).walk(twice, NO_MEMORY)
