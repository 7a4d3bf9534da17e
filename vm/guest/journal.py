"""Which test is about to run, on the disk before it runs: tests of the machine that this Python is on may take it down.

One JSON object a line; ``boot`` tells a reboot from a run that was killed (random(4), boot_id).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

NAME = "running.jsonl"


def boot_id() -> str:
    """Return what is another after each boot, empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Journal:
    """Writes it.

    Args:
        path: of the file, which grows.
        done: ids of tests that have a verdict already and are left out.
    """

    def __init__(self, path: Path, done: frozenset[str]) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.done = done
        self.boot = boot_id()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what was run before the machine went down."""
        leave_out(config, items, self.done)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        os.write(self.descriptor, (json.dumps({"nodeid": nodeid, "boot": self.boot}) + "\n").encode())
        os.fdatasync(self.descriptor)


def leave_out(config: pytest.Config, items: list[pytest.Item], done: frozenset[str]) -> None:
    """Deselect tests, in place."""
    if left := [item for item in items if item.nodeid in done]:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item.nodeid not in done]


def last(path: Path) -> tuple[str, str]:
    """Return id and boot of the test that began last; empty when none did."""
    found = ("", "")
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            said = json.loads(line)
            found = (str(said["nodeid"]), str(said["boot"]))
        except (ValueError, KeyError, TypeError):
            continue  # the machine went down while it was written
    return found
