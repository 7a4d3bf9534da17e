"""Loading every module that holds an algorithm."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_INTERFACE = ("af_alg", "algif_hash", "algif_skcipher", "algif_aead", "algif_rng")


@functools.cache
def load_all() -> tuple[str, ...]:
    """Load every module that claims an algorithm (alias ``crypto-…``), and AF_ALG's; return their names.

    Once a process. A module that this machine has no hardware for fails to load, which is no fault; on a
    kernel without modules there is nothing to do.
    """
    modprobe = program("modprobe")
    if modprobe is None:
        return ()
    listed = subprocess.run([modprobe, "--showconfig"], capture_output=True, text=True, timeout=120)
    names = tuple(sorted(set(re.findall(r"^alias crypto[-_]\S+ (\S+)$", listed.stdout, re.MULTILINE))))
    if names:
        names = (*_INTERFACE, *names)
        subprocess.run([modprobe, "--all", "--quiet", *names], capture_output=True, timeout=600)
    return names


def load_templates(*names: str) -> None:
    """Load the modules of these templates (``hmac``, ``cbc``), those that are modules."""
    if modprobe := program("modprobe"):
        aliases = [f"crypto-{name}" for name in names]
        subprocess.run([modprobe, "--all", "--quiet", *aliases], capture_output=True, timeout=120)


def program(name: str) -> str | None:
    """Return the path of a program of kmod, which only root's PATH may have; None where there is none."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def no_autoload() -> Iterator[None]:
    """Keep the kernel from running modprobe, for the duration of the block; one without modules never does."""
    path = Path("/proc/sys/kernel/modprobe")
    if not path.exists():
        yield
        return
    before = path.read_text()
    path.write_text("\n")
    try:
        yield
    finally:
        path.write_text(before)
