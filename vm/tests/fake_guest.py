"""A guest without a machine: host Python in QEMU's place, that misbehaves on request.

``pytest --vm-command "python fake_guest.py [BEHAVIOUR[@MACHINE]]…"`` starts it with what QEMU would get:
standard input and output are the worker's port, ``VM_STATUS_FD`` the status port and ``VM_CONSOLE`` the file of
the serial console. A behaviour is the name of a function in ``BEHAVIOURS`` below, acted out while booting;
``@MACHINE`` limits it to the machines whose name begins or ends like that (``@6.1.0``, ``@-1``).

Test files of a scratch project import this module too: what a test calls here (:func:`panic`) happens in the
middle of that test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from vm.guest import serve, worker

# What kernels print, shortened; the formats are those of kernel/panic.c, mm/oom_kill.c, kernel/watchdog.c and
# arch/x86/kernel/dumpstack.c.
PANIC = """\
sysrq: Trigger a crash
Kernel panic - not syncing: sysrq triggered crash
CPU: 0 PID: 77 Comm: python3 Not tainted 6.1.0-fake #1
Call Trace:
 <TASK>
 sysrq_handle_crash+0x16/0x20
 __handle_sysrq.cold+0x44/0x11e
 </TASK>
---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""
OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000010
#PF: supervisor read access in kernel mode
Oops: 0000 [#1] PREEMPT SMP
CPU: 0 PID: 78 Comm: python3 Not tainted 6.1.0-fake #1
RIP: 0010:af_alg_fake_oops+0x12/0x40 [af_alg]
Call Trace:
 <TASK>
 aead_recvmsg+0x1b0/0x600 [algif_aead]
 </TASK>
---[ end trace 0000000000000000 ]---
Kernel panic - not syncing: Fatal exception
---[ end Kernel panic - not syncing: Fatal exception ]---
"""
WARNING = """\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 79 at crypto/af_alg.c:1045 af_alg_fake_warning+0x1c2/0x210 [af_alg]
CPU: 0 PID: 79 Comm: python3 Not tainted 6.1.0-fake #1
RIP: 0010:af_alg_fake_warning+0x1c2/0x210 [af_alg]
Call Trace:
 <TASK>
 skcipher_recvmsg+0x51/0x3f0 [algif_skcipher]
 </TASK>
---[ end trace 0000000000000000 ]---
"""
SOFT_LOCKUP = """\
watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [python3:80]
CPU: 0 PID: 80 Comm: python3 Not tainted 6.1.0-fake #1
RIP: 0010:af_alg_fake_spin+0x8/0x10 [af_alg]
Call Trace:
 <TASK>
 hash_sendmsg+0x144/0x330 [algif_hash]
 </TASK>
Kernel panic - not syncing: softlockup: hung tasks
---[ end Kernel panic - not syncing: softlockup: hung tasks ]---
"""
OUT_OF_MEMORY = """\
python3 invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=1000
Out of memory: Killed process 81 (python3) total-vm:1054936kB, anon-rss:903512kB, file-rss:0kB
"""
NO_INIT = """\
Run /nonexistent as init process
Kernel panic - not syncing: Requested init /nonexistent failed (error -2).
---[ end Kernel panic - not syncing: Requested init /nonexistent failed (error -2). ]---
"""


_LOST = "FAKE_LOG_OVERWRITTEN"


def console(text: str) -> None:
    """Print ``text`` on the serial console, each line with the kernel's time before it."""
    stamp = f"[{time.monotonic() % 1000:12.6f}] "
    # QEMU does not mind a console it cannot write either.
    with contextlib.suppress(OSError), Path(os.environ["VM_CONSOLE"]).open("a") as file:
        file.write("".join(f"{stamp}{line}\n" for line in text.splitlines()))


def machine() -> str:
    """Return the name of the machine we play, as the runner gave it: ``6.1.0-fake-2``."""
    return Path(os.environ["VM_CONSOLE"]).parent.name


def panic(text: str = PANIC) -> NoReturn:
    """Die like a kernel: last words on the console, then QEMU ends in peace (-no-reboot)."""
    console(text)
    os._exit(0)


def power_off() -> NoReturn:
    """Switch the machine off without a word."""
    os._exit(0)


def qemu_fails() -> NoReturn:
    """End like a QEMU that does not like its arguments."""
    os.write(2, b"qemu-system-x86_64: -cpu nonsense: unable to find CPU model 'nonsense'\n")
    os._exit(1)


def killed() -> NoReturn:
    """Have QEMU killed from outside."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("survived SIGKILL")


def stopped(seconds: float) -> None:
    """Be kept from running, as by a host that stalls: stopped, until a helper sends SIGCONT."""
    wake = "import os, signal, sys, time; time.sleep(float(sys.argv[2])); os.kill(int(sys.argv[1]), signal.SIGCONT)"
    with subprocess.Popen([sys.executable, "-c", wake, str(os.getpid()), str(seconds)], stdin=subprocess.DEVNULL):
        os.kill(os.getpid(), signal.SIGSTOP)


def interpreter_exits(code: int) -> NoReturn:
    """End the guest's Python with a status as the shell sees it, and wait to be switched off."""
    serve.say(f"exit {code}")
    deaf()


def out_of_memory() -> NoReturn:
    """Have the guest's Python killed by the kernel for want of memory."""
    console(OUT_OF_MEMORY)
    interpreter_exits(128 + signal.SIGKILL)


def deaf() -> NoReturn:
    """Hang so that no signal but SIGKILL helps."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    while True:
        time.sleep(3600)


def garbage(data: bytes = b"Segmentation fault\n") -> NoReturn:
    """Write to the worker's port what no execnet worker says, then hang."""
    os.write(int(os.environ["FAKE_PORT"]), data * 50)
    deaf()


def deaf_port() -> None:
    """Close both directions of the worker's port, and go on."""
    os.close(0)
    os.close(int(os.environ["FAKE_PORT"]))


def panics_in_boot() -> NoReturn:
    """Boot a kernel whose process 1 does not exist."""
    panic(NO_INIT)


def without_virtio() -> NoReturn:
    """Boot a kernel that finds no port: what vm/machine/init.sh then says and does."""
    serve.say("init")
    console("vm: the guest has no virtio port vm.worker")
    power_off()


def slow() -> None:
    """Take a second longer to boot."""
    time.sleep(1)


def log_overwritten(text: str = "") -> None:
    """Have the kernel log more than its buffer holds before it is read: the console has it."""
    console(text)
    os.environ[_LOST] = "yes"


def warns() -> None:
    """Boot a kernel that complains."""
    console(WARNING)


BEHAVIOURS: dict[str, Callable[[], None]] = {
    behaviour.__name__.replace("_", "-"): behaviour
    for behaviour in (deaf, garbage, killed, panics_in_boot, power_off, qemu_fails, slow, warns, without_virtio)
}


class ConsoleLog:
    """Stands in for vm.guest.worker.KernelLog: the console file is the kernel's log."""

    def __init__(self, marking: bool) -> None:  # as the real one
        self.path = Path(os.environ["VM_CONSOLE"])
        self.read_up_to = self.path.stat().st_size
        self.lost = False

    def mark(self, text: str) -> None:
        """Write a line of the runner."""
        console(text)

    def read(self) -> list[str]:
        """Return the lines since the last call."""
        if os.environ.pop(_LOST, ""):
            self.lost = True
            self.read_up_to = self.path.stat().st_size
            return [worker.OVERWRITTEN]
        self.lost = False
        lines = self.path.read_bytes()[self.read_up_to :]
        self.read_up_to += len(lines)
        return lines.decode().splitlines()


def main(behaviours: Sequence[str]) -> None:
    """Boot, misbehave as told, else be a worker."""
    console("Linux version 6.1.0-fake (fake@guest) #1 SMP")
    os.environ["FAKE_PORT"] = str(os.dup(1))
    for words in behaviours:
        name, _, which = words.partition("@")
        if machine().startswith(which) or machine().endswith(which):
            BEHAVIOURS[name]()
    serve.say("init")
    worker.KernelLog = ConsoleLog  # type: ignore[assignment,misc]
    serve.main()


if __name__ == "__main__":
    main(sys.argv[1:])
