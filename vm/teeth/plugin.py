"""The one option that a run of teeth adds to the runner's."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare it."""
    parser.getgroup("vm").addoption(
        "--teeth", dest="vm_teeth", metavar="FILE", help="what to change (vm/teeth/plan.py)"
    )
