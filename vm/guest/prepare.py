"""What is done to a guest before tests, a shell or a command run in it: modules are loaded, sysctls set."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def sysctl_path(name: str) -> Path:
    """Return the file of a sysctl."""
    return Path("/proc/sys") / name.strip().replace(".", "/")


def lines(modules: Sequence[str], sysctls: Sequence[str]) -> str:
    """Return lines of shell that prepare a guest.

    Args:
        modules: to be loaded; one that does not exist is not an error.
        sysctls: ``NAME=VALUE``, set where the sysctl exists.
    """
    found = []
    if modules:
        # By its path: the shell that runs this may prefer its own applets.
        found.append(f"/run/vm/bin/modprobe -a -q {shlex.join(modules)} 2>/dev/null || :")
    for assignment in sysctls:
        name, _, value = assignment.partition("=")
        path = shlex.quote(str(sysctl_path(name)))
        found.append(f"[ ! -e {path} ] || echo {shlex.quote(value.strip())} >{path}")
    return "".join(f"{line}\n" for line in found)
