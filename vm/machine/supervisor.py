"""The supervisor of one VM: starts QEMU, watches the boot and what the host gives it, and says how it ended.

What comes out goes into the VM's directory: ``console.log`` (serial console), ``qemu.log`` (QEMU's own messages),
``status.json`` (:class:`Status`, kept current), ``witness`` (vm/machine/witness.py) and ``guest.json`` (what the guest
said of itself). QEMU asks the kernel to be killed with its parent, so that it never stays behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vm.base import files
from vm.base.errors import UsageError
from vm.base.process import die_with_parent
from vm.base.words import last_line
from vm.guest import wake
from vm.klog.splats import cause_of_death
from vm.machine import log_file
from vm.machine.monitor import Monitor
from vm.machine.vm import INITRD, Status, Vm
from vm.machine.witness import EVERY, Witness

# Of the status port: the facts have /proc/crypto, some 100 KB.
_LONGEST_LINE = 4 * 2**20

_OUR_WORDS = re.compile(r"(\[ *[0-9.]+\] )?vm: ")


class Supervisor:
    """One VM, from its start to its end.

    Args:
        vm: what to boot.
        directory: of the VM.

    Attributes:
        status: what is known of it.
        code: with which the command ended that it was started for, None before.
        closed: whether nothing more comes from the guest's status port.
        poll: where callers register descriptors that :meth:`turn` shall wait for as well.
        paused: how far the guest is that has stopped to be saved (vm/guest/wake.py), or empty.
        taint: of its kernel then.
        monitor: of QEMU.
    """

    def __init__(self, vm: Vm, directory: Path) -> None:
        self.vm = vm
        self.directory = directory
        self.status = Status()
        self.code: int | None = None
        self.closed = False
        self.paused = ""
        self.taint = 0
        self.poll = select.poll()
        self._stage = "the kernel did not start its process 1"
        self._lines = bytearray()
        self._started = time.monotonic()
        self._logs = [log_file.Bound(directory / name) for name in ("console.log", "qemu.log")]
        self._logs_due = 0.0
        self._port, self._port_of_guest = os.pipe()
        self._qmp, self._qmp_of_qemu = socket.socketpair()
        self.monitor = Monitor(self._qmp)
        self._wake: socket.socket | None = None
        self._wake_of_qemu: socket.socket | None = None
        if vm.resumes:
            self._wake, self._wake_of_qemu = socket.socketpair()
            # A guest may ask to be told so often that it does not read.
            self._wake.setblocking(False)

    def command(self) -> list[str]:
        """Return QEMU's command line for a boot; what it names of the machine's own is made.

        Raises:
            UsageError: it cannot be had.
        """
        # These want virtme-ng, which tests on the running kernel do without.
        from vm.machine import init as guest_init
        from vm.machine.qemu import command_line

        guest_init.write(self.vm, self.directory)
        port = self._wake_of_qemu.fileno() if self._wake_of_qemu else None
        return command_line(self.vm, self.directory, self._port_of_guest, self._qmp_of_qemu.fileno(), port)

    @contextlib.contextmanager
    def running(
        self, stdin: int | None, stdout: int | None, keep: Sequence[int] = (), command: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run QEMU for the duration of the block.

        Args:
            stdin, stdout: of QEMU, as for subprocess.Popen.
            keep: further descriptors that QEMU has, and we no longer.
            command: QEMU's command line, that of a boot when empty.

        Raises:
            UsageError: QEMU cannot be started.
        """
        given = [self._port_of_guest, self._qmp_of_qemu.fileno()]
        given += [self._wake_of_qemu.fileno()] if self._wake_of_qemu else []
        self._process = self._start(stdin, stdout, [*given, *keep], command)
        try:
            for descriptor in (self._port_of_guest, *keep):
                os.close(descriptor)
            self._qmp_of_qemu.close()
            if self._wake_of_qemu:
                self._wake_of_qemu.close()
            self._witness = Witness(self._process.pid, self.directory)
            self._set(state="booting", pid=self._process.pid)
            self.poll.register(self._port, select.POLLIN)
            yield self._process
        finally:
            self._kill()
            (self.directory / INITRD).unlink(missing_ok=True)
            for log in self._logs:
                log.finish()
            os.close(self._port)
            self._qmp.close()
            if self._wake:
                self._wake.close()

    @property
    def alive(self) -> bool:
        """Whether the VM has no end yet."""
        return self.status.pid is not None

    def turn(self, due: float | None = None) -> list[int]:
        """Wait until a registered descriptor is ready or something is due, and look after the VM meanwhile.

        Args:
            due: monotonic time at which the caller has something to do.

        Returns:
            The caller's descriptors that are ready.
        """
        booting = self.status.state == "booting"
        boot_due = self._started + self.vm.boot_deadline + self._witness.lost
        if booting and time.monotonic() >= boot_due:
            self.boot_failed(f"not up after {self.vm.boot_deadline:g} s: {self._stage}")
            return []
        moments = [time.monotonic() + EVERY, boot_due if booting else math.inf, math.inf if due is None else due]
        seconds = max(0.0, min(moments) - time.monotonic())
        ready = [descriptor for descriptor, _ in self.poll.poll(seconds * 1000)]
        self._witness.look()
        self._bound_logs()
        if self._port in ready:
            ready.remove(self._port)
            self._listen()
        return ready

    def answers(self, due: float) -> bool:
        """Wait until the guest's Python is up, and say whether it is; what keeps QEMU from running does not count.

        Args:
            due: monotonic time until when.
        """
        while self.status.state == "booting" and not self.closed:
            if time.monotonic() >= due + self._witness.lost:
                return False
            self.turn(due + self._witness.lost)
        return self.status.state == "up"

    def last_words(self) -> str:
        """Return the last line of QEMU's own messages; empty when it had none."""
        said = self._text("qemu.log")
        return last_line(said) if said.strip() else ""

    def heard(self) -> None:
        """The guest said something, on a port of the caller's."""
        self._witness.heard()

    def wake(self) -> None:
        """Have a guest that is paused go on, as this machine and no other."""
        self.paused = ""
        said = wake.line(self.vm.name, os.urandom(wake.ENTROPY), time.time())
        with contextlib.suppress(OSError):  # A QEMU that is gone shows elsewhere.
            assert self._wake
            self._wake.sendall(said)

    def inject_nmi(self, *_: object) -> None:
        """Have a guest that hangs print where, by an NMI to each of its processors."""
        commands = ["qmp_capabilities", *filter(None, [self.vm.architecture.nmi])]
        with contextlib.suppress(OSError):
            self._qmp.sendall(b"".join(b'{"execute": "%b"}\n' % command.encode() for command in commands))

    def resumed(self) -> None:
        """Record that the VM goes on from one that was saved."""
        self._set(resumed=True)

    def note(self, words: str) -> None:
        """Record what became of a saved machine, for whoever looks at this one."""
        self._set(note="; ".join(filter(None, [self.status.note, words])))

    def end(self, state: str, reason: str) -> None:
        """Record how the VM ended: ``down`` or ``boot failed``, and why."""
        if self.alive:
            self._witness.look(now=True)
        self._set(state=state, reason=reason, pid=None)

    def gone(self, asked: bool = False) -> None:
        """Record that QEMU is gone, or as good as gone, and why; ``asked`` when it was told to."""
        if not self.alive:
            return
        if asked:
            self.end("down", "")
            return
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        cause = self.cause()
        if code < 0:
            reason = f"QEMU was killed by {signal.Signals(-code).name}"
        elif code > 0:
            reason = f"QEMU exited with status {code}: {last_line(self._text('qemu.log'))}"
        else:
            reason = cause or "the guest switched itself off"
        if self.status.state == "booting":
            self.boot_failed(cause or reason)
        else:
            self.end("down", reason)

    def boot_failed(self, reason: str) -> None:
        """Record that the VM did not boot, with what its kernel and our own scripts said."""
        cause = self.cause()
        if cause is not None and cause not in reason:
            reason += f" ({cause})"
        # What our own scripts said before they gave up tells more than how the VM ended then.
        said = [line.partition("vm: ")[2] for line in self._text("console.log").splitlines() if _OUR_WORDS.match(line)]
        self.end("boot failed", f"{said[-1].strip()}; {reason}" if said else reason)

    def cause(self) -> str | None:
        """Return what the kernel died of, by its console."""
        return cause_of_death(self._text("console.log"))

    def _start(
        self, stdin: int | None, stdout: int | None, kept: list[int], given: Sequence[str]
    ) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        command = [*given]
        if self.vm.command is not None or self.vm.image is None:
            command = self.vm.command or [sys.executable, "-u", "-m", "vm.guest.serve"]
            environment |= {"VM_STATUS_FD": str(kept[0]), "VM_CONSOLE": f"{self.directory}/console.log"}
            environment |= self.vm.environment
        elif not command:
            command = self.command()
        (self.directory / "command").write_text(shlex.join(command) + "\n")
        with open(self.directory / "qemu.log", "wb") as log:
            self._started = time.monotonic()
            try:
                return subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=log,
                    pass_fds=kept,
                    env=environment,
                    cwd=self.vm.cwd,
                    # A shell is in the foreground of its terminal; Ctrl-C during anything else is ours to handle.
                    start_new_session=self.vm.mode != "shell",
                    preexec_fn=die_with_parent,  # noqa: PLW1509  (one thread)
                )
            except FileNotFoundError as error:
                raise UsageError(f"{command[0]} is not installed") from error

    def _listen(self) -> None:
        """Act on the lines of the guest's status port: ``init``, ``paused …``, ``ready``, ``facts …``, ``exit N``."""
        data = os.read(self._port, 1 << 16)
        if not data:
            self.closed = True
            self.poll.unregister(self._port)
        *lines, rest = bytes(self._lines + data).split(b"\n")
        # What is longer than all it may say is no line.
        self._lines[:] = rest[:_LONGEST_LINE]
        for line in lines:
            word, _, value = line.decode(errors="replace").partition(" ")
            if word == "init":
                (self.directory / INITRD).unlink(missing_ok=True)
                self._stage = f"process 1 ran, but its {self.vm.mode} did not begin"
            elif word == "paused" and self.vm.resumes:
                self._pause(value)
            elif word == "ready" and self.status.state == "booting":
                self._set(state="up", boot_seconds=round(time.monotonic() - self._started, 2))
            elif word == "facts":
                with contextlib.suppress(ValueError):  # cut off: what was said before stays
                    json.loads(value)
                    files.replace_text(self.directory / "guest.json", value)
            elif word == "exit" and value.isdecimal():
                self.code = int(value)

    def _pause(self, value: str) -> None:
        """Note that the guest waits to be told to go on; one that says nonsense of itself waits in vain."""
        stage, _, taint = value.partition(" ")
        if stage in wake.STAGES and taint.isdecimal():
            self.paused, self.taint = stage, int(taint[:20])

    def _bound_logs(self) -> None:
        """Keep a guest that floods its console from filling the disk."""
        if time.monotonic() < self._logs_due:
            return
        self._logs_due = time.monotonic() + EVERY
        for log in self._logs:
            if not log.keep():
                self.end("down", f"QEMU was ended, for {log.path.name} has more than {log_file.MOST / 1e9:.1f} GB")

    def _text(self, name: str) -> str:
        return log_file.text(self.directory / name)

    def _set(self, **changes: Any) -> None:
        self.status = dataclasses.replace(self.status, **changes)
        self.status.save(self.directory)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.vm.mode == "shell":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
