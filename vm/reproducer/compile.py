"""Compiles a program for a guest: static, so that it needs nothing there."""

from __future__ import annotations

import shutil
from pathlib import Path

from vm.base import arch, process
from vm.base.arch import Architecture
from vm.base.errors import UsageError

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")
_SECONDS = 120.0


class DoesNotCompile(UsageError):
    """A compiler does not take a program as it is."""


def compiler(architecture: Architecture) -> list[str]:
    """Return the command that compiles for an architecture.

    Raises:
        UsageError: none is installed.
    """
    names: tuple[str, ...]
    if architecture == arch.default():
        names, package = ("gcc", "clang", "cc"), "gcc"
    else:
        names, package = (f"{architecture.cross}gcc",), f"gcc-{architecture.cross.rstrip('-').replace('_', '-')}"
    for name in names:
        if found := shutil.which(name):
            return [found]
    raise UsageError(
        f"a reproducer for {architecture.name} needs {names[0]}; install it (on Debian: the package {package})"
    )


def compiled(source: Path, target: Path, architecture: Architecture) -> None:
    """Compile a program.

    Raises:
        UsageError: the compiler is not there.
        DoesNotCompile: it has something to say: that is a mistake of the writer.
    """
    command = [*compiler(architecture), *WARNINGS, "-O1", "-static", "-pthread", "-o", str(target), str(source)]
    done = process.run(command, deadline=_SECONDS)
    if done.status:
        first = next((line for line in done.errors.splitlines() if "error" in line), done.errors.strip())
        raise DoesNotCompile(f"{source.name} does not compile: {first}")
