"""What works of AF_ALG on a machine, and why not: the socket family, and each type."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tests.doctor.kinds import Kind
from tests.doctor.system import CONFIG_VARIABLE, System

WORKS = "works"
WRONG = "WRONG ANSWER"
NOT_BUILT = "not built"
MODULE_MISSING = "module missing"
BLACKLISTED = "module blacklisted"
NO_AUTOLOAD = "autoload impossible"
RESTRICTED = "restricted by sysctl"
BLOCKED = "blocked"
NO_ALGORITHM = "no algorithm"
UNEXPLAINED = "fails"

_RESTRICT = "/proc/sys/crypto/af_alg_restrict"
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
        state: one of the words above for the family and the types.
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
    value = (system.read(_RESTRICT) or "").strip()
    return f"crypto.af_alg_restrict = {value}: {_RESTRICT_MEANING.get(value, 'an unknown value')}" if value else ""


def _family(system: System) -> Finding:
    try:
        system.socket()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return _blocked(system, "AF_ALG", "socket", error)
        if error.errno != errno.EAFNOSUPPORT:
            return Finding("AF_ALG", UNEXPLAINED, f"socket: {_words(error)}", "see dmesg")
        if (system.read(_RESTRICT) or "").strip() == "2":
            return _restricted(system, "AF_ALG")
        return _absent(system, "AF_ALG", "af_alg", "CRYPTO_USER_API", "socket: EAFNOSUPPORT")
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
        return _blocked(system, kind.name, "bind", blocked)
    if codes != {errno.ENOENT}:
        return Finding(kind.name, UNEXPLAINED, seen, "see dmesg, and /proc/crypto for the self-test of the algorithm")
    if (system.read(_RESTRICT) or "0").strip() != "0":
        return _restricted(system, kind.name)
    return _absent(system, kind.name, kind.module, kind.option, seen)


def _absent(system: System, what: str, module: str, option: str, seen: str) -> Finding:
    """Say why the kernel lacks ``module``, which implements ``what``, when something found it lacking."""
    state = _module_state(system, module)
    configured = None if system.config is None else system.config.get(option, "n")
    if state in ("loaded", "built in") or configured == "y":
        if what == "AF_ALG":
            return Finding(what, UNEXPLAINED, f"{module} is there, but {seen}", "see dmesg: did its start fail?")
        advice = "build the algorithms (kconfigs/algorithms.config), or load their modules"
        return Finding(what, NO_ALGORITHM, f"{module} is there; {seen}", advice)
    if configured == "n":
        advice = "build a kernel with it: kconfigs/af_alg.config"
        return Finding(what, NOT_BUILT, f"CONFIG_{option} is not set ({seen})", advice)
    if state == "missing":
        return _file_missing(system, what, module, option, configured)
    if reason := _blacklist(system, module):
        return Finding(what, BLACKLISTED, reason, "remove that, and try again")
    if reason := _no_autoload(system):
        return Finding(what, NO_AUTOLOAD, reason, f"load it by hand before: modprobe {module}")
    return Finding(
        what, UNEXPLAINED, f"{module} exists and may be loaded, but {seen}", f"try: modprobe -v {module}; dmesg"
    )


def _file_missing(system: System, what: str, module: str, option: str, configured: str | None) -> Finding:
    if system.read("/proc/modules") is None:
        return Finding(what, NOT_BUILT, f"{module} is not built in, and the kernel has no modules (CONFIG_MODULES)")
    if configured == "m":
        advice = "install the modules that belong to this kernel (make modules_install, or the distribution's package)"
        return Finding(what, MODULE_MISSING, f"CONFIG_{option}=m, but there is no file of {module}", advice)
    advice = f"the kernel's config is unknown: name it in {CONFIG_VARIABLE}, or install its modules"
    return Finding(what, MODULE_MISSING, f"there is no file of {module}: not built, or not installed", advice)


def _module_state(system: System, module: str) -> str:
    """Return ``loaded``, ``built in``, ``file`` (can be loaded) or ``missing``."""
    if any(line.split()[0] == module for line in (system.read("/proc/modules") or "").splitlines()):
        return "loaded"
    # "builtin NAME", "insmod PATH…", or "install COMMAND" for a module that is not to be loaded.
    words = [line.split() for line in system.modprobe(["--show-depends", module]).splitlines()]
    if any(line[:2] == ["builtin", module] for line in words):
        return "built in"
    return "file" if words else "missing"


def _blacklist(system: System, module: str) -> str:
    """Return who forbids ``module`` to be loaded on demand, empty for nobody (modprobe.d(5))."""
    for word in (system.read("/proc/cmdline") or "").split():
        name, _, value = word.partition("=")
        if name in ("module_blacklist", "modprobe.blacklist") and module in value.replace("-", "_").split(","):
            return f"the kernel's command line has {word}"
    for line in system.modprobe(["--showconfig"]).splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in ("blacklist", "install") and words[1].replace("-", "_") == module:
            return f"modprobe's configuration (modprobe.d) has: {line.strip()}"
    return ""


def _no_autoload(system: System) -> str:
    """Return why the kernel cannot load a module by itself, empty when it can."""
    if (system.read("/proc/sys/kernel/modules_disabled") or "").strip() == "1":
        return "kernel.modules_disabled is 1: no module can be loaded until the next boot"
    helper = system.read("/proc/sys/kernel/modprobe")
    if helper is None:
        return "no /proc/sys/kernel/modprobe: the kernel has no modules, or /proc is not mounted"
    if not helper.strip():
        return "kernel.modprobe is empty: the kernel loads nothing by itself"
    if not system.executable(helper.strip()):
        return f"kernel.modprobe is {helper.strip()}, which is not there or cannot be executed"
    return ""


def _restricted(system: System, what: str) -> Finding:
    return Finding(what, RESTRICTED, restriction(system), "sysctl crypto.af_alg_restrict=0")


def _blocked(system: System, what: str, call: str, error: OSError) -> Finding:
    """A system call was refused although the kernel checks no permission there: say who may have done it."""
    status = system.read("/proc/self/status") or ""
    modes = {line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("Seccomp:")}
    modules = (system.read("/sys/kernel/security/lsm") or "").strip()
    # Those that judge sockets; capability, yama and landlock do not.
    judges = [name for name in modules.split(",") if name in ("selinux", "apparmor", "smack", "tomoyo", "bpf")]
    detail = f"{call}: {_words(error)}"
    if modes & {"1", "2"}:
        advice = "run it outside the container or service, or allow address family 38 in its seccomp profile"
        return Finding(what, BLOCKED, f"{detail}; this process has a seccomp filter", advice)
    if judges:
        advice = "see the audit log (dmesg, ausearch -m avc): the policy must allow alg_socket"
        return Finding(what, BLOCKED, f"{detail}; security modules: {', '.join(judges)}", advice)
    return Finding(what, BLOCKED, f"{detail}; no seccomp filter and no security module seen", "see dmesg")


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
