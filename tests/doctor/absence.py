"""Why this kernel lacks something: the doctor and every skip ask here, and the kernel is asked before its .config.

Each answer is of a class (vm/results/absence.py). What nothing explains is ``unexplained``, which no run accepts.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.algorithms.catalogue.symbols import GONE, symbols, symbols_of_parts
from tests.doctor.kinds import KINDS
from tests.doctor.system import CONFIG_VARIABLE, System, this_system
from tests.oracle.names import Name, parse
from vm.base.files import text_of
from vm.results.absence import Absence, Lack

RESTRICT = "crypto.af_alg_restrict"
FIPS_ENABLED = "crypto.fips_enabled"
MODULES_DISABLED = "kernel.modules_disabled"
OFF = ("off", "0", "n", "no", "false")
"""Values of an argument on the kernel's command line that mean no (kstrtobool in lib/kstrtox.c)."""

_REFUSED = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True)
class Why:
    """Why something is not there.

    Attributes:
        absence: the class.
        detail: one line: what was seen.
        advice: one line: what to do; empty when nothing is to be done.
        evidence: as in vm.results.absence.Lack.
    """

    absence: Absence
    detail: str
    advice: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Feature:
    """What a kernel may lack beside algorithms.

    Attributes:
        name: as in "kernel has no ...".
        options: of the kernel's configuration, without CONFIG_, all of which it needs.
        module: that has it, where it may be one.
        sysctls: by name, the values that forbid it.
        argument: of the kernel's command line that may switch it off.
        default_off: option that has it off where no such argument is given.
        machine: it is only there on this one.
        version: why kernels with all this may lack it; empty where none may.
    """

    name: str
    options: tuple[str, ...] = ()
    module: str = ""
    sysctls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    argument: str = ""
    default_off: str = ""
    machine: str = ""
    version: str = ""


AIO = Feature("AIO", ("AIO",))
COMPAT = Feature(
    "32-bit system calls",
    ("IA32_EMULATION",),
    argument="ia32_emulation",
    default_off="IA32_EMULATION_DEFAULT_DISABLED",
    machine="x86_64",
)
COMPAT_TIME = Feature("32-bit time", ("COMPAT_32BIT_TIME",))
DYNAMIC_DEBUG = Feature("dynamic debug messages", ("DYNAMIC_DEBUG",))
FAULT_INJECTION = Feature("fault injection", ("FAULT_INJECTION",))
HUGE_PAGES = Feature("huge pages to give", ("HUGETLBFS",))
MODULES = Feature("modules", ("MODULES",))
DRBG_ENTROPY = Feature("ALG_SET_DRBG_ENTROPY", ("CRYPTO_USER_API_RNG_CAVP",))
KEYRINGS = Feature("keyrings", ("KEYS",))
KEY_SERIALS = Feature("ALG_SET_KEY_BY_KEY_SERIAL", ("KEYS",), version="came with Linux 6.2")
NETLINK_CRYPTO = Feature("NETLINK_CRYPTO", ("CRYPTO_USER",), module="crypto_user")
SLAB_COUNTERS = Feature("counters of slabs", ("SLUB_DEBUG",))
APPARMOR = Feature("AppArmor", ("SECURITY_APPARMOR",), argument="apparmor", version="need not use it")
MEMORY_GROUPS = Feature("memory control groups", ("MEMCG",))
RESTRICTION = Feature("crypto.af_alg_restrict", version="came with Linux 7.3")
# 1 forbids it to who is neither in a group nor has CAP_SYS_ADMIN (Documentation/admin-guide/sysctl/kernel.rst).
URING = Feature(
    "io_uring", ("IO_URING",), sysctls={"kernel.io_uring_disabled": ("2",) if os.geteuid() == 0 else ("1", "2")}
)
VECTOR_REGISTERS = Feature("vector registers of x86-64", ("X86_64",))
USER_NAMESPACES = Feature(
    "user namespaces",
    ("USER_NS",),
    sysctls={"user.max_user_namespaces": ("0",), "kernel.unprivileged_userns_clone": ("0",)},
)


