"""Words of messages."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """Return a number of things: ``1 test``, ``2 tests``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
