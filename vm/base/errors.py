"""The exceptions for everything that is the user's to put right."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input, or a machine that lacks something.

    Its text is one line that says what was expected, what came and what to do next. Every command line of
    the project prints it as it is, without a traceback, and exits with status 4 (pytest's own for usage).
    """


class BuildFailed(UsageError):
    """The kernel cannot be built: a verdict about this kernel, the rest of a run goes on."""
