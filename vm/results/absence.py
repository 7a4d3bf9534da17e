"""Why a kernel lacks something: the classes, and the form in which the reason of a skip carries one.

``CLASS: what the kernel lacks`` or ``CLASS: what the kernel lacks: what shows it``; the class comes first, so that a
table can be sorted by it. A reason without a class is that of something else than an absence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Absence(str, Enum):
    """Why something is not to be had of a kernel."""

    NOT_BUILT = "not built"
    MODULE_MISSING = "module missing"  # configured as a module, and there is no file of it
    BLACKLISTED = "module blacklisted"  # on the command line, or in modprobe.d
    NO_AUTOLOAD = "autoload impossible"
    RESTRICTED = "restricted by sysctl"
    BLOCKED = "seccomp or LSM"
    FIPS = "fips"
    ARCHITECTURE = "architecture"  # of the processor, or an entry to the kernel that is switched off
    VERSION = "not in this version"
    UNEXPLAINED = "unexplained"  # everything says that it should be there


@dataclass(frozen=True)
class Lack:
    """One thing that a kernel lacks.

    Attributes:
        absence: the class; None for a reason that names none.
        what: ``kernel has no io_uring``.
        evidence: what shows it, in words that the host can compare with what the guest said of itself:
            ``kernel.io_uring_disabled=2``; empty where the class needs none.
    """

    absence: Absence | None
    what: str
    evidence: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.absence.value if self.absence else "", self.what, self.evidence)))


def parse(reason: str) -> Lack:
    """Return what the reason of a skip says."""
    head, *rest = reason.split(": ", 2)
    try:
        absence = Absence(head)
    except ValueError:
        return Lack(None, reason)
    return Lack(absence, rest[0] if rest else "", rest[1] if len(rest) > 1 else "")
