"""Be one virtual machine: boot a kernel, wire its Python to our standard input and output, end with it.

``python -m vm.guest DIRECTORY`` takes the place of a Python interpreter that execnet starts for an xdist
worker. ``DIRECTORY/vm.json`` (:class:`Vm`) says what to boot. What comes out goes into the same directory:
``console.log`` (serial console), ``qemu.log`` (QEMU's own messages), ``status.json`` (:class:`Status`, kept
current, so that whoever started us can tell a boot failure from a crash) and ``guest.json`` (what the guest
said of itself).

The process tree is two deep, controller > this > QEMU, and each asks the kernel to be killed with its parent:
however the run ends, no QEMU stays behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm import files, initramfs, process, vmlinux
from vm.errors import UsageError
from vm.splats import cause_of_death

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1
# Hidden in the guest by empty file systems, so that tests can write there and nothing of the host shows.
COVERED = ("/tmp", "/var/tmp", "/run")
OVERLAID = ("/etc", "/root", "/home", "/var/lib", "/var/cache", "/var/log")
# A panic ends the machine at once (-no-reboot turns the reboot into an exit); states a machine cannot leave
# become panics. An NMI sent to a machine that hangs makes it print where, then panic.
KERNEL_ARGUMENTS = (
    *("panic=-1", "oops=panic", "softlockup_panic=1", "hung_task_panic=1", "unknown_nmi_panic=1"),
    *("console=ttyS0,115200", "earlyprintk=serial,ttyS0,115200", "loglevel=5", "printk.devkmsg=on"),
    # Nothing measures boot self-tests here (a variant does); 27 s under TCG with every algorithm built in.
    "cryptomgr.notests",
    # Hardware the guest does not have, which the kernel would wait for or complain about.
    *("raid=noautodetect", "i8042.nopnp", "i8042.noaux"),
)


@dataclass(frozen=True)
class Vm:
    """One machine to be, as read from ``vm.json``.

    Attributes:
        name: host name of the guest, unique within the run: ``6.12.94-1``.
        kernel: label of the kernel, for messages.
        release, image, modules: of :class:`vm.kernel.Kernel`; ``image`` None means no machine at all, the
            command runs on the kernel we run on.
        accelerator: ``kvm`` or ``tcg``.
        memory: MiB of guest memory.
        cpus: virtual processors.
        boot_deadline: seconds until the guest's Python must be up.
        cwd: working directory of the guest's command.
        environment: further variables for the guest's command.
        kernel_arguments: appended to the kernel's command line.
        qemu: the QEMU binary.
        qemu_arguments: appended to QEMU's command line.
        command: run instead of QEMU (tests of the runner); gets our own environment and the variables
            ``VM_STATUS_FD`` and ``VM_CONSOLE``.
        mode: ``worker``; ``shell`` (a login on our terminal); or ``command`` (run ``script``, vm/shell.py).
        script: the shell command of mode ``command``.
        setup: lines of shell that the guest runs before a shell or a command.
    """

    name: str
    kernel: str
    release: str
    image: str | None
    modules: str | None
    accelerator: str
    memory: int
    cpus: int
    boot_deadline: float
    cwd: str
    environment: dict[str, str] = field(default_factory=dict)
    kernel_arguments: list[str] = field(default_factory=list)
    qemu: str = "qemu-system-x86_64"
    qemu_arguments: list[str] = field(default_factory=list)
    command: list[str] | None = None
    mode: str = "worker"
    script: str = ""
    setup: str = ""

    def save(self, directory: Path) -> None:
        """Write ``vm.json`` into ``directory``."""
        (directory / "vm.json").write_text(json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, directory: Path) -> Vm:
        """Read ``vm.json`` from ``directory``."""
        return cls(**json.loads((directory / "vm.json").read_text()))


@dataclass(frozen=True)
class Status:
    """What is known of a machine, as kept in ``status.json``.

    Attributes:
        state: ``starting``, ``booting``, ``up``, ``boot failed`` or ``down``.
        reason: one line why, for ``boot failed`` and for a ``down`` that nobody asked for; else empty.
        boot_seconds: from the start of QEMU to the guest's Python, once it is up.
        pid: of QEMU, while it runs.
    """

    state: str = "starting"
    reason: str = ""
    boot_seconds: float | None = None
    pid: int | None = None

    def save(self, directory: Path) -> None:
        """Write ``status.json``, whole or not at all."""
        files.replace_text(directory / "status.json", json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> Status:
        """Read ``status.json``; a machine that has not written it yet is ``starting``."""
        try:
            return cls(**json.loads((directory / "status.json").read_text()))
        except FileNotFoundError:
            return cls()


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send us ``signal_number`` when our parent ends, in whatever way (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)


def qemu_command(vm: Vm, directory: Path, status_fd: int, qmp_fd: int) -> list[str]:
    """Return QEMU's command line for ``vm``.

    virtme-ng knows how to show the host's root to a guest and which machine and processor to choose: that
    part is its own, asked for with ``--dry-run``. Console, ports and process 1 are ours.

    Raises:
        UsageError: virtme-ng refuses, with its own words.
    """
    theirs, their_cmdline = _virtme_command(vm)
    kernel_arguments = [
        *(word for word in their_cmdline if not word.startswith(("console=", "virtme", "init=", "quiet"))),
        f"rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache={_CACHE[vm.mode]}",
        *KERNEL_ARGUMENTS,
        # An emulated timer is late on a busy host, and the kernel panics: "IO-APIC + timer doesn't work".
        *(["no_timer_check"] if vm.accelerator == "tcg" else []),
        *vm.kernel_arguments,
        f"init={directory}/init",
    ]
    command = [
        *theirs,
        *("-append", " ".join(kernel_arguments)),
        # What the guest may not do: reach a network, write to the host, outlive a reboot.
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none", "-net", "none"),
        # A guest that breaks out of QEMU finds a process that may not start others or gain privileges.
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        # Entropy, so that nothing in the guest waits for it.
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-qmp", "chardev:qmp"),
    ]
    command += [
        "-device",
        "virtio-serial-pci",
        *output_port("vm.status", status_fd),
        *_terminal(vm, directory),
    ]
    if vm.accelerator == "tcg":
        # A later -cpu wins over virtme's plain max: QEMU 7.2's TCG corrupts flags on cmpxchg16b.
        command += ["-cpu", "max,-cx16"]
        # A later -kernel wins too: the decompressor of a bzImage takes longer than the kernel's own start.
        if vm.image and (unpacked := vmlinux.cached(Path(vm.image))) is not None:
            command += ["-kernel", str(unpacked)]
    if vm.modules is not None or vm.release:
        image = initramfs.cached(Path(vm.modules) if vm.modules else None, vm.release)
        if image is not None:
            command += ["-initrd", str(image)]
    return [*command, *vm.qemu_arguments]


def output_port(name: str, descriptor: int) -> list[str]:
    """Return QEMU's arguments for a virtio port ``name`` that writes into the file open as ``descriptor``."""
    identity = name.replace(".", "-")
    return [
        *("-chardev", f"file,id={identity},path=/dev/fd/{descriptor}"),
        *("-device", f"virtserialport,chardev={identity},name={name}"),
    ]


