"""Each way a test or its machine can end has its own verdict, in the terminal, JUnit and exit status."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from vm.base import cache
from vm.tests.harness import Project, Run

# One session in which every test ends in another way. Those that cost a machine alternate with those that do
# not, so that a verdict put on a neighbour shows.
FAULTS = """
def test_passes(): pass
def test_panics(): guest.panic()
def test_passes_after_a_panic(): pass
def test_oopses(): guest.panic(guest.OOPS)
def test_warns(): guest.console(guest.WARNING)
def test_passes_after_a_warning(): pass
def test_skips(): pytest.skip("the kernel lacks it")
def test_skips_with_a_splat(): guest.console(guest.WARNING); pytest.skip("the kernel lacks it")
@pytest.mark.xfail(reason="known issue")
def test_known(): assert False
@pytest.mark.xfail(reason="known issue")
def test_known_with_a_splat(): guest.console(guest.WARNING); assert False
@pytest.mark.xfail(reason="known issue")
def test_known_but_works(): pass
def test_soft_lockup(): guest.panic(guest.SOFT_LOCKUP)
def test_switches_off(): guest.power_off()
def test_loses_qemu(): guest.killed()
def test_out_of_memory(): guest.out_of_memory()
def test_leaves_python(): guest.interpreter_exits(7)
@pytest.mark.deadline(1)
def test_hangs_in_user_space():
    while True: pass
@pytest.mark.deadline(1)
def test_hangs_deaf(): guest.deaf()
def test_passes_after_a_hang(): pass
def test_fails(): assert 1 == 2
@pytest.fixture
def crashing_setup(): guest.panic()
def test_crashes_in_setup(crashing_setup): pass
@pytest.fixture
def crashing_teardown(): yield; guest.panic()
def test_crashes_in_teardown(crashing_teardown): pass
@pytest.fixture
def warning_teardown(): yield; guest.console(guest.WARNING)
def test_warns_in_teardown(warning_teardown): pass
def test_last_panics(): guest.panic()
"""
# name: verdict in the terminal, and what its report must say.
EXPECTED = {
    "test_passes": ("passed", ""),
    "test_panics": ("crashed", "sysrq triggered crash"),
    "test_passes_after_a_panic": ("passed", ""),
    "test_oopses": ("crashed", "NULL pointer dereference"),
    "test_warns": ("failed", "af_alg_fake_warning"),
    "test_passes_after_a_warning": ("passed", ""),
    "test_skips": ("skipped", "the kernel lacks it"),
    "test_skips_with_a_splat": ("failed", "af_alg_fake_warning"),
    "test_known": ("known", "known issue"),
    "test_known_with_a_splat": ("failed", "af_alg_fake_warning"),
    "test_known_but_works": ("failed", "XPASS"),
    "test_soft_lockup": ("crashed", "soft lockup"),
    "test_switches_off": ("crashed", "the guest switched itself off"),
    "test_loses_qemu": ("vm lost", "QEMU was killed by SIGKILL"),
    "test_out_of_memory": ("crashed", "killed by SIGKILL"),
    "test_leaves_python": ("crashed", "the guest's Python exited with status 7"),
    "test_hangs_in_user_space": ("failed", "deadline: not finished after 1 s"),
    "test_hangs_deaf": ("hung", "silent for"),
    "test_passes_after_a_hang": ("passed", ""),
    "test_fails": ("failed", "assert 1 == 2"),
    "test_crashes_in_setup": ("crashed", "sysrq triggered crash"),
    "test_crashes_in_teardown": ("crashed", "sysrq triggered crash"),
    "test_warns_in_teardown": ("error", "af_alg_fake_warning"),
    "test_last_panics": ("crashed", "sysrq triggered crash"),
}
# What the others call it, where that differs.
TERMINAL = {"known": "XFAIL"}
# pytest's summary, too, has its own word.
SUMMARY = {"known": "xfailed"}
RECORD = {"error": "failed"}
JUNIT = {"passed": "passed", "skipped": "skipped", "known": "skipped"}


@pytest.fixture(scope="module")
def every_fault(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Run:
    """Make one run for everybody: xdist's workers share the parent of their temporary directories."""
    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "every-fault"
    with cache.locked(place):
        if not (place / "run").exists():
            (place / "run").write_bytes(pickle.dumps(run_every_fault(place)))
    run: Run = pickle.loads((place / "run").read_bytes())
    return run


