"""The trace of a report: where it begins, and a fingerprint of the functions in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from vm.base.arch import POINTERS

_PLACE = r"(?P<function>[A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
_FRAME = r"\s+(?:\[<[0-9a-f]+>\] )?" + _PLACE  # with "? " before it, the unwinder only guesses
_AT = rf"(?:{POINTERS}|pc : )" + _PLACE
_TITLE = r"Call [Tt]race:"
_PROCESSOR = r"CPU: \d+ (UID: \d+ )?PID: \d+"
_OTHER_TRACE = r"(Allocated|allocated|Freed|freed|Last potentially|Uninit was) "
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
    r"|_*alloc_(pages|frozen)|_*folio_alloc|get_(free_)?page|free_unref|mem(set|cpy|move)(?!_(to_|from_)?sglist)|rep_|_*copy_(from|to)_user"
    # locks and the scheduler
    r"|_*lock_(acquire|release)|_+lock|validate_chain|check_(noncircular|prev|deadlock|wait|chain)|mark_(lock|usage|held)"
    r"|valid_state|lockdep_|debug_(check|lock|mutex|spin|object)|register_lock_class|_*might_|__schedule|schedule\b"
    r"|preempt_schedule|context_switch|_*raw_|do_raw_|spin_(bug|dump|lock|unlock)|_*mutex_lock"
    r"|delay_|__delay|__(const_)?udelay|native_|arch_"
    # the way in
    r"|do_syscall|x64_sys_call|entry_|ret_from|__se_sys|el[01]|invoke_syscall|rest_init"
)


def begins(line: str) -> bool:
    """Say whether a line of a console is the title of a trace, or a frame of one that has no title."""
    return bool(re.match(_TITLE, line) or re.match(_FRAME, line))


def names_processor(line: str) -> bool:
    """Say whether a line is the ``CPU: 0 PID: 1 ...`` that comes shortly before a trace."""
    return re.match(_PROCESSOR, line) is not None


def fingerprint(kind: str, title: str, lines: Sequence[str]) -> str:
    """Return the kind and the first functions that matter, else the kind and the title without numbers.

    It is the same for the same bug on another boot, processor, address and compilation.

    Args:
        kind: of the splat (vm/klog/splats.py).
        title: the line that names it.
        lines: all of its report.
    """
    if kind == "KCSAN":
        # Which of the two accesses is reported first is chance; the kernel sorts their names in the title.
        return f"{kind}: {title.rpartition(' in ')[2]}"
    places = [place["function"].split(".")[0] for place in re.finditer(_PLACE, title)]
    guesses = [line.replace(" ? ", " ", 1) for line in lines]
    functions = _relevant(_functions(lines)) or _relevant(places) or _relevant(_functions(guesses))
    what = " < ".join(functions) or re.sub(r"(0x)?[0-9a-f]*\d[0-9a-f]*", "#", title)
    return f"{kind}: {what}"


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
        if re.match(_TITLE, line):
            processors = [here for here in range(position) if names_processor(lines[here])]
            return processors[0] if processors else 0
    return 0
