"""What the runner keeps in pytest's config: which of its roles this process has, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vm.guest import expect, internals

EXPECTED = pytest.StashKey[Mapping[str, expect.Expectation]]()
"""Known issues on the kernel of this process, by commit (vm/run/known.py)."""
NOTHING_KNOWN: Mapping[str, expect.Expectation] = {}
RUN_DIRECTORY = pytest.StashKey[Path]()
"""Directory of this run's results; in the controller only."""
JUNIT = pytest.StashKey[str | None]()
"""Where the user wants JUnit's XML besides; in the controller only."""
LABELS = pytest.StashKey[list[str]]()
"""Names of the kernels; in the controller only."""

SELECTED = pytest.StashKey[dict[str, list[str]]]()
"""With ``--shard``, ids of the tests of all parts, without the kernel, by the name of the kernel."""

# Options by which pytest tells something of itself, and runs no test.
_ASKS = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")


def role(config: pytest.Config) -> str:
    """Return what this process is: ``controller``, ``worker``, ``alone``, or ``asked`` when no test is to be run."""
    if (told := internals.workerinput(config)) is not None:
        return "worker" if "vm_kernel" in told else "other worker"
    if any(getattr(config.option, name, False) for name in _ASKS):
        return "asked"
    return "controller" if config.option.vm_kernels else "alone"


def labels(config: pytest.Config) -> list[str]:
    """Return the kernels that test ids carry in this process; none without ``--kernel``."""
    match role(config), internals.workerinput(config):
        case "controller", _:
            return config.stash.get(LABELS, [])
        case "worker", {"vm_kernel": str(label)}:
            return [label]
    return []


def without_kernel(nodeid: str, label: str) -> str:
    """Return a test's id as it is on every kernel: without ``label``, the first of its parameters."""
    return nodeid.replace(f"[{label}-", "[", 1).replace(f"[{label}]", "", 1)
