"""Find the neighbours between which the answer changes, among kernels in order of their versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vm.bisect.judge import Judgement


@dataclass(frozen=True)
class Change:
    """Where it changes.

    Attributes:
        before, after: indices of the neighbours; the answer of ``before`` is that of the first kernel.
        unknown: indices between them that could not be judged.
    """

    before: int
    after: int
    unknown: tuple[int, ...] = ()


def search(count: int, ask: Callable[[int], Judgement], first: str, last: str) -> Change | None:
    """Halve the kernels 0 … ``count - 1`` until the change is found; the ends are known.

    A kernel that cannot be judged is gone around: its nearest neighbours are asked instead.

    Args:
        ask: judges one kernel.
        first, last: answers of the two ends, ``good`` and ``bad`` in either order.

    Returns:
        Where it changes; None when a step had to stop.
    """
    low, high = 0, count - 1
    skipped: set[int] = set()
    while middle := _nearest(low, high, skipped):
        answer = ask(middle).answer
        if answer == "stop":
            return None
        if answer == first:
            low = middle
        elif answer == last:
            high = middle
        else:
            skipped.add(middle)
    return Change(low, high, tuple(sorted(each for each in skipped if low < each < high)))


def estimate(count: int) -> int:
    """Return how many steps halving ``count`` kernels takes, both ends known."""
    return max(count - 2, 0).bit_length()


def _nearest(low: int, high: int, skipped: Sequence[int] | set[int]) -> int:
    """Return the index nearest the middle that was not skipped, 0 when none is left."""
    middle = (low + high) // 2
    left = [each for each in range(low + 1, high) if each not in skipped]
    return min(left, key=lambda each: abs(each - middle), default=0)
