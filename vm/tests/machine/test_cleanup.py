"""However a run ends, it ends soon and leaves nothing behind: no process, no temporary file, no half results."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from vm.results import events
from vm.tests.harness import Project, Run, poll

# A test that says it has begun and then goes on for longer than anybody waits.
LONG = "def test_a(): pass\ndef test_long():\n    open('begun', 'w').close()\n    time.sleep(300)\ndef test_c(): pass\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def wait_until_in_test(project: Project) -> None:
    poll((project.directory / "begun").exists, 30, "the test did not begin")


def wait_until_booting(project: Project) -> None:
    poll(lambda: any((project.results / "latest/vms").glob("*/console.log")), 30, "no machine was started")


def interrupted(project: Project, process: subprocess.Popen[str], number: int = signal.SIGINT) -> Run:
    """Send a signal to the whole process group, as a terminal does, and return what the run left."""
    os.killpg(process.pid, number)
    return project.finish(process, seconds=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_in_a_test(project: Project, number: signal.Signals) -> None:
    """By Ctrl-C, timeout(1) or a CI system, a terminal that closes: each reaches the whole process group."""
    project.tests(LONG)
    with project.started("-v") as process:
        wait_until_in_test(project)
        run = interrupted(project, process, number)
        project.assert_nothing_left()
    assert run.status == 2
    assert run.seconds < 10
    assert "KeyboardInterrupt" in run.output
    assert "Traceback" not in run.output
    assert run.outcomes["test_a[6.1.0-fake]"] == "passed", "what was known is not lost"
    assert run.verdicts["t/test_it.py::test_a[6.1.0-fake]"] == "passed"
    assert run.verdicts["t/test_it.py::test_c[6.1.0-fake]"] == "not run"


def test_make_passes_on_a_signal_that_the_group_has_already(project: Project) -> None:
    """Under ``timeout 590 make test`` pytest is told twice; the second must not cut off the results."""
    project.tests(LONG)
    with project.started() as process:
        wait_until_in_test(project)
        for _ in range(3):
            os.kill(process.pid, signal.SIGTERM)
        run = project.finish(process, seconds=20)
    assert run.status == 2
    assert "stopped by SIGTERM" in run.output
    assert run.verdicts["t/test_it.py::test_a[6.1.0-fake]"] == "passed"
    for name in ("junit.xml", "results.ktap", "results.json", "environment.json"):
        assert (run.directory / name).stat().st_size


def test_what_pytest_knew_when_it_was_killed_is_on_the_disk(project: Project) -> None:
    """SIGKILL leaves no time for anything. Before, such a run left no verdict."""
    project.tests(LONG)
    with project.started() as process:
        wait_until_in_test(project)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        project.assert_nothing_left()
    directory = (project.results / "latest").resolve()
    (kernel,) = events.load(directory).kernels
    assert {test.test: (test.verdict.value, test.reason) for test in kernel.tests} == {
        "t/test_it.py::test_a": ("passed", ""),
        "t/test_it.py::test_long": ("not run", "the run was cut off while it ran"),
        "t/test_it.py::test_c": ("not run", "the run was cut off before it"),
    }
    assert [(vm.name, vm.state, vm.boot_seconds is not None) for vm in kernel.vms] == [("6.1.0-fake-1", "up", True)]
    assert kernel.cmdline == Path("/proc/cmdline").read_text().strip(), "what a guest told of itself is there too"


def test_output_that_nobody_reads_any_more(project: Project) -> None:
    """``make test | less``, and q: the run stops, and its results are there. Before, they were lost."""
    project.tests("@pytest.mark.parametrize('n', range(20))\ndef test_n(n): time.sleep(0.3)\n")
    with project.started("-v") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "PASSED" in line:
                break
        process.stdout.close()
        assert process.wait(20) == 2
        project.assert_nothing_left()
    verdicts = [test.verdict.value for test in events.load(project.results / "latest").kernels[0].tests]
    assert len(verdicts) == 20
    assert set(verdicts) == {"passed", "not run"}


@pytest.mark.parametrize("lines", [1, 6])
def test_output_that_nobody_reads_before_anything_runs(project: Project, lines: int) -> None:
    """``make test | head -1``: pytest ends no session that it has not begun."""
    project.tests(LONG)
    with project.started("-v") as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 2
        project.assert_nothing_left()
    assert (project.results / "latest/results.json").exists()


def test_output_to_a_full_disk(project: Project) -> None:
    project.tests("@pytest.mark.parametrize('n', range(3))\ndef test_n(n): pass\n")
    with open("/dev/full", "w") as full, project.started(stdout=full.fileno()) as process:
        assert process.wait(30) == 2
        project.assert_nothing_left()
    assert (project.results / "latest/results.json").exists()


@pytest.mark.parametrize("output", ["stdout", "stderr", "__stdout__", "__stderr__"])
def test_output_to_a_full_disk_of_a_plugin_that_prints(project: Project, output: str) -> None:
    """The interpreter's own flush, at its end, fails too, and would say 120."""
    project.tests("def test_a(): pass\n")
    with (project.directory / "conftest.py").open("a") as conftest:
        conftest.write(f"\n\ndef pytest_unconfigure():\n    import sys\n    sys.{output}.write('done\\n')\n")
    with open("/dev/full", "w") as full, project.started(stdout=full.fileno()) as process:
        assert process.wait(30) == 2


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_characters_that_the_terminal_does_not_have(project: Project, encoding: str) -> None:
    project.tests("def test_a(): assert False, 'ℵ₀ × ∞ …'\n")
    run = project.run(environment={"PYTHONIOENCODING": encoding, "TERM": "dumb"})
    assert run.status == 1
    assert list(run.verdicts.values()) == ["failed"]
    assert "INTERNALERROR" not in run.output


