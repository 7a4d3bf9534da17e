"""A root shell, or one command, in the same guest that tests run in; with ``--gdb``, halted for a debugger.

``python -m vm shell 6.12`` opens a shell on this terminal: the kernel's modules, the host's root read-only,
the project on its own path with changes that end with the guest, edits made on the host visible at once.
``--command`` runs one command instead, without a terminal: its output, errors and exit status come out as if
it had run here.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vm.base import toml
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT, python_path
from vm.guest import prepare
from vm.kernels.resolve import resolve
from vm.kernels.spec import Kernel
from vm.machine import features, log_file, own_root
from vm.machine.accel import probe
from vm.machine.qemu import option_value, output_port
from vm.machine.supervisor import Supervisor
from vm.machine.vm import Vm, config_environment
from vm.roots import options as root_options
from vm.shell.ports import Stream, copy

LOST = 255
"""Exit status when the guest ended before its shell or command did (ssh's for its own failures)."""

_BOOT_SECONDS = 30.0


def run_command(vm: Vm, directory: Path, command: str, seconds: float) -> int:
    """Run the shell command ``command`` as root in a guest; return its exit status.

    Its standard output and error go to ours, unmixed and complete; its standard input is empty. The kernel's
    messages go to a console that is shown only when the guest is lost.

    Args:
        vm: to boot.
        directory: of the VM.
        command: what to run.
        seconds: how long it may take, once the guest has booted.

    Returns:
        The command's own status, 128 + N when signal N killed it, or LOST.

    Raises:
        UsageError: the guest does not boot.
    """
    end = secrets.token_hex(16)
    streams = [Stream(1, end), Stream(2, end)]
    writers = [stream.writer for stream in streams]
    vm = replace(
        vm,
        mode="command",
        script=command,
        setup=f"end={end}\n{vm.setup}",
        qemu_arguments=[*output_port(vm, "vm.out", writers[0]), *output_port(vm, "vm.err", writers[1])],
    )
    supervisor = Supervisor(vm, directory)
    with supervisor.running(subprocess.DEVNULL, subprocess.DEVNULL, writers):
        copy(supervisor, streams, seconds)
        if supervisor.code is not None and all(stream.complete for stream in streams):
            return supervisor.code
        supervisor.gone()
    console = log_file.text(directory / "console.log")
    sys.stderr.writelines(f"console: {line}\n" for line in console.splitlines()[-20:])
    return _lost(supervisor)


def run_shell(vm: Vm, directory: Path, kernel: Kernel, gdb: bool = False) -> int:
    """Open a shell as root in a guest on this terminal; return its exit status, or LOST.

    Args:
        vm: to boot.
        directory: of the VM.
        kernel: the same, for a debugger.
        gdb: halt before the first instruction, say how to attach a debugger, and go on when it says so.

    Raises:
        UsageError: no terminal, or the guest does not boot.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("expected a terminal for a shell, found none; give --command 'COMMAND' to run one command")
    columns, rows = shutil.get_terminal_size()
    # Warnings stay in dmesg: pytest's marks of each test have their level.
    setup = f"stty -F /dev/{vm.architecture.console} rows {rows} cols {columns}\necho 4 >/proc/sys/kernel/printk\n"
    vm = replace(vm, mode="shell", setup=setup + vm.setup)
    say(f"{kernel.name} ({kernel.release}) under {vm.accelerator}; exit ends it, Ctrl-A X too")
    if gdb:
        arguments = [*vm.kernel_arguments, "nokaslr"]
        vm = replace(vm, kernel_arguments=arguments, qemu_arguments=_gdb_stub(directory), boot_deadline=math.inf)
        say(attach_text(kernel, directory / "gdb"))
    supervisor = Supervisor(vm, directory)
    with _terminal_kept(), supervisor.running(None, None):
        copy(supervisor, [], None)
        if supervisor.code is not None:
            return supervisor.code
        supervisor.gone()
    return _lost(supervisor)


def attach_text(kernel: Kernel, stub: Path) -> str:
    """Return what to type in another terminal to debug ``kernel``, whose gdb stub listens on ``stub``."""
    target = shlex.quote(f"target remote {stub}")
    lines = ["halted before its first instruction; in another terminal:"]
    if kernel.vmlinux is not None:
        lines += [f"  gdb {shlex.quote(str(kernel.vmlinux))} -ex {target} -ex 'hbreak start_kernel' -ex continue"]
    else:
        symbols = f"/usr/lib/debug/boot/vmlinux-{kernel.release}"
        lines += [f"  gdb -ex {target} -ex continue"]
        lines += [f"without symbols; for those of a Debian kernel install linux-image-{kernel.release}-dbg, then"]
        lines += [f"  gdb {symbols} -ex {target} -ex 'hbreak start_kernel' -ex continue"]
    if not shutil.which("gdb"):
        lines += ["(gdb is not installed here: install the package gdb)"]
    return "\n".join([*lines, "Breakpoints before the kernel runs must be hbreak. It goes on when gdb continues."])


def setup_lines(pyproject: Path) -> str:
    """Return the lines of shell that prepare a guest as it is for tests (vm/guest/prepare.py).

    Args:
        pyproject: file whose pytest options guest_modules and guest_sysctls name modules and sysctls.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        options = toml.read(pyproject)["tool"]["pytest"]["ini_options"]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"expected pytest's options in {pyproject}: {error!r}; restore the file") from error
    return prepare.lines(options.get("guest_modules", []), options.get("guest_sysctls", []))


