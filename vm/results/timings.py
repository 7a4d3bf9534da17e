"""How long tests took, by function: what ``--shard`` balances parts of the suite by.

``python -m vm results RUN… --format timings >tests/timings.json``. Seconds are means of what the cases took on all
kernels of the runs; only their ratios matter, so any machine's will do.
"""

from __future__ import annotations

import json
from statistics import fmean

from vm.results.model import Run

DIGITS = 3


def render(run: Run) -> str:
    """Return them as JSON: an object, seconds by the id of the function."""
    seconds: dict[str, list[float]] = {}
    for kernel in run.kernels:
        for test in kernel.tests:
            if test.verdict.ran and not test.test.startswith("machine["):
                seconds.setdefault(function(test.test), []).append(test.seconds)
    means = {name: round(fmean(times), DIGITS) for name, times in sorted(seconds.items())}
    return json.dumps(means, indent=0) + "\n"


def function(test: str) -> str:
    """Return the id of the function of a test: without its parameters."""
    path, separator, name = test.partition("::")
    return path + separator + name.partition("[")[0]
