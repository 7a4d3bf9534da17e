"""What a kernel said: split a console by boot and test, find splats, say why a machine died.

Pure functions over the text of a serial console, or over records of ``/dev/kmsg``. The guest writes
``vm-test: begin ID`` and ``vm-test: end ID`` to ``/dev/kmsg`` around each test, at a level that reaches the
console.

A *splat* is a complaint of the kernel that no healthy kernel utters: one event is one splat, however many
titles the kernel gives it (``list_del corruption``, ``kernel BUG at``, ``Oops: invalid opcode`` and the panic
that follows are one). Lines that only look alike are listed, with the reason, in ``HARMLESS``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

BEGIN = "vm-test: begin "
END = "vm-test: end "
MOST_LINES = 60


@dataclass(frozen=True)
class Splat:
    """One complaint of the kernel.

    Attributes:
        kind: what sort: ``WARNING``, ``KASAN``, ``lockdep``, ``kernel panic``, ... (the table ``_TITLES``).
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


@dataclass(frozen=True)
class Console:
    """A console's text by time.

    Attributes:
        boot: before the first test.
        tests: text of each test by its id; what came between two tests belongs to the former, whose late
            consequence it most likely is. A test that ran twice has both texts.
        after: after the end of the last test; empty when the text ends within one.
        running: id of the test that had begun and not ended, None when there is none.
    """

    boot: str
    tests: dict[str, str] = field(default_factory=dict)
    after: str = ""
    running: str | None = None


@dataclass(frozen=True)
class Record:
    """One record of ``/dev/kmsg`` (kernel document ABI/testing/dev-kmsg).

    Attributes:
        level: 0 (emergency) to 7 (debug).
        facility: 0 for the kernel itself, 1 and more for messages written by user space.
        sequence: number of the record since boot.
        microseconds: of the monotonic clock.
        text: the message, unescaped; it may have several lines.
        caller: ``T123`` (task) or ``C1`` (processor) with CONFIG_PRINTK_CALLER, else empty.
        continued: whether this is a fragment of a line that the kernel printed in parts.
        values: the keys and values that follow the message.
    """

    level: int
    facility: int
    sequence: int
    microseconds: int
    text: str
    caller: str = ""
    continued: bool = False
    values: tuple[tuple[str, str], ...] = ()


# Lines that look like the beginning of a splat, or print a trace like one, and are none.
# Patterns of this module stay text until a line needs them: guests import it, and compiling all takes
# half a second under emulation. (The module re keeps what it compiled.)
HARMLESS: tuple[tuple[str, str], ...] = (
    (r"traps: \S.* ip:[0-9a-f]+ sp:", "a program got a fatal signal; the kernel is well"),
    (r"\S.*\[\d+\]: (segfault|unhandled signal)", "a program got a fatal signal; the kernel is well"),
    (r"FAULT_INJECTION: forcing a failure", "asked for by the test; its trace says where"),
    (r"\S.*: page allocation failure: order:", "an allocation may fail; it is the caller's to cope"),
    (r"unchecked MSR access error", "QEMU's processors lack registers that kernels probe at boot"),
    (r"BUG: arch topology borken", "QEMU's processor topology without a real one's levels"),
    (r"WARNING: kernel not compiled with|WARNING: .*mitigation", "a notice of a processor flaw"),
    (r"sysrq: ", "asked for: Show Blocked State and the like print traces"),
)


def find_splats(text: str) -> list[Splat]:
    """Return the splats of a console's text, or of rendered kmsg records, in the order of their titles.

    Copes with level prefixes, time stamps, callers (CONFIG_PRINTK_CALLER; reports of several processors
    at once are then told apart), carriage returns, binary junk, output of programs in between (where the
    kernel stamps its lines, lines without a stamp are not the kernel's) and a text that ends anywhere.
    """
    return [_splat(event) for event in _all_events(text)]


def split(text: str) -> Console:
    """Divide a console's text at the markers of the tests."""
    boot: list[str] = []
    after: list[str] = []
    tests: dict[str, list[str]] = {}
    running: str | None = None
    into = boot
    for raw in text.split("\n"):
        message = _line(0, raw).text if "vm-test: " in raw else ""
        if message.startswith(BEGIN):
            running = message[len(BEGIN) :]
            # What came since the end of the test before belongs to that one: see Console.tests.
            if into is after and tests:
                tests[next(reversed(tests))] += after
                after = []
            into = tests.setdefault(running, [])
            tests[running] = tests.pop(running)  # the newest is the last
        into.append(raw)
        if message.startswith(END) and running is not None:
            running = None
            into = after
    texts = {name: "\n".join(lines) for name, lines in tests.items()}
    return Console("\n".join(boot), texts, "\n".join(after), running)


