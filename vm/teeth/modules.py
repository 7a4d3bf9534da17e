"""In a guest: the kernel's modules taken out, and a changed one in the place of the original."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vm.guest import prepare

# Where a guest's modprobe looks (vm/machine/init.sh).
_MODULES = Path("/run/vm/root/usr/lib/modules")
# System call of x86-64; the variant is built for that only.
_DELETE_MODULE = 176
# What a test left is let go by workqueues and RCU.
_PATIENCE = 20.0


class Spent(Exception):
    """This machine cannot be used for another mutant; says why."""


@contextlib.contextmanager
def replaced(
    files: Mapping[str, Path], modules: Sequence[str], sysctls: Sequence[str], release: Callable[[], None]
) -> Iterator[None]:
    """Have the kernel load ``files`` in the place of its own modules for the duration of the block.

    Args:
        files: file of each, by the module's path below ``kernel/`` without suffix (``crypto/af_alg``).
        modules: to be loaded again, if need be with what they need: the changed ones are among that.
        sysctls: ``NAME=VALUE`` to be set again, where there is such a sysctl.
        release: has the kernel let go of what it keeps of these modules for later.

    Raises:
        Spent: a module that is to be replaced, or was, is in use and stays so.
    """
    tree = _MODULES / platform.release() / "kernel"
    _take_out(files, release)
    for name, file in files.items():
        subprocess.run(["mount", "--bind", str(file), str(tree / f"{name}.ko")], check=True, timeout=60)
    try:
        subprocess.run(["sh", "-ec", prepare.lines(modules, sysctls)], stdin=subprocess.DEVNULL, check=True, timeout=60)
        yield
        # Else the next one, of another module, would be tested with this one as well.
        _take_out(files, release)
    finally:
        for name in files:
            subprocess.run(["umount", str(tree / f"{name}.ko")], check=True, timeout=60)


def _take_out(files: Iterable[str], release: Callable[[], None]) -> None:
    release()
    for name in files:
        unload(Path(name).name)


def unload(module: str) -> None:
    """Take a module out of the kernel, and before it those that use it.

    Raises:
        Spent: it is in use and stays so.
    """
    name = module.replace("-", "_")
    ends = time.monotonic() + _PATIENCE
    while (users := loaded().get(name)) is not None:
        for user in users:
            unload(user)
        if _delete(name):
            return
        if time.monotonic() > ends:
            raise Spent(f"{name} cannot be unloaded: it is in use")
        time.sleep(0.01)


def loaded() -> dict[str, list[str]]:
    """Return the modules that use each loaded one (proc_modules(5))."""
    lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    return {words[0]: [user for user in words[3].split(",") if user not in ("-", "[permanent]", "")] for words in lines}


def _delete(name: str) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(_DELETE_MODULE, name.encode(), os.O_NONBLOCK) == 0)