def run_every_fault(directory: Path) -> Run:
    project = Project(directory)
    project.tests(FAULTS)
    run = project.run("-v", "--vms=2", "--test-deadline=5", "--vm-deadline=3")
    project.assert_nothing_left()
    return run


pytestmark = pytest.mark.deadline(300)


@pytest.mark.parametrize("name", EXPECTED)
def test_terminal_names_the_verdict(every_fault: Run, name: str) -> None:
    verdict, _ = EXPECTED[name]
    assert every_fault.words[f"t/test_it.py::{name}[6.1.0-fake]"][-1] == TERMINAL.get(verdict, verdict.upper())


@pytest.mark.parametrize("name", EXPECTED)
def test_record_has_the_verdict(every_fault: Run, name: str) -> None:
    verdict, _ = EXPECTED[name]
    nodeid = f"t/test_it.py::{name}[6.1.0-fake]"
    assert every_fault.verdicts[nodeid] == RECORD.get(verdict, verdict)


@pytest.mark.parametrize("name", EXPECTED)
def test_junit_has_each_test_once_with_its_reason(every_fault: Run, name: str) -> None:
    verdict, reason = EXPECTED[name]
    case = every_fault.cases[f"{name}[6.1.0-fake]"]
    assert case.outcome == JUNIT.get(verdict, "failed")
    assert reason in case.text


def test_run_is_complete_and_fails(every_fault: Run) -> None:
    assert every_fault.status == 1
    assert every_fault.outcomes.keys() == {f"{name}[6.1.0-fake]" for name in EXPECTED}
    assert "INTERNALERROR" not in every_fault.output
    assert "Traceback (most recent call last)" not in every_fault.output


def test_summary_counts_each_test_once(every_fault: Run) -> None:
    last = every_fault.output.rstrip().splitlines()[-1]
    found = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z][a-z ]*?)(?=,| in )", last)}
    verdicts = [verdict for verdict, _ in EXPECTED.values()]
    expected = {SUMMARY.get(verdict, verdict): verdicts.count(verdict) for verdict in verdicts}
    # Its body had passed before its teardown made the kernel complain: pytest counts both.
    expected["passed"] += 1
    assert found == expected


def test_failure_tells_how_to_run_it_again(every_fault: Run) -> None:
    again = [line for line in every_fault.output.splitlines() if re.search("bin/pytest'? --kernel", line)]
    failures = [name for name, (verdict, _) in EXPECTED.items() if verdict not in ("passed", "skipped", "known")]
    for name in failures:
        assert any(line.endswith((f"::{name}[6.1.0-fake]'", f"::{name}[6.1.0-fake]")) for line in again), name


def test_console_of_the_machine_is_named(every_fault: Run) -> None:
    text = every_fault.cases["test_panics[6.1.0-fake]"].text
    named = re.search(r"console (\S+)", text)
    assert named
    assert "sysrq triggered crash" in Path(every_fault.directory.parent.parent, named[1]).read_text()


ALL_PASS = "def test_a(): pass\ndef test_b(): pass\n"


def test_all_passed_is_status_zero(project: Project) -> None:
    project.tests(ALL_PASS)
    run = project.run()
    assert run.status == 0, run.output
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "passed"}
    project.assert_nothing_left()


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ("panics-in-boot", "Requested init /nonexistent failed"),
        ("without-virtio", "boot failed: the guest has no virtio port vm.worker; the guest switched itself off"),
        ("power-off", "the guest switched itself off"),
        ("qemu-fails", "QEMU exited with status 1: qemu-system-x86_64: -cpu nonsense"),
        ("deaf", "not up after 1 s"),
        ("garbage", "was not said by its pytest"),
    ],
)
def test_boot_that_fails_fails_every_test_with_its_reason(project: Project, fake: str, reason: str) -> None:
    project.tests(ALL_PASS)
    # Those that end by themselves have the time for it that a busy host takes.
    deadline = 1 if "not up" in reason else 30
    run = project.run("-v", f"--boot-deadline={deadline}", fake=fake)
    assert run.status == 1
    assert run.outcomes == {"boot-failed": "failed", "test_a[6.1.0-fake]": "failed", "test_b[6.1.0-fake]": "failed"}
    assert "not run: 6.1.0-fake did not boot" in run.cases["test_a[6.1.0-fake]"].text
    assert reason in run.output
    assert "INTERNALERROR" not in run.output
    assert run.machines == ["6.1.0-fake-1"], "a kernel that never came up is not booted again"
    project.assert_nothing_left()


