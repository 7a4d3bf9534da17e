"""Reading consoles: captured ones (vm/tests/data), and lines in the kernel's format for what is hard to provoke."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vm import console
from vm.console import Record, Splat, find_splats

DATA = Path(__file__).parent / "data"

# What each captured console has in it: kind, a part of the title, first function of the fingerprint.
CAPTURES: dict[str, list[tuple[str, str, str]]] = {
    "bad-page": [("bad page state", "Bad page state in process init", "splat_badpage")],
    "boot-and-segfault": [],
    "boot-with-checkers": [],
    "crashes-survived": [
        ("WARNING", "lkdtm/bugs.c:117", "lkdtm_WARNING_MESSAGE"),
        ("list corruption", "list_add corruption. next->prev", "lkdtm_CORRUPT_LIST_ADD"),
        ("refcount_t", "underflow; use-after-free", "lkdtm_REFCOUNT_SUB_AND_TEST_ZERO"),
        ("refcount_t", "addition on 0; use-after-free", "lkdtm_REFCOUNT_INC_ZERO"),
        ("KASAN", "double-free in", "lkdtm_do_action"),
        ("usercopy", "exposure attempt detected from SLUB object 'kmalloc-1k'", "do_usercopy_slab_size"),
        ("fortify", "strncpy: detected buffer overflow", "lkdtm_FORTIFY_STR_OBJECT"),
        ("BUG", "kernel BUG at drivers/misc/lkdtm/bugs.c:105!", "lkdtm_BUG"),
        ("NULL pointer dereference", "address: 0000000000000000", "lkdtm_ACCESS_NULL"),
        ("page fault", "address: ffffffff83056740", "data_area"),
    ],
    "crashes-survived-no-kasan": [
        ("WARNING", "lkdtm/bugs.c:112", "lkdtm_WARNING"),
        ("refcount_t", "underflow; use-after-free", "lkdtm_REFCOUNT_SUB_AND_TEST_ZERO"),
        ("list corruption", "list_add corruption. next->prev", "lkdtm_CORRUPT_LIST_ADD"),
        ("KFENCE", "invalid free in", "lkdtm_SLAB_FREE_DOUBLE"),
        ("slab corruption", "BUG kmalloc-1k (Tainted: G    B   W         ): Object corrupt", "lkdtm_WRITE_AFTER_FREE"),
        ("KFENCE", "memory corruption in", "lkdtm_SLAB_LINEAR_OVERFLOW"),
        ("slab corruption", "Wrong slab cache. lkdtm-heap-b but object is from", "lkdtm_SLAB_FREE_CROSS"),
        ("usercopy", "exposure attempt detected from SLUB object 'kmalloc-1k'", "do_usercopy_slab_size"),
        ("page fault", "address: 00007fbf260f6000", "lkdtm_ACCESS_USERSPACE"),
        ("page fault", "address: ffffffff816341c0", "lkdtm_WRITE_RO"),
        ("page fault", "address: ffffffff81b4eee0", "data_area"),
        ("NULL pointer dereference", "address: 0000000000000000", "lkdtm_ACCESS_NULL"),
        ("BUG", "kernel BUG at drivers/misc/lkdtm/bugs.c:105!", "lkdtm_BUG"),
        ("NULL pointer dereference", "address: 0000000000000000", "lkdtm_EXCEPTION"),
    ],
    "general-protection": [("general protection fault", "non-canonical address 0xdead4ead00000000", "splat_gpf")],
    "hard-lockup-panic": [("hard lockup", "hard LOCKUP on cpu 0", "lkdtm_HARDLOCKUP")],
    "hung-task-panic": [("hung task", "task init:49 blocked for more than 5 seconds", "lkdtm_HUNG_TASK")],
    "init-exits": [("kernel panic", "Attempted to kill init! exitcode=0x00000300", "do_exit")],
    "kasan-oops-panic": [("KASAN", "wild-memory-access in splat_gpf", "splat_gpf")],
    "kasan-panic-on-warn": [("KASAN", "slab-out-of-bounds in splat_oob", "splat_oob")],
    "kcsan": [
        ("KCSAN", "data-race in racer / racer", "racer / racer"),
        ("KCSAN", "data-race in racer / racer", "racer / racer"),
        ("KCSAN", "data-race in racer / racer", "racer / racer"),
    ],
    "kfence": [
        ("KFENCE", "use-after-free read in", "splat_kfence_uaf"),
        ("KFENCE", "out-of-bounds read in", "splat_kfence_oob"),
        ("KFENCE", "memory corruption in", "splat_kfence_mem"),
    ],
    "kmemleak": [("memory leak", "kmemleak: 3 new suspected memory leaks", "kmemleak: # new")],
    "lockdep-circular": [("lockdep", "possible circular locking dependency", "splat_circular")],
    "lockdep-held-freed": [
        ("lockdep", "held lock freed!", "splat_heldfreed"),
        ("KASAN", "slab-use-after-free in do_raw_spin_unlock", "w "),  # the next access to the freed lock
    ],
    "lockdep-inconsistent": [("lockdep", "inconsistent lock state", "tf")],
    "lockdep-left-locked": [("lockdep", "lock held when returning to user space!", "WARNING: lock held")],
    "lockdep-recursive": [("lockdep", "possible recursive locking detected", "splat_recursive")],
    "lockdep-unlock-balance": [("lockdep", "bad unlock balance detected!", "splat_unbalance")],
    "many-kinds": [
        ("lockdep", "suspicious RCU usage", "w "),  # compiled into its caller
        ("UBSAN", "shift-out-of-bounds in drivers/misc/splat.c:49:62", "splat_ubshift"),
        ("UBSAN", "array-index-out-of-bounds in drivers/misc/splat.c:50:79", "splat_ubbool"),
        ("KASAN", "slab-out-of-bounds in splat_oob", "splat_oob"),
        ("list corruption", "list_del corruption. next->prev should be", "splat_listdel"),
        ("list corruption", "list_del corruption, ffff888000b54440->next is LIST_POISON1", "splat_listdel2"),
        ("WARNING", "splat.c:34 splat_warnonce", "splat_warnonce"),
        ("WARNING", "splat.c:46 splat_twowarn+0x0", "splat_twowarn"),
        ("WARNING", "splat.c:46 splat_twowarn+0xe", "splat_twowarn"),
        ("lockdep", "sleeping function called from invalid context at drivers/misc/splat.c:24", "splat_sleepinvalid"),
        ("lockdep", "scheduling while atomic: init/68/0x00000002", "schedule_timeout"),
        # The rest is what a kernel says that runs on with preemption disabled for good.
        ("lockdep", "sleeping function called from invalid context at include/linux", "exit_signals"),
        ("WARNING", "lib/stackdepot.c:635", "stack_depot_save_flags"),
        ("lockdep", "scheduling while atomic: init/68/0x00000000", "do_task_dead"),
    ],
    "no-init": [("kernel panic", "Requested init /nope failed (error -2).", "kernel_init")],
    "null-pointer-panic": [("NULL pointer dereference", "address: 0000000000000000", "lkdtm_EXCEPTION")],
    "oom-kill": [("out of memory", "Out of memory: Killed process 126 (python3)", "__filemap_get_folio")],
    "oom-panic": [
        ("WARNING", "splat.c:34 splat_warnonce", "splat_warnonce"),
        ("out of memory", "Out of memory: Killed process 48 (dd)", "__filemap_get_folio"),
        ("out of memory", "System is deadlocked on memory", "pgd_alloc"),
    ],
    "panic-by-sysrq": [("kernel panic", "sysrq triggered crash", "sysrq_handle_crash")],
    "panic-on-warn": [("WARNING", "splat.c:34 splat_warnonce", "splat_warnonce")],
    "rcu-stall": [("RCU stall", "rcu_sched self-detected stall on CPU", "splat_rcustall")],
    "slab-redzone": [
        ("slab corruption", "BUG kmalloc-32 (Not tainted): Object corrupt", "splat_oob"),
        ("slab corruption", "BUG kmalloc-32 (Tainted: G    B   W         ): Object corrupt", "__vmalloc_node_range"),
        ("slab corruption", "Slab disabled since SLUB metadata consistency check failed", "kvfree"),
    ],
    "soft-lockup-panic": [("soft lockup", "CPU#1 stuck for 10s! [init:47]", "lkdtm_SOFTLOCKUP")],
    "soft-lockup-repeated": [
        ("soft lockup", "CPU#0 stuck for 10s!", "lkdtm_SOFTLOCKUP"),
        ("soft lockup", "CPU#0 stuck for 21s!", "lkdtm_SOFTLOCKUP"),
        ("RCU stall", "rcu_sched self-detected stall on CPU", "lkdtm_SOFTLOCKUP"),
        ("soft lockup", "CPU#0 stuck for 36s!", "lkdtm_SOFTLOCKUP"),
        ("soft lockup", "CPU#0 stuck for 46s!", "lkdtm_SOFTLOCKUP"),
        ("soft lockup", "CPU#0 stuck for 57s!", "lkdtm_SOFTLOCKUP"),
        ("soft lockup", "CPU#0 stuck for 67s!", "lkdtm_SOFTLOCKUP"),
    ],
    "stack-guard": [("stack corruption", "TASK stack guard page was hit", "recursive_loop")],
    "stack-protector": [("kernel panic", "stack-protector: Kernel stack is corrupted in", "lkdtm_CORRUPT_STACK")],
    "two-processors-mixed": [
        ("WARNING", "CPU: 0 PID: 0 at drivers/misc/splat.c:47 bothf", "bothf"),
        ("WARNING", "CPU: 1 PID: 47 at drivers/misc/splat.c:47 bothf", "bothf"),
    ],
    "two-processors-with-callers": [
        ("WARNING", "CPU: 1 PID: 47 at drivers/misc/splat.c:47 bothf", "bothf"),
        ("WARNING", "CPU: 0 PID: 0 at drivers/misc/splat.c:47 bothf", "bothf"),
    ],
    "workqueue-lockup": [
        ("workqueue lockup", "BUG: workqueue lockup - pool cpus=1", "wf"),
        ("soft lockup", "CPU#1 stuck for 26s! [kworker/1:1:34]", "wf"),
        ("RCU stall", "rcu_sched self-detected stall on CPU", "wf"),
    ],
}

# The kernel's words for what was not captured. After each title comes the trace that TRACE is.
TRACE = """\
CPU: 0 PID: 321 Comm: python3 Not tainted 5.10.0-44-amd64 #1 Debian 5.10.257-1
Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014
Call Trace:
 dump_stack+0x6b/0x83
 ? report_bug+0x9e/0xc0
 skcipher_recvmsg+0x3b5/0x4d0 [algif_skcipher]
 sock_read_iter+0x8f/0xf0
 new_sync_read+0x115/0x1a0
