"""The distribution's source trees: found, fetched and cached as packaged kernels are."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels.build import sources
from vm.tests import archive
from vm.tests.apt_machine import Machine, forbid_apt

pytestmark = pytest.mark.deadline(120)

MAKEFILE = b"VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = %s\nEXTRAVERSION =\n"


def source(version: str) -> archive.Deb:
    """Return a package linux-source-6.12 of ``version``, as Debian's: a packed tree."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        content = MAKEFILE % version.split("-")[0].rpartition(".")[2].encode()
        entry = tarfile.TarInfo("linux-source-6.12/Makefile")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive.Deb("linux-source-6.12", version, {"usr/src/linux-source-6.12.tar.xz": packed.getvalue()})


@pytest.fixture
def sourced(passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose mirror has two sources."""
    content: dict[str, Sequence[archive.Deb]] = {
        "debian bookworm": [source("6.12.20-1"), source("6.12.30-1")],
        "debian-security bookworm-security": [],
    }
    world = archive.build(passable, content)
    (passable / "machine").mkdir()
    return Machine(world, passable / "machine", monkeypatch)


def test_the_newest_tree_is_fetched_once(sourced: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = sources.fetch("6.12", sourced.said)
    assert (tree.release, tree.version, tree.label, tree.fixed) == ("6.12.30", "6.12.30-1", "6.12.30-src", True)
    assert (tree.path / "Makefile").read_bytes() == MAKEFILE % b"30"
    forbid_apt(monkeypatch)
    assert sources.fetch("6.12.30", sourced.said) == tree, "an exact version"
    monkeypatch.setenv("AFALG_OFFLINE", "1")
    assert sources.fetch("bookworm/", sourced.said) == tree


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("6.13", r"no kernel source matches '6.13' in bookworm, bookworm-security; newest is 6.12.30 .*SUITE/VERSION"),
        ("bookworm/6.12.25", r"no kernel source matches '6.12.25' in bookworm; nearest is 6.12.30, newest is 6.12.30"),
    ],
)
def test_a_version_that_is_not_there_is_refused(sourced: Machine, spec: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        sources.fetch(spec, sourced.said)
