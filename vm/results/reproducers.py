"""Where the C program of a test lies that a run made (``--reproducers``), for those who point to it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

NAME = "reproducer.c"
_LONGEST = 120


def slug(test: str) -> str:
    """Return a name for files that is as good as a test's id, and another's for no other test."""
    short = re.sub(r"[^A-Za-z0-9]+", "-", test.removeprefix("tests/")).strip("-")[:_LONGEST].strip("-")
    return f"{short}-{hashlib.sha256(test.encode()).hexdigest()[:6]}"


def path(directory: Path, kernel: str, test: str) -> Path:
    """Return where the program of a test is, or would be.

    Args:
        directory: of the run.
        kernel: its name in the run.
        test: the test's id without the kernel.
    """
    return directory / "kernels" / kernel / "reproducers" / slug(test) / NAME