def of_feature(feature: Feature, error: int, system: System | None = None) -> Lack:
    """Return what to say of a feature that this kernel refused with ``error``."""
    why = why_no_feature(system or here(), feature, error)
    return Lack(why.absence, f"kernel has no {feature.name}", why.evidence)


def why_no_feature(system: System, feature: Feature, error: int) -> Why:
    """Return why a feature is not there that was refused with ``error``."""
    if feature.machine and feature.machine != system.machine:
        return Why(Absence.ARCHITECTURE, f"only on {feature.machine}", "", system.machine)
    for name, values in feature.sysctls.items():
        if (value := sysctl(system, name)) in values:
            return Why(Absence.RESTRICTED, f"{name} is {value}", f"give {name} another value", f"{name}={value}")
    if error in _REFUSED:
        return refused(system, feature.name, error)
    if why := _not_configured(system, feature.options):
        return why
    if feature.argument and (why := _switched_off(system, feature)):
        return why
    if feature.module and (
        why := why_no_module(system, feature.module, feature.options[0], errno.errorcode.get(error, str(error)))
    ):
        return why
    if feature.version:
        return Why(Absence.VERSION, feature.version)
    if feature.options and system.config is None:
        return Why(Absence.NOT_BUILT, f"{errno.errorcode.get(error, str(error))}, and the kernel's config is unknown")
    return Why(Absence.UNEXPLAINED, errno.errorcode.get(error, str(error)), "see dmesg")


def _switched_off(system: System, feature: Feature) -> Why | None:
    """Return what switches a feature off when the kernel boots, None for nothing."""
    for word in (system.read("/proc/cmdline") or "").split():
        name, _, value = word.partition("=")
        if name == feature.argument and value.lower() in OFF:
            return Why(Absence.ARCHITECTURE, f"the kernel's command line has {word}", "remove that", word)
    if (system.config or {}).get(feature.default_off) == "y":
        option = f"CONFIG_{feature.default_off}"
        return Why(Absence.ARCHITECTURE, f"{option} is set", f"boot it with {feature.argument}=on", option)
    return None


def of_algorithm(type_: str, name: str, system: System | None = None) -> Lack:
    """Return what to say of an algorithm that bind did not find (ENOENT)."""
    system = system or here()
    kind = next((kind for kind in system.kinds if kind.name == type_), None)
    if kind and (why := why_no_module(system, kind.module, kind.option, "ENOENT")):
        return Lack(why.absence, f"kernel has no {type_}", why.evidence)
    why = _why_no_algorithm(system, name)
    return Lack(why.absence, f"kernel has no {type_} {name}", why.evidence)


def has_type(type_: str, system: System | None = None) -> bool:
    """Tell whether AF_ALG has this type here."""
    system = system or here()
    kind = next(kind for kind in system.kinds if kind.name == type_)
    return why_no_module(system, kind.module, kind.option, "ENOENT") is None


def missing_types() -> frozenset[str]:
    """Return the types that AF_ALG has not here; what /proc/modules lists is not asked for again."""
    loaded = {line.split()[0] for line in text_of(Path("/proc/modules")).splitlines()}
    return frozenset(kind.name for kind in KINDS if kind.module not in loaded and not has_type(kind.name))


def _why_no_algorithm(system: System, name: str) -> Why:
    if (restricted := sysctl(system, RESTRICT)) not in ("", "0"):
        return Why(Absence.RESTRICTED, f"{RESTRICT} is {restricted}", "", f"{RESTRICT}={restricted}")
    needed, of_drivers = symbols_of_parts(name), False
    try:
        symbols(name)
    except KeyError:
        of_drivers = True
    if why := _not_configured(system, needed):
        return why
    if blacklists(system):
        for part in dict.fromkeys(each.head for each in _parts(parse(name))):
            if why := _part_blacklisted(system, part):
                return why
    if fips_mode(system):
        return Why(Absence.FIPS, "FIPS mode has approved algorithms only")
    if name in GONE or of_drivers:
        return Why(Absence.VERSION, GONE[name].because if name in GONE else "no version has to have it")
    if system.config is None:
        return Why(Absence.NOT_BUILT, "the kernel's config is unknown")
    return Why(Absence.UNEXPLAINED, "all its options are set")


