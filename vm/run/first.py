"""Tests that were bad the last time run first: a red comes early, and ``-x`` and who watches have it at once."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from vm.results import events
from vm.results.model import Verdict


def previous(directory: Path) -> Path | None:
    """Return the run that ``latest`` names beside a new one, None for none."""
    latest = directory.parent / "latest"
    found = latest.resolve() if latest.is_symlink() else None
    return found if found is not None and found != directory.resolve() and found.is_dir() else None


def bad(run: Path, labels: Collection[str]) -> dict[str, frozenset[str]]:
    """Return by kernel the ids, without the kernel, of tests that a run has a bad verdict about.

    Of a kernel that was not in that run it is what was bad on any: the next build of a tree has another name. Only the
    lines of bad tests are decoded, since this is read before any machine boots.

    Args:
        run: its directory; what cannot be read there counts as nothing.
        labels: names of the kernels of the new run.
    """
    seen: dict[str, set[str]] = {}
    try:
        with open(run / events.NAME, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"test ended"' in line[:40]:
                    _note(line, seen)
    except OSError:
        return {}
    everywhere = frozenset().union(*seen.values())
    return {label: frozenset(seen[label]) if label in seen else everywhere for label in labels}


_GOOD = tuple(f'"verdict": "{verdict.value}"' for verdict in Verdict if not verdict.ran or verdict.good)


def _note(line: str, seen: dict[str, set[str]]) -> None:
    """Note the kernel of one event, and its test if that was bad."""
    kernel = line[:400].partition('"kernel": "')[2].partition('"')[0]
    found = seen.setdefault(kernel, set())
    if any(word in line for word in _GOOD):
        return
    try:
        found.add(str(json.loads(line)["result"]["test"]))
    except (ValueError, KeyError, TypeError):
        return  # half a line: that run was killed while it wrote
