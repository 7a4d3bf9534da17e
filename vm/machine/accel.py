"""Does KVM really run code here? Find out by running some; else TCG, with the reason.

``/dev/kvm`` that can be opened proves nothing. There are hosts (containers, nested or emulated
virtualisation) where it opens and the guest never runs an instruction, where QEMU gives up on a register
the host does not let it set, or where every exit is so slow that plain emulation is many times faster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.arch import Architecture, default
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.process import dying_with_parent
from vm.machine import profile

KVM_DEVICE = Path("/dev/kvm")
FACTORS = {"kvm": 1.0, "tcg": 10.0}
DEFAULT_SECONDS = 5.0


@dataclass(frozen=True)
class Accelerator:
    """What QEMU shall run guests with.

    Attributes:
        name: QEMU's name of it, ``kvm`` or ``tcg``.
        reason: one line, why this one.
        factor: what every deadline is multiplied with: 1.0 for KVM, 10.0 for TCG.
    """

    name: str
    reason: str
    factor: float


def probe(
    qemu: str | None = None,
    requested: str = "auto",
    seconds: float = DEFAULT_SECONDS,
    cpu: str = "",
    architecture: Architecture | None = None,
) -> Accelerator:
    """Return the accelerator that runs code on this machine, KVM before TCG.

    The same question is answered once per process.

    Args:
        qemu: name or path of the QEMU executable, that of the architecture when None.
        requested: ``auto``; or ``kvm`` or ``tcg`` for that one and no other.
        seconds: how long KVM may take to run a few instructions; TCG gets ten times as long.
        cpu: processor model of the guests, in QEMU's words; empty for the usual one.
        architecture: of the guests, that of this machine when None.

    Raises:
        UsageError: no such QEMU, ``requested`` or ``seconds`` make no sense, the requested accelerator
            does not run code here, or not even TCG does; or not with that processor.
    """
    if requested not in ("auto", "kvm", "tcg"):
        raise UsageError(f"expected accelerator auto, kvm or tcg, not {requested!r}")
    if not 0 < seconds < float("inf"):
        raise UsageError(f"expected a positive number of seconds for the probe of KVM, not {seconds}")
    architecture = architecture or default()
    guest = _Guest(architecture, architecture.find_qemu(qemu), cpu, seconds)
    if (guest, requested) not in _answers:
        _answers[guest, requested] = _decide(guest, requested)
    return _answers[guest, requested]


@command
def main(argv: Sequence[str]) -> None:
    """Print the accelerator and why; the command line of ``python -m vm accel``. Returns the exit status."""
    parser = Parser(prog="python -m vm accel", description=main.__doc__)
    parser.add_argument("--accel", default="auto", help="auto (default), kvm or tcg")
    parser.add_argument("--qemu", help="QEMU to ask (default: that of this machine's architecture)")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="for KVM to run code (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    found = probe(options.qemu, options.accel, options.seconds)
    print(f"{found.name}: {found.reason}; deadlines ×{found.factor:g}")


# Real KVM runs a few instructions in a fraction of a second. Slower than this, it must beat TCG to be taken.
_SUSPICIOUS_SECONDS = 1.0
_SECONDS_TO_DIE = 5.0


@dataclass(frozen=True)
class _Guest:
    """What runs the program that proves an accelerator; ``seconds`` is how long KVM may take."""

    architecture: Architecture
    qemu: str
    cpu: str
    seconds: float


_answers: dict[tuple[_Guest, str], Accelerator] = {}


@dataclass(frozen=True)
class _Attempt:
    """One run of the program: what went wrong (None: it ran) and how long it took."""

    failure: str | None
    seconds: float


def _decide(guest: _Guest, requested: str) -> Accelerator:
    if requested == "tcg":
        return _tcg(guest, "requested")
    if guest.architecture.proof is None:
        return _unproven(guest, requested)
    kvm = _Attempt(trouble, 0.0) if (trouble := _trouble_with_host(guest.architecture)) else _boot(guest, "kvm")
    if kvm.failure is None and (requested == "kvm" or kvm.seconds <= _SUSPICIOUS_SECONDS):
        return _accelerator("kvm", f"ran code in {kvm.seconds:.2f} s")
    if requested == "kvm":
        raise UsageError(
            f"expected KVM to run code here as requested: {kvm.failure}; use tcg, or auto to let the probe choose"
        )
    if kvm.failure is not None:
        return _tcg(guest, f"no KVM: {kvm.failure}")
    tcg = _boot(guest, "tcg")
    times = f"a few instructions took {kvm.seconds:.2f} s under KVM"
    if tcg.failure is None and tcg.seconds < kvm.seconds:
        return _accelerator("tcg", f"KVM is slower than emulation: {times}, {tcg.seconds:.2f} s under TCG")
    return _accelerator("kvm", f"ran code, but slowly: {times}")


def _unproven(guest: _Guest, requested: str) -> Accelerator:
    """Choose where nothing was written that shows an accelerator at work: KVM when its device can be opened."""
    trouble = _trouble_with_host(guest.architecture)
    if trouble is None:
        return _accelerator("kvm", f"{KVM_DEVICE} can be opened")
    if requested == "kvm":
        raise UsageError(f"expected KVM to run code here as requested: {trouble}; use tcg")
    return _accelerator("tcg", f"no KVM: {trouble}")


def _tcg(guest: _Guest, reason: str) -> Accelerator:
    failure = _boot(guest, "tcg").failure
    if failure is None:
        return _accelerator("tcg", reason)
    if guest.cpu:
        raise UsageError(f"no guest with --cpu {guest.cpu}: {failure}; {guest.qemu} -cpu help lists models")
    raise UsageError(
        f"expected {guest.qemu} to run code under TCG: {failure} ({reason}); "
        f"install a working QEMU (Debian: apt-get install --reinstall {guest.architecture.package})"
    )


def _accelerator(name: str, reason: str) -> Accelerator:
    return Accelerator(name, reason, FACTORS[name])


def _trouble_with_host(architecture: Architecture) -> str | None:
    """Say why KVM cannot be used here at all, None when its device can be opened."""
    if (machine := os.uname().machine) not in architecture.hosts:
        return f"this machine is {machine}, the guest {architecture.name}"
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"no {KVM_DEVICE} (no virtualisation in this processor, or the module kvm is not loaded)"
    except PermissionError:
        return f"cannot open {KVM_DEVICE}: permission denied (be root, or in the group kvm)"
    except OSError as error:
        return f"cannot open {KVM_DEVICE}: {error.strerror}"
    return None


def _boot(guest: _Guest, accelerator: str) -> _Attempt:
    """Run the architecture's program under ``accelerator`` and wait a while for it to say that it ran."""
    started = time.monotonic()
    seconds, proof = guest.seconds * FACTORS[accelerator], guest.architecture.proof
    assert proof is not None
    with _in_memory(proof.program) as program:
        command = [
            *_contained(),
            guest.qemu,
            # A host may run code on one kind of machine and not on another.
            *profile.arguments(guest.architecture, accelerator, accelerator, guest.cpu),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "32"),
            *(word.replace("{file}", f"/dev/fd/{program}") for word in proof.arguments),
        ]
        status, errors = _run(command, program, seconds)
    took = time.monotonic() - started
    if status == proof.status:
        return _Attempt(None, took)
    if status is None:
        return _Attempt(f"no guest code ran within {seconds:g} s under {accelerator.upper()}", took)
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    said = f"QEMU ended with {ended} and said: {_first_error(errors) or 'nothing'}"
    return _Attempt(f"no guest code ran under {accelerator.upper()}; {said}", took)


