"""The program itself: its subcommands and their help."""

from __future__ import annotations

import re

import pytest

from vm.__main__ import SUBCOMMANDS, main


@pytest.mark.parametrize("name", sorted(SUBCOMMANDS))
def test_help_of_a_subcommand_is_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    own = capsys.readouterr().out
    # pytest names its own function; vm/uses.py is a program by itself as well.
    usage = {"test": r"usage: pytest\.main\(\) ", "uses": "usage: uses "}.get(name, rf"usage: python -m vm {name}\b")
    assert re.match(usage, own) or re.search(rf"\bpython -m (vm|tests)[. ]{name}\b", own)
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == own


@pytest.mark.parametrize("arguments", [["help"], ["--help"], ["-h"]])
def test_help_has_a_line_for_every_subcommand(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, text) in SUBCOMMANDS.items():
        assert [line.split(maxsplit=1)[1] for line in lines if line.split()[:1] == [name]] == [text]


def test_help_of_what_is_not_there_says_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["help", "reslts"], ["reslts"]):
        assert main(arguments) == 4
        said = capsys.readouterr().err
        assert "no subcommand 'reslts'; there are test, " in said
        assert said.count("\n") == 1


def test_no_subcommand_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 4
    assert "usage: python -m vm SUBCOMMAND" in capsys.readouterr().out
