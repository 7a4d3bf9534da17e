"""Fixtures of the tests of the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.tests.harness import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty scratch project."""
    return Project(tmp_path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole runs the time they need: the runner's own plugin watches here as well."""
    for item in items:
        if "project" in getattr(item, "fixturenames", ()) and item.get_closest_marker("deadline") is None:
            item.add_marker(pytest.mark.deadline(300))
