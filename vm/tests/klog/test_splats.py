"""Finding splats: each kind in every spelling and dress, no more than there are, and what a machine died of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from vm.klog import console, printk, splats
from vm.klog.splats import cause_of_death, find_splats
from vm.tests.consoles import CAPTURES, DATA, HARMLESS, NEAR_MISSES, SPELLINGS, TRACE, captured, stamped, summary


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
    traceless = kind in ("out of memory", "VFS", "net device")
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
    kinds = {kind for kind, _ in splats.TITLES}
    sampled = {kind for splats in CAPTURES.values() for kind, _, _ in splats} | {kind for kind, _ in SPELLINGS.values()}
    assert sampled == kinds
    assert set(NEAR_MISSES) == kinds


def test_every_harmless_line_has_a_reason_and_a_sample() -> None:
    for (pattern, reason), sample in zip(splats.HARMLESS, HARMLESS, strict=True):
        assert re.match(pattern, sample)
        assert reason


@pytest.mark.parametrize("line", HARMLESS)
def test_the_trace_of_a_harmless_line_makes_no_splat_of_it_or_of_advice_above(line: str) -> None:
    assert find_splats(stamped(f"{line}\n{TRACE}")) == []
    assert find_splats(stamped(f"WARNING: take care\n{line}\n{TRACE}")) == []
    assert len(find_splats(stamped(f"WARNING: take care\n{TRACE}"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 0 at arch/x86/kernel/cpu/bugs.c:1487 spectre_v2_select_mitigation+0x1b/0x20",
        "WARNING: arch/x86/kernel/cpu/bugs.c:1487 at spectre_v2_select_mitigation+0x1b/0x20, CPU#0: swapper/0",
        "WARNING: CPU: 0 PID: 1 at kernel/sysrq: kernel not compiled with+0x1/0x2",
    ],
)
def test_what_the_kernel_warns_of_at_its_code_is_never_harmless(line: str) -> None:
    (splat,) = find_splats(stamped(f"-----------[ cut here ]------------\n{line}\n{TRACE}"))
    assert (splat.kind, splat.title) == ("WARNING", line)


@pytest.mark.parametrize("title", [title for kind, title in SPELLINGS.values() if kind == "VFS"])
@pytest.mark.parametrize(
    "line", ["WARNING: CPU: 0 PID: 9 at fs/open.c:1514 filp_flush+0x1/0x2", "kernel BUG at fs/x.c:9!"]
)
def test_a_corrupted_file_is_one_event_with_the_warning_or_bug_that_follows(title: str, line: str) -> None:
    """CHECK_DATA_CORRUPTION (include/linux/bug.h): words, then WARN or BUG."""
    (splat,) = find_splats(stamped(f"------------[ cut here ]------------\n{title}\n{line}\n{TRACE}"))
    assert (splat.kind, splat.title) == ("VFS", title)
    assert splat.fingerprint == "VFS: skcipher_recvmsg < sock_read_iter < new_sync_read"


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
    assert cause_of_death(dressed) == cause_of_death(plain)


def test_a_program_cannot_utter_a_splat_between_stamped_lines() -> None:
    assert find_splats(stamped("all is well") + f"BUG: KASAN: use-after-free in f+0x1/0x2\n{TRACE}") == []


def test_the_id_of_a_test_is_no_splat() -> None:
    assert find_splats(stamped(f"{printk.BEGIN}tests/test_x.py::test_it[BUG: KASAN: ]\n{TRACE}")) == []


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


@pytest.mark.parametrize("name", [name for name, splats in CAPTURES.items() if splats])
def test_excerpt_is_the_report_and_bounded(name: str) -> None:
    for splat in find_splats(captured(name)):
        lines = splat.text.split("\n")
        assert 1 <= len(lines) <= splats.MOST_LINES
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
    assert cause_of_death(stamped(f"{report}{taint}{fault}\n{TRACE}")) == splat.title


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
    assert cause_of_death(captured(name)) == DEATHS[name]


def test_cause_of_death_prefers_what_led_to_the_panic_over_what_was_survived() -> None:
    survived = captured("general-protection")
    assert (cause_of_death(survived) or "").startswith("Oops: general protection fault")
    killed = survived + captured("panic-by-sysrq")
    assert cause_of_death(killed) == "Kernel panic - not syncing: sysrq triggered crash"


def test_cause_of_death_is_the_last_kill_for_memory_when_there_was_no_crash() -> None:
    text = captured("oom-kill")
    assert (cause_of_death(text + text.replace("126 (python3)", "222 (pytest)")) or "").startswith(
        "Out of memory: Killed process 222 (pytest)"
    )


def test_cause_of_death_is_the_oops_when_the_console_ends_before_the_panic() -> None:
    text = captured("kasan-oops-panic")
    cut = text[: text.index("Kernel panic")]
    assert cause_of_death(cut) == "BUG: KASAN: wild-memory-access in splat_gpf+0x13/0x20"
    before_oops = text[: text.index("Oops: ")]
    assert cause_of_death(before_oops) is None


def test_a_large_console_is_read_in_reasonable_time() -> None:
    text = captured("boot-and-segfault") * 100
    assert len(text) > 2_500_000
    # No clock: a quadratic search would make this test the slowest of all by far (minutes).
    assert find_splats(text) == []
