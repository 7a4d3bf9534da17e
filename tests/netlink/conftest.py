"""For every test of this folder: nothing is left behind."""

from __future__ import annotations

from tests.errors.leaks import _default_generator, _nothing_left_behind

__all__ = ["_default_generator", "_nothing_left_behind"]