def _run(command: list[str], inherited: int, seconds: float) -> tuple[int | None, str]:
    """Run ``command``; return its exit status (negative: the signal; None: time was up) and its stderr."""
    try:
        # A session of its own: everything that command starts can be killed, and Ctrl-C reaches only us.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(inherited,),
            start_new_session=True,
        )
    except OSError as error:
        return 126, f"cannot execute {command[0]}: {error.strerror}"
    errors = b""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, errors = process.communicate(timeout=seconds)
        status = process.poll()
    finally:
        # Also after a normal end: a wrapper script may have left the real QEMU behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A dead KVM can hold a killed process inside the kernel: it is then init's to reap.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_DIE)
        if process.stderr:
            process.stderr.close()
    return status, errors.decode(errors="replace")


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Give the descriptor of a file with ``content`` that never had a name, so that none is left behind."""
    descriptor = os.memfd_create("program")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


def _contained() -> list[str]:
    """Return a prefix for a command: it dies with this process, and leaves no core file when it aborts."""
    limited = ["prlimit", "--core=0", "--"] if shutil.which("prlimit") else []  # of util-linux, as setpriv
    return [*dying_with_parent(signal.SIGKILL), *limited]


def _first_error(text: str) -> str:
    """Return the line of QEMU's messages that tells most: the first that is not a warning, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "warning:" not in line), lines[0] if lines else "")
