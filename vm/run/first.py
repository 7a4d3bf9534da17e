"""Which tests run first: those that were bad the last time, then those near what changed (vm/run/near.py).

So that a red comes early, and ``-x`` and who watches have it at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.words import plural
from vm.kernels.spec import Kernel
from vm.results import events
from vm.results.model import Verdict
from vm.run import near


@dataclass(frozen=True)
class First:
    """What runs before all the rest.

    Attributes:
        ranks: by kernel, of ids without the kernel, the place of each.
        lines: says so, for people.
    """

    ranks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lines: Sequence[str] = ()


def chosen(directory: Path, kernels: Sequence[Kernel], map_of_tests: Path | None) -> First:
    """Return what is to run first.

    Args:
        directory: of the new run.
        kernels: of the new run.
        map_of_tests: what vm/run/near.py knows of the project's tests, None for nothing.

    Raises:
        UsageError: that is no such map.
    """
    before = previous(directory)
    were_bad = bad(before, [kernel.name for kernel in kernels]) if before else {}
    trees = {kernel.name: tree for kernel in kernels if (tree := near.tree_of(kernel))}
    known = near.load(map_of_tests if trees else None)
    ranks, lines = {}, []
    if number := len(frozenset().union(*were_bad.values())):
        lines.append(
            f"first: {plural(number, 'test')} that the run before had as bad, if selected (not with --in-order)"
        )
    for kernel in kernels:
        functions = near.touched(known, trees[kernel.name]) if kernel.name in trees else []
        tests = near.near(known, functions)
        if tests:
            some = ", ".join(functions[:3]) + (", …" if len(functions) > 3 else "")
            lines.append(f"first: {plural(len(tests), 'test')} near what changed in the tree of {kernel.name}: {some}")
        ranks[kernel.name] = {test: 1 + place for place, test in enumerate(tests)}
        ranks[kernel.name] |= dict.fromkeys(were_bad.get(kernel.name, ()), 0)
    return First(ranks, lines)


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
