"""Which debugging aids a kernel has."""

from __future__ import annotations

from tests.doctor.findings import Finding
from tests.doctor.system import System

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


def examine_aids(system: System) -> list[Finding]:
    """Return which debugging aids the kernel has, by what it shows where it shows something, else by its config."""
    return [*(_aid(system, *aid) for aid in _AIDS), _self_tests(system)]


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
