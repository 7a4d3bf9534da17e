"""The shell for people: what it says, what it refuses, and commands whose output comes out whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.kernels.spec import Kernel
from vm.machine import init as guest_init
from vm.machine.vm import Vm
from vm.shell import shell


def kernel(vmlinux: Path | None = None) -> Kernel:
    return Kernel("6.1.0", "6.1", "6.1.0-1-amd64", Path("/boot/vmlinuz"), vmlinux=vmlinux)


def test_setup_loads_modules_then_sets_sysctls(tmp_path: Path) -> None:
    """The same lines as before tests: vm/guest/prepare.py."""
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool.pytest.ini_options]\nguest_modules = ["one", "two"]\nguest_sysctls = ["kernel.some_thing = 3"]\n'
    )
    modules, sysctl = shell.setup_lines(file).splitlines()
    assert re.search(r"modprobe .*\bone two\b", modules)
    assert sysctl == "[ ! -e /proc/sys/kernel/some_thing ] || echo 3 >/proc/sys/kernel/some_thing"


@pytest.mark.parametrize("text", [None, "[tool]", "no toml ["], ids=["missing", "without-pytest", "no-toml"])
def test_setup_without_options_is_an_error_that_names_the_file(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "pyproject.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(str(file))):
        shell.setup_lines(file)


def test_attaching_names_the_file_with_symbols_and_the_socket(tmp_path: Path) -> None:
    text = shell.attach_text(kernel(tmp_path / "vmlinux"), tmp_path / "gdb")
    assert f"gdb {tmp_path}/vmlinux -ex 'target remote {tmp_path}/gdb'" in text


def test_attaching_without_symbols_names_their_package(tmp_path: Path) -> None:
    text = shell.attach_text(kernel(), tmp_path / "gdb")
    assert "linux-image-6.1.0-1-amd64-dbg" in text
    assert "/usr/lib/debug/boot/vmlinux-6.1.0-1-amd64" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "0", "running"], "--memory"),
        (["--memory", "much", "running"], "--memory"),
        (["--timeout", "-1", "--command", "true", "running"], "--timeout"),
        (["--command", "true", "--gdb", "running"], "--gdb"),
        (["--no-such-option"], "--no-such-option"),
        (["./no/such/kernel"], "./no/such/kernel"),
        (["running"], "'running'"),
    ],
)
def test_bad_input_is_one_line_and_status_4(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert shell.main(arguments) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line


def test_a_shell_without_a_terminal_is_refused(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    saved = os.dup(0)
    os.dup2(read_end, 0)
    try:
        with pytest.raises(UsageError, match="--command"):
            shell.run_shell(Vm.of(kernel(), "tcg"), tmp_path, kernel())
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, read_end, write_end):
            os.close(descriptor)


@pytest.mark.parametrize("status", [0, 7])
def test_running_runs_the_command_here_and_passes_its_status_on(status: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert shell.main(["--command", f"echo out; echo err >&2; exit {status}", "running"]) == status
    assert capfd.readouterr() == ("out\n", "err\n")


def test_the_command_reaches_the_guests_shell_as_one_word(tmp_path: Path) -> None:
    command = """echo "it's" $HOME; exit 3"""
    vm = Vm("n", "k", "r", "i", None, "tcg", 1, 1, 1.0, str(tmp_path), mode="command", script=command)
    (line,) = (line for line in guest_init.render(vm, tmp_path).splitlines() if "/bin/sh -c" in line)
    argument = line.partition(" -c ")[2].partition(" </dev/null")[0]
    answer = subprocess.run(["sh", "-c", f"printf %s {argument}"], capture_output=True, text=True)
    assert answer.stdout == command


@pytest.mark.parametrize("mode", ["worker", "shell", "command"])
def test_process_1_is_a_shell_script_without_errors_of_syntax(tmp_path: Path, mode: str) -> None:
    vm = Vm("n", "k", "r", "i", None, "tcg", 1, 1, 1.0, str(tmp_path), mode=mode, script="true")
    text = guest_init.render(vm, tmp_path)
    answer = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert not re.search(r"@[a-z_]+@", text)


def run_in_guest(command: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "vm", "shell", *options, "--command", command]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.mark.vm
@pytest.mark.deadline(600)
def test_a_command_in_a_guest_gives_its_outputs_unmixed_whole_and_its_status() -> None:
    """Half a megabyte, so that more is under way than any buffer holds when the command ends."""
    answer = run_in_guest(
        "echo err >/dev/stderr; tr '\\0' x </dev/zero | head -c 500000; touch written-in-guest; exit 7"
    )
    assert answer.returncode == 7
    assert answer.stdout == "x" * 500000
    assert answer.stderr.splitlines()[-1] == "err"
    assert not (ROOT / "written-in-guest").exists()


@pytest.mark.vm
@pytest.mark.deadline(600)
def test_a_command_that_panics_the_guest_is_lost_and_says_why() -> None:
    answer = run_in_guest("echo before; echo c >/proc/sysrq-trigger; sleep 100")
    assert answer.returncode == shell.LOST
    assert answer.stdout == "before\n"
    assert "sysrq" in answer.stderr.splitlines()[-1].lower()


@pytest.mark.vm
@pytest.mark.deadline(600)
def test_a_command_that_takes_too_long_is_ended() -> None:
    answer = run_in_guest("echo before; sleep 1000", "--timeout", "5")
    assert answer.returncode == shell.LOST
    assert answer.stdout == "before\n"
    assert "not done" in answer.stderr.splitlines()[-1]
