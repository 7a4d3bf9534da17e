"""Exit statuses of the runner's commands."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from vm.base.command import Parser, command
from vm.base.errors import UsageError


def refuse() -> None:
    raise UsageError("expected something else; give it")


def ask(option: str) -> None:
    Parser().parse_args([option])


def interrupt() -> None:
    raise KeyboardInterrupt


ENDS: dict[str, tuple[Callable[[], int | None], int]] = {
    "nothing": (lambda: None, 0),
    "status": (lambda: 255, 255),
    "usage": (refuse, 4),
    "argparse": (lambda: ask("--no-such-option"), 4),
    "help": (lambda: ask("--help"), 0),
    "interrupt": (interrupt, 130),
    "exit": (lambda: sys.exit(143), 143),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_has_its_status(end: str) -> None:
    main, status = ENDS[end]
    assert command(main)() == status


def test_what_the_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(refuse)() == 4
    assert capsys.readouterr() == ("", "error: expected something else; give it\n")


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 // 0)()