def last_test(text: str) -> str | None:
    """Return the id of the test that began last, whether or not it ended; None when none began."""
    found = None
    for raw in text.split("\n"):
        if BEGIN in raw and (message := _line(0, raw).text).startswith(BEGIN):
            found = message[len(BEGIN) :]
    return found


def tail(text: str, lines: int = 20) -> str:
    """Return the last ``lines`` lines that are not empty, without what would upset a terminal."""
    kept = [clean for raw in text.split("\n") if (clean := _clean(raw).rstrip())]
    return "\n".join(kept[-lines:])


def cause_of_death(text: str) -> str | None:
    """Return the one line that says best why the machine died, None when the kernel gave no reason.

    The title of what led to the panic, else of the first oops or lockup, else the last kill for memory.
    Only meaningful for a machine that died: a kernel can survive most of them.
    """
    events = _all_events(text)
    fatal = [event for event in events if event.panic] or [event for event in events if event.deadly]
    fatal = fatal or [event for event in events if event.kind == "out of memory"][-1:]
    return fatal[0].title if fatal else None


def parse_record(data: bytes) -> Record:
    r"""Return one record as ``read(2)`` gives it.

    The format is ``prefix,sequence,microseconds,flags[,more];text\n``, then lines `` KEY=value\n``. Bytes
    that are not printable and the backslash are escaped as ``\x..``. Further fields are ignored, as the
    document asks.

    Raises:
        ValueError: it is no such record.
    """
    head, separator, body = data.partition(b";")
    fields = head.decode(errors="replace").split(",")
    if not separator or len(fields) < 4 or not all(number.isdecimal() for number in fields[:3]):
        raise ValueError(f"expected a record of /dev/kmsg (level,sequence,microseconds,flags;text), got {data[:80]!r}")
    prefix, sequence, microseconds = (int(number) for number in fields[:3])
    message, *rest = body.rstrip(b"\n").split(b"\n")
    return Record(
        level=prefix & 7,
        facility=prefix >> 3,
        sequence=sequence,
        microseconds=microseconds,
        text=_unescape(message),
        caller=next((more.removeprefix("caller=") for more in fields[4:] if more.startswith("caller=")), ""),
        continued="c" in fields[3],
        values=tuple(_pair(_unescape(line.removeprefix(b" "))) for line in rest if line.startswith(b" ")),
    )


def render(record: Record) -> str:
    """Return a record as a console shows it, each of its lines stamped, without a newline at the end.

    A message of user space other than the markers of tests is marked as such, so that a program cannot
    utter a splat.
    """
    stamp = f"[{record.microseconds / 1e6:12.6f}]" + (f"[{record.caller:>6}]" if record.caller else "")
    theirs = record.facility != 0 and not record.text.startswith((BEGIN, END))
    return "\n".join(f"{stamp} {'user space: ' if theirs else ''}{line}" for line in record.text.split("\n"))


def taint_letters(mask: int) -> list[tuple[str, str]]:
    """Return letter and meaning of each flag in a value of ``/proc/sys/kernel/tainted``, lowest bit first.

    Letters and bits are those of the kernel document admin-guide/tainted-kernels.
    """
    letters = []
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            letters.append(_TAINTS[bit] if bit < len(_TAINTS) else ("?", f"unknown flag, bit {bit}"))
    return letters


def main(argv: list[str] | None = None) -> int:
    """Print the splats of console files and why the machines died; exit with 1 when there are any."""
    parser = argparse.ArgumentParser(prog="python -m vm.console", description=main.__doc__)
    parser.add_argument("file", nargs="+", type=Path, help="text of a console")
    found = False
    for path in parser.parse_args(argv).file:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            print(f"cannot read {path}: {error.strerror}; give the text of a console", file=sys.stderr)
            return 4
        splats = find_splats(text)
        found = found or bool(splats)
        for splat in splats:
            print(f"{path}: {splat.kind}: {splat.title}\n  fingerprint: {splat.fingerprint}")
        print(f"{path}: last test: {last_test(text) or 'none'}")
        print(f"{path}: if it died, of: {cause_of_death(text) or 'nothing the kernel told'}")
    return 1 if found else 0


