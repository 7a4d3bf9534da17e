"""What the runner's commands have in common: exit statuses, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
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
    """Print a line to standard error, at once; that nobody can read it is no failure."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def to_nowhere(number: int) -> None:
    """Have what is written to a descriptor vanish from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def command(main: Callable[_Arguments, int | None]) -> Callable[_Arguments, int]:
    """Have a function that runs a command return its exit status, whatever ends it.

    That is what the function returns, 0 for None; USAGE for a UsageError, which is said; 130 for Ctrl-C. Output that
    nobody reads any more is no failure.
    """

    @functools.wraps(main)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> int:
        try:
            status = main(*arguments, **options) or 0
            sys.stdout.flush()
            return status
        except UsageError as error:
            say(f"error: {error}")
            return USAGE
        except SystemExit as stop:
            return int(stop.code or 0)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Nothing more may be written, not even at exit.
            to_nowhere(sys.stdout.fileno())
            return 0

    return run
