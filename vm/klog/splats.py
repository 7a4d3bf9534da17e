"""Complaints of the kernel: find the splats of a console, say which of them a VM died of.

Pure functions over the text of a serial console, or over records of ``/dev/kmsg`` as ``printk.render`` shows them.

A *splat* is a complaint of the kernel that no healthy kernel utters: one event is one splat, however many
titles the kernel gives it (``list_del corruption``, ``kernel BUG at``, ``Oops: invalid opcode`` and the panic
that follows are one). Lines that only look alike are listed, with the reason, in ``HARMLESS``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vm.base.arch import REGISTERS
from vm.klog import trace
from vm.klog.printk import Line, parse_lines

MOST_LINES = 60


@dataclass(frozen=True)
class Splat:
    """One complaint of the kernel.

    Attributes:
        kind: what sort: ``WARNING``, ``KASAN``, ``lockdep``, ``kernel panic``, ... (the table ``TITLES``).
        title: the line of the kernel that names it, without time stamp.
        text: excerpt, from the first line of the report to the end of its trace, without time stamps; of one
            longer than ``MOST_LINES`` lines the middle is left out.
        fingerprint: the kind and the first functions that matter; the same for the same bug on another
            boot, processor, address and compilation.
        panic: the ``Kernel panic`` line when the kernel died of it, else empty.
    """

    kind: str
    title: str
    text: str = ""
    fingerprint: str = ""
    panic: str = ""


# Lines that look like the beginning of a splat, or print a trace like one, and are none.
# Patterns stay text until a line needs them, here and in vm/klog/trace.py: guests import both, and compiling all takes
# half a second under emulation. (The module re keeps what it compiled.)
HARMLESS: tuple[tuple[str, str], ...] = (
    (r"traps: \S.* ip:[0-9a-f]+ sp:", "a program got a fatal signal; the kernel is well"),
    (r"\S.*\[\d+\]: (segfault|unhandled signal)", "a program got a fatal signal; the kernel is well"),
    (r"FAULT_INJECTION: forcing a failure", "asked for by the test; its trace says where"),
    (r"\S.*: page allocation failure: order:", "an allocation may fail; it is the caller's to cope"),
    (r"unchecked MSR access error", "QEMU's processors lack registers that kernels probe at boot"),
    (r"BUG: arch topology borken", "QEMU's processor topology without a real one's levels"),
    (r"WARNING: kernel not compiled with|WARNING: .*mitigation", "a notice of a processor flaw, never at code"),
    (r"sysrq: ", "asked for: Show Blocked State and the like print traces"),
)

# Kind and first words of each title, in order of precedence. From kernel/panic.c, lib/bug.c,
# arch/*/{mm/fault.c,kernel/{traps,dumpstack}.c}, mm/kasan, mm/kfence, kernel/kcsan, mm/kmsan, lib/ubsan.c,
# kernel/locking/lockdep.c, kernel/sched/core.c, kernel/{hung_task,watchdog}.c, kernel/rcu/tree_stall.h,
# lib/{refcount,list_debug}.c, mm/{slub,usercopy,oom_kill,page_alloc,kmemleak}.c, fs/{super,open}.c, net/core/dev.c,
# Linux 5.10 to 6.12; a task that "can't die" is linux-next's.
TITLES: tuple[tuple[str, str], ...] = (
    ("kernel panic", r"Kernel panic - not syncing|PANIC: double fault"),
    ("KASAN", r"BUG: KASAN:|KASAN: \S+ in range"),
    ("KFENCE", r"BUG: KFENCE:"),
    ("KCSAN", r"BUG: KCSAN:"),
    ("KMSAN", r"BUG: KMSAN:"),
    ("UBSAN", r"UBSAN: "),
    ("soft lockup", r"(NMI )?(watchdog: )?BUG: soft lockup"),
    ("hard lockup", r"(NMI )?(watchdog: )?(CPU\d+: )?Watchdog detected hard LOCKUP"),
    ("workqueue lockup", r"BUG: workqueue lockup"),
    ("hung task", r"INFO: task \S.* blocked for more than \d+ seconds"),
    ("hung task", r"INFO: task \S.* blocked in I/O wait for more than \d+ seconds"),
    ("hung task", r"INFO: task \S.* can't die for more than \d+ seconds"),
    ("RCU stall", r"(rcu: )?(INFO: )?rcu\w* (self-detected stall|detected (expedited )?stalls?\b)"),
    ("RCU stall", r"(rcu: )?rcu\w* kthread (starved|timer wakeup)"),
    (
        "lockdep",
        r"(WARNING|INFO|BUG|\[ BUG|\[ INFO): (possible (circular|recursive|irq lock inversion)"
        r"|inconsistent lock|suspicious RCU usage|held lock freed|bad ((un)?lock |)(balance|contention)|Nested lock"
        r"|lock held (when|at)|\S+ still has locks held|Invalid wait context|chain_key collision"
        r"|\S+-safe -> \S+-unsafe lock|trying to register non-static key|key \S+ has not been registered"
        r"|MAX_LOCK\S+ too low|MAX_STACK_TRACE_ENTRIES too low|looking up invalid subclass)",
    ),
    ("lockdep", r"BUG: sleeping function called from invalid context|BUG: scheduling while atomic"),
    ("lockdep", r"BUG: (assuming (atomic|non migratable) context|scheduling in a non-blocking section)"),
    ("lockdep", r"BUG: (workqueue leaked atomic|using \S+ in preemptible|spinlock |rwlock )"),
    ("refcount_t", r"refcount_t: "),
    ("list corruption", r"list_(del|add) (corruption|double add)"),
    ("bad page state", r"BUG: Bad page (state|map|cache)|BUG: (Bad rss-counter|non-zero pgtables_bytes)"),
    ("slab corruption", r"BUG \S.* \((Not tainted|Tainted)[^)]*\): |slab: double free|slab error in "),
    (
        "slab corruption",
        r"(cache_from_obj|virt_to_cache): |kmem_cache_destroy \S+: Slab cache still has objects",
    ),
    ("VFS", r"VFS: (Busy inodes after unmount of|Close: file count is 0)"),
    ("net device", r"unregister_netdevice: waiting for \S+ to become free"),
    ("usercopy", r"usercopy: Kernel memory (exposure|overwrite) attempt detected"),
    ("fortify", r"(\w+: )?detected (buffer overflow|field-spanning)"),
    ("stack corruption", r"BUG: (\S+ )?stack guard page was hit|Thread overran stack|BUG: stack "),
    (
        "NULL pointer dereference",
        r"(BUG: (unable to handle )?|Unable to handle )kernel NULL pointer dereference",
    ),
    ("page fault", r"(BUG: unable|Unable) to handle (page fault|kernel paging request|kernel )"),
    ("general protection fault", r"(Oops: )?general protection fault\b.*\[#\d+\]"),
    ("BUG", r"kernel BUG at |BUG: "),
    ("Oops", r"(Oops|Internal error)\b.*\[#\d+\]|[a-z][\w -]*: [0-9a-f]{4,} \[#\d+\]"),
    ("out of memory", r"(Memory cgroup out of memory|Out of memory): Kill|\S.* invoked oom-killer:"),
    ("memory leak", r"kmemleak: \d+ new suspected memory leaks|(kmemleak: )?unreferenced object 0x"),
    ("WARNING", r"WARNING: "),
)

# Which title is only the consequence of an event right above it: its kind, and the kinds of that event.
_CRASHES = frozenset({"BUG", "Oops", "general protection fault", "page fault", "NULL pointer dereference"})
_CONSEQUENCES: dict[str, frozenset[str]] = {
    "WARNING": frozenset({"refcount_t", "list corruption", "slab corruption", "fortify", "usercopy", "VFS"}),
    "BUG": frozenset({"list corruption", "slab corruption", "fortify", "usercopy", "lockdep", "VFS"}),
    "Oops": _CRASHES
    | {"list corruption", "slab corruption", "fortify", "usercopy", "KASAN", "KFENCE", "stack corruption"},
    "KASAN": _CRASHES,
    "general protection fault": frozenset({"KASAN", "KFENCE"}),
    "page fault": frozenset({"KASAN", "KFENCE"}),
    "NULL pointer dereference": frozenset({"KASAN", "KFENCE"}),
    "out of memory": frozenset({"out of memory"}),
    "RCU stall": frozenset({"RCU stall"}),
}
_DEADLY = _CRASHES | {"kernel panic", "stack corruption", "soft lockup", "hard lockup"}

# Panics that only carry out what the event before them decided, or a sysctl asks for on such an event.
_CARRIED_OUT = (
    r"Fatal|Oops|.*panic_on_(warn|oops|unrecovered_nmi|rcu_stall) set|hung_task: |softlockup: |Hard LOCKUP"
    r"|RCU Stall|nmi_watchdog|NMI|Aiee, |Attempted to kill |Out of memory|System is deadlocked|BUG!"
)
# Titles that no trace follows: without this a later trace of another thing would be theirs.
_NO_TRACE = (
    r"kmemleak: \d+ new|(Memory cgroup out|Out) of memory: Kill|BUG: (Bad rss|non-zero pgt|MAX_)"
    r"|VFS: |unregister_netdevice: "
)
# The kernel's own warnings name the code; drivers print "WARNING: ..." for advice.
_AT_CODE = r"WARNING: (CPU: \d+ PID: \d+ at |.*\bat \S+\+0x[0-9a-f]+/0x)"

# Every line of HARMLESS and TITLES has one of these in it; all other lines are passed over quickly.
_HINT = re.compile(
    r"BUG|WARNING|PANIC|panic|Oops|Internal error|SAN: |LOCKUP|INFO: |rcu|refcount_t|list_|slab|_cache"
    r"|usercopy|detected |overran|Unable to|general protection|\[#|ut of memory|oom-killer|unreferenced|kmemleak"
    r"|VFS: |_netdevice: |traps: |\]: |FAULT_INJ|allocation failure|unchecked MSR|sysrq: |NMI "
)
_CUT_HERE = r"-+\[ cut here \]-+|={20,}"
_RULE = r"={20,}"
_END = r"---\[ end "
# What a report consists of apart from indented lines, once its trace has begun.
_PART = (
    rf"\s|$|\[|Call |CPU: |Hardware |{REGISTERS}"
    r"|Modules linked|pc : |lr : |sp : |x\d+ ?: |pstate: |Tainted: |irq event|(hard|soft)irqs last|page|raw: |flags: "
    r"|head|The buggy|Memory state|>[0-9a-f]{8}|([Aa]llocated|[Ff]reed|Last potentially|[Ww]rite|[Rr]ead)[ -]"
    r"|value changed|Reported by|kfence-|Object|Redzone|Padding|Bytes b4|Slab |INFO: |FIX |\d+ locks? held"
    r"|no locks held|Showing |Disabling lock|note: |={20,}|-{20,}|---\[|Mem-Info|active_|Node |lowmem_"
    r"|\d+ (total|pages)|Free swap|Total swap|Tasks state|oom-kill:|Kernel Offset|Rebooting|rcu: |task:"
    r"|stack backtrace|other info|Preemption|\(detected by|Sending NMI|NMI backtrace|[Ww]orkqueue|pool "
)

_MOST_HEAD_LINES = 150
_MOST_ADVICE_LINES = 12
_MOST_SECONDS = 2.0
_NEAR_LINES = 6


def find_splats(text: str) -> list[Splat]:
    """Return the splats of a console's text, or of rendered kmsg records, in the order of their titles.

    Copes with level prefixes, time stamps, callers (CONFIG_PRINTK_CALLER; reports of several processors
    at once are then told apart), carriage returns, binary junk, output of programs in between (where the
    kernel stamps its lines, lines without a stamp are not the kernel's) and a text that ends anywhere.
    """
    return [_splat(event) for event in _all_events(text)]


def cause_of_death(text: str) -> str | None:
    """Return the one line that says best why the VM died, None when the kernel gave no reason.

    The title of what led to the panic, else of the first oops or lockup, else the last kill for memory.
    Only meaningful for a VM that died: a kernel can survive most of them.
    """
    events = _all_events(text)
    fatal = [event for event in events if event.panic] or [event for event in events if event.deadly]
    fatal = fatal or [event for event in events if event.kind == "out of memory"][-1:]
    return fatal[0].title if fatal else None


@dataclass(frozen=True)
class _Event:
    """One report: kind and title of its cause, number of the title's line, all its lines, what came of it."""

    kind: str
    title: str
    number: int
    lines: tuple[Line, ...]
    deadly: bool = False
    panic: str = ""


def _all_events(text: str) -> list[_Event]:
    """Return all reports in the order of their titles."""
    if _HINT.search(text) is None:
        return []
    events = [event for stream in _streams(text) for event in _events(stream)]
    return sorted(events, key=lambda event: event.number)


def _streams(text: str) -> list[list[Line]]:
    """Return the kernel's lines, one list a caller where callers are known, else one list of all."""
    lines = parse_lines(text)
    if any(line.time is not None for line in lines):
        lines = [line for line in lines if line.time is not None]
    streams: dict[str, list[Line]] = {}
    for line in lines:
        streams.setdefault(line.caller, []).append(line)
    return list(streams.values())


def _events(lines: Sequence[Line]) -> list[_Event]:
    """Return the reports among the lines of one stream."""
    events: list[_Event] = []
    free = position = 0  # lines before ``free`` belong to a report already
    while position < len(lines):
        kind = _kind(lines, position)
        if kind is None:
            position += 1
            continue
        start, end = _lead_in(lines, position, free), _end(lines, position, kind)
        line = lines[position]
        event = _Event(kind, line.text, line.number, tuple(lines[start:end]), deadly=kind in _DEADLY)
        if events and _belongs(event, events[-1], start - free):
            events[-1] = _joined(events[-1], event)
        else:
            events.append(replace(event, panic=event.title if kind == "kernel panic" else ""))
        free = position = end
    return events


def _kind(lines: Sequence[Line], position: int) -> str | None:
    """Return the kind of splat that the line at ``position`` is the title of, None when it is none."""
    text = lines[position].text
    if _is_harmless(text):
        return None
    kind = _kind_by_words(text)
    if kind == "WARNING" and not re.match(_AT_CODE, text):
        # What the kernel itself warns of comes with a trace.
        return kind if _trace_begins(lines, position + 1, _MOST_ADVICE_LINES) is not None else None
    return kind


def _is_harmless(text: str) -> bool:
    # Of what the kernel warns at its code no word makes it harmless: spectre_v2_select_mitigation is a function.
    if _HINT.search(text) is None or re.match(_AT_CODE, text):
        return False
    return any(re.match(pattern, text) for pattern, _ in HARMLESS)


def _kind_by_words(text: str) -> str | None:
    if _HINT.search(text) is None:
        return None
    return next((kind for kind, pattern in TITLES if re.match(pattern, text)), None)


def _lead_in(lines: Sequence[Line], position: int, free: int) -> int:
    """Return where the report begins whose title is at ``position``: at a rule shortly before, if any."""
    for start in range(position - 1, max(free, position - _NEAR_LINES) - 1, -1):
        if re.fullmatch(_CUT_HERE, lines[start].text):
            return start
        if re.match(_END, lines[start].text) or lines[start].marks_test:
            break
    return position


def _end(lines: Sequence[Line], position: int, kind: str) -> int:
    """Return the position after the last line of the report whose title is at ``position``."""
    if re.match(_NO_TRACE, lines[position].text):
        return position + 1
    begin = _trace_begins(lines, position + 1, _MOST_HEAD_LINES)
    if begin is None:
        ruled = position > 0 and re.fullmatch(_RULE, lines[position - 1].text)
        last = position + (_MOST_ADVICE_LINES if ruled else 0)
        ends = (here for here in range(position + 1, last + 1) if here >= len(lines) or _stops(lines, here))
        return next(ends, last + 1)
    fenced = kind in ("KASAN", "KFENCE", "KCSAN", "KMSAN")
    for end in range(begin, len(lines)):
        text = lines[end].text
        if re.match(_END, text) or (fenced and re.fullmatch(_RULE, text)):
            return end + 1
        # What is printed between the trace and the kill for memory differs from kernel to kernel.
        if _stops(lines, end) or not (end == begin or kind == "out of memory" or re.match(_PART, text)):
            return end
    return len(lines)


def _trace_begins(lines: Sequence[Line], position: int, most: int) -> int | None:
    """Return where the trace begins of a title right before ``position``; None when no trace is near."""
    processor = None  # "CPU: 0 PID: 1 ..." comes shortly before the trace, or there is none
    for here in range(position, min(position + most, len(lines))):
        text = lines[here].text
        if trace.begins(text):
            return here
        if _stops(lines, here):
            break
        if processor is None and trace.names_processor(text):
            processor = here
    return processor


def _stops(lines: Sequence[Line], position: int) -> bool:
    """Say whether a report cannot reach ``position``: another begins here, or time has passed."""
    line, before = lines[position], lines[position - 1]
    if line.time is not None and before.time is not None and line.time - before.time > _MOST_SECONDS:
        return True
    if re.fullmatch(_CUT_HERE, line.text) or line.marks_test:
        return True
    if _is_harmless(line.text):
        return True
    kind = _kind_by_words(line.text)
    return kind is not None and (kind != "WARNING" or bool(re.match(_AT_CODE, line.text)))


def _belongs(event: _Event, former: _Event, between: int) -> bool:
    """Say whether ``event``, ``between`` lines below the former, is its consequence rather than one of its own."""
    last, first = former.lines[-1], event.lines[0]
    if last.time is not None and first.time is not None and first.time - last.time > 2 * _MOST_SECONDS:
        return False
    if event.kind == "kernel panic":
        reason = event.title.partition("not syncing: ")[2]
        return bool(re.match(_CARRIED_OUT, reason))
    return between < _NEAR_LINES and former.kind in _CONSEQUENCES.get(event.kind, frozenset())


def _joined(former: _Event, event: _Event) -> _Event:
    return replace(
        former,
        # "Killed process 126 (python3)" tells more than who asked for memory, "deadlocked on memory" too.
        title=event.title if former.kind == "out of memory" else former.title,
        lines=former.lines + event.lines,
        deadly=former.deadly or event.deadly,
        panic=former.panic or (event.title if event.kind == "kernel panic" else ""),
    )


def _splat(event: _Event) -> Splat:
    lines = [line.text for line in event.lines]
    return Splat(
        kind=event.kind,
        title=event.title,
        text=_excerpt(lines),
        fingerprint=trace.fingerprint(event.kind, event.title, lines),
        panic=event.panic,
    )


def _excerpt(lines: Sequence[str]) -> str:
    """Return the lines of a report as one text, without its middle when there are more than MOST_LINES."""
    if len(lines) > MOST_LINES:
        kept = MOST_LINES * 2 // 3
        rest = MOST_LINES - kept - 1
        lines = [*lines[:kept], f"... ({len(lines) - kept - rest} lines left out)", *lines[-rest:]]
    return "\n".join(lines).strip("\n")