def test_qemu_killed_while_it_boots_is_no_verdict_about_the_kernel(project: Project) -> None:
    """The host's OOM killer does it."""
    project.tests(ALL_PASS)
    run = project.run("-v", fake="killed")
    assert run.status == 1
    assert set(run.verdicts.values()) == {"vm lost", "not run"}
    assert "vm lost: QEMU was killed by SIGKILL" in run.output


def test_one_kernel_that_does_not_boot_leaves_the_other_alone(project: Project) -> None:
    project.tests(ALL_PASS)
    run = project.run("-v", kernels=["6.1.0-fake", "7.3.0-fake"], fake="panics-in-boot@7.3")
    assert run.status == 1
    assert {name: word for name, word in run.outcomes.items() if name.startswith("test_")} == {
        "test_a[6.1.0-fake]": "passed",
        "test_b[6.1.0-fake]": "passed",
        "test_a[7.3.0-fake]": "failed",
        "test_b[7.3.0-fake]": "failed",
    }
    assert "not run: 7.3.0-fake did not boot" in run.cases["test_a[7.3.0-fake]"].text


def test_one_machine_that_does_not_boot_leaves_its_work_to_the_next(project: Project) -> None:
    project.tests("@pytest.mark.parametrize('n', range(60))\ndef test_n(n): time.sleep(0.02)\n")
    run = project.run("--vms=2", fake="slow@-1 qemu-fails@-2")
    cases = {name: word for name, word in run.outcomes.items() if name.startswith("test_")}
    assert len(cases) == 60
    assert set(cases.values()) == {"passed"}
    assert run.status == 1, "a machine that did not boot is a failure of its own"
    assert run.verdicts["machine[6.1.0-fake-2]::boot-failed"] == "boot failed"
    assert max(map(int, re.findall(r"\[ *(\d+)%\]", run.output))) == 100
    assert "QEMU exited with status 1" in run.output


IN_FIRST = "guest.machine().endswith('-1')"


def test_death_while_collecting_is_said_and_tried_again(project: Project) -> None:
    project.tests(ALL_PASS)
    project.guest_hook("pytest_collection_finish()", "guest.panic()", IN_FIRST)
    run = project.run("-v")
    assert run.status == 1
    assert run.outcomes["test_a[6.1.0-fake]"] == run.outcomes["test_b[6.1.0-fake]"] == "passed"
    assert "crashed: " in run.output
    assert "(while collecting)" in run.output
    assert run.machines == ["6.1.0-fake-1", "6.1.0-fake-2"]


def test_death_while_collecting_twice_gives_up(project: Project) -> None:
    project.tests(ALL_PASS)
    project.guest_hook("pytest_collection_finish()", "guest.panic()")
    run = project.run("-v")
    assert run.status == 1
    assert run.machines == ["6.1.0-fake-1", "6.1.0-fake-2"]
    assert "went down while collecting, twice" in run.cases["test_a[6.1.0-fake]"].text
    assert run.outcomes["test_b[6.1.0-fake]"] == "failed"


def test_death_between_tests_loses_none(project: Project) -> None:
    project.tests(ALL_PASS + "def test_c(): pass\n")
    project.guest_hook("pytest_runtest_logfinish(nodeid)", "guest.panic()", f"{IN_FIRST} and 'test_b' in nodeid")
    run = project.run("-v")
    assert run.status == 1
    tests = {name: word for name, word in run.outcomes.items() if name.startswith("test_")}
    assert set(tests) == {"test_a[6.1.0-fake]", "test_b[6.1.0-fake]", "test_c[6.1.0-fake]"}
    assert tests["test_a[6.1.0-fake]"] == tests["test_c[6.1.0-fake]"] == "passed"
    assert "sysrq triggered crash" in run.output


