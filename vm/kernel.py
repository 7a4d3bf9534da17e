"""A kernel to test, and how its name on the command line becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """One kernel, ready to boot.

    Attributes:
        name: short label, unique within a run, part of every test id: ``6.12.94``.
        spec: what the user wrote: ``bookworm-backports/6.12``.
        release: ``uname -r`` of the booted kernel, which names its directory of modules.
        image: the bzImage, or None for the kernel this Python runs on (spec ``running``).
        modules: directory that holds ``lib/modules/<release>``, None when everything is built in.
        config: the kernel's .config, None when it is unknown.
        version: full version of the package it comes from (``6.12.94-1~bpo12+1``), else the release.
        vmlinux: file with symbols for a debugger, None when there is none.
    """

    name: str
    spec: str
    release: str
    image: Path | None
    modules: Path | None = None
    config: Path | None = None
    version: str = ""
    vmlinux: Path | None = None
