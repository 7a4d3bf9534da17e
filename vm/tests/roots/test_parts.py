"""What roots are made of: which pins hold in them, and that a root is another one when its parts are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.roots import parts

OWN = arch.default()
NEWEST, OLDER = parts.Release("new", "3.13", 41), parts.Release("old", "3.10", 31)
PINS = """\
# made by a program
both==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via something
Only_Old==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:cc
windows==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:dd
"""


@pytest.fixture(autouse=True)
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a file of pins of our own."""
    path = tmp_path / "guest.txt"
    path.write_text(PINS)
    monkeypatch.setattr(parts, "REQUIREMENTS", path)
    return path


def test_pins_are_judged_by_the_python_of_the_root_and_keep_their_hashes() -> None:
    both = "both==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    assert parts.requirements(NEWEST, OWN) == both
    assert parts.requirements(OLDER, OWN) == f"{both}Only_Old==2.0 \\\n    --hash=sha256:cc\n"


def test_what_has_no_wheel_comes_as_a_package() -> None:
    import dataclasses

    row = dataclasses.replace(OWN, without_wheel={"both": "python3-both"})
    assert parts.requirements(NEWEST, row) == ""
    assert parts.packages(NEWEST, row)[-2:] == ["python3.13", "python3-both"]


def test_names_are_compared_as_the_package_index_does() -> None:
    assert parts.pinned() == {"both", "only-old", "windows"}


def test_a_root_with_more_packages_is_another_one_and_the_usual_stays_as_it_is() -> None:
    usual = parts.key(OWN)
    more = parts.Extra(("iwd",))
    assert parts.key(OWN, parts.NOTHING) == usual
    assert len({usual, parts.key(OWN, more), parts.key(OWN, parts.Extra(("iwd",), "sid"))}) == 3


def test_a_root_is_made_of_the_release_that_is_asked_for() -> None:
    assert parts.NOTHING.releases == parts.RELEASES
    assert [release.suite for release in parts.Extra(suite="bookworm").releases] == ["bookworm"]
    assert parts.Extra(suite="sid").releases == (parts.ROLLING,)
    with pytest.raises(UsageError, match="no root is made of 'etch'; there are trixie, bookworm, sid"):
        _ = parts.Extra(suite="etch").releases


def test_another_pin_makes_another_root(pins: Path) -> None:
    before = parts.key(OWN)
    pins.write_text(PINS.replace("both==1.0", "both==1.1"))
    assert parts.key(OWN) != before
    pins.write_text(PINS)
    assert parts.key(OWN) == before
    assert len({parts.key(row) for row in arch.ARCHITECTURES}) == len(arch.ARCHITECTURES)


def test_a_line_that_is_no_pin_is_one_error(pins: Path) -> None:
    pins.write_text("https://example.test/x.whl nonsense ;;\n")
    with pytest.raises(UsageError, match="expected pins with hashes"):
        parts.pinned()


@pytest.mark.parametrize("row", arch.ARCHITECTURES, ids=lambda row: row.name)
def test_wheels_of_an_architecture_are_asked_for_by_its_name(row: arch.Architecture) -> None:
    assert all(tag.startswith("manylinux") and tag.endswith(f"_{row.wheels}") for tag in parts.platforms(NEWEST, row))
    assert f"manylinux_2_17_{row.wheels}" in parts.platforms(NEWEST, row)
    # A wheel for a newer C library does not load.
    assert f"manylinux_2_41_{row.wheels}" in parts.platforms(NEWEST, row)
    assert f"manylinux_2_32_{row.wheels}" not in parts.platforms(OLDER, row)
