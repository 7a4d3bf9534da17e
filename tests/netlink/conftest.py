"""For every test of this folder: nothing is left behind."""

from __future__ import annotations

from tests.errors.leaks import (
    _default_generator,
    _no_garbage_of_others,
    _nothing_left_behind,
    lost_memory,
    pytest_runtest_call,
)

__all__ = [
    "_default_generator",
    "_no_garbage_of_others",
    "_nothing_left_behind",
    "lost_memory",
    "pytest_runtest_call",
]
