"""Fixtures of the algorithm tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.algorithms import modules


@pytest.fixture(scope="package")
def everything_loaded(pytestconfig: pytest.Config) -> Iterator[None]:
    """Load every crypto module at once, and in a guest keep the kernel from calling modprobe after that.

    A first bind of a name asks for modules two to six times, whether they are there or not. For some hundred
    names that is most of the time the tests take in an emulated guest, and after load_all it finds nothing.
    Other folders' tests, some of which are about just that, find it as it was.
    A machine that lives on is left alone: nobody would repair it if these tests were killed.
    """
    loaded = modules.load_all()
    with modules.no_autoload() if loaded and in_machine(pytestconfig) else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to try more cases than those likely to find something."""
    return bool(pytestconfig.getoption("thorough", False))


def in_machine(config: pytest.Config) -> bool:
    """Tell whether this is a guest of the runner, whose half of the plugin knows (vm/guest/worker.py)."""
    return any(getattr(plugin, "in_machine", False) is True for plugin in config.pluginmanager.get_plugins())