@command
def main(arguments: Sequence[str]) -> int:
    """Open a shell or run a command in a guest: ``python -m vm shell --help``. Returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    options = _options(arguments)
    kernel = resolve([options.spec] if options.spec else [], say)[0]
    if kernel.image is None:
        return _run_here(options.command)
    with tempfile.TemporaryDirectory(prefix="vm-shell-") as name:
        directory = Path(name)
        vm = _vm(kernel, options, directory)
        if options.command is not None:
            return run_command(vm, directory, options.command, options.timeout)
        return run_shell(vm, directory, kernel, options.gdb)


def _vm(kernel: Kernel, options: argparse.Namespace, directory: Path) -> Vm:
    qemu_has = features.probe(kernel.architecture, options.qemu)
    if qemu_has.missing:
        say(qemu_has.missing)
    accelerator = probe(options.qemu, options.accel, architecture=kernel.architecture)
    vm = replace(
        Vm.of(kernel, accelerator.name, *options.kernel_argument),
        memory=options.memory,
        cpus=options.cpus,
        boot_deadline=_BOOT_SECONDS * accelerator.factor,
        environment={
            "PYTHONPATH": python_path(),
            "PS1": r"[\H \w]# ",
            **config_environment(kernel.config, directory),
        },
        qemu=options.qemu,
        sandbox=qemu_has.sandbox,
        places=[str(path) for path in options.place],
        setup="" if options.untouched else setup_lines(ROOT / "pyproject.toml"),
    )
    extra = own_root.extra(options.root_packages, options.root_suite)
    chosen = own_root.choose(options.root, kernel, extra, shares=qemu_has.shares)
    if chosen.reason:
        say(f"root: {chosen.kind} ({chosen.reason})")
    return own_root.prepare(vm, chosen, options.place, say, extra)


def _gdb_stub(directory: Path) -> list[str]:
    # A socket in a directory of ours, not a port: whoever reaches the stub owns the guest, which reads the
    # host's files as we do.
    chardev = f"socket,id=gdb,path={option_value(directory / 'gdb')},server=on,wait=off"
    return ["-chardev", chardev, "-gdb", "chardev:gdb", "-S"]


def _lost(supervisor: Supervisor) -> int:
    """Say why the guest ended before its shell or command.

    Raises:
        UsageError: it never came up.
    """
    vm, status = supervisor.vm, supervisor.status
    if status.state == "boot failed":
        raise UsageError(f"{vm.kernel} did not boot: {status.reason}")
    hint = " (Ctrl-A X, power-off or panic)" if vm.mode == "shell" else ""
    say(f"{vm.kernel}: the guest ended before its {vm.mode} did: {status.reason}{hint}")
    return LOST


def _run_here(command: str | None) -> int:
    """Run ``command`` without any guest: the spec ``running``."""
    if command is None:
        raise UsageError("'running' is the kernel of this machine, which needs no guest: just use your shell")
    return subprocess.run(["sh", "-c", command], cwd=Path.cwd(), env=_environment_here()).returncode


def _environment_here() -> dict[str, str]:
    path = f"{sys.prefix}/bin{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path()}


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal back as it was: QEMU sets it raw, and has no chance to restore it when killed."""
    before = termios.tcgetattr(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m vm shell", description="A shell, or one command, in a guest as tests have it.")
    add = parser.add_argument
    add("spec", nargs="?", default="", metavar="SPEC", help="kernel (default: the newest packaged one)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--command", metavar="COMMAND", help="run this in place of a shell, without a terminal")
    what.add_argument("--gdb", action="store_true", help="halt for a debugger before the first instruction")
    add("--untouched", action="store_true", help="load no modules and set no sysctls first")
    add("--timeout", type=float, default=3600.0, metavar="S", help="limit of --command (default: %(default)g)")
    add("--cpus", type=int, default=1, metavar="N", help="processors of the guest (default: %(default)s)")
    add("--memory", type=int, default=1024, metavar="MIB", help="memory of the guest (default: %(default)s)")
    add("--accel", default="auto", help="auto (default), kvm or tcg")
    add("--qemu", metavar="PATH", help="the QEMU to use (default: that of the kernel's architecture)")
    add("--root", choices=root_options.KINDS, default="auto", help=root_options.HELP)
    add("--place", action="append", default=[], type=Path, metavar="DIR", help=(
        "a directory outside of the project that the guest shall see, too"
    ))  # fmt: skip
    add("--root-packages", default="", metavar="NAMES", help=root_options.PACKAGES_HELP)
    add("--root-suite", default="", metavar="SUITE", help=root_options.SUITE_HELP)
    add("--kernel-argument", action="append", default=[], metavar="ARG", help="append to the kernel's command line")
    options = parser.parse_args(arguments)
    for name in ("cpus", "memory", "timeout"):
        if not getattr(options, name) > 0:
            raise UsageError(f"expected a positive number for --{name}, not {getattr(options, name)}")
    return options
