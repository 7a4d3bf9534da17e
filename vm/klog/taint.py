"""The taint of a running kernel: what it has lived through, as flags.

Letters and bits are those of the kernel document admin-guide/tainted-kernels.
"""

from __future__ import annotations

import functools
import os

_PATH = "/proc/sys/kernel/tainted"
_TAINTS = (
    ("P", "proprietary module was loaded"),
    ("F", "module was force loaded"),
    ("S", "kernel running on an out of specification system"),
    ("R", "module was force unloaded"),
    ("M", "processor reported a machine check exception"),
    ("B", "bad page referenced or unexpected page flags"),
    ("U", "taint requested by user space"),
    ("D", "kernel died: oops or BUG"),
    ("A", "ACPI table overridden by user"),
    ("W", "kernel issued a warning"),
    ("C", "staging driver was loaded"),
    ("I", "workaround for a bug in platform firmware applied"),
    ("O", "module from outside the kernel tree was loaded"),
    ("E", "unsigned module was loaded"),
    ("L", "soft lockup occurred"),
    ("K", "kernel has been live patched"),
    ("X", "auxiliary taint, defined by the distribution"),
    ("T", "kernel built with structure layout randomization"),
    ("N", "an in-kernel test has been run"),
)


def read() -> int:
    """Return the bits of ``/proc/sys/kernel/tainted``; none where that cannot be read.

    It is asked three times a test, and to open a file in an emulated guest takes longer than to read it: it stays open.
    """
    try:
        return int(os.pread(_opened(), 64, 0))
    except (OSError, ValueError):
        return 0


@functools.cache
def _opened() -> int:
    return os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)


def letters(mask: int) -> list[tuple[str, str]]:
    """Return letter and meaning of each flag in a value of ``/proc/sys/kernel/tainted``, lowest bit first."""
    found = []
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            found.append(_TAINTS[bit] if bit < len(_TAINTS) else ("?", f"unknown flag, bit {bit}"))
    return found