def test_death_after_the_last_test_is_a_failure(project: Project) -> None:
    project.tests(ALL_PASS)
    project.guest_hook("pytest_sessionfinish()", "guest.panic()")
    run = project.run("-v")
    assert run.status == 1
    assert run.verdicts == {
        "t/test_it.py::test_a[6.1.0-fake]": "passed",
        "t/test_it.py::test_b[6.1.0-fake]": "crashed",
    }
    assert "sysrq triggered crash (after the test had finished)" in run.output
    assert run.machines == ["6.1.0-fake-1"], "nothing was left to do: no further machine"


def test_splat_while_booting_fails_the_run_once(project: Project) -> None:
    project.tests(ALL_PASS + "def test_c(): guest.killed()\ndef test_d(): pass\n")
    run = project.run("-v", fake="warns")
    assert run.status == 1
    machines = {name: word for name, word in run.verdicts.items() if name.startswith("machine[")}
    assert machines == {"machine[6.1.0-fake-2]::before-its-first-test": "failed"}
    assert "the kernel complained before its first test: WARNING: CPU: 0" in run.output
    assert run.verdicts["t/test_it.py::test_a[6.1.0-fake]"] == "passed"


def test_splat_after_the_last_test_fails_the_run(project: Project) -> None:
    project.tests(ALL_PASS)
    project.guest_hook("pytest_sessionfinish()", "guest.console(guest.WARNING)")
    run = project.run("-v")
    assert run.status == 1
    assert run.verdicts == {
        "t/test_it.py::test_a[6.1.0-fake]": "passed",
        "t/test_it.py::test_b[6.1.0-fake]": "passed",
        "machine[6.1.0-fake-1]::after-its-last-test": "failed",
    }
    assert "the kernel complained after its last test: WARNING: CPU: 0" in run.output


@pytest.mark.parametrize(
    ("hook", "blamed", "when"),
    [
        ("pytest_collection_finish()", "machine[6.1.0-fake-1]::hung", "while collecting"),
        # What comes late is most likely the work of the test before.
        ("pytest_sessionfinish()", "t/test_it.py::test_b[6.1.0-fake]", "after the test had finished"),
    ],
)
def test_hang_outside_of_any_test_ends_too(project: Project, hook: str, blamed: str, when: str) -> None:
    project.tests(ALL_PASS)
    project.guest_hook(hook, "guest.deaf()", IN_FIRST)
    run = project.run("-v", "--test-deadline=1", "--vm-deadline=2")
    assert run.status == 1
    assert run.verdicts[blamed] == "hung"
    assert f"hung: silent for 6 s ({when})" in run.output
    assert set(run.verdicts) >= {"t/test_it.py::test_a[6.1.0-fake]", "t/test_it.py::test_b[6.1.0-fake]"}
    assert run.verdicts["t/test_it.py::test_a[6.1.0-fake]"] == "passed"
    project.assert_nothing_left()


def test_restart_budget_used_up_leaves_the_rest_not_run(project: Project) -> None:
    project.tests("@pytest.mark.parametrize('n', range(5))\ndef test_n(n): guest.panic()\n")
    run = project.run("-v", "--vm-restarts=2")
    assert run.status == 1
    assert run.machines == ["6.1.0-fake-1", "6.1.0-fake-2", "6.1.0-fake-3"]
    assert [re.search(r"crashed|not run", run.cases[f"test_n[6.1.0-fake-{n}]"].text)[0] for n in range(5)] == [  # type: ignore[index]
        *["crashed"] * 3,
        *["not run"] * 2,
    ]
    assert "the restart budget is used up" in run.output


def test_internal_error_in_the_guest_is_reported_and_the_rest_runs(project: Project) -> None:
    project.tests(ALL_PASS + "def test_c(): pass\n")
    project.guest_hook(
        "pytest_runtest_logfinish(nodeid)", "raise RuntimeError('a broken plugin')", "'test_b' in nodeid"
    )
    run = project.run("-v")
    assert run.status != 0
    assert "a broken plugin" in run.output
    assert run.outcomes["test_a[6.1.0-fake]"] == "passed"
    assert run.outcomes["test_c[6.1.0-fake]"] == "passed"
    project.assert_nothing_left()


