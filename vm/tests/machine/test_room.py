"""More kernels than the host carries at once: they wait for their turn, and each is tested."""

from __future__ import annotations

import re

import pytest

from vm.tests.harness import Project

FOUR = ("5.10.0-fake", "6.1.0-fake", "6.12.0-fake", "7.3.0-fake")


def most_at_once(output: str) -> int:
    """Return how many machines had come up and had not ended, at the most."""
    most = alive = 0
    for line in output.splitlines():
        if re.match(r"\S+: up after ", line):
            alive += 1
            most = max(most, alive)
        alive -= "test_last" in line
    return most


@pytest.mark.parametrize("room", [1, 2])
def test_kernels_wait_for_room(project: Project, room: int) -> None:
    project.tests("def test_a(): pass\ndef test_last(): time.sleep(0.1)\n")
    run = project.run("-v", f"--vms-at-once={room}", kernels=FOUR)
    assert run.status == 0, run.output
    assert run.outcomes == {f"test_{name}[{kernel}]": "passed" for kernel in FOUR for name in ("a", "last")}
    assert most_at_once(run.output) <= room


def test_lost_machine_is_replaced_when_there_is_room_for_one(project: Project) -> None:
    project.tests("def test_a(): guest.panic()\ndef test_b(): pass\n")
    run = project.run("--vms-at-once=1", kernels=FOUR[:2])
    assert run.outcomes == {
        f"test_{name}[{kernel}]": word for kernel in FOUR[:2] for name, word in (("a", "failed"), ("b", "passed"))
    }
    assert len(run.machines) == 4


def test_kernel_that_does_not_boot_makes_room_for_the_next(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run("--vms-at-once=1", kernels=FOUR[:3], fake="panics-in-boot@5.10.0-fake")
    words = {name: word for name, word in run.outcomes.items() if name.startswith("test_")}
    assert words == dict(zip((f"test_a[{kernel}]" for kernel in FOUR), ("failed", "passed", "passed"), strict=False))


def test_kernel_without_selected_tests_does_not_wait(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run("--vms-at-once=1", "-k", "7.3.0", kernels=FOUR)
    assert run.status == 0, run.output
    assert run.outcomes == {"test_a[7.3.0-fake]": "passed"}


def test_first_failure_ends_the_run_with_kernels_waiting(project: Project) -> None:
    project.tests("def test_a(): assert 0\n")
    run = project.run("-x", "--vms-at-once=1", kernels=FOUR)
    assert run.status == 1
    assert "test_a[5.10.0-fake]" in run.output
    assert run.machines == ["5.10.0-fake-1"]


COUNTING = """
import pathlib
from vm.run.pool import Pool
start = Pool._start_now
def counting(self, kernel, only):
    alive = [machine.name for machine in self.machines.values() if not machine.gone]
    with pathlib.Path("alive").open("a") as file:
        file.write(" ".join(alive) + "\\n")
    start(self, kernel, only)
Pool._start_now = counting
"""


def test_a_machine_that_is_let_go_takes_its_room_until_it_is_gone(project: Project) -> None:
    """Its process gives it two seconds; a successor that starts at once is one machine too many."""
    project.tests("@pytest.mark.deadline(1)\ndef test_a(): guest.deaf()\ndef test_b(): pass\n")
    with (project.directory / "conftest.py").open("a") as conftest:
        conftest.write(COUNTING)
    run = project.run("--vms-at-once=1", "--vm-deadline=3", kernels=FOUR[:2])
    assert sorted(run.verdicts.values()) == ["hung", "hung", "passed", "passed"], run.output
    assert (project.directory / "alive").read_text() == "\n" * 4, "nothing was alive when one was started"
