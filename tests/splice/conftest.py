"""For the tests of this folder: algorithms are loaded at once where a test asks for it; and nothing is left behind,
pages that stay pinned included."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.algorithms.conftest import everything_loaded
from tests.errors.held import held
from tests.errors.leaks import LostMemory, _default_generator, check_nothing_left, collect_garbage, lost_memory
from tests.requests.pins import check_nothing_pinned, pinned

__all__ = ["_default_generator", "everything_loaded", "lost_memory"]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind(_default_generator: None, lost_memory: LostMemory) -> Generator[None, None, None]:
    """Fail the last test of a file after which something is still held: to look after each would double their cost."""
    collect_garbage()
    before, pins = held(), pinned()
    lost_memory.forget()
    yield
    check_nothing_left(before, lost_memory)
    check_nothing_pinned(pins)