_TAINTS = (
    ("P", "proprietary module was loaded"),
    ("F", "module was force loaded"),
    ("S", "kernel running on an out of specification system"),
    ("R", "module was force unloaded"),
    ("M", "processor reported a machine check exception"),
    ("B", "bad page referenced or unexpected page flags"),
    ("U", "taint requested by user space"),
    ("D", "kernel died: oops or BUG"),
    ("A", "ACPI table overridden by user"),
    ("W", "kernel issued a warning"),
    ("C", "staging driver was loaded"),
    ("I", "workaround for a bug in platform firmware applied"),
    ("O", "module from outside the kernel tree was loaded"),
    ("E", "unsigned module was loaded"),
    ("L", "soft lockup occurred"),
    ("K", "kernel has been live patched"),
    ("X", "auxiliary taint, defined by the distribution"),
    ("T", "kernel built with structure layout randomization"),
    ("N", "an in-kernel test has been run"),
)

# Kind and first words of each title, in order of precedence. From kernel/panic.c, lib/bug.c,
# arch/*/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c, mm/kasan, mm/kfence, kernel/kcsan, mm/kmsan, lib/ubsan.c,
# kernel/locking/lockdep.c, kernel/sched/core.c, kernel/{hung_task,watchdog}.c, kernel/rcu/tree_stall.h,
# lib/{refcount,list_debug}.c, mm/slub.c, mm/{usercopy,oom_kill,page_alloc,kmemleak}.c, Linux 5.10 to 6.12.
_TITLES: tuple[tuple[str, str], ...] = (
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
    "WARNING": frozenset({"refcount_t", "list corruption", "slab corruption", "fortify", "usercopy"}),
    "BUG": frozenset({"list corruption", "slab corruption", "fortify", "usercopy", "lockdep"}),
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
_NO_TRACE = r"kmemleak: \d+ new|(Memory cgroup out|Out) of memory: Kill|BUG: (Bad rss|non-zero pgt|MAX_)"
# The kernel's own warnings name the code; drivers print "WARNING: ..." for advice.
_AT_CODE = r"WARNING: (CPU: \d+ PID: \d+ at |.*\bat \S+\+0x[0-9a-f]+/0x)"

# Every line of HARMLESS and _TITLES has one of these in it; all other lines are passed over quickly.
_HINT = re.compile(
    r"BUG|WARNING|PANIC|panic|Oops|Internal error|SAN: |LOCKUP|INFO: |rcu|refcount_t|list_|slab|_cache"
    r"|usercopy|detected |overran|Unable to|general protection|\[#|ut of memory|oom-killer|unreferenced|kmemleak"
    r"|traps: |\]: |FAULT_INJ|allocation failure|unchecked MSR|sysrq: |NMI "
)
_PREFIX = re.compile(r"\[ *(?P<time>\d+\.\d{6})\](?:\[ *(?P<caller>[TC]\d+)\])? ?")
_PLACE = r"(?P<function>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
_FRAME = r"\s+(?:\[<[0-9a-f]+>\] )?" + _PLACE  # with "? " before it, the unwinder only guesses
_AT = r"(?:RIP: \d{4}:|pc : )" + _PLACE
_TRACE = r"Call [Tt]race:"
_PROCESSOR = r"CPU: \d+ (UID: \d+ )?PID: \d+"
_OTHER_TRACE = r"(Allocated|allocated|Freed|freed|Last potentially|Uninit was) "
_CUT_HERE = r"-+\[ cut here \]-+|={20,}"
_RULE = r"={20,}"
_END = r"---\[ end "
# What a report consists of apart from indented lines, once its trace has begun.
_PART = (
    r"\s|$|\[|Call |CPU: |Hardware |RIP: |R[0-9A-Z]{2}: |Code: |RSP: |FS: |CS: |CR2: |DR\d: |PKRU: "
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
_MOST_FUNCTIONS = 3

# Functions that reports of some kind all go through: they say nothing about the bug.
_GENERIC = (
    # how a report comes about
    r"dump_stack|show_(stack|trace|regs)|(nmi_)?panic|__warn|warn_slowpath|report_bug|handle_bug|oops_|_*die\b|print_"
    r"|start_report|end_report|trace_|__traceiter"
    # exceptions and interrupts
    r"|exc_|asm_|do_(error_)?trap|fixup_bug|(do_)?invalid_op|(async_|do_)?page_fault|do_(user|kern)_addr_fault|no_context"
    r"|_*bad_area|(do_)?general_protection|kernelmode_fixup|error_entry|restore_|end_repeat_nmi|(default_do_)?nmi\b|nmi_"
    r"|_*sysvec|(smp_)?apic_|_*hrtimer_|tick_|update_process|timekeeping|_*perf_event_overflow"
    # checkers
    r"|_*k[am]san_|_*kcsan_|__tsan|__asan|__msan|_*ubsan_|_*kfence_|check_(memory_)?region|handle_overflow|kmemleak"
    r"|refcount_(warn|\w+_checked)|(__)?list_(add|del)_\w*valid|_*fortify_|usercopy_|_*check_(heap_)?object"
    r"|__stack_chk_fail|bad_page|free_page_is_bad|check_free_page|watchdog_|is_\w*hung|check_cpu_stall"
    r"|rcu_(sched_clock|check|dump|core|note)"
    # memory
    r"|slab_|_+slab|object_err|check_(slab|bytes)|init_object|(free|alloc)_debug|on_freelist|free_to_partial"
    r"|free_consistency|_*kmem_cache_|_*kmalloc|cache_from_obj|virt_to_cache|_*kfree\b|oom_|out_of_memory|dump_header"
    r"|_*alloc_(pages|frozen)|_*folio_alloc|get_(free_)?page|free_unref|mem(set|cpy|move)|rep_|_*copy_(from|to)_user"
    # locks and the scheduler
    r"|_*lock_(acquire|release)|_+lock|validate_chain|check_(noncircular|prev|deadlock|wait|chain)|mark_(lock|usage|held)"
    r"|valid_state|lockdep_|debug_(check|lock|mutex|spin|object)|register_lock_class|_*might_|__schedule|schedule\b"
    r"|preempt_schedule|context_switch|_*raw_|do_raw_|spin_(bug|dump|lock|unlock)|_*mutex_lock"
    r"|delay_|__delay|__(const_)?udelay|native_|arch_"
    # the way in
    r"|do_syscall|x64_sys_call|entry_|ret_from|__se_sys|el[01]|invoke_syscall|rest_init"
)


class _Line(NamedTuple):
    """One line: its place in the text, what it says, its stamp and caller (None and empty when unstamped)."""

    number: int
    text: str
    time: float | None = None
    caller: str = ""


@dataclass(frozen=True)
class _Event:
    """One report: kind and title of its cause, number of the title's line, all its lines, what came of it."""

    kind: str
    title: str
    number: int
    lines: tuple[_Line, ...]
    deadly: bool = False
    panic: str = ""


def _all_events(text: str) -> list[_Event]:
    """Return all reports in the order of their titles."""
    if _HINT.search(text) is None:
        return []
    events = [event for stream in _streams(text) for event in _events(stream)]
    return sorted(events, key=lambda event: event.number)


def _streams(text: str) -> list[list[_Line]]:
    """Return the kernel's lines, one list a caller where callers are known, else one list of all."""
    lines = [_line(number, raw) for number, raw in enumerate(text.split("\n"))]
    if any(line.time is not None for line in lines):
        lines = [line for line in lines if line.time is not None]
    streams: dict[str, list[_Line]] = {}
    for line in lines:
        streams.setdefault(line.caller, []).append(line)
    return list(streams.values())


def _line(number: int, raw: str) -> _Line:
    clean = _clean(raw)
    # Searched for, since a program may have left an unfinished line before the kernel's.
    if (prefix := _PREFIX.search(clean)) is not None:
        return _Line(number, clean[prefix.end() :].rstrip(), float(prefix["time"]), prefix["caller"] or "")
    return _Line(number, re.sub(r"^<\d{1,3}>", "", clean).rstrip())


def _clean(raw: str) -> str:
    """Return a line without terminal sequences and control characters other than the tabulator."""
    if raw.isprintable():
        return raw
    raw = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[@-Z\\-_a-z])", "", raw)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", raw)


