"""Fingerprints: the same for the same bug, whatever the boot, the processor and the compiler."""

from __future__ import annotations

import random
import re

import pytest

from vm.klog.splats import find_splats
from vm.tests.consoles import CAPTURES, captured, stamped


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


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("memcpy_sglist", "memcpy_sglist < aead_recvmsg"),
        ("memcpy_from_sglist", "memcpy_from_sglist < aead_recvmsg"),
        ("memcpy_orig", "aead_recvmsg"),
        ("memcpy", "aead_recvmsg"),
    ],
)
def test_fingerprint_tells_copies_of_scatterlists_from_any_copy(function: str, expected: str) -> None:
    """As 6.18.15 reported it: RIP is in memcpy_sglist, called by aead_recvmsg."""
    report = (
        "BUG: kernel NULL pointer dereference, address: 0000000000000000\nOops: Oops: 0000 [#1] SMP NOPTI\n"
        f"CPU: 0 UID: 0 PID: 166 Comm: python Not tainted 6.18.15 #1\nRIP: 0010:{function}+0x115/0x150\n"
        "Call Trace:\n <TASK>\n aead_recvmsg+0x2a4/0x610 [algif_aead]\n </TASK>\n"
    )
    assert fingerprint(report) == f"NULL pointer dereference: {expected}"


def test_fingerprint_leaves_out_who_was_interrupted() -> None:
    report = (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [sh:1]\nCPU: 0 PID: 1 Comm: sh\nRIP: 0010:spins+0x1/0x2\n"
        "Call Trace:\n <IRQ>\n timer+0x1/0x2\n </IRQ>\nRIP: 0010:interrupted+0x1/0x2\n"
    )
    assert fingerprint(report) == "soft lockup: spins < timer"
