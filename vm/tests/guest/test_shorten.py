"""Leaving out steps: what is needed stays, and nothing else does."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vm.guest.shorten import main, shortened


@pytest.mark.parametrize("needed", [set(), {0}, {3, 17}, {39}, set(range(40))], ids=str)
def test_only_what_is_needed_stays(needed: set[int]) -> None:
    def shows(left: Sequence[int]) -> bool:
        return not needed & set(left)

    assert set(shortened(range(40), shows, lambda: False)) == set(range(40)) - needed


def test_what_only_goes_together_goes() -> None:
    """A step whose absence needs that of another: socket and close."""

    def shows(left: Sequence[int]) -> bool:
        return (1 in left) == (2 in left) and 0 not in left

    assert shortened(range(3), shows, lambda: False) == [1, 2]


def test_when_time_is_up_what_was_found_stays() -> None:
    assert shortened(range(40), lambda _: True, lambda: True) == []


def test_a_program_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows its fault as long as steps 1 and 4 are there; 0 must stay, by order."""
    program = tmp_path / "program"
    # A path with a space cannot stand behind "#!".
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{tmp_path}/it.py' \"$@\"\n")
    (tmp_path / "it.py").write_text(
        "import sys\nleft = set(sys.argv[1:])\nif left & {'1', '4'}:\n    print('as expected')\n"
        "    sys.exit(0)\nprint('recvmsg: wrong')\nsys.exit(1)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert main([str(program), "6", "60", "recvmsg: wrong", "0"]) == 0
    assert capsys.readouterr().out.split() == ["2", "3", "5"]
    assert main([str(program), "6", "60", "something else"]) == 1
