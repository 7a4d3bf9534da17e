"""The relay of one VM: boots it, and wires its Python to our standard input and output.

``python -m vm.machine.relay DIRECTORY`` takes the place of a Python interpreter that execnet starts for an xdist
worker. ``DIRECTORY/vm.json`` (:class:`Vm`) says what to boot; what comes out goes into the same directory
(vm/machine/supervisor.py), so that whoever started us can tell a boot failure from a crash.

The process tree is two deep, controller > this > QEMU, and each asks the kernel to be killed with its parent:
however the run ends, no QEMU stays behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from vm.base.errors import UsageError
from vm.base.process import die_with_parent
from vm.guest import internals
from vm.machine.course import Course
from vm.machine.supervisor import Supervisor
from vm.machine.vm import Vm

# Reads from the worker's port before anything else is looked at: one that floods it must not escape its deadlines.
_AT_ONCE = 256
# Bytes of one message of a worker: its longest ones are ids of all tests, and counters of coverage.
_LONGEST_MESSAGE = 64 << 20
# For the guest's last words, once the controller is done with it.
_SECONDS_TO_LEAVE = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run the VM described in the directory given first; the rest (execnet's) is not looked at."""
    directory = Path((arguments or sys.argv[1:])[0])
    # SIGKILL, not SIGTERM: we leave no files behind that anybody would have to remove.
    die_with_parent()
    # Ctrl-C, and what timeout(1) sends to the whole group, is the controller's to handle; it closes our input, and the
    # VM ends in order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    vm = Vm.load(directory)
    supervisor = Supervisor(vm, directory)
    try:
        # At once: execnet starts the next worker only then, and so all VMs boot at the same time.
        course = Course(vm, directory, bytearray(internals.answer_bootstrap()))
        while not _run(supervisor, course):
            supervisor = Supervisor(vm, directory)
    except UsageError as error:
        supervisor.end("boot failed", str(error))
    except OSError as error:
        print(f"{vm.name}: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # The disk that is full may be the one with the status.
            supervisor.end("boot failed", f"cannot start the machine: {error}")
    return 0 if supervisor.status.state == "down" else 3


def _run(supervisor: Supervisor, course: Course) -> bool:
    """Run the VM to its end; False when it was to go on from a saved one, and that was thrown away."""
    found, command = course.start(supervisor)
    with supervisor.running(subprocess.PIPE, subprocess.PIPE, command=command) as process:
        signal.signal(signal.SIGUSR1, supervisor.inject_nmi)
        if found is not None and not course.goes_on(supervisor, found):
            return False
        _write_all(found.said if found is not None else b"")
        _relay(supervisor, process, course)
    return True


def _relay(supervisor: Supervisor, process: subprocess.Popen[bytes], course: Course) -> None:
    """Copy bytes both ways until the VM has ended."""
    to_guest = course.to_guest
    assert process.stdin is not None
    assert process.stdout is not None
    guest_in, guest_out = process.stdin.fileno(), process.stdout.fileno()
    poll = supervisor.poll
    for descriptor in (guest_in, guest_out):
        os.set_blocking(descriptor, False)
    for descriptor in (0, guest_out):
        poll.register(descriptor, select.POLLIN)
    leaving: float | None = None
    frames = internals.Frames(_LONGEST_MESSAGE)
    while supervisor.alive:
        # What comes to a serial port before the guest has opened it is lost; a virtio port keeps it, but what is saved
        # there would be sent to others as well.
        keeps = supervisor.vm.ports == "virtio" and not supervisor.vm.resumes
        if to_guest and (keeps or supervisor.status.state != "booting") and not _feed(guest_in, course):
            poll.register(guest_in, select.POLLOUT)
        ready = supervisor.turn(leaving)
        if supervisor.code is not None:
            _worker_exited(supervisor, supervisor.code)
            break
        if supervisor.paused and guest_out not in ready:
            ready.append(guest_out)  # What it said before it paused is in the pipe by now.
        for descriptor in ready:
            if descriptor == guest_in:
                poll.unregister(guest_in)
            elif descriptor == guest_out:
                supervisor.heard()
                try:
                    if not _pump(guest_out, frames, course):
                        supervisor.gone(asked=leaving is not None)
                except _TooLongError as error:
                    supervisor.end("down", f"QEMU was ended, for {error}")
                    return
            elif data := os.read(0, 1 << 16):
                to_guest += data
            else:
                # The controller is done with us, or gone. The guest has a moment to save things.
                poll.unregister(0)
                leaving = time.monotonic() + _SECONDS_TO_LEAVE
        if supervisor.paused and supervisor.alive:
            course.paused(supervisor)
        if leaving is not None and time.monotonic() >= leaving:
            supervisor.end("down", "")
    # What the guest wrote before it said goodbye is in the pipe by now.
    with contextlib.suppress(_TooLongError):
        _pump(guest_out, frames, course)


def _worker_exited(supervisor: Supervisor, code: int) -> None:
    """Record that the guest's Python has ended, with the status ``code`` of a shell."""
    reason = ""
    if code > 128:
        killed = signal.Signals(code - 128).name if code - 128 in signal.valid_signals() else str(code - 128)
        reason = f"the guest's Python was killed by {killed}"
        if (cause := supervisor.cause()) is not None:
            reason += f": {cause}"
    elif code != 0:
        reason = f"the guest's Python exited with status {code}"
    if supervisor.status.state == "booting":
        supervisor.boot_failed(reason or "the guest's Python ended before it began")
    else:
        supervisor.end("down", reason)


def _feed(descriptor: int, course: Course) -> bool:
    """Write what is waiting for the guest; say whether all of it went."""
    to_guest = course.to_guest
    try:
        sent = os.write(descriptor, to_guest)
    except BlockingIOError:
        sent = 0
    except BrokenPipeError:
        sent = len(to_guest)  # Its end shows on the guest's output.
    course.fed(sent)
    del to_guest[:sent]
    return not to_guest


class _TooLongError(Exception):
    """What came from the guest is no message."""


def _pump(source: int, frames: internals.Frames, course: Course) -> bool:
    """Copy what ``source`` (non-blocking) holds to standard output; say whether there can be more.

    Raises:
        _TooLongError: it holds a message that is too long; of that nothing is copied.
    """
    for _ in range(_AT_ONCE):
        try:
            data = os.read(source, 1 << 16)
        except BlockingIOError:
            return True
        if not data:
            return False
        if (length := frames.too_long(data)) is not None:
            raise _TooLongError(
                f"what came out of the guest's port was not said by its pytest: a message of {length} bytes"
            )
        course.heard(data)
        _write_all(data)
    return True


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
