"""Random cases, by hypothesis, which is imported only when a test needs it: in an emulated guest that takes seconds.

A default run tries the same few cases every time. ``--thorough`` tries many others each time; a failure says the seed,
and ``--hypothesis-seed=N`` repeats it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from unittest.mock import patch

import pytest

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_Case = TypeVar("_Case")

FEW, MANY = 8, 150


def explore(label: str, strategy: SearchStrategy[_Case], check: Callable[[_Case], None], config: pytest.Config) -> None:
    """Call ``check`` with cases of ``strategy``; of one that fails, hypothesis looks for the smallest and shows it.

    Args:
        label: what is tested, an algorithm's name: chooses the cases of a default run.
    """
    import hypothesis
    from hypothesis.internal.conjecture import providers

    thorough = config.getoption("thorough", False)
    seed = chosen_seed(label, config.getoption("hypothesis_seed", None), thorough)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=MANY if thorough else FEW,
        database=None,
        # An emulated machine is slow now and then, which says nothing about the kernel.
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @hypothesis.given(strategy)
    def holds(case: _Case) -> None:
        try:
            check(case)
        except Exception as error:
            # Also what says which errors are alike: hypothesis keeps the case that is smallest.
            raise AssertionError(f"{label}: {error or type(error).__name__}\n  with {case!r}{again}") from error

    again = f"\n  repeat with --thorough --hypothesis-seed={seed}" if thorough else ""
    print(f"{label}: seed {seed}")
    # Hypothesis would read numbers to try out of the source of every module that is loaded: cases would depend on which
    # those are, and an emulated guest takes seconds to read them.
    with patch.object(providers, "_get_local_constants", lambda: providers._local_constants):
        holds()


def chosen_seed(label: str, given: str | int | None, thorough: bool) -> int:
    """Return the seed: what was given, something new in a thorough run, else always the same for a label."""
    if thorough:
        return int.from_bytes(os.urandom(4), "big") if given in (None, "random") else int(given)
    return zlib.crc32(label.encode())
