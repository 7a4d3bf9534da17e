"""A kernel to test, and the grammar of what names one on the command line."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from vm.base import arch
from vm.kernels import axes, kconfig


@dataclass(frozen=True)
class Kernel:
    """One kernel, ready to boot.

    Attributes:
        name: short label, unique within a run, part of every test id: ``6.12.94``.
        spec: what the user wrote: ``bookworm-backports/6.12``.
        release: ``uname -r`` of the booted kernel, which names its directory of modules.
        image: the file, or None for the kernel this Python runs on (spec ``running``).
        modules: directory that holds ``lib/modules/<release>``, None when everything is built in.
        config: the kernel's .config, None when it is unknown.
        version: full version of the package it comes from (``6.12.94-1~bpo12+1``), else the release.
        vmlinux: file with symbols for a debugger, None when there is none.
        trouble: why it could not be built; such a kernel has a name and nothing else.
        architecture: whose machines boot it.
        axes: what it is booted with besides the usual, by name (vm/kernels/axes.py).
    """

    name: str
    spec: str
    release: str
    image: Path | None
    modules: Path | None = None
    config: Path | None = None
    version: str = ""
    vmlinux: Path | None = None
    trouble: str = ""
    architecture: arch.Architecture = field(default_factory=arch.default)
    axes: tuple[str, ...] = ()

    @property
    def own_arguments(self) -> list[str]:
        """Words of its command line: of its axes, and of that built in those on self-tests, which win over ours."""
        told = list(axes.arguments(self.axes))
        if self.config is None or not self.config.exists():
            return told
        built_in = kconfig.read_config(self.config).get("CMDLINE", "").strip('"')
        return [*told, *(word for word in built_in.split() if word.startswith("cryptomgr."))]


RUNNING = "running"
SOURCE_PREFIX = "source:"

# A version, which begins with a digit: 6.12, 6.1.192-2, 6.12.95-1~bpo12+1.
VERSION = re.compile(r"\d[A-Za-z0-9.+~-]*$")
# A suite and what may follow it: bookworm, buster/updates, trixie-backports/7.3.
SUITE = re.compile(r"(?P<suite>[a-z][a-z0-9-]*(?:/updates)?)(?:/(?P<version>\d[A-Za-z0-9.+~-]*)?)?$")
# Further fragments of kconfigs/; an ABI name has a + too (6.12.95+deb12-amd64).
VARIANTS = re.compile(r".+?(\+(?!deb\d)[a-z][a-z0-9_-]*)+$")

GRAMMAR = "an image, a kernel tree, a version (6.12), SUITE/VERSION (trixie-backports/7.3), source:VERSION or 'running'"


def several(text: str) -> list[str]:
    """Return the specs in ``text``, which stand apart by white space; the path of a file may have some in it.

    Of two ways to read it the one with the longer path counts: that a kernel's path begins like another's is rare.
    """
    words = text.split()
    specs = []
    while words:
        taken = next((n for n in range(len(words), 1, -1) if _is_path(" ".join(words[:n]))), 1)
        specs.append(" ".join(words[:taken]))
        del words[:taken]
    return specs


def _is_path(spec: str) -> bool:
    """Whether a file or directory is of this name, with or without ``+VARIANT`` behind it."""
    parts = (spec, re.sub(r"(\+[a-z][a-z0-9_-]*)+$", "", spec))
    with contextlib.suppress(RuntimeError):  # ~nobody-of-that-name
        return any(os.path.lexists(Path(part).expanduser()) for part in parts)
    return False
