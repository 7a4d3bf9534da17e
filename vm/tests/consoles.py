"""What kernels say: captured consoles (vm/tests/data), and the kernel's words for what is hard to provoke."""

from __future__ import annotations

from pathlib import Path

from vm.klog.splats import Splat

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
    "hung task killed": ("hung task", "INFO: task python3:321 can't die for more than 143 seconds."),
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
    # fs/super.c of 5.10 and since 6.1, fs/open.c
    "busy inodes": ("VFS", "VFS: Busy inodes after unmount of loop0. Self-destruct in 5 seconds.  Have a nice day..."),
    "busy inodes new": ("VFS", "VFS: Busy inodes after unmount of loop0 (ext4)"),
    "closed twice": ("VFS", "VFS: Close: file count is 0"),
    "closed twice new": ("VFS", "VFS: Close: file count is 0 (f_op=alg_proto_ops [af_alg])"),
    # net/core/dev.c
    "net device": ("net device", "unregister_netdevice: waiting for lo to become free. Usage count = 2"),
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
    "VFS": ["VFS: Disk quotas dquot_6.6.0", "VFS: Mounted root (9p filesystem) readonly on device 0:19."],
    "net device": ["netdevice: lo: left promiscuous mode", "lo: unregister_netdevice is not called"],
    "memory leak": ["kmemleak: Kernel memory leak detector initialized (mem pool available: 15244)"],
}

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


def captured(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def stamped(text: str, start: float = 10.0) -> str:
    """Return ``text`` as the kernel prints it, a millisecond after the line before."""
    return "".join(f"[{start + n / 1000:12.6f}] {line}\n" for n, line in enumerate(text.splitlines()))


def summary(splats: list[Splat]) -> list[tuple[str, str, str]]:
    """Return what tells splats apart: kind, title and fingerprint of each."""
    return [(splat.kind, splat.title, splat.fingerprint) for splat in splats]
