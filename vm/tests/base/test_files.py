"""Small things done to files."""

from __future__ import annotations

import math
import time

import pytest

from vm.base import files


@pytest.mark.parametrize(
    ("ahead", "age"), [(-100, 100), (0, 0), (files.SKEW / 2, 0), (files.SKEW + 5, math.inf), (1e9, math.inf)]
)
def test_what_a_clock_dated_that_was_ahead_is_old(ahead: float, age: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert files.age(1e9 + ahead) == age