def test_interrupt_while_booting(project: Project) -> None:
    project.tests(LONG)
    with project.started(kernels=["6.1.0-fake", "7.3.0-fake"], fake="deaf") as process:
        wait_until_booting(project)
        run = interrupted(project, process)
        project.assert_nothing_left()
    assert run.status == 2
    assert run.seconds < 10
    assert "Traceback" not in run.output
    assert not (project.directory / "begun").exists()


def test_interrupt_of_a_deaf_guest(project: Project) -> None:
    project.tests("def test_a():\n    open('begun', 'w').close()\n    guest.deaf()\n")
    with project.started() as process:
        wait_until_in_test(project)
        run = interrupted(project, process)
        project.assert_nothing_left()
    assert run.status == 2
    assert run.seconds < 15


def test_interrupt_again_and_again(project: Project) -> None:
    """Whoever presses Ctrl-C until it is over interrupts the cleaning up as well."""
    project.tests(LONG.replace("time.sleep(300)", "guest.deaf()"))
    with project.started("--vms=2") as process:
        wait_until_in_test(project)

        def gone() -> bool:
            os.killpg(process.pid, signal.SIGINT)
            return process.poll() is not None

        poll(gone, 20, "pytest did not end")
        project.assert_nothing_left()
    assert process.returncode != 0


