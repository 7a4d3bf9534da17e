"""Say what to write where pytest would only say "unrecognized arguments: --kernel".

pytest finds this plugin by its entry point (pyproject.toml beside it); it knows no other of ours when the command line
had it take another directory for its root. It is installed apart from the project, and imports nothing of it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

# The environment is made as .venv in the project's directory (vm/setup.sh).
PROJECT = Path(sys.prefix).parent
# The options of the runner that a path may follow (vm/run/plugin.py).
OPTIONS = ("--kernel", "--results", "--qemu")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> Generator[None, object, object]:
    """Look at the command line once it is clear that the runner's plugin was not found.

    Raises:
        pytest.UsageError: an option of the runner is among ``args``, and nobody declared it.
    """
    result = yield
    ours = [word for word in args if word.partition("=")[0] in OPTIONS]
    if ours and not early_config.pluginmanager.has_plugin("vm.run.plugin"):
        raise pytest.UsageError(advice(args, ours))
    return result


def advice(args: Sequence[str], ours: Sequence[str]) -> str:
    """Return what to write instead of ``args``; ``ours`` are those among them that begin an option of the runner."""
    for option, value in itertools.pairwise(args):
        if option in OPTIONS and Path(value).exists():
            return f"write {option}={value}, in one word: pytest takes a path that stands alone for a test"
    where = f"call it in {PROJECT} or below that, and give the paths of what lies elsewhere"
    return f"pytest found no settings of this suite, and does not know {ours[0]}: {where}"
