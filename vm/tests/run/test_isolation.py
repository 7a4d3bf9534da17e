"""What may take its kernel down has a machine for itself, on kernels that may go down, and on no others."""

from __future__ import annotations

import re

import pytest

from vm.tests.harness import Project, Run

TESTS = """
    falls = pytest.mark.fixed_by("ba9876543210", "crypto: stand up")

    @falls
    @pytest.mark.parametrize("how", ["panics", "fails", "writes"])
    def test_falls(how):
        if "6.1.9-" in guest.machine():
            if how == "panics": guest.panic(guest.OOPS)
            if how == "writes": guest.panic(guest.OOPS.replace("read access", "write access"))
            assert False, "it fell over"

    def test_one(): pass

    def test_two(): pass
"""
EVERY_CASE = ["test_falls[fails]", "test_falls[panics]", "test_falls[writes]", "test_one", "test_two"]


@pytest.fixture
def project(project_with_issues: Project) -> Project:
    project_with_issues.tests(TESTS)
    return project_with_issues


def begun(run: Run) -> list[list[str]]:
    """Return what began on each machine that began anything, without the kernel in the ids; sorted."""
    found = []
    for machine in run.machines:
        tests = re.findall(r"vm-test: begin \S*::(\S+)", run.console(machine))
        found.append([re.sub(r"\[[\d.]+-fake-?(.*)\]", lambda m: f"[{m[1]}]" if m[1] else "", each) for each in tests])
    return sorted(tests for tests in found if tests)


def test_each_has_a_machine_on_a_kernel_that_goes_down(project: Project) -> None:
    run = project.run("t", "--vm-restarts=0", kernels=("6.1.9-fake",))
    assert begun(run) == [*([case] for case in EVERY_CASE[:3]), EVERY_CASE[3:]]
    assert len(run.machines) == 4
    assert sorted(run.verdicts.values()) == ["known"] * 3 + ["passed"] * 2
    assert run.status == 0, "what is expected takes nothing from the machines that a kernel may lose"


def test_two_machines_at_a_time_do_the_same(project: Project) -> None:
    project.tests(
        TESTS.replace("def test_one(): pass", "@pytest.mark.parametrize('n', range(60))\n    def test_one(n): pass")
    )
    run = project.run("t", "--vms=2", kernels=("6.1.9-fake",))
    assert [tests for tests in begun(run) if "test_falls" in tests[0]] == [[case] for case in EVERY_CASE[:3]]
    assert sorted(run.verdicts.values()) == ["known"] * 3 + ["passed"] * 61
    assert run.status == 0


def test_a_good_kernel_needs_one_machine_and_runs_them_last(project: Project) -> None:
    run = project.run("t", kernels=("6.1.10-fake",))
    assert [sorted(tests) for tests in begun(run)] == [EVERY_CASE]
    assert [test.split("[")[0] for test in begun(run)[0]] == ["test_one", "test_two", *["test_falls"] * 3]
    assert run.status == 0


def test_nothing_is_expected_and_they_are_apart_all_the_same(project: Project) -> None:
    run = project.run("t", "--no-known-issues", kernels=("6.1.9-fake",))
    assert begun(run) == [*([case] for case in EVERY_CASE[:3]), EVERY_CASE[3:]]
    assert sorted(run.verdicts.values()) == ["crashed", "crashed", "failed", "passed", "passed"]
    assert run.status == 1


def test_one_that_is_asked_for_alone_takes_one_machine(project: Project) -> None:
    run = project.run("t/test_it.py", "-k", "panics", kernels=("6.1.9-fake",))
    assert begun(run) == [["test_falls[panics]"]]
    assert run.machines == ["6.1.9-fake-1"]


def test_a_machine_that_does_not_come_up_is_replaced_while_there_is_hope(project: Project) -> None:
    run = project.run("t", fake="power-off@-3", kernels=("6.1.9-fake",))
    assert begun(run) == [*([case] for case in EVERY_CASE[:3]), EVERY_CASE[3:]]
    assert "machine[6.1.9-fake-3]::boot-failed" in run.verdicts
    hopeless = project.run(
        "t", "--vm-restarts=2", fake="power-off@-2 power-off@-3 power-off@-4", kernels=("6.1.9-fake",)
    )
    assert len(hopeless.machines) == 4
    assert sorted(hopeless.verdicts.values()).count("not run") == 4, "three tests, and why"
    assert hopeless.status == 1


def test_the_machine_of_the_user_is_left_alone(project: Project) -> None:
    run = project.run("t", kernels=("running",), fake=None)
    assert sorted(run.verdicts.values()) == ["passed"] * 2 + ["skipped"] * 3
    assert "not on the running kernel, which it may take down" in run.output
