"""What the runner's commands have in common: exit statuses, and errors in one line."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

from vm.base.errors import UsageError

USAGE = 4
"""Exit status for what the user can put right; pytest's own."""

_INTERRUPTED = 130
_Arguments = ParamSpec("_Arguments")


class Parser(argparse.ArgumentParser):
    """Raises a UsageError for arguments that are wrong."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help)")


def say(line: str) -> None:
    """Print a line to standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def command(main: Callable[_Arguments, int | None]) -> Callable[_Arguments, int]:
    """Have a function that runs a command return its exit status, whatever ends it.

    That is what the function returns, 0 for None; USAGE for a UsageError, which is said; 130 for Ctrl-C.
    """

    @functools.wraps(main)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> int:
        try:
            return main(*arguments, **options) or 0
        except UsageError as error:
            say(f"error: {error}")
            return USAGE
        except SystemExit as stop:
            return int(stop.code or 0)
        except KeyboardInterrupt:
            return _INTERRUPTED

    return run
