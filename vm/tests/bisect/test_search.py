"""The search for the change: in the fewest steps, around what cannot be judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vm.bisect.judge import Judgement
from vm.bisect.search import Change, estimate, search


@pytest.mark.parametrize("count", [2, 3, 4, 9, 30])
@pytest.mark.parametrize("first", ["good", "bad"])
def test_the_search_finds_every_change_in_the_fewest_steps(count: int, first: str) -> None:
    last = {"good": "bad", "bad": "good"}[first]
    for change in range(1, count):
        asked: list[int] = []
        found = search(count, answering(lambda i, at=change: first if i < at else last, asked), first, last)  # type: ignore[misc]
        assert found == Change(change - 1, change)
        assert len(asked) <= estimate(count)


def test_the_search_goes_around_what_cannot_be_judged() -> None:
    asked: list[int] = []
    found = search(
        9, answering(lambda i: "skip" if i in (3, 4, 5) else "good" if i < 4 else "bad", asked), "good", "bad"
    )
    assert found == Change(2, 6, (3, 4, 5))
    found = search(9, answering(lambda i: "skip" if i == 4 else "good" if i < 7 else "bad", asked), "good", "bad")
    assert found == Change(6, 7)


def test_the_search_stops_when_the_machine_fails() -> None:
    assert search(9, answering(lambda _: "stop", []), "good", "bad") is None


def answering(answer: Callable[[int], str], asked: list[int]) -> Callable[[int], Judgement]:
    def ask(index: int) -> Judgement:
        asked.append(index)
        return Judgement(answer(index), "")

    return ask
