"""Fixtures of the tests of the runner."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vm.tests import archive
from vm.tests.apt_machine import Machine, nobody
from vm.tests.archive import World
from vm.tests.bisection import Field
from vm.tests.harness import Project

KNOWN_ISSUES = """\
[[issue]]
fix = "0123456789ab"
title = "crypto: mend"
name = "Broken"
cve = "CVE-2026-1"
introduced = ["5.0"]
fixed = ["6.1.10", "6.5"]
fails = ["^AssertionError: it is broken$"]

[[issue]]
fix = "ba9876543210"
title = "crypto: stand up"
introduced = ["2.6.38"]
fixed = ["6.1.10", "99.0"]
fails = ["^AssertionError: it fell over$"]
crashes = ["NULL pointer dereference: af_alg_fake_oops < "]
"""
"""One issue of some kernels before 6.5, and one of nearly all, the running one too, which takes them down."""


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Have what the tests start obey signals: what a shell starts in the background ignores Ctrl-C, nohup(1) SIGHUP."""
    usual: dict[signal.Signals, signal.Handlers | Callable[[int, FrameType | None], Any]] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.getsignal(number) for number in usual}
    for number, handler in usual.items():
        if before[number] == signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, old in before.items():
        signal.signal(number, old)


@pytest.fixture(scope="session", autouse=True)
def outside_of_make() -> Iterator[None]:
    """Have a make that the tests start not take itself for a part of ``make check``, with the variables given there."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GNUMAKEFLAGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty scratch project."""
    return Project(tmp_path)


@pytest.fixture
def project_with_issues(tmp_path: Path) -> Project:
    """Return an empty scratch project that knows KNOWN_ISSUES."""
    made = Project(tmp_path / "project")
    (made.directory / "known.toml").write_text(KNOWN_ISSUES)
    with (made.directory / "pytest.ini").open("a") as file:
        file.write("known_issues = known.toml\n")
    return made


@pytest.fixture(scope="session")
def mirror() -> Iterator[World]:
    """Give a mirror; who changes it puts it back."""
    for root in archive.temporary_root():
        world = archive.build(root, archive.CONTENT)
        archive.spoil(world)
        yield world


@pytest.fixture
def passable() -> Iterator[Path]:
    """Give a directory that apt's own user can reach."""
    yield from archive.temporary_root()


@pytest.fixture
def machine(mirror: World, passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose apt knows the mirror."""
    return Machine(mirror, passable, monkeypatch)


@pytest.fixture
def cut_off(mirror: World, passable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine that cannot reach the mirror."""
    with nobody() as address:
        yield Machine(archive.served_by(mirror, address, passable / "world"), passable, monkeypatch)


@pytest.fixture
def field(project: Project) -> Field:
    """Return a scratch project to bisect in."""
    return Field(project)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole runs the time they need: the runner's own plugin watches here as well."""
    for item in items:
        if "project" in getattr(item, "fixturenames", ()) and item.get_closest_marker("deadline") is None:
            item.add_marker(pytest.mark.deadline(300))