"""
SPELLINGS = {
    # kernel/panic.c, v5.10 and v6.12
    "WARNING at %pS": ("WARNING", "WARNING: CPU: 3 PID: 321 at skcipher_recvmsg+0x3b5/0x4d0 [algif_skcipher]"),
    # kernel/panic.c since the place comes first
    "WARNING place first": ("WARNING", "WARNING: net/socket.c:77 at sock_read_iter+0x8f/0xf0, CPU#1: python3/321"),
    "WARNING of its own words": ("WARNING", "WARNING: stack recursion on stack type 4"),
    # arch/x86/kernel/dumpstack.c, __die_header
    "Oops divide": ("Oops", "divide error: 0000 [#1] SMP NOPTI"),
    "Oops divide 6.12": ("Oops", "Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI"),
    "Oops opcode": ("Oops", "invalid opcode: 0000 [#1] PREEMPT SMP PTI"),
    "Oops arm64": ("Oops", "Internal error: Oops: 0000000096000004 [#1] SMP"),
    # arch/x86/kernel/traps.c, DIE name of 5.10
    "general protection 5.10": (
        "general protection fault",
        "general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP NOPTI",
    ),
    # arch/x86/mm/fault.c of 5.10, arch/arm64/mm/fault.c
    "page fault": ("page fault", "BUG: unable to handle page fault for address: ffffc90000167f48"),
    "page fault arm64": ("page fault", "Unable to handle kernel paging request at virtual address ffff800080000000"),
    "NULL arm64": (
        "NULL pointer dereference",
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010",
    ),
    # mm/kmsan/report.c
    "KMSAN": ("KMSAN", "BUG: KMSAN: uninit-value in skcipher_recvmsg+0x3b5/0x4d0"),
    # lib/ubsan.c of 5.10
    "UBSAN": ("UBSAN", "UBSAN: array-index-out-of-bounds in crypto/algif_skcipher.c:99:12"),
    # kernel/locking/lockdep.c
    "lockdep irq inversion": ("lockdep", "WARNING: possible irq lock inversion dependency detected"),
    "lockdep safe unsafe": ("lockdep", "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
    "lockdep wait context": ("lockdep", "[ BUG: Invalid wait context ]"),
    "lockdep has locks": ("lockdep", "WARNING: python3/321 still has locks held!"),
    "lockdep key": ("lockdep", "INFO: trying to register non-static key."),
    "lockdep sleeping": ("lockdep", "BUG: sleeping function called from invalid context at mm/slab.h:345"),
    "lockdep preemptible": ("lockdep", "BUG: using smp_processor_id() in preemptible [00000000] code: python3/321"),
    "lockdep atomic": ("lockdep", "BUG: assuming atomic context at kernel/ptrace.c:272"),
    "lockdep section": ("lockdep", "BUG: scheduling in a non-blocking section: python3/321/1"),
    "spinlock": ("lockdep", "BUG: spinlock bad magic on CPU#1, python3/321"),
    # kernel/watchdog.c, watchdog_hld.c
    "soft lockup old": ("soft lockup", "NMI watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:321]"),
    "hard lockup old": ("hard lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3"),
    "hard lockup new": ("hard lockup", "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),
    # kernel/rcu/tree_stall.h, tree_exp.h, tasks.h
    "RCU stall of others": ("RCU stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    "RCU stall expedited": ("RCU stall", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {"),
    "RCU tasks": ("RCU stall", "INFO: rcu_tasks detected stalls on tasks:"),
    "RCU starved": ("RCU stall", "rcu: rcu_preempt kthread starved for 2500 jiffies! g1289 f0x0 RCU_GP_WAIT_FQS(5)"),
    # kernel/hung_task.c
    "hung task": ("hung task", "INFO: task python3:321 blocked for more than 120 seconds."),
    "hung task I/O": ("hung task", "INFO: task python3:321 blocked in I/O wait for more than 120 seconds."),
    # lib/refcount.c, lib/list_debug.c
    "refcount leak": ("refcount_t", "refcount_t: saturated; leaking memory."),
    "list double add": ("list corruption", "list_add double add: new=ffff888000b54440, prev=ffff888000b54440, next=0."),
    # mm/slub.c of 5.10, mm/slab.c, mm/slab_common.c
    "redzone": ("slab corruption", "BUG kmalloc-64 (Not tainted): Redzone overwritten"),
    "redzone tainted": ("slab corruption", "BUG kmalloc-64 (Tainted: G    B      OE    ): Left Redzone overwritten"),
    "double free": ("slab corruption", "slab: double free detected in cache 'kmalloc-64', objp ffff888000b54440"),
    "objects left": ("slab corruption", "kmem_cache_destroy skcipher: Slab cache still has objects"),
    # mm/page_alloc.c, mm/memory.c, kernel/fork.c
    "bad page map": ("bad page state", "BUG: Bad page map in process python3  pte:8000000000000867 pmd:0bb00067"),
    # mm/usercopy.c
    "usercopy overwrite": (
        "usercopy",
        "usercopy: Kernel memory overwrite attempt detected to SLUB object 'kmalloc-64' (offset 0, size 99)!",
    ),
    # lib/string_helpers.c
    "fortify": ("fortify", "detected buffer overflow in strlen"),
    # arch/x86/kernel/dumpstack.c of 5.10
    "stack guard old": ("stack corruption", "BUG: stack guard page was hit at 0000000012345678 (stack is 0..1)"),
    "panic double fault": ("kernel panic", "PANIC: double fault, error_code: 0x0"),
    # mm/oom_kill.c
    "memory cgroup": (
        "out of memory",
        "Memory cgroup out of memory: Killed process 321 (python3) total-vm:1kB, anon-rss:1kB, file-rss:0kB",
    ),
    # mm/kmemleak.c, CONFIG_DEBUG_KMEMLEAK_VERBOSE
    "kmemleak verbose": ("memory leak", "kmemleak: unreferenced object 0xffff888003f0fb20 (size 96):"),
    "other BUG": ("BUG", "BUG: Function graph tracer hang!"),
}

# What looks like it and is none: real lines of healthy machines, or asked for by a test.
NEAR_MISSES = {
    "WARNING": [
        "WARNING: loglevel is 7",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible!",
        "WARNING: Flushing system-wide workqueues will be prohibited in near future.",
        "WARNING: bogus zero IO-APIC address found at 0x10, skipping!",
        "Warning: unable to open an initial console.",
    ],
    "BUG": ["[Firmware Bug]: TSC_DEADLINE disabled due to Errata", "BUG: arch topology borken", "DEBUG: ok"],
    "Oops": ["pstore: Registered ramoops as persistent store backend", "ramoops: attached 0x100000@0x8000000"],
    "general protection fault": [
        "traps: python3[126] general protection fault ip:7fbc7aedc000 sp:7ffe20bb2248 error:0 in zero[7fbc7aed+1000]"
    ],
    "page fault": ["python3[125]: segfault at 8 ip 00007f53124d4219 sp 00007ffcda90df68 error 4 in libc.so.6[0+1]"],
    "NULL pointer dereference": ["lkdtm: attempting kernel NULL pointer dereference"],
    "KASAN": ["kasan: KernelAddressSanitizer initialized (generic)"],
    "KFENCE": ["kfence: initialized - using 2097152 bytes for 255 objects at 0x00000000a5a5a5a5-0x000000005a5a5a5a"],
    "UBSAN": ["ubsan: not a report"],
    "KCSAN": ["kcsan: strict mode configured"],
    "KMSAN": ["ATTENTION: KMSAN is a debugging tool! Do not use it on production machines!"],
    "lockdep": ["INFO: lockdep is turned off.", "Disabling lock debugging due to kernel taint"],
    "hung task": ["INFO: task scheduling is fair"],
    "soft lockup": ["watchdog: Delayed init of the lockup detector failed: -19"],
    "hard lockup": ["NMI watchdog: Perf NMI watchdog permanently disabled", "INFO: NMI handler took too long to run"],
    "RCU stall": ["rcu: \tRCU CPU stall warnings timeout set to 4 (rcu_cpu_stall_timeout)."],
    "workqueue lockup": ["workqueue: vmstat_update hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND"],
    "refcount_t": ["page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0xbd4"],
    "list corruption": ["list_sort_test: start testing list_sort()"],
    "slab corruption": ["SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=2, Nodes=1"],
    "bad page state": ["python3: page allocation failure: order:0, mode:0x140cc2(GFP_HIGHUSER|__GFP_COMP)"],
    "usercopy": ["test_user_copy: tests passed."],
    "fortify": ["platform eisa.0: EISA: Detected 0 cards"],
    "stack corruption": ["stackdepot: allocating hash table via alloc_large_system_hash"],
    "kernel panic": ["Kernel command line: console=ttyS0 panic=-1 oops=panic", "sysrq: Trigger a crash"],
    "out of memory": ["oom_reaper: reaped process 126 (python3), now anon-rss:0kB", "OOM killer enabled."],
    "memory leak": ["kmemleak: Kernel memory leak detector initialized (mem pool available: 15244)"],
}


def captured(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def stamped(text: str, start: float = 10.0) -> str:
    """Return ``text`` as the kernel prints it, a tenth of a second for each hundred lines."""
    return "".join(f"[{start + n / 1000:12.6f}] {line}\n" for n, line in enumerate(text.splitlines()))


def summary(splats: list[Splat]) -> list[tuple[str, str, str]]:
    return [(splat.kind, splat.title, splat.fingerprint) for splat in splats]


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.txt")))
def test_captured_console_has_exactly_these_splats(name: str) -> None:
    found = find_splats(captured(name))
    expected = CAPTURES[name]
    assert [splat.kind for splat in found] == [kind for kind, _, _ in expected]
    for splat, (kind, title, function) in zip(found, expected, strict=True):
        assert title in splat.title
        assert splat.fingerprint.startswith(f"{kind}: {function}")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_found_with_its_kind_and_place(spelling: str) -> None:
    kind, title = SPELLINGS[spelling]
    traceless = kind == "out of memory"
    (splat,) = find_splats(stamped(f"{title}\n{'' if traceless else TRACE}random: crng init done\nall is well"))
    assert (splat.kind, splat.title) == (kind, title)
    assert "crng init done" not in splat.text
    if not traceless:
        assert splat.fingerprint == f"{kind}: skcipher_recvmsg < sock_read_iter < new_sync_read"


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in NEAR_MISSES.items() for line in lines])
def test_what_only_looks_alike_is_no_splat(kind: str, line: str) -> None:
    healthy = stamped("Freeing SMP alternatives memory: 36K\n" + line + "\nsmpboot: Allowing 2 CPUs\n")
    assert find_splats(healthy) == []


def test_every_kind_has_a_sample_and_a_near_miss() -> None:
    kinds = {kind for kind, _ in console._TITLES}
    sampled = {kind for splats in CAPTURES.values() for kind, _, _ in splats} | {kind for kind, _ in SPELLINGS.values()}
    assert sampled == kinds
    assert set(NEAR_MISSES) == kinds


# One for each line of the table, in its order: a trace that follows is not a complaint.
HARMLESS = """
traps: python3[126] general protection fault ip:7fbc7aedc000 sp:7ffe20bb2248 error:0 in zero[7fbc7aed+1000]
python3[125]: segfault at 8 ip 00007f53124d4219 sp 00007ffcda90df68 error 4 in libc.so.6[0+1]
FAULT_INJECTION: forcing a failure.
python3: page allocation failure: order:5, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)
unchecked MSR access error: RDMSR from 0x10a at rIP: 0xffffffff8107a0f4 (native_read_msr+0x4/0x30)
BUG: arch topology borken
WARNING: kernel not compiled with MITIGATION_SRSO.
sysrq: Show Blocked State
""".strip().splitlines()


def test_every_harmless_line_has_a_reason_and_a_sample() -> None:
    for (pattern, reason), sample in zip(console.HARMLESS, HARMLESS, strict=True):
        assert re.match(pattern, sample)
        assert reason


@pytest.mark.parametrize("line", HARMLESS)
def test_the_trace_of_a_harmless_line_makes_no_splat_of_it_or_of_advice_above(line: str) -> None:
    assert find_splats(stamped(f"{line}\n{TRACE}")) == []
    assert find_splats(stamped(f"WARNING: take care\n{line}\n{TRACE}")) == []
    assert len(find_splats(stamped(f"WARNING: take care\n{TRACE}"))) == 1


def test_advice_is_not_made_a_splat_by_a_later_trace_of_another_thing() -> None:
    (splat,) = find_splats(stamped(f"WARNING: take care\nBUG: KASAN: use-after-free in f+0x1/0x2\n{TRACE}"))
    assert splat.kind == "KASAN"


# How the same report looks under other settings of the kernel, and after other hands.
DISGUISES: dict[str, Callable[[str], str]] = {
    "no stamps": lambda text: re.sub(r"(?m)^\[ *\d+\.\d{6}\] ", "", text),
    "levels": lambda text: re.sub(r"(?m)^\[", "<4>[", text),
    "levels without stamps": lambda text: re.sub(r"(?m)^\[ *\d+\.\d{6}\] ", "<1>", text),
    "callers": lambda text: re.sub(r"(?m)^(\[ *\d+\.\d{6}\]) ", r"\1[   T46] ", text),
    "processor callers": lambda text: re.sub(r"(?m)^(\[ *\d+\.\d{6}\]) ", r"\1[    C1] ", text),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "terminal sequences": lambda text: text.replace("\n", "\x1b[0m\n\x1b[?7l"),
    "binary junk before lines": lambda text: text.replace("\n", "\n\x00\x01\ufffd"),
    "a program's unfinished line before": lambda text: text.replace("\n[", "\ncollecting ... [", 3),
    "programs' lines between": lambda text: text.replace("\n", "\nBUG: this is pytest speaking\n"),
    "other line separators": lambda text: text.replace("Comm: ", "Comm: \x0bit\x85\u2028"),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", ["general-protection", "hung-task-panic", "panic-on-warn", "null-pointer-panic"])
def test_a_report_is_recognised_in_every_dress(name: str, disguise: str) -> None:
    plain = captured(name)
    dressed = DISGUISES[disguise](plain)
    assert dressed != plain
    assert summary(find_splats(dressed)) == summary(find_splats(plain))
    assert console.cause_of_death(dressed) == console.cause_of_death(plain)


def test_a_program_cannot_utter_a_splat_between_stamped_lines() -> None:
    assert find_splats(stamped("all is well") + f"BUG: KASAN: use-after-free in f+0x1/0x2\n{TRACE}") == []


def test_the_id_of_a_test_is_no_splat() -> None:
    assert find_splats(stamped(f"{console.BEGIN}tests/test_x.py::test_it[BUG: KASAN: ]\n{TRACE}")) == []


@pytest.mark.parametrize("name", ["general-protection", "lockdep-circular", "oom-kill", "slab-redzone", "kfence"])
def test_a_text_cut_anywhere_has_the_splats_that_had_begun(name: str) -> None:
    lines = captured(name).split("\n")
    titles = [splat.title for splat in find_splats("\n".join(lines))]
    counts = []
    for end in range(len(lines) + 1):
        found = find_splats("\n".join(lines[:end]))
        counts.append(len(found))
        # The kill for memory renames its event at its last line.
        assert name == "oom-kill" or [splat.title for splat in found] == titles[: len(found)]
    assert counts == sorted(counts)
    assert counts[-1] == len(titles)


def test_a_text_cut_within_any_line_does_no_harm() -> None:
    text = captured("general-protection")
    start = text.index("Oops: general protection")
    for end in range(start, len(text)):
        assert len(find_splats(text[:end])) == (1 if "[#1]" in text[:end] else 0)


def test_random_bytes_are_no_splat() -> None:
    noise = random.Random(2026)
    for _ in range(200):
        text = noise.randbytes(2000).decode(errors="replace")
        assert find_splats(text) == []
        console.split(text)
        console.tail(text)


def renumbered(text: str, seed: int) -> str:
    """Return a console as of another boot: other times, addresses, offsets, processes, processors."""
    numbers = random.Random(seed)
    text = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+", lambda _: f"+{numbers.randrange(99999):#x}/0x1ffff", text)
    text = re.sub(r"\bffff[0-9a-f]{12}\b", lambda _: f"ffff{numbers.randrange(1 << 48):012x}", text)
    text = re.sub(r"PID: \d+", lambda _: f"PID: {numbers.randrange(9999)}", text)
    text = re.sub(r"CPU([:#]) ?\d+", lambda match: f"CPU{match[1]}{'' if match[1] == '#' else ' '}7", text)
    return re.sub(r"(\w)(\.constprop\.0|\.isra\.0|\.part\.0|\.cold)?\+0x", r"\1.isra.0+0x", text)


@pytest.mark.parametrize("name", sorted(CAPTURES))
def test_fingerprint_survives_another_boot_and_another_compiler(name: str) -> None:
    before = [splat.fingerprint for splat in find_splats(captured(name))]
    after = [splat.fingerprint for splat in find_splats(renumbered(captured(name), seed=1))]
    assert after == before
    for fingerprint in after:
        assert re.search(r"0x|ffff[0-9a-f]{8}", fingerprint) is None


def test_fingerprint_tells_different_places_apart() -> None:
    fingerprints = [splat.fingerprint for splat in find_splats(captured("crashes-survived"))]
    assert len(set(fingerprints)) == len(fingerprints)


def test_fingerprint_of_kcsan_does_not_depend_on_who_is_reported_first() -> None:
    def report(first: str, second: str) -> str:
        sides = "".join(f"{what} to 0xffffffff81b55120 of 8 bytes by task 1 on cpu 0:\n {what}er+0x1/0x2\n\n"
                        for what in (first, second))  # fmt: skip
        rule = "=" * 66
        return stamped(f"{rule}\nBUG: KCSAN: data-race in reader / writer\n\n{sides}{rule}\n")

    (one,), (other,) = find_splats(report("read", "writ")), find_splats(report("writ", "read"))
    assert one.fingerprint == other.fingerprint == "KCSAN: reader / writer"


def fingerprint(report: str) -> str:
    (splat,) = find_splats(stamped(report))
    return splat.fingerprint


def test_fingerprint_counts_a_function_that_calls_itself_once() -> None:
    (splat,) = find_splats(captured("stack-guard"))
    assert splat.fingerprint == "stack corruption: recursive_loop < lkdtm_EXHAUST_STACK < lkdtm_do_action"


def test_fingerprint_is_of_the_events_trace_only() -> None:
    title = "BUG: KASAN: slab-use-after-free in f+0x1/0x2\n"
    trace = "CPU: 0 PID: 1 Comm: sh\nCall Trace:\n <TASK>\n dump_stack+0x1/0x2\n f+0x1/0x2\n"
    allocated = "Allocated by task 1:\n kasan_save_stack+0x1/0x2\n allocator+0x1/0x2\n"
    assert fingerprint(f"{title}{trace}{allocated}") == "KASAN: f"
    assert fingerprint(f"{title}{trace} </TASK>\n other+0x1/0x2\n") == "KASAN: f"


def test_fingerprint_leaves_out_who_was_interrupted() -> None:
    report = (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [sh:1]\nCPU: 0 PID: 1 Comm: sh\nRIP: 0010:spins+0x1/0x2\n"
        "Call Trace:\n <IRQ>\n timer+0x1/0x2\n </IRQ>\nRIP: 0010:interrupted+0x1/0x2\n"
    )
    assert fingerprint(report) == "soft lockup: spins < timer"


@pytest.mark.parametrize("name", [name for name, splats in CAPTURES.items() if splats])
def test_excerpt_is_the_report_and_bounded(name: str) -> None:
    for splat in find_splats(captured(name)):
        lines = splat.text.split("\n")
        assert 1 <= len(lines) <= console.MOST_LINES
        assert splat.title in lines or splat.kind == "out of memory"
        assert not any("vm-test: " in line or "reboot: Power down" in line for line in lines)
        assert not any(re.match(r"\[ *\d+\.\d{6}\]", line) for line in lines)


def test_excerpt_begins_at_cut_here_and_ends_with_the_trace() -> None:
    splat = find_splats(captured("many-kinds"))[6]
    lines = splat.text.split("\n")
    assert lines[0] == "------------[ cut here ]------------"
    assert lines[1] == "af_alg: bad thing 42"
    assert lines[-1] == "---[ end trace 0000000000000000 ]---"


def test_excerpt_ends_at_the_end_mark_whatever_follows() -> None:
    mark = "---[ end trace 0000000000000000 ]---"
    warning = f"WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n{TRACE}{mark}\n"
    (splat,) = find_splats(stamped(f"{warning} vda: vda1 vda2\n"))
    assert splat.text.split("\n")[-1] == mark


def test_excerpt_of_kasan_begins_and_ends_at_its_rules() -> None:
    lines = find_splats(captured("many-kinds"))[3].text.split("\n")
    assert lines[0] == lines[-1] == "=" * 66
    assert " splat_oob+0x2f/0x40" in lines
    assert any("lines left out" in line for line in lines)


def test_excerpt_without_trace_has_the_explanation() -> None:
    (splat,) = find_splats(captured("lockdep-left-locked"))
    assert "init/47 is leaving the kernel with locks still held!" in splat.text


def test_reports_of_two_processors_are_told_apart_by_caller() -> None:
    first, second = find_splats(captured("two-processors-with-callers"))
    assert "CPU: 1 UID: 0 PID: 47" in first.text
    assert "CPU: 0 UID: 0 PID: 0" not in first.text
    assert "CPU: 0 UID: 0 PID: 0" in second.text
    assert "on_each_cpu_cond_mask" not in second.text


def test_shuffled_callers_change_nothing() -> None:
    def by(caller: str, name: str) -> list[str]:
        stamp = f"[   10.000000][{caller:>6}] "
        return [stamp + line for line in f"BUG: KASAN: use-after-free in {name}+0x1/0x2\n{TRACE}".splitlines()]

    order = random.Random(7)
    for _ in range(20):
        queues = [by("T1", "one"), by("T22", "two"), by("C0", "three")]
        mixed = []
        while any(queues):
            mixed.append(order.choice([queue for queue in queues if queue]).pop(0))
        found = find_splats("\n".join(mixed))
        assert {splat.title.split()[-1] for splat in found} == {"one+0x1/0x2", "two+0x1/0x2", "three+0x1/0x2"}
        assert len({splat.fingerprint for splat in found}) == 1
        assert all(splat.text.count("Call Trace:") == 1 for splat in found)


def test_what_follows_from_a_crash_is_the_same_splat() -> None:
    (splat,) = find_splats(captured("kasan-oops-panic"))
    assert splat.kind == "KASAN"
    assert splat.panic == "Kernel panic - not syncing: Fatal exception"


FAULTS = [
    "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000001: 0000 [#1] SMP KASAN",
    "BUG: unable to handle page fault for address: ffffed1000000001\n#PF: supervisor read access in kernel mode\n"
    "Oops: Oops: 0000 [#1] SMP KASAN",
    "BUG: kernel NULL pointer dereference, address: 0000000000000008\nOops: Oops: 0000 [#1] SMP KASAN",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_kasan_adds_to_a_fault_is_the_same_splat(fault: str) -> None:
    explained = f"{fault}\nKASAN: null-ptr-deref in range [0x0000000000000008-0x000000000000000f]\n{TRACE}"
    (splat,) = find_splats(stamped(explained))
    assert splat.title == fault.split("\n")[0]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("checker", ["KASAN", "KFENCE"])
def test_the_fault_after_the_checkers_report_is_the_same_splat(checker: str, fault: str) -> None:
    rule = "=" * 66
    report = f"{rule}\nBUG: {checker}: null-ptr-deref in f+0x1/0x2\n{TRACE}{rule}\n"
    taint = "Disabling lock debugging due to kernel taint\n"
    (splat,) = find_splats(stamped(f"{report}{taint}{fault}\n{TRACE}"))
    assert splat.kind == checker
    assert console.cause_of_death(stamped(f"{report}{taint}{fault}\n{TRACE}")) == splat.title


def test_what_an_rcu_stall_says_of_its_thread_is_the_same_splat() -> None:
    stall = f"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nrcu: \t0-...!: (1 GPs behind) idle=a64c\n{TRACE}"
    thread = "rcu: rcu_preempt kthread starved for 2500 jiffies! g1289 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0\n"
    (splat,) = find_splats(stamped(f"{stall}{thread}rcu: RCU grace-period kthread stack dump:\n{TRACE}"))
    assert splat.title == "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"


def test_a_panic_of_its_own_is_not_the_consequence_of_an_earlier_warning() -> None:
    warning = f"------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n{TRACE}"
    panic = f"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: g+0x1/0x2\n{TRACE}"
    first, second = find_splats(stamped(warning + panic))
    assert (first.kind, first.panic) == ("WARNING", "")
    assert (second.kind, second.panic) == ("kernel panic", second.title)
    (only,) = find_splats(stamped(warning + "Kernel panic - not syncing: kernel: panic_on_warn set ...\n" + TRACE))
    assert (only.kind, only.panic) == ("WARNING", "Kernel panic - not syncing: kernel: panic_on_warn set ...")


def test_a_panic_long_after_is_not_the_consequence() -> None:
    oops = stamped(f"Oops: divide error: 0000 [#1] SMP\n{TRACE}", 10)
    panic = stamped(f"Kernel panic - not syncing: Fatal exception\n{TRACE}", 99)
    assert [splat.kind for splat in find_splats(oops + panic)] == ["Oops", "kernel panic"]


def test_the_same_warning_twice_is_two_splats() -> None:
    warning = f"WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n{TRACE}"
    assert len(find_splats(stamped(warning * 2))) == 2


@pytest.mark.parametrize("between", range(12))
def test_a_bug_far_below_a_corruption_is_an_event_of_its_own(between: int) -> None:
    other = "".join(f"line {n}\n" for n in range(between))
    found = find_splats(
        stamped(f"usercopy: Kernel memory exposure attempt detected\n{other}kernel BUG at a.c:1!\n{TRACE}")
    )
    assert [splat.kind for splat in found] == (["usercopy"] if between < 6 else ["usercopy", "BUG"])


DEATHS = {
    "boot-and-segfault": None,
    "lockdep-circular": None,
    "rcu-stall": None,
    "panic-by-sysrq": "Kernel panic - not syncing: sysrq triggered crash",
    "null-pointer-panic": "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "kasan-oops-panic": "BUG: KASAN: wild-memory-access in splat_gpf+0x13/0x20",
    "panic-on-warn": "WARNING: CPU: 0 PID: 46 at drivers/misc/splat.c:34 splat_warnonce+0x3a/0x40",
    "hung-task-panic": "INFO: task init:49 blocked for more than 5 seconds.",
    "soft-lockup-panic": "watchdog: BUG: soft lockup - CPU#1 stuck for 10s! [init:47]",
    "hard-lockup-panic": "watchdog: Watchdog detected hard LOCKUP on cpu 0",
    "no-init": "Kernel panic - not syncing: Requested init /nope failed (error -2).",
    "init-exits": "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
    "oom-panic": "Kernel panic - not syncing: System is deadlocked on memory",
}


@pytest.mark.parametrize("name", DEATHS)
def test_cause_of_death(name: str) -> None:
    assert console.cause_of_death(captured(name)) == DEATHS[name]


def test_cause_of_death_prefers_what_led_to_the_panic_over_what_was_survived() -> None:
    survived = captured("general-protection")
    assert (console.cause_of_death(survived) or "").startswith("Oops: general protection fault")
    killed = survived + captured("panic-by-sysrq")
    assert console.cause_of_death(killed) == "Kernel panic - not syncing: sysrq triggered crash"


def test_cause_of_death_is_the_last_kill_for_memory_when_there_was_no_crash() -> None:
    text = captured("oom-kill")
    assert (console.cause_of_death(text + text.replace("126 (python3)", "222 (pytest)")) or "").startswith(
        "Out of memory: Killed process 222 (pytest)"
    )


def test_cause_of_death_is_the_oops_when_the_console_ends_before_the_panic() -> None:
    text = captured("kasan-oops-panic")
    cut = text[: text.index("Kernel panic")]
    assert console.cause_of_death(cut) == "BUG: KASAN: wild-memory-access in splat_gpf+0x13/0x20"
    before_oops = text[: text.index("Oops: ")]
    assert console.cause_of_death(before_oops) is None


def test_split_by_test() -> None:
    text = stamped(
        "booting\nvm-test: begin t.py::test_a[x y]\nin a\nvm-test: end t.py::test_a[x y]\nlate of a\n"
        "vm-test: begin t.py::test_b\nin b\nvm-test: end t.py::test_b\nreboot: Power down"
    )
    parts = console.split(text)
    assert "booting" in parts.boot
    assert list(parts.tests) == ["t.py::test_a[x y]", "t.py::test_b"]
    assert re.findall(r"in a|late of a|in b", parts.tests["t.py::test_a[x y]"]) == ["in a", "late of a"]
    assert re.findall(r"in a|late of a|in b", parts.tests["t.py::test_b"]) == ["in b"]
    assert "Power down" in parts.after
    assert parts.running is None
    assert console.last_test(text) == "t.py::test_b"


def test_split_of_a_machine_that_died_within_a_test() -> None:
    parts = console.split(captured("panic-by-sysrq"))
    assert parts.running == "tests/test_a.py::test_boom[x y]"
    assert find_splats(parts.boot) == []
    assert [splat.kind for splat in find_splats(parts.tests[parts.running])] == ["kernel panic"]
    assert parts.after == ""


def test_split_keeps_every_line_once_and_in_order() -> None:
    text = captured("many-kinds")
    parts = console.split(text)
    pieces = [parts.boot, *parts.tests.values(), parts.after]
    assert "\n".join(piece for piece in pieces if piece) == text


def test_split_attributes_each_splat_to_its_test() -> None:
    parts = console.split(captured("many-kinds"))
    kinds = {
        name.partition("[")[2].rstrip("]"): [s.kind for s in find_splats(text)] for name, text in parts.tests.items()
    }
    assert kinds["oob"] == ["KASAN"]
    assert kinds["uaf"] == []
    assert kinds["listdel"] == ["list corruption"]
    assert kinds["twowarn"] == ["WARNING", "WARNING"]
    assert find_splats(parts.boot) == []


def test_split_joins_both_runs_of_a_test() -> None:
    once = "vm-test: begin t\nround {}\nvm-test: end t\n"
    parts = console.split(stamped(once.format(1) + "vm-test: begin u\nvm-test: end u\n" + once.format(2)))
    assert re.findall(r"round \d", parts.tests["t"]) == ["round 1", "round 2"]
    assert list(parts.tests) == ["u", "t"]


def test_split_without_markers_is_all_boot() -> None:
    text = captured("boot-with-checkers")
    parts = console.split(text)
    assert (parts.boot, parts.tests, parts.after, parts.running) == (text, {}, "", None)
    assert console.last_test(text) is None


def test_a_marker_after_a_programs_unfinished_line_counts() -> None:
    assert console.last_test("collecting ... [    1.000000] vm-test: begin t.py::test_a\n") == "t.py::test_a"
    assert console.last_test("[    1.000000][   T99] vm-test: begin t.py::test_a\r\n") == "t.py::test_a"
    assert console.last_test("[    1.000000] systemd: vm-test: begin t.py::test_a\n") is None


def test_tail_is_the_last_lines_that_say_something() -> None:
    text = "one\n\n  \ntwo\x1b[31m red\x1b[0m\r\n\x00three\tx\n\n\n"
    assert console.tail(text, 2) == "two red\nthree\tx"
    assert console.tail(text) == "one\ntwo red\nthree\tx"
    assert console.tail("") == ""


# The examples of the kernel document ABI/testing/dev-kmsg.
def test_record_with_keys_and_values() -> None:
    data = (
        b"7,160,424069,-;pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)\n"
        b" SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n"
    )
    assert console.parse_record(data) == Record(
        level=7,
        facility=0,
        sequence=160,
        microseconds=424069,
        text="pci_root PNP0A03:00: host bridge window [io  0x0000-0x0cf7] (ignored)",
        values=(("SUBSYSTEM", "acpi"), ("DEVICE", "+acpi:PNP0A03:00")),
    )


def test_record_of_user_space() -> None:
    record = console.parse_record(b"30,340,5690716,-;udevd[80]: starting version 181\n")
    assert (record.level, record.facility, record.text) == (6, 3, "udevd[80]: starting version 181")


def test_record_with_caller_continuation_and_fields_of_the_future() -> None:
    record = console.parse_record(b"4,18446744073709551615,12,c,caller=T1234,new=x;a fragment; with a semicolon\n")
    assert (record.sequence, record.caller, record.continued) == (18446744073709551615, "T1234", True)
    assert record.text == "a fragment; with a semicolon"


def test_record_unescapes_what_the_kernel_escapes() -> None:
    record = console.parse_record(
        rb"6,1,2,-;tab\x09 back\x5cslash line\x0anext \xc3\xa4 \xff".replace(rb"\xff", b"") + b"\n"
    )
    assert record.text == "tab\t back\\slash line\nnext ä "
    assert console.parse_record(rb"6,1,2,-;\xff" + b"\n").text == "\ufffd"
    assert console.parse_record(b"6,1,2,-;\n").text == ""


@pytest.mark.parametrize("data", [b"", b"\n", b"6,1,2,-\n", b"6,1;x", b"x,1,2,-;x", b"6,1,-2,-;x", b";;;"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected a record"):
        console.parse_record(data)


def test_records_are_rendered_as_the_console_shows_them() -> None:
    record = console.parse_record(rb"4,7,12345678,-,caller=C1;first\x0asecond" + b"\n")
    assert console.render(record) == "[   12.345678][    C1] first\n[   12.345678][    C1] second"
    assert console.render(console.parse_record(b"4,7,999,-;x\n")) == "[    0.000999] x"


def test_splats_in_records_are_those_of_the_console() -> None:
    text = captured("many-kinds")
    records = []
    for line in text.split("\n"):
        if match := re.match(r"\[ *(\d+)\.(\d{6})\]\[ *(\w+)\] (.*)", line):
            seconds, fraction, caller, message = match.groups()
            escaped = message.replace("\\", r"\x5c").replace("\t", r"\x09")
            records.append(f"4,1,{int(seconds + fraction)},-,caller={caller};{escaped}\n".encode())
    rendered = "\n".join(console.render(console.parse_record(record)) for record in records)
    assert summary(find_splats(rendered)) == summary(find_splats(text))


def test_a_program_cannot_utter_a_splat_through_kmsg() -> None:
    kernel, program = Record(4, 0, 1, 2, "kernel BUG at a.c:1!"), Record(4, 1, 1, 2, "kernel BUG at a.c:1!")
    assert len(find_splats(console.render(kernel))) == 1
    assert find_splats(console.render(program)) == []
    assert console.last_test(console.render(Record(4, 1, 1, 2, "vm-test: begin t"))) == "t"


# Numbers and letters of the kernel document admin-guide/tainted-kernels.
TAINTS = {
    "P": 1, "F": 2, "S": 4, "R": 8, "M": 16, "B": 32, "U": 64, "D": 128, "A": 256, "W": 512, "C": 1024, "I": 2048,
    "O": 4096, "E": 8192, "L": 16384, "K": 32768, "X": 65536, "T": 131072, "N": 262144,
}  # fmt: skip


@pytest.mark.parametrize("letter", TAINTS)
def test_taint_letter(letter: str) -> None:
    ((found, meaning),) = console.taint_letters(TAINTS[letter])
    assert found == letter
    assert meaning


def test_taint_letters_of_several_flags() -> None:
    assert console.taint_letters(0) == []
    assert [letter for letter, _ in console.taint_letters(4609)] == ["P", "W", "O"]
    assert [letter for letter, _ in console.taint_letters(sum(TAINTS.values()))] == list(TAINTS)
    assert console.taint_letters(1 << 40) == [("?", "unknown flag, bit 40")]


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert console.main([str(DATA / "panic-by-sysrq.txt")]) == 1
    out = capsys.readouterr().out
    assert "fingerprint: kernel panic: sysrq_handle_crash < __handle_sysrq < write_sysrq_trigger" in out
    assert "last test: tests/test_a.py::test_boom[x y]" in out
    assert console.main([str(DATA / "boot-and-segfault.txt")]) == 0
    assert console.main([str(tmp_path / "none")]) == 4
    assert "cannot read" in capsys.readouterr().err


def test_a_large_console_is_read_in_reasonable_time() -> None:
    text = captured("boot-and-segfault") * 100
    assert len(text) > 2_500_000
    # No clock: a quadratic search would make this test the slowest of all by far (minutes).
    assert find_splats(text) == []
