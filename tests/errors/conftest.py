"""For every test of this folder: nothing is left behind. And fixtures of several files."""

from __future__ import annotations

from tests.errors.leaks import (
    _default_generator,
    _no_garbage_of_others,
    _nothing_left_behind,
    lost_memory,
    pytest_runtest_call,
)
from tests.errors.limits import set_limit

__all__ = [
    "_default_generator",
    "_no_garbage_of_others",
    "_nothing_left_behind",
    "lost_memory",
    "pytest_runtest_call",
    "set_limit",
]
