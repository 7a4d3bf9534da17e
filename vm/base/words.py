"""Words of messages."""

from __future__ import annotations


def last_line(*texts: str) -> str:
    """Return the last line of the first text that has any: of what a program said before it failed."""
    return next((text.strip().splitlines()[-1] for text in texts if text.strip()), "it does not say why")


def plural(number: int, noun: str) -> str:
    """Return a number of things: ``1 test``, ``2 tests``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
