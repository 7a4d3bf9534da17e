"""The cases of spliced data: what is kept is what would be made, and has every pair it should have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest

from tests.splice import cases
from tests.splice.cases import FACTORS, RULES, Case


@pytest.mark.deadline(60)
def test_the_file_is_what_would_be_made() -> None:
    """Otherwise: python -m tests.splice.cases."""
    assert cases.covering() == cases.make_covering()


@pytest.mark.deadline(60)
def test_every_pair_that_goes_together_is_covered() -> None:
    """What is not covered is in no case that is allowed."""
    covered = {pair for case in cases.covering() for pair in itertools.combinations(enumerate(case), 2)}
    levels = [[(at, level) for level in each] for at, each in enumerate(FACTORS.values())]
    pairs = {pair for two in itertools.combinations(levels, 2) for pair in itertools.product(*two)}
    for pair in pairs - covered:
        assert not any(map(cases.allowed, with_pair(pair))), f"not covered: {pair}"
    assert {level for pair in covered for level in pair} == {level for each in levels for level in each}
    assert all(map(cases.allowed, cases.covering()))


def with_pair(pair: Iterable[tuple[int, str]]) -> Iterator[Case]:
    """Yield every case with these two levels, unless a rule about just these two says no."""
    chosen = dict(pair)
    names = {list(FACTORS)[at]: level for at, level in chosen.items()}
    for rule in RULES:
        if names.keys() >= set(rule.factors) and not rule.holds(*(names[factor] for factor in rule.factors)):
            return
    levels = [[chosen[at]] if at in chosen else each for at, each in enumerate(FACTORS.values())]
    yield from itertools.starmap(Case, itertools.product(*levels))


def test_ids_are_unique() -> None:
    ids = [str(case) for case in cases.covering()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why)
def test_each_rule_excludes_something_that_the_others_allow(rule: cases.Rule) -> None:
    """Or it says nothing."""
    others = [other for other in RULES if other is not rule]
    for levels in itertools.product(*FACTORS.values()):
        row = dict(zip(FACTORS, levels, strict=True))
        if not rule.holds(*(row[f] for f in rule.factors)) and all(
            o.holds(*(row[f] for f in o.factors)) for o in others
        ):
            return
    raise AssertionError(f"nothing is excluded by this alone: {rule.why}")
