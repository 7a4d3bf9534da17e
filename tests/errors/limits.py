"""Setting net.core.optmem_max, the memory one socket may take for options and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.errors import probes

SetLimit = Callable[[int], None]


@pytest.fixture
def set_limit() -> Iterator[SetLimit]:
    """Give a function that sets the limit, in bytes; what it was is there again afterwards."""
    before = probes.OPTMEM.read_text()

    def write(size: int) -> None:
        probes.OPTMEM.write_text(f"{size}\n")

    yield write
    probes.OPTMEM.write_text(before)
