"""The skip budget: which skips a kernel may have. A skip that nobody expects hides a failure.

The budget is a TOML file (ini option ``skip_budget``) of tables ``[[skip]]``:

    reason   regular expression that matches the whole reason of the skip
    because  why a kernel may lack it, for people
    config   symbols of the kernel's .config (without ``CONFIG_``), any of which, when not set, accounts for the skip;
             left out: the skip is always accepted
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.base import toml
from vm.kernels.build import kconfig


@dataclass(frozen=True)
class Rule:
    """One table of the budget."""

    reason: re.Pattern[str]
    because: str
    config: tuple[str, ...] = ()


def load(path: Path) -> list[Rule]:
    """Read a budget.

    Raises:
        UsageError: the file cannot be read, or a table is not as described above.
    """
    return toml.tables(path, "skip", _rule, "the skip budget", "vm/run/skips.py")


def read_config(path: Path | None) -> dict[str, str] | None:
    """Return the set symbols of a .config, None when there is no file."""
    return None if path is None or not path.is_file() else kconfig.read_config(path)


def objection(reason: str, rules: list[Rule], config: dict[str, str] | None) -> str | None:
    """Return why a skip is not acceptable, None when it is.

    Args:
        reason: what the test gave.
        rules: the budget; the first that matches decides.
        config: of the kernel; None when it is unknown, which accounts for whatever could be configured.
    """
    for rule in rules:
        if rule.reason.fullmatch(reason):
            if not rule.config or config is None or any(symbol not in config for symbol in rule.config):
                return None
            having = ", ".join(f"CONFIG_{symbol}={config[symbol]}" for symbol in rule.config)
            return f"this kernel should have it ({having})"
    return "the skip budget has no entry for this reason"


def _rule(table: dict[str, Any]) -> Rule:
    if unknown := set(table) - {"reason", "because", "config"}:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    config = table.get("config", [])
    if not table["because"] or not all(isinstance(symbol, str) for symbol in config):
        raise ValueError(f"'because' and 'config' of {table['reason']!r} must be a text and an array of texts")
    return Rule(re.compile(table["reason"]), table["because"], tuple(config))
