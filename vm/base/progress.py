"""What long work tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with one line, without its end, whenever there is something to say."""
