"""A root shell, or one command, in the same guest that tests run in; with ``--gdb``, halted for a debugger.

``python -m vm shell 6.12`` opens a shell on this terminal: the kernel's modules, the host's root read-only,
the project on its own path with changes that end with the guest, edits made on the host visible at once.
``--command`` runs one command instead, without a terminal: its output, errors and exit status come out as if
it had run here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vm.base import toml
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT, python_path, text_of
from vm.base.process import die_with_parent
from vm.kernels.resolve import resolve
from vm.kernels.spec import Kernel
from vm.klog.splats import cause_of_death
from vm.machine import features, log_file
from vm.machine import init as guest_init
from vm.machine.accel import DEFAULT_QEMU, Accelerator, probe
from vm.machine.qemu import command_line, option_value, output_port
from vm.machine.spec import Vm, config_environment
from vm.shell.ports import PortStatus, Stream, copy

LOST = 255
"""Exit status when the guest ended before its shell or command did (ssh's for its own failures)."""

_BOOT_SECONDS = 30.0


@dataclass(frozen=True)
class Guest:
    """What to boot and what to run in it.

    Attributes:
        kernel: to boot.
        accelerator: for QEMU; its factor scales the boot's deadline.
        qemu: name or path of the QEMU executable.
        cpus, memory: of the guest; MiB.
        kernel_arguments: appended to the kernel's command line.
        sandbox: whether QEMU has one.
        prepared: whether to load the modules and set the sysctls that pyproject.toml names for tests.
    """

    kernel: Kernel
    accelerator: Accelerator
    qemu: str = DEFAULT_QEMU
    cpus: int = 1
    memory: int = 1024
    kernel_arguments: Sequence[str] = ()
    prepared: bool = True
    sandbox: bool = True


def run_command(guest: Guest, command: str, seconds: float) -> int:
    """Run the shell command ``command`` as root in a guest; return its exit status.

    Its standard output and error go to ours, unmixed and complete; its standard input is empty. The kernel's
    messages go to a console that is shown only when the guest is lost.

    Args:
        seconds: how long the command may take, once the guest has booted.

    Returns:
        The command's own status, 128 + N when signal N killed it, or LOST.

    Raises:
        UsageError: the guest does not boot.
    """
    with _directory() as directory:
        end = secrets.token_hex(16)
        out, err, status = Stream(1, end), Stream(2, end), PortStatus()
        arguments = [*output_port("vm.out", out.writer), *output_port("vm.err", err.writer)]
        vm = _vm(guest, directory, "command", script=command, setup=f"end={end}\n", qemu_arguments=arguments)
        writers = [out.writer, err.writer, status.writer]
        with _started(vm, directory, status, writers, terminal=False) as process:
            for stream in (out, err):
                stream.start()
            boot = time.monotonic() + _BOOT_SECONDS * guest.accelerator.factor
            copy([out, err], status, boot, seconds)
            if status.code is not None and out.complete and err.complete:
                return status.code
            _finish(process)
        return _lost(vm, directory, status)


def run_shell(guest: Guest, gdb: bool = False) -> int:
    """Open a shell as root in a guest on this terminal; return its exit status, or LOST.

    Args:
        gdb: halt before the first instruction, say how to attach a debugger, and go on when it says so.

    Raises:
        UsageError: no terminal, or the guest does not boot.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("expected a terminal for a shell, found none; give --command 'COMMAND' to run one command")
    with _directory() as directory, _terminal_kept():
        status = PortStatus()
        columns, rows = shutil.get_terminal_size()
        vm = _vm(
            guest,
            directory,
            "shell",
            # Warnings stay in dmesg: pytest's marks of each test have their level.
            setup=f"stty -F /dev/ttyS0 rows {rows} cols {columns}\necho 4 >/proc/sys/kernel/printk\n",
            kernel_arguments=["nokaslr"] if gdb else [],
            qemu_arguments=_gdb_stub(directory) if gdb else [],
        )
        say(f"{guest.kernel.name} ({guest.kernel.release}) under {guest.accelerator.name}; exit ends it, Ctrl-A X too")
        if gdb:
            say(attach_text(guest.kernel, directory / "gdb"))
        boot = None if gdb else time.monotonic() + _BOOT_SECONDS * guest.accelerator.factor
        with _started(vm, directory, status, [status.writer], terminal=True) as process:
            copy([], status, boot, None)
            if status.code is None:
                _finish(process)
        if status.code is not None:
            return status.code
        return _lost(vm, directory, status)


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
    """Return the lines of shell that prepare a guest as the plugin does for tests: modules, then sysctls.

    Args:
        pyproject: file whose pytest options guest_modules and guest_sysctls name them.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        options = toml.read(pyproject)["tool"]["pytest"]["ini_options"]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"expected pytest's options in {pyproject}: {error!r}; restore the file") from error
    lines = []
    if modules := options.get("guest_modules"):
        # By its path: the shell that runs this prefers its own applets.
        lines.append(f"/run/vm/bin/modprobe -a -q {shlex.join(modules)} 2>/dev/null")
    for assignment in options.get("guest_sysctls", []):
        name, _, value = assignment.partition("=")
        path = shlex.quote("/proc/sys/" + name.strip().replace(".", "/"))
        lines.append(f"[ ! -e {path} ] || echo {shlex.quote(value.strip())} >{path}")
    return "".join(f"{line}\n" for line in lines)


