"""``python -m vm test``: pytest with kernels, to be called from the project's directory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vm.base.command import command

# Options whose value is a kernel or a path. pytest takes a word that is an existing path for a test, even where it
# is the value of an option, and moves its root directory there: so they are handed on as one word.
JOINED = ("--kernel", "--results", "--qemu")


@command
def main(arguments: Sequence[str]) -> int:
    """Run pytest on ``arguments``; without ``--kernel`` on the newest packaged one. Returns pytest's exit status."""
    words = joined(arguments)
    if not any(word.startswith("--kernel=") for word in words):
        words.insert(0, "--kernel=")
    return int(pytest.main(words))


def joined(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with ``--kernel SPEC`` and the like written ``--kernel=SPEC``."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        value = next(rest, None) if word in JOINED else None
        words.append(word if value is None else f"{word}={value}")
    return words