def test_megabytes_of_output_come_through(project: Project) -> None:
    project.tests("def test_a():\n    print('y' * 99999 * 100)\n    assert 0\ndef test_b(): pass\n")
    run = project.run("-q")
    assert run.outcomes == {"test_a[6.1.0-fake]": "failed", "test_b[6.1.0-fake]": "passed"}
    assert "y" * 99999 * 100 in run.output


@pytest.mark.parametrize("what", ["pytest.exit('enough')", "pytest.exit('enough', 7)", "raise KeyboardInterrupt"])
def test_stopping_pytest_in_a_guest_fails_that_test_only(project: Project, what: str) -> None:
    project.tests(f"def test_a(): pass\ndef test_stops(): {what}\ndef test_c(): pass\n")
    run = project.run("-v")
    assert run.status == 1
    assert run.outcomes == {
        "test_a[6.1.0-fake]": "passed",
        "test_stops[6.1.0-fake]": "failed",
        "test_c[6.1.0-fake]": "passed",
    }
    assert "pytest was told to stop in the guest" in run.cases["test_stops[6.1.0-fake]"].text
    project.assert_nothing_left()


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        # Taken for the beginning of a long message, whose rest is waited for.
        # A message of gigabytes, none of execnet's, and one that holds no value.
        (b"Segmentation fault\n", "vm lost"),
        (b"\xff", "vm lost"),
        (bytes.fromhex("04 00000001 00000003 616263"), "vm lost"),
    ],
    ids=["text", "noise", "almost"],
)
def test_garbage_on_the_port_loses_the_machine_only(project: Project, data: bytes, verdict: str) -> None:
    project.tests(f"def test_a(): pass\ndef test_garbage(): guest.garbage({data!r})\ndef test_c(): pass\n")
    run = project.run("-v", "--test-deadline=1", "--vm-deadline=2")
    assert run.status == 1
    assert run.verdicts == {
        "t/test_it.py::test_a[6.1.0-fake]": "passed",
        "t/test_it.py::test_garbage[6.1.0-fake]": verdict,
        "t/test_it.py::test_c[6.1.0-fake]": "passed",
    }
    if verdict == "vm lost":
        assert "was not said by its pytest" in run.cases["test_garbage[6.1.0-fake]"].text
    assert "INTERNALERROR" not in run.output
    project.assert_nothing_left()


def test_port_that_closes_loses_the_machine_only(project: Project) -> None:
    project.tests("def test_a(): pass\ndef test_closes(): guest.deaf_port(); guest.deaf()\ndef test_c(): pass\n")
    run = project.run("-v", "--test-deadline=1", "--vm-deadline=2")
    assert run.status == 1
    assert run.outcomes == {
        "test_a[6.1.0-fake]": "passed",
        "test_closes[6.1.0-fake]": "failed",
        "test_c[6.1.0-fake]": "passed",
    }
    project.assert_nothing_left()


def test_junit_where_the_user_wants_it(project: Project) -> None:
    project.tests(ALL_PASS)
    wanted = project.directory / "new/place.xml"
    run = project.run(f"--junitxml={wanted}")
    assert run.status == 0, run.output
    assert wanted.read_text() == (run.directory / "junit.xml").read_text()
    assert project.run("-p", "no:junitxml").status == 0


def test_junit_that_cannot_be_written_is_said(project: Project) -> None:
    project.tests(ALL_PASS)
    run = project.run("--junitxml=/dev/full/junit.xml")
    assert run.status == 3
    assert "cannot write /dev/full/junit.xml" in run.output
    assert "Traceback" not in run.output
    assert list(run.verdicts.values()) == ["passed", "passed"]


@pytest.mark.parametrize("kernel", ["6.1.0-fake", "running"])
def test_words_that_are_no_unicode_are_no_crash(kernel: str, project: Project) -> None:
    project.tests("def test_it(): assert False, 'x\\ud800y'\ndef test_good(): pass\n")
    done = project.run(kernels=[kernel], fake=None if kernel == "running" else "")
    assert sorted(done.verdicts.values()) == ["failed", "passed"]
    assert "x\\\\ud800y" in (done.directory / "results.json").read_text()
