"""For every test of this folder: failures on request, and nothing left behind."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.doctor import absence
from tests.errors.leaks import _no_garbage_of_others, _nothing_left_behind, lost_memory, pytest_runtest_call
from tests.faults.inject import Injector, available
from tests.need import lacking

__all__ = ["_no_garbage_of_others", "_nothing_left_behind", "lost_memory", "pytest_runtest_call"]

_KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
_OURS = ("af_alg", "hash_", "skcipher", "aead", "rng_", "alg_", "crypto_")


@pytest.fixture
def inject(_kernel_memory: None) -> Iterator[Injector]:
    """Give the means to have one allocation or copy fail, or skip the test where the kernel lacks it."""
    if not available():
        lacking(absence.FAULT_INJECTION)
    injector = Injector()
    yield injector
    injector.close()


@pytest.fixture(scope="session")
def _kernel_memory() -> Generator[None, None, None]:
    """Where the kernel looks for lost memory (kernel document dev-tools/kmemleak.rst): none of AF_ALG's at the end."""
    try:
        _KMEMLEAK.write_text("clear")
    except OSError:
        yield
        return
    yield
    # What a register or a stack still held at the first scan is not held at the second.
    for _ in range(2):
        _KMEMLEAK.write_text("scan")
    lost = [report for report in _KMEMLEAK.read_text().split("unreferenced object") if _is_ours(report)]
    assert not lost, f"{len(lost)} objects are lost, the first:{lost[0]}"


def _is_ours(report: str) -> bool:
    return any(name in report for name in _OURS)
