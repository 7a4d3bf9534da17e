"""``python -m vm test``: pytest with kernels, options and values in any form."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base.command import command
from vm.base.errors import UsageError

VALUED = (
    *(
        "--kernel",
        "--kernels",
        "--then",
        "--vms",
        "--vms-at-once",
        "--vm-cpus",
        "--vm-memory",
        "--accel",
        "--profile",
        "--cpu",
        "--root",
        "--root-packages",
        "--root-suite",
    ),
    *("--boot-deadline", "--test-deadline", "--vm-deadline", "--vm-restarts", "--kernel-argument"),
    *("--qemu", "--results", "--shard", "--resume", "--stream", "--vm-command", "--reproducers"),
)
"""The runner's options that take a value (vm/run/plugin.py, and main below). pytest takes a word that is an existing
path for a test, even where it is the value of an option that it does not know yet, and moves its root there."""


RUNNING = "running"


@command
def main(arguments: Sequence[str]) -> int:
    """Run pytest on ``arguments``; without a kernel on the newest packaged one. Returns pytest's exit status.

    Two options are for make: ``--kernels TEXT``, every kernel in one word; and ``--then MODULE``, whose
    ``main([RESULTS.json])`` shows the results when the run came to its end. Its exit status counts when pytest's is 0.

    Raises:
        UsageError: a difference is asked for, and there are no two kernels.
    """
    return run_tests(arguments)[0]


def run_tests(arguments: Sequence[str]) -> tuple[int, Path | None]:
    """Run pytest as :func:`main`; return its exit status, and the directory of results, None when there is none.

    Raises:
        UsageError: as :func:`main`.
    """
    words = [word for given in joined(arguments) for word in _each_kernel(given)]
    # What people type where there is no make.
    words = ["--kernel=running" if word == RUNNING and not Path(word).exists() else word for word in words]
    from vm.run import resume

    if again := [word.partition("=")[2] for word in words if word.startswith("--resume=")]:
        words = [*resume.words(Path(again[0])), *words]
    views = [word.partition("=")[2] for word in words if word.startswith("--then=")]
    words = [word for word in words if not word.startswith("--then=")]
    if not any(word.startswith("--kernel=") for word in words):
        words.insert(0, "--kernel=")
    kernels = {word for word in words if word.startswith("--kernel=")}
    if "vm.results.diff" in views and len(kernels) < 2:
        raise UsageError("a difference takes two kernels that are not the same: make diff A=6.1 B=6.12")
    run = Run()
    status = int(pytest.main(words, plugins=[run]))
    for module in views if status <= pytest.ExitCode.TESTS_FAILED and run.directory else ():
        print(flush=True)
        viewed = importlib.import_module(module).main([f"{run.directory}/results.json"])
        status = status or int(viewed or 0)
    return status, run.directory


class Run:
    """Remembers where results are: ``latest`` may be those of another run by the time it is looked at."""

    def __init__(self) -> None:
        self.directory: Path | None = None

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        controller: Any = session.config.pluginmanager.get_plugin("vm-controller")
        if hasattr(controller, "session"):  # none collects only
            self.directory = controller.session.plan.directory


def _each_kernel(word: str) -> list[str]:
    if not word.startswith("--kernels="):
        return [word]
    from vm.kernels.spec import several

    return [f"--kernel={spec}" for spec in several(word.partition("=")[2])]


def joined(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with ``--kernel SPEC`` and the like written ``--kernel=SPEC``."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        value = next(rest, None) if word in VALUED else None
        words.append(word if value is None else f"{word}={value}")
    return words
