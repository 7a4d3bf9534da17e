"""Random cases: the same every time, others when asked for, and the smallest that fails; and the models themselves."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.algorithms.explore import FEW, chosen_seed, explore
from tests.algorithms.models import HashModel, SkcipherModel


class Options:
    """What explore asks of pytest's configuration."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def getoption(self, name: str, default: Any = None) -> Any:
        return self._options.get(name, default)


def cases(label: str, **options: Any) -> list[list[int]]:
    seen: list[list[int]] = []
    explore(label, st.lists(st.integers(), max_size=9), seen.append, Options(**options))  # type: ignore[arg-type]
    return seen


@pytest.mark.deadline(120)
def test_default_run_tries_the_same_few_cases() -> None:
    assert cases("sha256") == cases("sha256")
    assert cases("sha256") != cases("sha512")
    assert len(cases("sha256")) == FEW


@pytest.mark.deadline(120)
def test_thorough_run_tries_others_each_time_and_a_seed_repeats_them() -> None:
    assert cases("sha256", thorough=True) != cases("sha256", thorough=True)
    first, second = (cases("sha256", thorough=True, hypothesis_seed="77") for _ in range(2))
    assert first == second
    assert chosen_seed("any", None, thorough=True) != chosen_seed("any", None, thorough=True)


@pytest.mark.deadline(120)
def test_failure_shows_the_smallest_case_and_how_to_repeat_it() -> None:
    def check(case: list[int]) -> None:
        if len(case) >= 2:
            raise OSError(5, "Input/output error")

    options = Options(thorough=True, hypothesis_seed="5")
    with pytest.raises(AssertionError) as caught:
        explore("sha256", st.lists(st.integers(), max_size=9), check, options)  # type: ignore[arg-type]
    assert "Input/output error" in str(caught.value)
    assert "with [0, 0]" in str(caught.value)
    assert "--hypothesis-seed=5" in str(caught.value)


def test_model_of_a_hash() -> None:
    model = HashModel(lambda message: hashlib.md5(message, usedforsecurity=False).digest())
    model.send(b"ab", more=True)
    clone = model.clone()
    model.send(b"c", more=False)
    assert model.clone().recv(16).hex() == "d41d8cd98f00b204e9800998ecf8427e"  # of nothing: a result is not copied
    assert model.recv(3).hex() == "900150"
    assert model.recv(16).hex() == "d41d8cd98f00b204e9800998ecf8427e"
    assert clone.recv(16).hex() == "187ef4436122d1cc2f40dc2b92f0eba0"


@pytest.mark.parametrize(
    ("waiting", "more", "size", "expected"),
    [
        (70, True, 100, 64),  # the rest may yet become a whole block
        (70, False, 100, 70),
        (70, False, 70, 70),
        (70, False, 20, 16),
        (70, True, 15, 0),
        (15, True, 64, 0),
        (0, False, 64, 0),
    ],
)
def test_model_of_a_skcipher(waiting: int, more: bool, size: int, expected: int) -> None:
    model = SkcipherModel(16)
    model.send(waiting, more)
    assert model.recv(size) == expected
    assert model.waiting == waiting - expected