def render_init(vm: Vm, directory: Path) -> str:
    """Return the guest's process 1: vm/guest_init.sh with the names of this machine filled in."""
    kept = _kept_paths(vm, directory)
    busybox = initramfs.busybox()
    status = {"VM_STATUS_FD": "9"} if vm.mode == "worker" else {}
    environment = {**status, "PYTHONDONTWRITEBYTECODE": "1", **vm.environment}
    values = {
        "busybox": str(busybox),
        "open_kept": "\n".join(f"exec {3 + n}<{shlex.quote(path)}" for n, path in enumerate(kept)),
        "bind_kept": "\n".join(
            f"mkdir -p {shlex.quote(path)} && mount --bind /proc/self/fd/{3 + n} {shlex.quote(path)}; exec {3 + n}<&-"
            for n, path in enumerate(kept)
        ),
        "covered": " ".join(COVERED),
        "overlaid": shlex.join(path for path in [*OVERLAID, *_writable(vm)] if Path(path).is_dir()),
        "modules": shlex.quote(str(Path(vm.modules) / "lib/modules" / vm.release) if vm.modules else ""),
        "release": vm.release,
        "modprobe": _modprobe(),
        "hostname": vm.name,
        "path": shlex.quote(f"{sys.prefix}/bin:{os.environ.get('PATH', '')}:{process.SYSTEM_PATH}"),
        "term": shlex.quote(os.environ.get("TERM", "linux")),
        "environment": "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        "cwd": shlex.quote(vm.cwd),
        "run": _RUN[vm.mode],
        # Last: what comes from the user may hold anything, also a name between two @.
        "python": shlex.quote(sys.executable),
        "shell": shlex.quote(shutil.which("bash") or "/bin/sh") + " --norc" * bool(shutil.which("bash")),
        "setup": vm.setup,
        "script": shlex.quote(vm.script),
    }
    text = (Path(__file__).parent / "guest_init.sh").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the machine described in the directory given first; the rest (execnet's) is not looked at."""
    directory = Path((arguments or sys.argv[1:])[0])
    # SIGKILL, not SIGTERM: we leave no files behind that anybody would have to remove.
    die_with_parent()
    # Ctrl-C is the controller's to handle; it closes our input, and the machine ends in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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


# What process 1 does, by mode. The last line of a shell or a command gives the host time to read the one
# before: it ends the machine as soon as it has.
_RUN = {
    "worker": """\
exec 9>$(port vm.status)
echo init >&9
@python@ -u -m vm.serve 0<>$(port vm.worker) 1>&0 2>/dev/console
echo exit $? >&9""",
    "shell": """\
exec 9>$(port vm.status)
echo init >&9
@setup@
setsid cttyhack @shell@ </dev/ttyS0 >/dev/ttyS0 2>&1 9>&-
echo exit $? >&9
sleep 10""",
    # The host's sh, since this one prefers its own applets. Pipes between the command and the ports: a port
    # opens only once, so that /dev/stderr would fail. The word at the end of each, set by vm/shell.py, tells that
    # all of it has come through.
    "command": """\
exec 9>$(port vm.status)
echo init >&9
@setup@
mkfifo /run/vm/out /run/vm/err
(cat /run/vm/out; printf %s $end) >$(port vm.out) 9>&- &
(cat /run/vm/err; printf %s $end) >$(port vm.err) 9>&- &
setsid /bin/sh -c @script@ </dev/null >/run/vm/out 2>/run/vm/err 9>&-
code=$?
wait
echo exit $code >&9
sleep 10""",
}
# Loose: without it every import goes to the host again, which doubles their time; the root is read-only. For
# people, what they edit on the host shall show at once.
_CACHE = {"worker": "loose", "shell": "none", "command": "loose"}


_OUR_WORDS = re.compile(r"(\[ *[0-9.]+\] )?vm: ")


class _Machine:
    """The relay between execnet and one guest, and the watch over its boot."""

    def __init__(self, vm: Vm, directory: Path) -> None:
        self.vm = vm
        self.directory = directory
        self.status = Status()
        self.stage = "the kernel did not start its process 1"
        self.to_guest = bytearray()
        self.process: subprocess.Popen[bytes] | None = None
        self.started = time.monotonic()
        self.qmp, self.qmp_other_end = socket.socketpair()

    def run(self) -> int:
        self._answer_execnet()
        status_read, status_write = os.pipe()
        self.process = self._start(status_write, self.qmp_other_end.fileno())
        os.close(status_write)
        self.qmp_other_end.close()
        signal.signal(signal.SIGUSR1, self._ask_where)
        self._set(state="booting", pid=self.process.pid)
        try:
            return self._relay(self.process, status_read)
        finally:
            self._kill()

    def end(self, state: str, reason: str) -> None:
        """Record the end; execnet learns of it when our standard output closes."""
        self._set(state=state, reason=reason, pid=None)

    def _ask_where(self, *_: object) -> None:
        """Have a guest that hangs print where, by an NMI to each of its processors (QEMU's inject-nmi)."""
        with contextlib.suppress(OSError):
            self.qmp.sendall(b'{"execute": "qmp_capabilities"} {"execute": "inject-nmi"}\n')

    def _answer_execnet(self) -> None:
        """Take execnet's bootstrap line and acknowledge it.

        execnet waits for the acknowledgement before it starts the next worker: given at once, all machines
        boot at the same time. The guest's Python comes up with execnet loaded (vm/serve.py).
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
            command = self.vm.command or [sys.executable, "-u", "-m", "vm.serve"]
            environment |= {"VM_STATUS_FD": str(status_fd), "VM_CONSOLE": f"{self.directory}/console.log"}
            environment |= self.vm.environment
        else:
            command = qemu_command(self.vm, self.directory, status_fd, qmp_fd)
            init = self.directory / "init"
            init.write_text(render_init(self.vm, self.directory))
            init.chmod(0o755)
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
            for descriptor, _ in poll.poll(self._timeout(leaving)):
                if descriptor == guest_in:
                    poll.unregister(guest_in)
                elif descriptor == guest_out:
                    if not _pump(guest_out):
                        return self._ended(process, leaving is not None)
                elif data := os.read(descriptor, 1 << 16):
                    if descriptor == 0:
                        self.to_guest += data
                    else:
                        lines += data
                        self._take_lines(lines)
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
            due = self.started + self.vm.boot_deadline
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
                (self.directory / "guest.json").write_text(value)
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
        return files.text_of(self.directory / name)

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


def _virtme_command(vm: Vm) -> tuple[list[str], list[str]]:
    """Ask virtme-ng for its QEMU command: (arguments without console and kernel command line, that line)."""
    assert vm.image is not None
    qemu_binary = shutil.which(vm.qemu)
    if qemu_binary is None:
        raise UsageError(f"{vm.qemu} is not installed; install the package qemu-system-x86")
    command = [sys.executable, "-m", "virtme.commands.run", "--kimg", vm.image, "--mods", "none"]
    # 9p: read-only at the device, and no second process; virtiofsd gained that only lately.
    command += ["--force-9p", "--memory", f"{vm.memory}M", "--cpus", str(vm.cpus), "--qemu-bin", qemu_binary]
    command += ["--disable-kvm"] if vm.accelerator == "tcg" else []
    command += ["--dry-run", "--show-command"]
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in answer.stdout.splitlines() if " -kernel " in line]
    if answer.returncode != 0 or not lines:
        words = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"virtme-ng cannot run {vm.image}: {words}")
    qemu, *rest = shlex.split(lines[-1])
    kept, cmdline = [qemu], []
    ours = ("-chardev", "-mon", "-serial", "-echr", "-display", "-vga", "-net")
    while rest:
        flag = rest.pop(0)
        value = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
        if flag == "-append":
            cmdline = shlex.split(value[0]) if value else []
        elif flag in ours or (flag == "-device" and value[0].startswith(("virtio-serial", "virtconsole"))):
            continue
        else:
            kept += [flag, *value]
    return kept, cmdline


def _terminal(vm: Vm, directory: Path) -> list[str]:
    """Return QEMU's arguments for what its standard input and output are wired to, and the serial console."""
    if vm.mode == "shell":
        # One terminal for both: the kernel's messages and the shell. Ctrl-A X ends the machine.
        both = ["-chardev", "stdio,id=console,signal=off,mux=on", "-mon", "chardev=console"]
        return [*both, "-serial", "chardev:console"]
    console = ["-chardev", f"file,id=console,path={directory}/console.log", "-serial", "chardev:console"]
    if vm.mode == "command":
        return console
    worker = ["-chardev", "stdio,id=worker,signal=off,mux=off"]
    return [*console, *worker, "-device", "virtserialport,chardev=worker,name=vm.worker"]


def _writable(vm: Vm) -> list[str]:
    """Return the directories that people expect to write to: pytest's cache, an editor's swap file."""
    if vm.mode == "worker":
        return []
    wanted = [str(ROOT)]
    if ROOT not in (Path(vm.cwd), *Path(vm.cwd).parents):
        wanted.append(vm.cwd)
    return [name for name in wanted if name not in ("/", *OVERLAID, *COVERED)]


def _kept_paths(vm: Vm, directory: Path) -> list[str]:
    """Return the directories the guest needs that lie below the ones it covers, outermost only."""
    needed = [ROOT, directory, Path(sys.prefix), Path(sys.base_prefix), Path(vm.cwd)]
    needed += [Path(vm.modules)] if vm.modules else []
    needed += [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    below = {str(path.resolve()) for path in needed if str(path.resolve()).startswith(tuple(c + "/" for c in COVERED))}
    outermost = sorted(path for path in below if not any(str(p) in below for p in Path(path).parents))
    if len(outermost) > 6:
        raise UsageError(f"too many directories below {', '.join(COVERED)} are needed in the guest: {outermost}")
    return outermost


def _modprobe() -> str:
    found = process.find("modprobe")
    if found is None:
        raise UsageError("modprobe is not installed; install the package kmod")
    return found


def _pump(source: int) -> bool:
    """Copy what ``source`` (non-blocking) holds to standard output; say whether there can be more."""
    while True:
        try:
            data = os.read(source, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        while data:
            data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
