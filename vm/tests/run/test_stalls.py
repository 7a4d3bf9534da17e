"""A host that stalls: what a starved machine does is no verdict about its kernel; true lockups are still found."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from vm.klog.splats import Splat
from vm.machine.witness import Testimony, Witness
from vm.run.stalls import AwakeClock, depends_on_time, explained, seconds_lost
from vm.tests.harness import Project, Run, poll


def stalls(run: Run) -> list[tuple[str, str]]:
    """Return test and verdict that was not given, of each stall in the record."""
    record = json.loads((run.directory / "results.json").read_text())
    return [(stall["test"], stall["instead"]) for kernel in record["kernels"] for stall in kernel["stalls"]]


def test_machine_that_was_stopped_is_not_silent(project: Project) -> None:
    project.tests(
        "def test_a():\n    if not os.path.exists('once'):\n        open('once', 'w').close()\n"
        "        guest.stopped(11)\ndef test_b(): pass\n"
    )
    run = project.run("--vm-deadline=7", "--test-deadline=2", "--accel=kvm")
    assert run.status == 0
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "passed"}


def test_controller_that_was_stopped_calls_nobody_silent(project: Project) -> None:
    # When the controller comes back, a test is still to run that is silent for longer than a machine called silent has.
    project.tests(
        "@pytest.mark.parametrize('n', range(4))\ndef test_n(n):\n    open('begun', 'w').close()\n    time.sleep(4.5)\n"
    )
    with project.started("--vm-deadline=12", "--test-deadline=7", "--accel=kvm") as process:
        poll((project.directory / "begun").exists, 60, "the test begins")
        process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 13
        poll(lambda: time.monotonic() > until, 60, "the controller was stopped for longer than the deadline")
        process.send_signal(signal.SIGCONT)
        run = project.finish(process)
    assert run.status == 0, run.output
    assert set(run.outcomes.values()) == {"passed"}
    assert len(run.machines) == 1


LOCKUP = "guest.panic(guest.SOFT_LOCKUP)"
STALLED = "rcu: INFO: rcu_preempt self-detected stall on CPU"
KASAN = "BUG: KASAN: slab-out-of-bounds in af_alg_fake+0x10/0x20"


@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (f"guest.console({STALLED!r}); guest.console({KASAN!r}); guest.panic(guest.SOFT_LOCKUP)", "crashed"),
        (f"guest.console({STALLED!r}); guest.panic(guest.OOPS)", "crashed"),
        ("assert b'wrong' == b'right'  # Timeout", "failed"),
    ],
    ids=["kasan beside a lockup", "oops beside a stall", "wrong bytes beside a word"],
)
def test_what_no_host_can_cause_is_a_verdict_on_a_starved_machine(project: Project, act: str, verdict: str) -> None:
    """A race shows once: that the test passes the second time must not hide it."""
    project.tests(
        "def test_a():\n    if not os.path.exists('once'):\n        open('once', 'w').close()\n"
        f"        guest.stopped(5)\n        {act}\n"
    )
    run = project.run("--accel=kvm")
    assert run.status == 1
    assert list(run.verdicts.values()) == [verdict]
    assert not stalls(run)


def test_a_late_failure_beside_wrong_bytes_is_a_verdict(project: Project) -> None:
    project.tests(
        "@pytest.fixture\ndef late():\n    yield\n    assert not os.path.exists('now'), 'still blocked after 20 s'\n"
        "def test_a(late):\n    if os.path.exists('once'): os.unlink('now')\n    else:\n"
        "        open('once', 'w').close(); open('now', 'w').close()\n"
        "        guest.stopped(5)\n        assert b'wrong' == b'right'\n"
    )
    run = project.run("--accel=kvm")
    assert run.status == 1
    assert list(run.verdicts.values()) == ["failed"]


def test_lockup_of_a_starved_machine_runs_again(project: Project) -> None:
    project.tests(
        "def test_a():\n    if not os.path.exists('once'):\n        open('once', 'w').close()\n"
        f"        guest.stopped(5)\n        {LOCKUP}\ndef test_b(): pass\n"
    )
    run = project.run("--accel=kvm")
    assert run.status == 0
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "passed"}
    ((test, instead),) = stalls(run)
    assert test.endswith("test_a[6.1.0-fake]")
    assert instead.startswith("crashed: ")
    assert "soft lockup" in instead
    assert "was kept from running for" in run.output


RCU = "rcu: INFO: rcu_preempt self-detected stall on CPU"


def test_complaint_of_a_starved_machine_that_lives_runs_again(project: Project) -> None:
    project.tests(
        "def test_a():\n    if not os.path.exists('once'):\n        open('once', 'w').close()\n"
        f"        guest.stopped(5)\n        guest.console({RCU!r})\ndef test_b(): pass\n"
    )
    run = project.run("--accel=kvm")
    assert run.status == 0
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "passed"}
    assert [instead for _, instead in stalls(run)] == [f"failed: the kernel complained: {RCU}"]


def test_starved_three_times_is_vm_lost(project: Project) -> None:
    project.tests(f"def test_a():\n    guest.stopped(4)\n    {LOCKUP}\ndef test_b(): pass\n")
    run = project.run("--accel=kvm")
    assert run.status == 1
    assert run.verdicts == {
        "t/test_it.py::test_a[6.1.0-fake]": "vm lost",
        "t/test_it.py::test_b[6.1.0-fake]": "passed",
    }
    assert len(stalls(run)) == 3


def test_lockup_of_a_machine_that_had_its_time_is_the_kernels(project: Project) -> None:
    project.tests(f"def test_a(): {LOCKUP}\n")
    run = project.run("--accel=kvm")
    assert run.verdicts == {"t/test_it.py::test_a[6.1.0-fake]": "crashed"}
    assert stalls(run) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:80]", True),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", True),
        ("INFO: task python3:80 blocked for more than 122 seconds.", True),
        ("deadline: not finished after 100 s (10 s, times 10 for the accelerator)", True),
        ("recv still blocked after 20 s (0 bytes moved)", True),
        ("BUG: KASAN: slab-out-of-bounds in af_alg_make_sg", False),
        ("assert b'00' == b'01'", False),
    ],
)
def test_what_a_slow_host_can_cause(text: str, expected: bool) -> None:
    assert depends_on_time(text) is expected


@pytest.mark.parametrize(
    ("lost", "recent", "ran", "expected"),
    [(0.5, 0.5, 10.0, 0.0), (1.9, 1.9, 2.0, 0.0), (3.0, 3.0, 10.0, 3.0), (3.0, 3.0, 60.0, 0.0), (0.0, 26.0, 1.0, 26.0)],
)
def test_how_much_is_enough(lost: float, recent: float, ran: float, expected: float) -> None:
    assert seconds_lost(Testimony(0.0, lost, recent), 0.0, ran) == expected
    assert seconds_lost(None, 0.0, ran) == 0.0


def test_watchdogs_outside_of_tests_are_explained_by_a_long_stall_only() -> None:
    stall = Splat("RCU stall", "rcu: INFO: rcu_preempt self-detected stall on CPU")
    oops = Splat("oops", "BUG: kernel NULL pointer dereference, address: 0000000000000010")
    assert explained([stall], Testimony(0.0, 64.6)) == 64.6
    assert explained([stall], Testimony(0.0, 3.0)) == 0.0
    assert explained([stall], None) == 0.0
    assert explained([stall, oops], Testimony(0.0, 64.6)) == 0.0


def test_time_in_which_we_did_not_run_is_not_counted() -> None:
    moments = iter([0.0, 0.2, 60.2, 60.4])
    clock = AwakeClock(lambda: next(moments))
    assert [clock(), clock(), clock()] == pytest.approx([0.2, 1.2, 1.4])


def test_witness_tells_waiting_from_working(tmp_path: Path) -> None:
    now = 0.0
    waits: dict[str, float] | None = {"cpu": 0.0, "io": 0.0}
    witness = Witness(1, tmp_path, clock=lambda: now, kept_from_running=lambda _: waits)
    now = 1.0
    witness.look()  # it had a processor, or asked for none
    now, waits = 2.0, {"cpu": 0.75, "io": 0.25}
    witness.look()  # it waited for one
    now, waits = 3.0, None
    witness.look()  # it was stopped
    assert Testimony.load(tmp_path) == Testimony(3.0, 1.75, 1.75, 1.25)
    witness.heard()
    now, waits = 33.0, {"cpu": 0.75, "io": 0.25}
    witness.look()  # we were stopped ourselves
    assert Testimony.load(tmp_path) == Testimony(33.0, 30.75, 30.75, 1.0)