def _parts(name: Name) -> Iterable[Name]:
    yield name
    for part in name.parts:
        yield from _parts(part)


def _part_blacklisted(system: System, part: str) -> Why | None:
    """Return what blacklists every module that has a part of an algorithm's name, None for nothing."""
    modules = {_underscored(line) for line in system.modprobe(["--resolve-alias", f"crypto-{part}"]).split()}
    found = [blacklist(system, module) for module in sorted(modules)]
    return found[0] if found and all(found) else None


def why_no_socket(system: System, error: OSError) -> Why | None:
    """Return why there is no AF_ALG socket at all, when ``error`` is that; None for another error."""
    if error.errno in _REFUSED:
        return refused(system, "socket", error.errno)
    if error.errno != errno.EAFNOSUPPORT:
        return None
    if sysctl(system, RESTRICT) == "2":
        return Why(
            Absence.RESTRICTED, f"{RESTRICT} is 2: no AF_ALG socket at all", f"sysctl {RESTRICT}=0", f"{RESTRICT}=2"
        )
    seen = "socket: EAFNOSUPPORT"
    there = Why(Absence.UNEXPLAINED, f"af_alg is there, but {seen}", "see dmesg: did its start fail?")
    return why_no_module(system, "af_alg", "CRYPTO_USER_API", seen) or there


def no_sockets() -> str:
    """Return why no test makes sense on this kernel: it has no AF_ALG. Empty when a socket can be made."""
    try:
        here().socket()
    except OSError as error:
        if why := why_no_socket(here(), error):
            return str(Lack(why.absence, "this kernel has no AF_ALG", why.evidence or why.detail))
    return ""


def why_no_module(system: System, module: str, option: str, seen: str) -> Why | None:
    """Return why the kernel lacks ``module``, None when it is there.

    Args:
        system: to ask.
        module: that implements what was found lacking.
        option: that builds it, without CONFIG_.
        seen: what was answered, in words.
    """
    state = _module_state(system, module)
    configured = None if system.config is None else system.config.get(option, "n")
    if state in ("loaded", "built in") or configured == "y":
        return None
    if configured == "n":
        advice = "build a kernel with it: kconfigs/af_alg.config"
        return Why(Absence.NOT_BUILT, f"CONFIG_{option} is not set ({seen})", advice)
    if state == "missing":
        return _file_missing(system, module, option, configured)
    if why := blacklist(system, module):
        return why
    if reason := no_autoload(system):
        advice = f"load it by hand before: modprobe {module}"
        return Why(Absence.NO_AUTOLOAD, reason, advice, _evidence_of_no_autoload(system))
    detail = f"{module} exists and may be loaded, but {seen}"
    return Why(Absence.UNEXPLAINED, detail, f"try: modprobe -v {module}; dmesg")


def _not_configured(system: System, options: Iterable[str]) -> Why | None:
    config = system.config
    if config is None:
        return None
    unset = [option for option in options if all(config.get(each, "n") == "n" for each in option.split("|"))]
    if not unset:
        return None
    return Why(Absence.NOT_BUILT, f"CONFIG_{unset[0].replace('|', ' or ')} is not set", "build a kernel with it")


def _file_missing(system: System, module: str, option: str, configured: str | None) -> Why:
    if system.read("/proc/modules") is None:
        detail = f"{module} is not built in, and the kernel has no modules (CONFIG_MODULES)"
        return Why(Absence.NOT_BUILT, detail)
    if configured == "m":
        advice = "install the modules that belong to this kernel (make modules_install, or the distribution's package)"
        return Why(Absence.MODULE_MISSING, f"CONFIG_{option}=m, but there is no file of {module}", advice)
    advice = f"the kernel's config is unknown: name it in {CONFIG_VARIABLE}, or install its modules"
    return Why(Absence.MODULE_MISSING, f"there is no file of {module}: not built, or not installed", advice)


def _module_state(system: System, module: str) -> str:
    """Return ``loaded``, ``built in``, ``file`` (can be loaded) or ``missing``."""
    if any(line.split()[0] == module for line in (system.read("/proc/modules") or "").splitlines()):
        return "loaded"
    # "builtin NAME", "insmod PATH…", or "install COMMAND" for a module that is not to be loaded.
    words = [line.split() for line in system.modprobe(["--show-depends", module]).splitlines()]
    if any(line[:2] == ["builtin", module] for line in words):
        return "built in"
    return "file" if words else "missing"


