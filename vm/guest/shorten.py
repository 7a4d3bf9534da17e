"""Finds out which steps of a program its fault does without.

    python -m vm.guest.shorten PROGRAM STEPS SECONDS LINE [KEPT…]

PROGRAM takes the places of steps that it is to leave out (vm/reproducer/writer.py) and shows its fault by LINE on
standard output and the exit status 1. Steps are left out in groups, then in smaller ones, then one by one, and again
until none can go: delta debugging (Zeller and Hildebrandt, 2002). KEPT are places that stay in any case. Prints the
places that are not needed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_FIRST_RUN = 60.0
# A program that lacks a step may wait for ever: it has some times what it took with all of them, and at least that.
_TIMES, _LEAST = 5, 1.5


def shortened(steps: Sequence[int], shows: Callable[[Sequence[int]], bool], ends: Callable[[], bool]) -> list[int]:
    """Return which of the steps can be left out together.

    Args:
        steps: that may be.
        shows: whether the fault is there without these.
        ends: whether time is up: then what has been found is good enough.
    """
    left: list[int] = []
    again = True
    while again and not ends():
        again = False
        size = max(len(steps) - len(left), 1)
        while size and not ends():
            # From the end: what comes last is needed by nothing behind it.
            rest = [step for step in reversed(steps) if step not in left]
            for at in range(0, len(rest), size):
                group = rest[at : at + size]
                if ends():
                    break
                if shows([*left, *group]):
                    left += group
                    again = True
            size = (size + 1) // 2 if size > 1 else 0
    return sorted(left)


def main(arguments: Sequence[str]) -> int:
    """Print what is not needed; return 0, or 1 when the program does not show its fault at all."""
    program, count, seconds, line, *kept = arguments
    due = time.monotonic() + float(seconds)

    limit = _FIRST_RUN

    def shows(left: Sequence[int]) -> bool:
        command = [program, *map(str, left)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 1 and done.stdout.decode(errors="replace").strip() == line

    began = time.monotonic()
    if not shows([]):
        return 1
    limit = max(_LEAST, _TIMES * (time.monotonic() - began))
    may_go = [step for step in range(int(count)) if str(step) not in kept]
    print(" ".join(map(str, shortened(may_go, shows, lambda: time.monotonic() > due))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
