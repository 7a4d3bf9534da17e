"""The taint of a running kernel: what it has lived through, as flags.

Letters and bits are those of the kernel document admin-guide/tainted-kernels.
"""

from __future__ import annotations

from pathlib import Path

from vm.base.files import text_of

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
    """Return the bits of ``/proc/sys/kernel/tainted``; none where that cannot be read."""
    return int(text_of(Path("/proc/sys/kernel/tainted")).strip() or 0)


def letters(mask: int) -> list[tuple[str, str]]:
    """Return letter and meaning of each flag in a value of ``/proc/sys/kernel/tainted``, lowest bit first."""
    found = []
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            found.append(_TAINTS[bit] if bit < len(_TAINTS) else ("?", f"unknown flag, bit {bit}"))
    return found