def blacklist(system: System, module: str) -> Why | None:
    """Return who forbids ``module`` to be loaded on demand (modprobe.d(5)), None for nobody."""
    for word in _blacklisting_words(system):
        if module in _underscored(word.partition("=")[2]).split(","):
            return _blacklisted(module, f"the kernel's command line has {word}", word)
    for line in _blacklisting_lines(system):
        if _underscored(line.split()[1]) == module:
            return _blacklisted(module, f"modprobe's configuration (modprobe.d) has: {line}", line)
    return None


def _blacklisted(module: str, detail: str, source: str) -> Why:
    return Why(Absence.BLACKLISTED, detail, "remove that, and try again", f"{module} by {source}")


def blacklists(system: System) -> bool:
    """Tell whether anything forbids any module."""
    return bool(_blacklisting_words(system) or _blacklisting_lines(system))


def _blacklisting_words(system: System) -> list[str]:
    words = (system.read("/proc/cmdline") or "").split()
    return [word for word in words if word.partition("=")[0] in ("module_blacklist", "modprobe.blacklist")]


def _blacklisting_lines(system: System) -> list[str]:
    lines = (line.strip() for line in system.modprobe(["--showconfig"]).splitlines())
    return [line for line in lines if len(line.split()) >= 2 and line.split()[0] in ("blacklist", "install")]


def _underscored(names: str) -> str:
    return names.replace("-", "_")


def no_autoload(system: System) -> str:
    """Return why the kernel cannot load a module by itself, empty when it can."""
    if sysctl(system, MODULES_DISABLED) == "1":
        return "kernel.modules_disabled is 1: no module can be loaded until the next boot"
    helper = system.read("/proc/sys/kernel/modprobe")
    if helper is None:
        return "no /proc/sys/kernel/modprobe: the kernel has no modules, or /proc is not mounted"
    if not helper.strip():
        return "kernel.modprobe is empty: the kernel loads nothing by itself"
    if not system.executable(helper.strip()):
        return f"kernel.modprobe is {helper.strip()}, which is not there or cannot be executed"
    return ""


def _evidence_of_no_autoload(system: System) -> str:
    name = MODULES_DISABLED if sysctl(system, MODULES_DISABLED) == "1" else "kernel.modprobe"
    return f"{name}={sysctl(system, name)}"


def refused(system: System, call: str, error: int) -> Why:
    """A call was refused where the kernel checks no permission of its own: say who may have done it."""
    status = system.read("/proc/self/status") or ""
    modes = {line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("Seccomp:")}
    modules = (system.read("/sys/kernel/security/lsm") or "").strip()
    # Those that judge sockets; capability, yama and landlock do not.
    judges = [name for name in modules.split(",") if name in ("selinux", "apparmor", "smack", "tomoyo", "bpf")]
    detail = f"{call}: {errno.errorcode.get(error, str(error))}"
    if modes & {"1", "2"}:
        advice = "run it outside the container or service, or allow address family 38 in its seccomp profile"
        return Why(Absence.BLOCKED, f"{detail}; this process has a seccomp filter", advice, "seccomp")
    if judges:
        advice = "see the audit log (dmesg, ausearch -m avc): the policy must allow alg_socket"
        return Why(Absence.BLOCKED, f"{detail}; security modules: {', '.join(judges)}", advice, judges[0])
    return Why(Absence.UNEXPLAINED, f"{detail}; no seccomp filter and no security module seen", "see dmesg")


def sysctl(system: System, name: str) -> str:
    """Return the value of a sysctl, empty where there is none."""
    return (system.read(f"/proc/sys/{name.replace('.', '/')}") or "").strip()


def fips_mode(system: System | None = None) -> bool:
    """Tell whether the kernel is in FIPS mode (fips=1 on its command line)."""
    return sysctl(system or here(), FIPS_ENABLED) not in ("", "0")


@functools.cache
def here() -> System:
    """Return the machine this Python runs on."""
    return this_system()
