"""How long things may take, as a function of what they run on.

Three deadlines watch each other: a test's in the guest ends in a traceback; the kernel's own watchdogs say which task
hangs where; the VM's on the host comes last, since it only finds silence. So it must be longer than both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RCU_STALL = 21
"""Seconds after which a kernel reports an RCU stall: Debian's CONFIG_RCU_CPU_STALL_TIMEOUT; others have up to 60."""
# Soft lockup: 2 × watchdog_thresh (10 s), looked for every 2/5 of that (kernel/watchdog.c).
_SOFT_LOCKUP = 24
# From a report to the end of the VM: the report itself, by a slow serial line, and the panic.
MARGIN = 10

_SLOWER = {
    # Documentation/dev-tools/kasan.rst: generic KASAN is for machines that bear a slowdown.
    "KASAN_GENERIC": 3.0,
    "KCSAN": 4.0,
    "PROVE_LOCKING": 2.0,
    "DEBUG_KMEMLEAK": 1.5,
    "DEBUG_PAGEALLOC_ENABLE_DEFAULT": 1.5,
    "GCOV_PROFILE_ALL": 1.5,
}
_SLOWEST = 8.0


@dataclass(frozen=True)
class Deadlines:
    """What a machine of one kernel may take, in seconds.

    Attributes:
        boot: until its Python is up.
        test: for a test without a marker of its own.
        vm: without a word of it.
        factor: by which the user's numbers, and those of markers, were multiplied.
        hung_task: until the kernel calls a task hung that sleeps without being woken.
        hung_task_check: between two looks for such tasks.
    """

    boot: float
    test: float
    vm: float
    factor: float
    hung_task: int
    hung_task_check: int

    @property
    def kernel_arguments(self) -> list[str]:
        """Words that have the kernel's watchdogs report before the VM's deadline (kernel-parameters.rst).

        sysctl.* is there since Linux 5.8; one that the kernel does not have is a line in its log.
        """
        return [
            f"rcupdate.rcu_cpu_stall_timeout={RCU_STALL}",
            f"sysctl.kernel.hung_task_timeout_secs={self.hung_task}",
            f"sysctl.kernel.hung_task_check_interval_secs={self.hung_task_check}",
        ]

    def patience(self, marker: float | None) -> float:
        """Return the seconds a machine may be silent in a test with ``deadline(marker)``; None for no marker."""
        return max(self.vm, (marker or 0) * self.factor + self.vm - self.test)


def deadlines(boot: float, test: float, vm: float | None, accelerator: float, config: Mapping[str, str]) -> Deadlines:
    """Return the deadlines of a kernel.

    Args:
        boot, test: seconds under KVM, of a kernel without debugging.
        vm: the same, or None for one that is right; what the user says is taken as it is.
        accelerator: what it is slower by: 1.0 for KVM, 10.0 for TCG.
        config: the set symbols of its .config, without ``CONFIG_``; empty when unknown.
    """
    factor = accelerator * slower(config)
    least = (test + 5) * factor
    silent = max(2 * test * factor, least, _SOFT_LOCKUP + MARGIN, RCU_STALL + MARGIN) if vm is None else vm * factor
    silent = max(silent, least)
    # Twice the time a task may hang in a healthy kernel: 9p waits for the host's disk.
    hung = max(20, int(0.45 * silent))
    check = min(10, hung // 4)
    if vm is None:
        silent = max(silent, hung + check + MARGIN)
    return Deadlines(boot * factor, test * factor, silent, factor, hung, check)


def slower(config: Mapping[str, str]) -> float:
    """Return what a kernel is slower by than one without debugging."""
    product = 1.0
    for symbol, times in _SLOWER.items():
        if config.get(symbol) == "y":
            product *= times
    return min(product, _SLOWEST)
