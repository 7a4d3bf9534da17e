"""Why AF_ALG does not work on this kernel, type by type, and which debugging aids the kernel has.

``python -m tests.doctor`` looks at the kernel it runs on, ``python -m tests.doctor SPEC`` at that kernel in a guest
(``running``: here). Its exit status is 0 when the socket family and all four types work, else 1.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.afalg import Aead, Hash, Rng, Skcipher
from tests.afalg.sockets import Socket

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

CONFIG_VARIABLE = "VM_KERNEL_CONFIG"
"""Environment variable with the path of the running kernel's .config, for kernels that do not carry it."""

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


@dataclass(frozen=True)
class Kind:
    """One type of algorithm, and how to see whether it works.

    Attributes:
        name: of the type, as bind(2) takes it.
        module: implements it; alias ``algif-<name>``.
        option: of the kernel's configuration, without CONFIG_.
        algorithms: to try, in order: a name, and a function that says whether the answer is right.
        implementations: values of ``type`` in /proc/crypto that serve it.
    """

    name: str
    module: str
    option: str
    algorithms: Sequence[tuple[str, Callable[[], bool]]]
    implementations: frozenset[str]


@dataclass(frozen=True)
class System:
    """Everything the doctor asks of a machine; tests give answers of their own.

    Attributes:
        socket: open and close an AF_ALG socket; raises OSError.
        read: text of a file, None when it cannot be read.
        exists: whether a path exists.
        modprobe: what modprobe with these arguments prints, empty when it fails or cannot be run.
        executable: whether a path is a program that can be run.
        release: ``uname -r``.
        config: options by name without CONFIG_ (``y``, ``m`` or a value), None when it is unknown.
        config_source: where it comes from.
        kinds: the types to try.
    """

    socket: Callable[[], None]
    read: Callable[[str], str | None]
    exists: Callable[[str], bool]
    modprobe: Callable[[Sequence[str]], str]
    executable: Callable[[str], bool]
    release: str
    config: dict[str, str] | None
    config_source: str
    kinds: Sequence[Kind] = field(default_factory=lambda: KINDS)


def examine(system: System) -> list[Finding]:
    """Return what is known of the socket family and of each type, the family first."""
    family = _family(system)
    if family.state != WORKS:
        without = "needs the socket family"
        return [family, *(Finding(kind.name, family.state, without) for kind in system.kinds)]
    return [family, *(_kind(system, kind) for kind in system.kinds)]


def examine_aids(system: System) -> list[Finding]:
    """Return which debugging aids the kernel has, by what it shows where it shows something, else by its config."""
    return [*(_aid(system, *aid) for aid in _AIDS), _self_tests(system)]


def this_system() -> System:
    """Return the machine this Python runs on."""
    release = os.uname().release
    config, source = _find_config(release)
    return System(
        socket=lambda: Socket.create().close(),
        read=_read,
        exists=os.path.exists,
        modprobe=_modprobe,
        executable=lambda path: os.access(path, os.X_OK),
        release=release,
        config=config,
        config_source=source,
    )


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a kernel's .config: name without CONFIG_ to value, quotes removed, ``n`` for unset ones.

    An option the kernel does not know, or whose dependencies are not met, is not in the file nor in the answer.
    """
    options = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.strip().partition("=")
            options[name.removeprefix("CONFIG_")] = value.strip('"')
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line[len("# CONFIG_") : -len(" is not set")]] = "n"
    return options


def report(system: System, findings: Sequence[Finding], aids: Sequence[Finding]) -> str:
    """Return everything as text for people."""
    restrict = (system.read(_RESTRICT) or "").strip()
    facts = [
        f"kernel   {system.release}",
        f"config   {system.config_source}",
        f"user     {'root' if os.geteuid() == 0 else f'uid {os.geteuid()}'}",
    ]
    if restrict:
        facts.append(f"crypto.af_alg_restrict = {restrict}: {_RESTRICT_MEANING.get(restrict, 'unknown value')}")
    return "\n".join([*facts, "", *_table(findings), "", "debugging aids", *_table(aids)])


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table for this kernel, or for the one that ``arguments`` names (a spec, see vm/kernel.py).

    Returns:
        0 when the family and all types work, 1 when not, 4 when no such kernel can be had or booted.
    """
    if arguments:
        # Only now: in a guest none of this is needed.
        from vm import shell

        return shell.main(["--command", "python -m tests.doctor", "--timeout", "600", "--", *arguments])
    system = this_system()
    findings = examine(system)
    print(report(system, findings, examine_aids(system)))
    return 0 if all(finding.state == WORKS for finding in findings) else 1