@command
def main(arguments: Sequence[str]) -> int:
    """Open a shell or run a command in a guest: ``python -m vm shell --help``. Returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    options = _options(arguments)
    kernel = resolve([options.spec] if options.spec else [], say)[0]
    if kernel.image is None:
        return _run_here(options.command)
    qemu_has = features.probe(options.qemu)
    if qemu_has.missing:
        say(qemu_has.missing)
    guest = Guest(
        kernel,
        probe(options.qemu, options.accel),
        options.qemu,
        options.cpus,
        options.memory,
        options.kernel_argument,
        not options.untouched,
        qemu_has.sandbox,
    )
    if options.command is not None:
        return run_command(guest, options.command, options.timeout)
    return run_shell(guest, options.gdb)


def _vm(
    guest: Guest,
    directory: Path,
    mode: str,
    script: str = "",
    setup: str = "",
    kernel_arguments: Sequence[str] = (),
    qemu_arguments: Sequence[str] = (),
) -> Vm:
    kernel = guest.kernel
    return Vm(
        name=kernel.name,
        kernel=kernel.name,
        release=kernel.release,
        image=str(kernel.image),
        modules=str(kernel.modules) if kernel.modules else None,
        accelerator=guest.accelerator.name,
        memory=guest.memory,
        cpus=guest.cpus,
        boot_deadline=_BOOT_SECONDS * guest.accelerator.factor,
        cwd=str(Path.cwd()),
        environment=_environment(kernel, directory),
        kernel_arguments=[*kernel.own_arguments, *guest.kernel_arguments, *kernel_arguments],
        qemu=guest.qemu,
        sandbox=guest.sandbox,
        qemu_arguments=list(qemu_arguments),
        mode=mode,
        script=script,
        setup=setup + (setup_lines(ROOT / "pyproject.toml") if guest.prepared else ""),
    )


def _environment(kernel: Kernel, directory: Path) -> dict[str, str]:
    """Return variables for the guest: what is needed to run the project's code, and where the config is."""
    variables = {
        "PYTHONPATH": python_path(),
        "PS1": r"[\H \w]# ",
    }
    return {**variables, **config_environment(kernel.config, directory)}


def _gdb_stub(directory: Path) -> list[str]:
    # A socket in a directory of ours, not a port: whoever reaches the stub owns the guest, which reads the
    # host's files as we do.
    chardev = f"socket,id=gdb,path={option_value(directory / 'gdb')},server=on,wait=off"
    return ["-chardev", chardev, "-gdb", "chardev:gdb", "-S"]


@contextlib.contextmanager
def _started(
    vm: Vm, directory: Path, status: PortStatus, writers: Sequence[int], terminal: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """Run QEMU for the duration of the block; its writing ends are then only its own."""
    qmp, qmp_of_qemu = socket.socketpair()
    guest_init.write(vm, directory)
    command = command_line(vm, directory, status.writer, qmp_of_qemu.fileno())
    with qmp, qmp_of_qemu, (directory / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=None if terminal else subprocess.DEVNULL,
            stdout=None if terminal else log,
            stderr=log,
            pass_fds=[*writers, qmp_of_qemu.fileno()],
            # With a terminal in its foreground; without one out of reach of Ctrl-C, which is ours to handle.
            start_new_session=not terminal,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (there are no threads here)
        )
        try:
            for writer in writers:
                os.close(writer)
            yield process
        finally:
            process.kill()
            process.wait()


def _finish(process: subprocess.Popen[bytes]) -> None:
    """Let a QEMU that is about to end write its last words."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)


def _lost(vm: Vm, directory: Path, status: PortStatus) -> int:
    """Say why the guest ended before its shell or command.

    Raises:
        UsageError: it never came up.
    """
    log = text_of(directory / "qemu.log").strip().splitlines()
    console = log_file.text(directory / "console.log")
    reason = status.timed_out or cause_of_death(console) or ""
    if not status.booted and log:
        reason = f"QEMU: {log[-1]}"
    if vm.mode == "command":
        sys.stderr.writelines(f"console: {line}\n" for line in console.splitlines()[-20:])
    if not status.booted and (vm.mode == "command" or log):
        raise UsageError(f"{vm.kernel} did not boot: {reason or 'the guest ended before its process 1 ran'}")
    say(f"{vm.kernel}: {reason or f'the guest ended before its {vm.mode} did (Ctrl-A X, power-off or panic)'}")
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
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-shell-") as name:
        yield Path(name)


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
    add("--qemu", default=DEFAULT_QEMU, metavar="PATH", help="the QEMU to use")
    add("--kernel-argument", action="append", default=[], metavar="ARG", help="append to the kernel's command line")
    options = parser.parse_args(arguments)
    for name in ("cpus", "memory", "timeout"):
        if not getattr(options, name) > 0:
            raise UsageError(f"expected a positive number for --{name}, not {getattr(options, name)}")
    return options
