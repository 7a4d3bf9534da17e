"""What works of AF_ALG on a machine, and why not: the socket family, and each type."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tests.doctor.absence import RESTRICT, Why, refused, sysctl, why_no_module, why_no_socket
from tests.doctor.kinds import Kind
from tests.doctor.system import System
from vm.results.absence import Absence

WORKS = "works"
WRONG = "WRONG ANSWER"
NO_ALGORITHM = "no algorithm"
FAILS = "fails"

_RESTRICT_MEANING = {
    "0": "everything may be bound",
    "1": "only algorithms on the kernel's list, most of them with CAP_NET_ADMIN or CAP_SYS_ADMIN",
    "2": "no AF_ALG socket at all",
}


@dataclass(frozen=True)
class Finding:
    """What is known of one thing: the family, a type, a debugging aid.

    Attributes:
        what: ``AF_ALG``, ``hash``, ``KASAN``.
        state: for the family and the types one of the words above, or a class of absence.
        detail: one line: what was seen.
        advice: one line: what to do; empty when nothing is to be done.
    """

    what: str
    state: str
    detail: str
    advice: str = ""


def examine(system: System) -> list[Finding]:
    """Return what is known of the socket family and of each type, the family first."""
    family = _family(system)
    if family.state != WORKS:
        without = "needs the socket family"
        return [family, *(Finding(kind.name, family.state, without) for kind in system.kinds)]
    return [family, *(_kind(system, kind) for kind in system.kinds)]


def restriction(system: System) -> str:
    """Return what the kernel restricts (since Linux 7.3), in words; empty where it knows no restriction."""
    value = sysctl(system, RESTRICT)
    return f"crypto.af_alg_restrict = {value}: {_RESTRICT_MEANING.get(value, 'an unknown value')}" if value else ""


def _family(system: System) -> Finding:
    try:
        system.socket()
    except OSError as error:
        why = why_no_socket(system, error)
        return _absent("AF_ALG", why) if why else Finding("AF_ALG", FAILS, f"socket: {_words(error)}", "see dmesg")
    return Finding("AF_ALG", WORKS, "socket(AF_ALG, SOCK_SEQPACKET)")


def _kind(system: System, kind: Kind) -> Finding:
    errors: list[tuple[str, OSError]] = []
    for algorithm, is_right in kind.algorithms:
        try:
            right = is_right()
        except OSError as error:
            errors.append((algorithm, error))
            continue
        served = f"{algorithm} by {_driver(system, kind, algorithm)}"
        if right:
            return Finding(kind.name, WORKS, served)
        return Finding(kind.name, WRONG, served, "the published answer is another: run the tests of this type")
    seen = ", ".join(f"{algorithm}: {_words(error)}" for algorithm, error in errors)
    codes = {error.errno for _, error in errors}
    blocked = next((error for _, error in errors if error.errno in (errno.EPERM, errno.EACCES)), None)
    if blocked is not None:
        return _absent(kind.name, refused(system, "bind", blocked.errno or 0))
    if codes != {errno.ENOENT}:
        return Finding(kind.name, FAILS, seen, "see dmesg, and /proc/crypto for the self-test of the algorithm")
    if sysctl(system, RESTRICT) not in ("", "0"):
        return Finding(kind.name, Absence.RESTRICTED.value, restriction(system), f"sysctl {RESTRICT}=0")
    if why := why_no_module(system, kind.module, kind.option, seen):
        return _absent(kind.name, why)
    advice = "build the algorithms (kconfigs/algorithms.config), or load their modules"
    return Finding(kind.name, NO_ALGORITHM, f"{kind.module} is there; {seen}", advice)


def _absent(what: str, why: Why) -> Finding:
    return Finding(what, why.absence.value, why.detail, why.advice)


def _driver(system: System, kind: Kind, algorithm: str) -> str:
    """Return the driver that answers for ``algorithm``: of those in /proc/crypto the one of highest priority."""
    best = (-1, "an unknown driver")
    for block in (system.read("/proc/crypto") or "").split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines())
        entry = {name.strip(): value.strip() for name, _, value in lines}
        if entry.get("type") not in kind.implementations or entry.get("internal") == "yes":
            continue
        if algorithm in (entry.get("name"), entry.get("driver")):
            best = max(best, (int(entry.get("priority", "0")), entry.get("driver", "")))
    return best[1]


def _words(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))