def _events(lines: Sequence[_Line]) -> list[_Event]:
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


def _kind(lines: Sequence[_Line], position: int) -> str | None:
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
    return _HINT.search(text) is not None and any(re.match(pattern, text) for pattern, _ in HARMLESS)


def _kind_by_words(text: str) -> str | None:
    if _HINT.search(text) is None:
        return None
    return next((kind for kind, pattern in _TITLES if re.match(pattern, text)), None)


def _lead_in(lines: Sequence[_Line], position: int, free: int) -> int:
    """Return where the report begins whose title is at ``position``: at a rule shortly before, if any."""
    for start in range(position - 1, max(free, position - _NEAR_LINES) - 1, -1):
        if re.fullmatch(_CUT_HERE, lines[start].text):
            return start
        if re.match(_END, lines[start].text) or _is_marker(lines[start]):
            break
    return position


def _end(lines: Sequence[_Line], position: int, kind: str) -> int:
    """Return the position after the last line of the report whose title is at ``position``."""
    if re.match(_NO_TRACE, lines[position].text):
        return position + 1
    trace = _trace_begins(lines, position + 1, _MOST_HEAD_LINES)
    if trace is None:
        ruled = position > 0 and re.fullmatch(_RULE, lines[position - 1].text)
        last = position + (_MOST_ADVICE_LINES if ruled else 0)
        ends = (here for here in range(position + 1, last + 1) if here >= len(lines) or _stops(lines, here))
        return next(ends, last + 1)
    fenced = kind in ("KASAN", "KFENCE", "KCSAN", "KMSAN")
    for end in range(trace, len(lines)):
        text = lines[end].text
        if re.match(_END, text) or (fenced and re.fullmatch(_RULE, text)):
            return end + 1
        # What is printed between the trace and the kill for memory differs from kernel to kernel.
        if _stops(lines, end) or not (end == trace or kind == "out of memory" or re.match(_PART, text)):
            return end
    return len(lines)