def _sha256() -> bool:
    # FIPS 180-4, example of SHA-256: "abc".
    with Hash("sha256") as transform:
        expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        return transform.digest(b"abc").hex() == expected


def _sha1() -> bool:
    # FIPS 180-4, example of SHA-1: "abc".
    with Hash("sha1") as transform:
        return transform.digest(b"abc").hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"


_AES_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
_AES_BLOCK = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")


def _cbc() -> bool:
    # NIST SP 800-38A, F.2.1, first block.
    with Skcipher("cbc(aes)", _AES_KEY) as transform:
        answer = transform.encrypt(_AES_BLOCK, bytes(range(16)))
        return answer.hex() == "7649abac8119b246cee98e9b12e9197d"


def _ecb() -> bool:
    # NIST SP 800-38A, F.1.1, first block.
    with Skcipher("ecb(aes)", _AES_KEY) as transform:
        return transform.encrypt(_AES_BLOCK).hex() == "3ad77bb40d7a3660a89ecaf32466ef97"


def _gcm() -> bool:
    # McGrew and Viega, The Galois/Counter Mode of Operation, test case 2.
    with Aead("gcm(aes)", bytes(16), 16) as transform:
        answer = transform.encrypt(bytes(16), b"", bytes(12))
        return answer.hex() == "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"


def _ccm() -> bool:
    # RFC 3610, section 8, packet vector 1; the IV is L - 1, then the nonce (RFC 3610, section 2.3).
    key = bytes(range(0xC0, 0xD0))
    with Aead("ccm(aes)", key, 8) as transform:
        nonce = bytes.fromhex("00000003020100a0a1a2a3a4a5")
        answer = transform.encrypt(bytes(range(8, 31)), bytes(range(8)), b"\1" + nonce + bytes(2))
        return answer.hex() == "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0"


def _random(name: str) -> Callable[[], bool]:
    def differs() -> bool:
        # A DRBG gives nothing until it has been seeded, which for AF_ALG is setting its key.
        with Rng(name, bytes(range(48))) as transform:
            first, second = transform.read(16), transform.read(16)
            return len(first) == len(second) == 16 and first != second

    return differs


KINDS: tuple[Kind, ...] = (
    Kind(
        "hash",
        "algif_hash",
        "CRYPTO_USER_API_HASH",
        [("sha256", _sha256), ("sha1", _sha1)],
        frozenset({"shash", "ahash"}),
    ),
    Kind(
        "skcipher",
        "algif_skcipher",
        "CRYPTO_USER_API_SKCIPHER",
        [("cbc(aes)", _cbc), ("ecb(aes)", _ecb)],
        frozenset({"skcipher", "lskcipher"}),
    ),
    Kind(
        "aead",
        "algif_aead",
        "CRYPTO_USER_API_AEAD",
        [("gcm(aes)", _gcm), ("ccm(aes)", _ccm)],
        frozenset({"aead"}),
    ),
    Kind(
        "rng",
        "algif_rng",
        "CRYPTO_USER_API_RNG",
        [(name, _random(name)) for name in ("stdrng", "jitterentropy_rng", "ansi_cprng")],
        frozenset({"rng"}),
    ),
)
"""The four types of AF_ALG."""