def test_interrupt_while_fetching(project: Project) -> None:
    project.tests(LONG)
    tools = project.directory / "bin"
    tools.mkdir()
    for name in ("apt-get", "apt-cache", "apt"):
        (tools / name).write_text(f"#!/bin/sh\necho fetching >{project.directory}/begun\nsleep 300\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "AFALG_CACHE": str(project.directory / "cache")}
    with project.started("--kernel=6.1", kernels=[], environment=environment) as process:
        wait_until_in_test(project)
        run = interrupted(project, process)
        project.assert_nothing_left()
    assert run.status == 2
    assert run.seconds < 10
    assert "Traceback" not in run.output
    left = [path for path in (project.directory / "cache").rglob("*") if path.is_file() and ".tmp" in str(path)]
    assert left == [], "a half-made entry"
    assert not list((project.directory / "cache" / "kernels").glob("6*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["boot", "test", "deaf test"])
def test_pytest_killed(project: Project, number: signal.Signals, moment: str) -> None:
    project.tests(LONG.replace("time.sleep(300)", "guest.deaf()") if moment == "deaf test" else LONG)
    with project.started("--vms=2", fake="deaf" if moment == "boot" else "") as process:
        (wait_until_booting if moment == "boot" else wait_until_in_test)(project)
        assert project.processes()
        os.kill(process.pid, number)
        process.wait(20)
        project.assert_nothing_left()


def test_relay_killed_takes_its_guest_with_it(project: Project) -> None:
    """The process between pytest and QEMU dies: that machine is lost, the rest of the tests run on the next."""
    project.tests(LONG.replace("open(", "if os.path.exists('begun'): return\n    open("))
    with project.started("-v") as process:
        wait_until_in_test(project)
        status = json.loads((project.results / "latest/vms/6.1.0-fake-1/status.json").read_text())
        relay = int(Path(f"/proc/{status['pid']}/stat").read_text().split()[3])
        os.kill(relay, signal.SIGKILL)
        run = project.finish(process)
    assert run.status == 1
    assert run.verdicts == {
        "t/test_it.py::test_a[6.1.0-fake]": "passed",
        "t/test_it.py::test_long[6.1.0-fake]": "vm lost",
        "t/test_it.py::test_c[6.1.0-fake]": "passed",
    }
    project.assert_nothing_left()


def test_qemu_killed_from_outside(project: Project) -> None:
    project.tests(LONG)
    with project.started("-v") as process:
        wait_until_in_test(project)
        status = json.loads((project.results / "latest/vms/6.1.0-fake-1/status.json").read_text())
        os.kill(status["pid"], signal.SIGKILL)
        run = project.finish(process)
    assert run.status == 1
    assert run.verdicts["t/test_it.py::test_long[6.1.0-fake]"] == "vm lost"
    assert run.verdicts["t/test_it.py::test_c[6.1.0-fake]"] == "passed"
    assert "QEMU was killed by SIGKILL" in run.cases["test_long[6.1.0-fake]"].text
    project.assert_nothing_left()


def test_two_runs_at_once_do_not_mix(project: Project) -> None:
    """They begin in the same second, want the same names, and have different tests."""
    project.tests("def test_one(): time.sleep(1)\n", name="test_one.py")
    project.tests("def test_two(): time.sleep(1)\n", name="test_two.py")
    began = time.monotonic()
    with project.started("t/test_one.py") as one, project.started("t/test_two.py") as two:
        outputs = [one.communicate(timeout=60)[0], two.communicate(timeout=60)[0]]
    assert time.monotonic() - began < 60
    assert [one.returncode, two.returncode] == [0, 0], outputs
    runs = [Run(0, "", path, 0) for path in project.results.iterdir() if not path.is_symlink()]
    assert sorted(name for run in runs for name in run.outcomes) == ["test_one[6.1.0-fake]", "test_two[6.1.0-fake]"]
    assert len(runs) == 2
    assert (project.results / "latest").resolve() in [run.directory for run in runs]
    project.assert_nothing_left()


@needs_root
def test_results_without_space_to_begin(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    with project.mounted("size=64k") as path:
        fill(path)
        run = project.run(f"--results={path}/results")
    assert run.status == 4, run.output
    assert "No space left on device" in run.output
    assert "Traceback" not in run.output
    project.assert_nothing_left()


@needs_root
@pytest.mark.parametrize("size", [12, 16, 32, 64])
def test_results_that_run_out_of_space(project: Project, size: int) -> None:
    """Wherever it happens: the run ends, does not call itself good, and says why."""
    project.tests(
        "@pytest.mark.parametrize('n', range(40))\ndef test_n(n):\n"
        "    guest.console('a line of the kernel ' * 50)\n    print('x' * 2000)\n    assert n % 2\n"
    )
    with project.mounted(f"size={size}k") as path:
        run = project.run(f"--results={path}/results")
    assert run.status not in (0, 5), run.output
    assert "No space left on device" in run.output or "no space left" in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output
    project.assert_nothing_left()


@needs_root
def test_disk_that_is_full_when_a_machine_is_to_be_replaced(project: Project) -> None:
    project.tests(
        "def test_a():\n    filler = os.path.dirname(os.environ['VM_CONSOLE']) + '/filler'\n"
        "    with open(filler, 'wb', buffering=0) as file:\n"
        "        try:\n            while True: file.write(b'x' * 512)\n        except OSError: guest.panic()\n"
        "def test_b(): pass\ndef test_c(): pass\n"
    )
    with project.mounted("size=256k") as path:
        run = project.run("-v", f"--results={path}/results")
    assert run.status == 1
    # What its process knew of its end could not be written either.
    assert run.words["t/test_it.py::test_a[6.1.0-fake]"][-1] in ("CRASHED", "VM LOST")
    assert run.words["t/test_it.py::test_c[6.1.0-fake]"][-1] == "NOT RUN"
    assert "2 tests not run: cannot write results: [Errno 28] No space left on device" in run.output
    assert re.search(r"^6.1.0-fake +kvm ", run.output, re.MULTILINE), "the table of kernels"
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output
    project.assert_nothing_left()


@needs_root
def test_cache_without_space(project: Project) -> None:
    """Modules found beside an image are unpacked into the cache."""
    project.tests("def test_a(): pass\n")
    image = project.kernel("6.1.0-fake")
    tree = project.directory / "lib/modules/6.1.0-fake"
    (tree / "kernel/crypto").mkdir(parents=True)
    (tree / "kernel/crypto/af_alg.ko").write_bytes(os.urandom(1 << 20))
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        (tree / name).write_text("")
    with project.mounted("size=128k") as path:
        run = project.run(f"--kernel={image}", kernels=[], environment={"AFALG_CACHE": str(path)})
        assert run.status == 4, run.output
        assert "no space left" in run.output
        assert "AFALG_CACHE" in run.output
        assert "Traceback" not in run.output
        assert [p for p in path.rglob("*") if p.is_file() and not p.name.endswith(".lock")] == []
    project.assert_nothing_left()


def fill(path: Path) -> None:
    """Leave no byte free below ``path``."""
    with (path / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