def _trace_begins(lines: Sequence[_Line], position: int, most: int) -> int | None:
    """Return where the trace begins of a title right before ``position``; None when no trace is near."""
    processor = None  # "CPU: 0 PID: 1 ..." comes shortly before the trace, or there is none
    for here in range(position, min(position + most, len(lines))):
        text = lines[here].text
        if re.match(_TRACE, text) or re.match(_FRAME, text):
            return here
        if _stops(lines, here):
            break
        if processor is None and re.match(_PROCESSOR, text):
            processor = here
    return processor


def _stops(lines: Sequence[_Line], position: int) -> bool:
    """Say whether a report cannot reach ``position``: another begins here, or time has passed."""
    line, before = lines[position], lines[position - 1]
    if line.time is not None and before.time is not None and line.time - before.time > _MOST_SECONDS:
        return True
    if re.fullmatch(_CUT_HERE, line.text) or _is_marker(line):
        return True
    if _is_harmless(line.text):
        return True
    kind = _kind_by_words(line.text)
    return kind is not None and (kind != "WARNING" or bool(re.match(_AT_CODE, line.text)))


def _is_marker(line: _Line) -> bool:
    return line.text.startswith((BEGIN, END))


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
    text = [line.text for line in event.lines]
    if len(text) > MOST_LINES:
        kept = MOST_LINES * 2 // 3
        rest = MOST_LINES - kept - 1
        text = [*text[:kept], f"... ({len(text) - kept - rest} lines left out)", *text[-rest:]]
    return Splat(event.kind, event.title, "\n".join(text).strip("\n"), _fingerprint(event), event.panic)


def _fingerprint(event: _Event) -> str:
    """Return the kind and the first functions that matter, else the kind and the title without numbers."""
    if event.kind == "KCSAN":
        # Which of the two accesses is reported first is chance; the kernel sorts their names in the title.
        return f"{event.kind}: {event.title.rpartition(' in ')[2]}"
    lines = [line.text for line in event.lines]
    places = [place["function"].split(".")[0] for place in re.finditer(_PLACE, event.title)]
    guesses = [line.replace(" ? ", " ", 1) for line in lines]
    functions = _relevant(_functions(lines)) or _relevant(places) or _relevant(_functions(guesses))
    what = " < ".join(functions) or re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "#", event.title)
    return f"{event.kind}: {what}"


def _relevant(functions: Iterable[str]) -> list[str]:
    """Return the first few that say something about the bug."""
    found: list[str] = []
    for function in functions:
        if function not in found[-1:] and not re.match(_GENERIC, function):
            found.append(function)
        if len(found) == _MOST_FUNCTIONS:
            break
    return found


def _functions(lines: Sequence[str]) -> Iterator[str]:
    """Yield the functions of the trace that matters, innermost first, without the compiler's suffixes."""
    begun = False
    for line in lines[_trace_of_event(lines) :]:
        if begun and (line.strip() == "</TASK>" or re.match(_OTHER_TRACE, line)):
            return
        found = re.match(_FRAME, line)
        begun = begun or found is not None
        # The registers name the place only before the trace: those within belong to who was interrupted.
        found = found or (None if begun else re.match(_AT, line))
        if found is not None:
            yield found["function"].split(".")[0]


def _trace_of_event(lines: Sequence[str]) -> int:
    """Return where to look for the event's own trace: lockdep and SLUB print those of earlier events first."""
    for position, line in enumerate(lines):
        if re.match(_TRACE, line):
            processors = [here for here in range(position) if re.match(_PROCESSOR, lines[here])]
            return processors[0] if processors else 0
    return 0


def _unescape(data: bytes) -> str:
    r"""Return a message with its ``\x..`` replaced by the bytes they stand for."""
    raw = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), data)
    return raw.decode(errors="replace")


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