# Name, option that builds it in, file that shows it, and whether a 0 in the file means that it is off.
_AIDS: tuple[tuple[str, str, str, bool], ...] = (
    ("KASAN", "KASAN", "", False),
    ("KFENCE", "KFENCE", "/sys/module/kfence/parameters/sample_interval", True),
    ("KCSAN", "KCSAN", "/sys/kernel/debug/kcsan", False),
    ("KMSAN", "KMSAN", "", False),
    ("UBSAN", "UBSAN", "", False),
    ("lockdep", "PROVE_LOCKING", "/proc/lockdep", False),
    ("kmemleak", "DEBUG_KMEMLEAK", "/sys/kernel/debug/kmemleak", False),
    ("slab debugging", "SLUB_DEBUG_ON", "", False),
    ("fault injection: slab", "FAILSLAB", "/sys/kernel/debug/failslab", False),
    ("fault injection: pages", "FAIL_PAGE_ALLOC", "/sys/kernel/debug/fail_page_alloc", False),
    ("fault injection: user copies", "FAULT_INJECTION_USERCOPY", "/sys/kernel/debug/fail_usercopy", False),
    ("fault injection: nth call", "FAULT_INJECTION", "/proc/self/fail-nth", False),
    ("gcov", "GCOV_KERNEL", "/sys/kernel/debug/gcov", False),
    ("debugfs", "DEBUG_FS", "/sys/kernel/debug/bdi", False),
    ("hung task", "DETECT_HUNG_TASK", "/proc/sys/kernel/hung_task_timeout_secs", True),
    ("soft lockup", "SOFTLOCKUP_DETECTOR", "/proc/sys/kernel/soft_watchdog", True),
)


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
    value = (system.read(_RESTRICT) or "").strip()
    meaning = _RESTRICT_MEANING.get(value, "an unknown value")
    return Finding(what, RESTRICTED, f"crypto.af_alg_restrict = {value}: {meaning}", "sysctl crypto.af_alg_restrict=0")


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


def _aid(system: System, what: str, option: str, path: str, zero_is_off: bool) -> Finding:
    if path and system.exists(path):
        if zero_is_off and (value := (system.read(path) or "").strip()) in ("0", ""):
            return Finding(what, "off", f"{path} is {value or 'unreadable'}")
        return Finding(what, "yes", path)
    if system.config is None:
        return Finding(what, "unknown", f"no {path}, and no config" if path else "no config")
    value = system.config.get(option, "n")
    if value == "n":
        return Finding(what, "no", f"CONFIG_{option} is not set")
    if path:
        return Finding(what, "hidden", f"CONFIG_{option}={value}, but no {path}")
    return Finding(what, "yes", f"CONFIG_{option}={value}")


def _self_tests(system: System) -> Finding:
    """Say whether the kernel tests an algorithm before it serves it (crypto/testmgr.c)."""
    what = "crypto self-tests"
    if (system.read("/sys/module/cryptomgr/parameters/notests") or "").strip() == "Y":
        return Finding(what, "off", "cryptomgr.notests is set")
    if system.config is None:
        return Finding(what, "unknown", "no config")
    # Chosen by CRYPTO_SELFTESTS; in older kernels, which do not know that, on unless the other option is set.
    if system.config.get("CRYPTO_SELFTESTS", "n") != "n":
        return Finding(what, "yes", "CONFIG_CRYPTO_SELFTESTS=y")
    if system.config.get("CRYPTO_MANAGER_DISABLE_TESTS") == "y":
        return Finding(what, "no", "CONFIG_CRYPTO_MANAGER_DISABLE_TESTS=y")
    if system.config.get("CRYPTO_MANAGER_DISABLE_TESTS") == "n":
        return Finding(what, "yes", "CONFIG_CRYPTO_MANAGER_DISABLE_TESTS is not set")
    return Finding(what, "no", "CONFIG_CRYPTO_SELFTESTS is not set")


def _table(findings: Sequence[Finding]) -> list[str]:
    what = max(len(finding.what) for finding in findings)
    state = max(len(finding.state) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"  {finding.what:{what}}  {finding.state:{state}}  {finding.detail}".rstrip())
        if finding.advice:
            lines.append(f"  {'':{what}}  {'':{state}}  → {finding.advice}")
    return lines


def _words(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _find_config(release: str) -> tuple[dict[str, str] | None, str]:
    named = os.environ.get(CONFIG_VARIABLE)
    candidates = ["/proc/config.gz", *([named] if named else [])]
    candidates += [f"/boot/config-{release}", f"/lib/modules/{release}/config"]
    for path in candidates:
        try:
            data = Path(path).read_bytes()
        except OSError:
            continue
        return parse_config((gzip.decompress(data) if path.endswith(".gz") else data).decode()), path
    return None, f"unknown ({', '.join(candidates)}: none there)"


def _modprobe(arguments: Sequence[str]) -> str:
    """Ask the modprobe that the kernel would run, or else the one on the path."""
    helper = (_read("/proc/sys/kernel/modprobe") or "").strip()
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = helper if os.access(helper, os.X_OK) else shutil.which("modprobe", path=search)
    if not program:
        return ""
    try:
        answer = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
