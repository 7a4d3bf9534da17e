"""A part of the tests: ``--shard 2/5``. All parts together are all tests, each once, on every machine the same.

Tests are dealt out by the seconds that their functions took (``timings`` in the project's settings, a file that
``python -m vm results RUN --format timings`` writes), the longest first, to the part that has least; one whose time
nobody knows counts as the middle of the others. So a part depends on the tests and that file, and on nothing else.
"""

from __future__ import annotations

import argparse
import heapq
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from vm.base import files
from vm.results.timings import function
from vm.run.config import SELECTED, without_kernel


class Shard(NamedTuple):
    """The part ``number`` (from 1) of ``parts``."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"


def parse(text: str) -> Shard:
    """Return what the command line says.

    Raises:
        argparse.ArgumentTypeError: it is no ``i/n`` with i from 1 to n.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if found is None or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"expected a part as i/n, 1/3 to 3/3 for three of them, not {text!r}")
    return Shard(int(found[1]), int(found[2]))


def part(tests: Sequence[str], shard: Shard, seconds: Mapping[str, float]) -> set[str]:
    """Return those of ``tests`` that belong to one part.

    Args:
        tests: ids, without the kernel.
        shard: which.
        seconds: that a case of a function takes.
    """
    usual = median(seconds.values()) if seconds else 1.0
    weights = {test: seconds.get(function(test), usual) for test in tests}
    loads = [(0.0, number) for number in range(1, shard.parts + 1)]
    own = set()
    for test in sorted(weights, key=lambda test: (-weights[test], test)):
        load, number = heapq.heappop(loads)
        # A test takes some time even where the clock saw none: else all of them would go to one part.
        heapq.heappush(loads, (load + max(weights[test], 0.001), number))
        if number == shard.number:
            own.add(test)
    return own


def leave_out_others(config: pytest.Config, items: list[pytest.Item], shard: Shard) -> None:
    """Leave the tests of other parts out of ``items``, for each kernel apart, and note in the stash what all are."""
    ids: dict[str, dict[str, pytest.Item]] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        label = str(callspec.params.get("vm_kernel", "")) if callspec is not None else ""
        ids.setdefault(label, {})[without_kernel(item.nodeid, label)] = item
    seconds = timings(config)
    taken = {tests[test].nodeid for tests in ids.values() for test in part(list(tests), shard, seconds)}
    config.stash[SELECTED] = {label: list(tests) for label, tests in ids.items()}
    if others := [item for item in items if item.nodeid not in taken]:
        config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item.nodeid in taken]


def timings(config: pytest.Config) -> dict[str, float]:
    """Return the seconds that functions took, by the file that the project's settings name; none without one."""
    named = config.getini("timings")
    kept = files.json_of(Path(config.rootpath / named)) if named else {}
    return {name: float(seconds) for name, seconds in kept.items() if isinstance(seconds, (int, float))}
