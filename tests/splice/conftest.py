"""For every test of this folder: algorithms are loaded at once where a test asks for it."""

from __future__ import annotations

from tests.algorithms.conftest import everything_loaded

__all__ = ["everything_loaded"]
