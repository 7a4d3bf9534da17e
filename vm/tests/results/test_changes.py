"""The classes of change between two verdicts."""

from __future__ import annotations

import itertools

import pytest

from vm.results.changes import Change, change
from vm.results.model import Verdict

P, F, K, S, N, C = (
    Verdict.PASSED,
    Verdict.FAILED,
    Verdict.KNOWN,
    Verdict.SKIPPED,
    Verdict.NOT_RUN,
    Verdict.CRASHED,
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (P, F, Change.REGRESSION),
        (P, K, Change.REGRESSION),
        (P, C, Change.REGRESSION),
        (F, P, Change.FIXED),
        (K, P, Change.FIXED),
        (K, C, Change.STILL_FAILING),
        (S, F, Change.NEW_FAILURE),
        (None, F, Change.NEW_FAILURE),
        (N, P, Change.NEW_PASS),
        (None, P, Change.NEW_PASS),
        (None, S, Change.APPEARED),
        (P, N, Change.DISAPPEARED),
        (F, None, Change.DISAPPEARED),
        (S, None, Change.DISAPPEARED),
        (P, P, None),
        (S, N, None),
        (None, None, None),
    ],
)
def test_class_of_a_change(before: Verdict | None, after: Verdict | None, expected: Change | None) -> None:
    assert change(before, after) is expected


def test_nothing_that_got_worse_is_called_well() -> None:
    well = {None, Change.FIXED, Change.NEW_PASS, Change.APPEARED, Change.DISAPPEARED}
    for before, after in itertools.product((*Verdict, None), (*Verdict, None)):
        if after is not None and after.ran and not after.good:
            assert change(before, after) not in well, (before, after)
