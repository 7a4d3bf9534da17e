"""Be one virtual machine: boot a kernel, wire its Python to our standard input and output, end with it.

``python -m vm.machine.relay DIRECTORY`` takes the place of a Python interpreter that execnet starts for an xdist
worker. ``DIRECTORY/vm.json`` (:class:`Vm`) says what to boot. What comes out goes into the same directory:
``console.log`` (serial console), ``qemu.log`` (QEMU's own messages), ``status.json`` (:class:`Status`, kept
current, so that whoever started us can tell a boot failure from a crash) and ``guest.json`` (what the guest
said of itself).

The process tree is two deep, controller > this > QEMU, and each asks the kernel to be killed with its parent:
however the run ends, no QEMU stays behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vm.base import files
from vm.base.errors import UsageError
from vm.base.process import die_with_parent
from vm.klog.splats import cause_of_death
from vm.machine import init as guest_init
from vm.machine import log_file
from vm.machine.qemu import command_line
from vm.machine.spec import Status, Vm
from vm.machine.witness import EVERY, Witness

# Of the status port: the facts have /proc/crypto, some 100 KB.
_LONGEST_LINE = 4 * 2**20
# Reads from the worker's port before anything else is looked at: one that floods it must not escape its deadlines.
_AT_ONCE = 256

_OUR_WORDS = re.compile(r"(\[ *[0-9.]+\] )?vm: ")


def main(arguments: list[str] | None = None) -> int:
    """Run the machine described in the directory given first; the rest (execnet's) is not looked at."""
    directory = Path((arguments or sys.argv[1:])[0])
    # SIGKILL, not SIGTERM: we leave no files behind that anybody would have to remove.
    die_with_parent()
    # Ctrl-C, and what timeout(1) sends to the whole group, is the controller's to handle; it closes our input, and the
    # machine ends in order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    vm = Vm.load(directory)
    machine = _Machine(vm, directory)
    try:
        return machine.run()
    except UsageError as error:
        machine.end("boot failed", str(error))
    except OSError as error:
        print(f"{vm.name}: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # The disk that is full may be the one with the status.
            machine.end("boot failed", f"cannot start the machine: {error}")
    return 3


class _Machine:
    """The relay between execnet and one guest, and the watch over its boot."""

    def __init__(self, vm: Vm, directory: Path) -> None:
        self.vm = vm
        self.directory = directory
        self.status = Status()
        self.stage = "the kernel did not start its process 1"
        self.to_guest = bytearray()
        self.process: subprocess.Popen[bytes] | None = None
        self.witness: Witness | None = None
        self.started = time.monotonic()
        self.logs = [log_file.Bound(directory / name) for name in ("console.log", "qemu.log")]
        self.logs_due = 0.0
        self.qmp, self.qmp_other_end = socket.socketpair()

    def run(self) -> int:
        self._answer_execnet()
        status_read, status_write = os.pipe()
        self.process = self._start(status_write, self.qmp_other_end.fileno())
        os.close(status_write)
        self.qmp_other_end.close()
        signal.signal(signal.SIGUSR1, self._ask_where)
        self.witness = Witness(self.process.pid, self.directory)
        self._set(state="booting", pid=self.process.pid)
        try:
            return self._relay(self.process, status_read)
        finally:
            self._kill()
            for log in self.logs:
                log.finish()

    def end(self, state: str, reason: str) -> None:
        """Record the end; execnet learns of it when our standard output closes."""
        if self.witness is not None:
            self.witness.look(now=True)
        self._set(state=state, reason=reason, pid=None)

    def _ask_where(self, *_: object) -> None:
        """Have a guest that hangs print where, by an NMI to each of its processors (QEMU's inject-nmi)."""
        with contextlib.suppress(OSError):
            self.qmp.sendall(b'{"execute": "qmp_capabilities"} {"execute": "inject-nmi"}\n')

    def _answer_execnet(self) -> None:
        """Take execnet's bootstrap line and acknowledge it.

        execnet waits for the acknowledgement before it starts the next worker: given at once, all machines
        boot at the same time. The guest's Python comes up with execnet loaded (vm/guest/serve.py).
        """
        first = bytearray()
        while b"\n" not in first:
            data = os.read(0, 1 << 16)
            if not data:
                raise SystemExit(0)
            first += data
        _, _, rest = bytes(first).partition(b"\n")
        self.to_guest += rest
        os.write(1, b"1")

    def _start(self, status_fd: int, qmp_fd: int) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if self.vm.command is not None or self.vm.image is None:
            command = self.vm.command or [sys.executable, "-u", "-m", "vm.guest.serve"]
            environment |= {"VM_STATUS_FD": str(status_fd), "VM_CONSOLE": f"{self.directory}/console.log"}
            environment |= self.vm.environment
        else:
            command = command_line(self.vm, self.directory, status_fd, qmp_fd)
            guest_init.write(self.vm, self.directory)
        (self.directory / "command").write_text(shlex.join(command) + "\n")
        with open(self.directory / "qemu.log", "wb") as log:
            self.started = time.monotonic()
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=[status_fd, qmp_fd],
                    env=environment,
                    cwd=self.vm.cwd,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # noqa: PLW1509  (one thread)
                )
            except FileNotFoundError as error:
                raise UsageError(f"{command[0]} is not installed; install the package qemu-system-x86") from error

    def _relay(self, process: subprocess.Popen[bytes], status_read: int) -> int:
        """Copy bytes both ways until either side ends; return our exit status."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert self.witness is not None
        guest_in, guest_out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(guest_in, False)
        os.set_blocking(guest_out, False)
        poll = select.poll()
        for descriptor in (0, guest_out, status_read):
            poll.register(descriptor, select.POLLIN)
        lines = bytearray()
        leaving: float | None = None
        while True:
            if self.to_guest and not self._feed(guest_in):
                poll.register(guest_in, select.POLLOUT)
            due = self._timeout(leaving)
            ready = poll.poll(EVERY * 1000 if due is None else min(due, EVERY * 1000))
            self.witness.look()
            self._bound_logs()
            for descriptor, _ in ready:
                if descriptor == guest_in:
                    poll.unregister(guest_in)
                elif descriptor == guest_out:
                    self.witness.heard()
                    if not _pump(guest_out):
                        return self._ended(process, leaving is not None)
                elif data := os.read(descriptor, 1 << 16):
                    if descriptor == 0:
                        self.to_guest += data
                    else:
                        lines += data
                        self._take_lines(lines)
                        # What is longer than all it may say is no line.
                        del lines[_LONGEST_LINE:]
                else:
                    poll.unregister(descriptor)
                    if descriptor == 0:
                        # The controller is done with us, or gone. The guest has a moment to save things.
                        leaving = time.monotonic() + 2.0
            if self.status.state == "booting" and self._timeout(None) == 0:
                self._boot_failed(f"not up after {self.vm.boot_deadline:g} s: {self.stage}")
            if leaving is not None and time.monotonic() >= leaving:
                self.end("down", "")
            if self.status.pid is None:
                # What the guest wrote before it said goodbye is in the pipe by now.
                _pump(guest_out)
                return 0 if self.status.state == "down" else 3

    def _bound_logs(self) -> None:
        """Keep a guest that floods its console from filling the disk."""
        if time.monotonic() < self.logs_due:
            return
        self.logs_due = time.monotonic() + EVERY
        for log in self.logs:
            if not log.keep():
                self.end("down", f"QEMU was ended, for {log.path.name} has more than {log_file.MOST / 1e9:.1f} GB")

    def _feed(self, descriptor: int) -> bool:
        """Write what is waiting for the guest; say whether all of it went."""
        try:
            sent = os.write(descriptor, self.to_guest)
        except BlockingIOError:
            sent = 0
        except BrokenPipeError:
            sent = len(self.to_guest)  # Its end shows on the guest's output.
        del self.to_guest[:sent]
        return not self.to_guest

    def _timeout(self, leaving: float | None) -> float | None:
        """Return milliseconds until something is due, None for nothing."""
        due = leaving
        if self.status.state == "booting" and leaving is None:
            lost = self.witness.lost if self.witness is not None else 0.0
            due = self.started + self.vm.boot_deadline + lost
        return None if due is None else max(0.0, (due - time.monotonic()) * 1000)

    def _take_lines(self, buffer: bytearray) -> None:
        """Act on the lines of the guest's status port: ``init``, ``ready``, ``facts {json}``, ``exit N``."""
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            word, _, value = line.decode(errors="replace").partition(" ")
            if word == "init":
                self.stage = "process 1 ran, but Python did not come up"
            elif word == "ready":
                self._set(state="up", boot_seconds=round(time.monotonic() - self.started, 2))
            elif word == "facts":
                with contextlib.suppress(ValueError):  # cut off: what was said before stays
                    json.loads(value)
                    files.replace_text(self.directory / "guest.json", value)
            elif word == "exit":
                self._worker_exited(value)

    def _worker_exited(self, value: str) -> None:
        code = int(value) if value.isdigit() else -1
        reason = ""
        if code > 128:
            killed = signal.Signals(code - 128).name if code - 128 in signal.valid_signals() else str(code - 128)
            reason = f"the guest's Python was killed by {killed}"
            if (cause := self._cause()) is not None:
                reason += f": {cause}"
        elif code != 0:
            reason = f"the guest's Python exited with status {code}"
        if self.status.state == "booting":
            self._boot_failed(reason or "the guest's Python ended before it began")
        else:
            self.end("down", reason)

    def _ended(self, process: subprocess.Popen[bytes], asked: bool) -> int:
        """QEMU is gone, or as good as gone: say why."""
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        cause = self._cause()
        if asked or self.status.state == "down":
            self.end("down", self.status.reason)
            return 0
        if code < 0:
            reason = f"QEMU was killed by {signal.Signals(-code).name}"
        elif code > 0:
            reason = f"QEMU exited with status {code}: {self._last_line('qemu.log') or 'no message'}"
        else:
            reason = cause or "the guest switched itself off"
        if self.status.state == "booting":
            self._boot_failed(reason if cause is None else cause)
            return 3
        self.end("down", reason)
        return 1

    def _boot_failed(self, reason: str) -> None:
        cause = self._cause()
        if cause is not None and cause not in reason:
            reason += f" ({cause})"
        # What our own scripts said before they gave up tells more than how the machine ended then.
        said = [line.partition("vm: ")[2] for line in self._text("console.log").splitlines() if _OUR_WORDS.match(line)]
        self.end("boot failed", f"{said[-1].strip()}; {reason}" if said else reason)

    def _cause(self) -> str | None:
        return cause_of_death(self._text("console.log"))

    def _text(self, name: str) -> str:
        return log_file.text(self.directory / name)

    def _last_line(self, name: str) -> str:
        lines = self._text(name).strip().splitlines()
        return lines[-1] if lines else ""

    def _set(self, **changes: Any) -> None:
        self.status = dataclasses.replace(self.status, **changes)
        self.status.save(self.directory)

    def _kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _pump(source: int) -> bool:
    """Copy what ``source`` (non-blocking) holds to standard output; say whether there can be more."""
    for _ in range(_AT_ONCE):
        try:
            data = os.read(source, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        while data:
            data = data[os.write(1, data) :]
    return True


if __name__ == "__main__":
    sys.exit(main())
