"""What was skipped, for people: one line a kernel, with one word a kind. The list is among the results.

The file of the skip budget (vm/run/skips.py) has the kinds, too, as tables ``[[kind]]``:

    reason   regular expression that matches all of what is lacking, without its class (vm/results/absence.py)
    says     what all such reasons together are called, after their number: ``algorithms that it does not have``

Reasons of one kind are counted by their class. A reason of no kind stands for itself.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import toml
from vm.base.words import plural
from vm.results.absence import parse

WIDTH = 120


@dataclass(frozen=True)
class Kind:
    """One table."""

    reason: re.Pattern[str]
    says: str


def load(path: Path) -> list[Kind]:
    """Read the kinds.

    Raises:
        UsageError: the file cannot be read, or a table is not as described above.
    """
    return toml.tables(path, "kind", Kind, "the skip budget", "vm/run/skipped.py")


def summary(name: str, reasons: Mapping[str, int], kinds: Sequence[Kind]) -> str:
    """Return the line of a kernel, folded to WIDTH; empty when nothing was skipped.

    Args:
        name: of the kernel.
        reasons: how many tests were skipped for each.
        kinds: the first that matches a reason counts it.
    """
    if not reasons:
        return ""
    counted: Counter[str] = Counter()
    alone = []
    for reason in reasons:
        lack = parse(reason)
        why = ": ".join(filter(None, (lack.absence.value if lack.absence else "", lack.evidence)))
        kind = next((kind.says for kind in kinds if kind.reason.fullmatch(lack.what)), None)
        said = kind or re.sub(r"^kernel has no ", "no ", lack.what)
        said += f" ({why})" if why else ""
        if kind is None:
            alone.append(said)
        else:
            counted[said] += 1
    lacking = "; ".join([*(f"{number} {kind}" for kind, number in counted.items()), *sorted(alone)])
    text = f"{name}: {plural(sum(reasons.values()), 'test')} skipped: {lacking}"
    return textwrap.fill(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def listing(reasons: Mapping[str, int]) -> str:
    """Return every reason with its number of tests, a line each, those first that most tests have."""
    order = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return "".join(f"{number:6} {reason}\n" for reason, number in order)
