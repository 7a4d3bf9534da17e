"""For every test of this folder: nothing is left behind, and no page of the caller stays pinned."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.afalg.uring import Ring
from tests.errors.leaks import _no_garbage_of_others, _nothing_left_behind, lost_memory, pytest_runtest_call
from tests.need import need_ring
from tests.requests.pins import check_nothing_pinned, pinned


@pytest.fixture(autouse=True)
def _no_page_stays_pinned() -> Generator[None, None, None]:
    before = pinned()
    yield
    check_nothing_pinned(before)


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Give an io_uring, or skip the test where there is none."""
    with need_ring(32) as made:
        yield made


__all__ = [
    "_no_garbage_of_others",
    "_no_page_stays_pinned",
    "_nothing_left_behind",
    "lost_memory",
    "pytest_runtest_call",
]
