"""The part of the skip budget that follows from the catalogue (``python -m tests.algorithms.skips`` writes it).

A kernel may lack an algorithm when an option it needs is not set, or FIPS mode does not approve of it, or a module is
blacklisted; and for no other reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tests.algorithms import catalogue
from tests.algorithms.catalogue.fips import APPROVED
from tests.algorithms.catalogue.symbols import GONE, symbols

BUDGET = Path(__file__).parents[1] / "skips.toml"
BEGIN = "# Below: written by `python -m tests.algorithms.skips` from tests/algorithms/catalogue; do not edit.\n"


def generated() -> str:
    """Return the rules, one for each set of options, as TOML."""
    groups: dict[tuple[tuple[str, ...], bool], list[str]] = defaultdict(list)
    lines = [BEGIN]
    for type_, rows in catalogue.by_type().items():
        for name in rows:
            if gone := GONE.get(name):
                pattern, spans = re.escape(f"{type_} {name}"), {"since": gone.since, "until": gone.until}
                lines.append(_rule(pattern, gone.because, symbols(name), fips=True, **spans))
            else:
                groups[symbols(name), name not in APPROVED].append(re.escape(f"{type_} {name}"))
    for (needed, fips), names in sorted(groups.items()):
        pattern = names[0] if len(names) == 1 else f"(?:{'|'.join(names)})"
        lines.append(_rule(pattern, "an option it needs is not set", needed, fips=fips))
    return "\n".join(lines)


def written(text: str) -> str:
    """Return the budget's text with the rules brought up to date, those written by hand first."""
    return text.partition(BEGIN)[0].rstrip("\n") + "\n\n" + generated()


def _rule(pattern: str, because: str, needed: tuple[str, ...], *, fips: bool, **spans: str) -> str:
    # re.escape also escapes what is harmless; TOML's literal strings take backslashes as they are.
    text = f"[[skip]]\nreason = 'kernel has no {pattern}'\nbecause = \"{because}\"\n"
    quoted = ", ".join(f'"{symbol}"' for symbol in needed)
    text += "".join(f'{word} = ["{version}"]\n' for word, version in spans.items() if version)
    return text + (f"config = [{quoted}]\n" if needed else "") + "fips = true\n" * fips


if __name__ == "__main__":
    BUDGET.write_text(written(BUDGET.read_text()))
