"""Real machines that go on from one that was saved: each is its own, and what it says is what a booted one says.

The kernel is the newest packaged one of this machine's sources, or ``$VM_TEST_KERNEL``.
"""

from __future__ import annotations

import json
import os
import re

import pytest

from vm.tests.harness import Project, Run

pytestmark = [pytest.mark.vm, pytest.mark.deadline(1000)]

KERNEL = f"--kernel={os.environ.get('VM_TEST_KERNEL', '')}"
# Each draws by every means there is, the first thing that it does.
DRAWS = """
import os
import random
import socket
import ssl
import time
import uuid
from pathlib import Path

import pytest

BEFORE = time.monotonic()


@pytest.mark.parametrize("number", range(3))
def test_draws(number, record_property):
    drawn = {
        "getrandom": os.urandom(16).hex(),
        "kernel": Path("/proc/sys/kernel/random/uuid").read_text(),
        "random": random.getrandbits(128),
        "uuid": str(uuid.uuid4()),
        "ssl": ssl.RAND_bytes(16).hex(),
        "name": socket.gethostname(),
    }
    for name, value in drawn.items():
        record_property(name, str(value))
    record_property("clock", time.time())
    record_property("cpus", len(os.sched_getaffinity(0)))


def test_panics_in_the_end():
    Path("/proc/sysrq-trigger").write_text("c")
"""
MEANS = ("getrandom", "kernel", "random", "uuid", "ssl")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Run tests twice, each test on a machine of its own."""
    directory = tmp_path_factory.mktemp("resumed")
    project = Project(directory, factor=4.0)
    project.tests(DRAWS)
    found = []
    for _ in range(2):
        options = ["-v", KERNEL, "--root=image", "--vm-memory=512", "--isolate", "--kernel-argument=loglevel=7"]
        environment = {"AFALG_CACHE_LIMIT": "none"}
        with project.started(
            *options, kernels=[], fake=None, qemu="qemu-system-x86_64", environment=environment
        ) as process:
            found.append(project.finish(process, seconds=600))
    project.assert_nothing_left()
    return found


def properties(run: Run) -> dict[str, dict[str, str]]:
    """Return what each test that draws has drawn, and as "vm" the machine that it was handed to."""
    record = json.loads((run.directory / "results.json").read_text())
    (kernel,) = record["kernels"]
    return {
        test["test"]: {"vm": test["vm"], **{each["name"]: each["value"] for each in test["properties"]}}
        for test in kernel["tests"]
        if "test_draws" in test["nodeid"]
    }


def test_each_test_has_the_verdict_that_it_has_on_a_machine_that_booted(runs: list[Run]) -> None:
    for run in runs:
        words = {name.split("::")[1].split("[")[0]: verdict for name, verdict in run.verdicts.items()}
        assert words == {"test_draws": "passed", "test_panics_in_the_end": "crashed"}
        assert re.search(r"--isolate: 4 tests, a machine each, \d+\.\d s a test", run.output)


def test_machines_go_on_and_do_not_boot(runs: list[Run]) -> None:
    (first, second) = ([path.parent for path in run.directory.glob("vms/*/status.json")] for run in runs)
    assert [json.loads((vm / "status.json").read_text())["resumed"] for vm in sorted(first)] == [False, *[True] * 3]
    assert [json.loads((vm / "status.json").read_text())["resumed"] for vm in sorted(second)] == [True] * 4
    assert all("thrown away" not in run.output and "not saved" not in run.output for run in runs)


def test_the_console_has_the_boot_in_front(runs: list[Run]) -> None:
    for run in runs:
        for machine in run.machines:
            text = run.console(machine)
            assert text.count("vm-test: begin") == 1
            assert re.search(r"^\[ +0\.\d+\]", text.split("vm-test: begin")[0], re.MULTILINE)


@pytest.mark.parametrize("means", MEANS)
def test_no_two_draw_the_same(runs: list[Run], means: str) -> None:
    drawn = [test[means] for run in runs for test in properties(run).values()]
    assert len(drawn) == len(set(drawn)) == 6


def test_each_has_its_own_name(runs: list[Run]) -> None:
    for run in runs:
        for test in properties(run).values():
            assert test["name"] == test["vm"]


def test_the_clock_is_that_of_the_host(runs: list[Run]) -> None:
    for run in runs:
        written = (run.directory / "results.json").stat().st_mtime
        for test in properties(run).values():
            assert written - 600 < float(test["clock"]) < written + 5


def test_the_kernel_does_not_complain_of_the_jump(runs: list[Run]) -> None:
    for run in runs:
        for machine in run.machines:
            since = run.console(machine).partition("vm-test: begin")[2]
            assert "sysrq" in since or "vm-test: end" in since
            assert not re.search(r"stall|lockup|clocksource|time warp|WARNING", since)
