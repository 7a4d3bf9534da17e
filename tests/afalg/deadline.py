"""A deadline for system calls that may block for ever.

AF_ALG ignores SO_RCVTIMEO and SO_SNDTIMEO, and neither poll nor MSG_DONTWAIT tells the same story as a
blocking call: a skcipher socket polls readable although recv would block, and a non-blocking send stops
half way. Only a signal ends a blocked call as it is, so a timer of the calling thread sends one.

A call without a deadline of its own is given up within seconds, on slow machines as on fast ones, because it is not
only the clock that decides: a call that still sleeps when the machine has had nothing else to do for a second waits for
what will not come, while on a machine that is busy, it is given time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

DEFAULT_SECONDS = 20.0
"""Deadline of every blocking call that names none. Generous: an emulated guest can stall for seconds."""
PATIENCE_SECONDS = 2.0
"""How long such a call may take before it is looked at whether the machine does anything at all."""
IDLE_SECONDS = 1.0
"""How long the machine must have been idle by then for the call to be given up before its deadline."""

_PROCESSORS = os.cpu_count() or 1
_TICKS = os.sysconf("SC_CLK_TCK")
_AT_ONCE = 0.05
"""Of its deadline: so soon after it returns a call that was woken up by nothing else."""
_REPEAT_NANOSECONDS = 20_000_000
_SIGEV_THREAD_ID = 4
_CLOCK_MONOTONIC = 1
# Not SIGALRM, which pytest plugins use; not the first real-time signals, which the C library takes; and not the
# one by which vm/guest/worker.py ends a test.
_SIGNAL = int(signal.SIGRTMIN) + 11


class DeadlineExpired(TimeoutError):
    """A system call was still blocked at its deadline and has been interrupted.

    Attributes:
        call: name of the system call.
        seconds: the deadline it had.
        partial: bytes it had moved when it was interrupted, 0 when none.
    """

    def __init__(self, call: str, seconds: float, partial: int = 0) -> None:
        super().__init__(f"{call} still blocked after {seconds:g} s ({partial} bytes moved)")
        self.call = call
        self.seconds = seconds
        self.partial = partial


class Outcome(NamedTuple):
    """What a system call returned.

    Attributes:
        result: -1 for an error.
        errno: what it left.
        expired: whether its deadline had passed.
        ended: whether it was the deadline's signal that ended it, having slept until then; perhaps with all it wanted.
        seconds: the deadline, or when it was given up before that.
    """

    result: int
    errno: int
    expired: bool
    ended: bool = False
    seconds: float = DEFAULT_SECONDS


def bounded(function: Callable[..., int], *arguments: Any, seconds: float | None = None) -> Outcome:
    """Call ``function(*arguments)``, a ctypes function of the C library, and interrupt it at the deadline.

    Args:
        function: returns an int and sets errno (``use_errno=True``).
        seconds: from now; None takes DEFAULT_SECONDS, and less on a machine that is idle meanwhile: the call is
            interrupted, and made again if it has done nothing and the machine was busy.
    """
    if seconds is not None or getattr(_local, "patient", False):
        return _call(function, arguments, DEFAULT_SECONDS if seconds is None else seconds)
    began = time.monotonic()
    outcome = _call(function, arguments, PATIENCE_SECONDS)
    while outcome.expired and outcome.result < 0 and outcome.errno == errno.EINTR:
        rest = Rest()
        outcome = _call(function, arguments, IDLE_SECONDS)
        if rest.lasts() or time.monotonic() - began > DEFAULT_SECONDS:
            break
    return outcome._replace(seconds=round(time.monotonic() - began, 1))


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Let calls of this thread have all of their deadline: somebody else looks after them (tests/requests/calls.py)."""
    _local.patient = True
    try:
        yield
    finally:
        _local.patient = False


def interrupt(thread: threading.Thread) -> None:
    """End the call in which a thread waits, with EINTR, as its deadline would."""
    _handle_signal()
    assert thread.ident is not None
    with contextlib.suppress(ProcessLookupError):
        signal.pthread_kill(thread.ident, _SIGNAL)


class Rest:
    """A time in which the machine may have nothing to do; it begins now (proc(5), /proc/stat)."""

    def __init__(self) -> None:
        self._began, self._idle = time.monotonic(), _idle_seconds()

    def lasts(self) -> bool:
        """Whether no processor had much to do since then. False where nobody knows."""
        elapsed = time.monotonic() - self._began
        # Half a second a second is what one busy processor leaves of the idle time of one.
        return _idle_seconds() - self._idle > (_PROCESSORS - 0.5) * elapsed


def _idle_seconds() -> float:
    """Return how long the processors have been idle, added up."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return int(file.readline().split()[4]) / _TICKS
    except OSError:
        return 0.0


def _call(function: Callable[..., int], arguments: tuple[Any, ...], seconds: float) -> Outcome:
    timer = _timer_of_this_thread()
    end, worked = time.monotonic() + seconds, _worked()
    _arm(timer, seconds)
    try:
        result = function(*arguments)
        left = ctypes.get_errno()
    finally:
        _arm(timer, 0)
    late = time.monotonic() - end
    # How much the thread has worked is a system call, and asked for only where it decides.
    ended = 0 <= late < _AT_ONCE * seconds and _worked() - worked < seconds / 2
    return Outcome(result, left, late >= 0, ended, seconds)


def _worked() -> float:
    """Return the seconds of processor time this thread has had."""
    try:
        return time.thread_time()
    except OSError:
        # A failure that a test injects (tests/faults) hit this call, and hits once.
        return time.thread_time()


def check(outcome: Outcome, call: str, wanted: int | None = None) -> int:
    """Return the result of a bounded call, or raise what it means.

    Args:
        wanted: bytes asked for; fewer at the deadline means that the call was blocked for the rest.

    Raises:
        DeadlineExpired: the deadline interrupted the call, or woke it up when nobody else did.
        OSError: the call failed, with the kernel's errno.
    """
    result, left, expired, ended, seconds = outcome
    if result < 0:
        if expired and left == errno.EINTR:
            raise DeadlineExpired(call, seconds)
        raise OSError(left, f"{call}: {os.strerror(left)}")
    if ended or (expired and wanted is not None and result < wanted):
        raise DeadlineExpired(call, seconds, result)
    return result


class _Sigevent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("tid", ctypes.c_int),
        ("pad", ctypes.c_int * 12),
    )


class _Itimerspec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


_libc = ctypes.CDLL(None)
_libc.timer_settime.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_local = threading.local()
_handled = False


def _timer_of_this_thread() -> ctypes.c_void_p:
    # A timer belongs to one thread and does not survive fork.
    if getattr(_local, "owner", None) != (os.getpid(), threading.get_native_id()):
        _handle_signal()
        event = _Sigevent(signo=_SIGNAL, notify=_SIGEV_THREAD_ID, tid=threading.get_native_id())
        timer = ctypes.c_void_p()
        if _libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
            raise OSError("timer_create failed: the deadlines of the binding need POSIX timers")
        _local.timer = timer
        _local.owner = (os.getpid(), threading.get_native_id())
    result: ctypes.c_void_p = _local.timer
    return result


def _handle_signal() -> None:
    global _handled
    if _handled:
        return
    # The handler has only to exist: any C function that takes an int and changes nothing will do. Python's
    # own signal.signal is for the main thread alone. siginterrupt removes SA_RESTART.
    _libc.signal(_SIGNAL, ctypes.cast(_libc.abs, ctypes.c_void_p))
    _libc.siginterrupt(_SIGNAL, 1)
    _handled = True


def _arm(timer: ctypes.c_void_p, seconds: float) -> None:
    """Start the timer, or stop it with 0. It repeats, because a signal before the call begins is lost."""
    whole, part = divmod(int(seconds * 1e9), 1_000_000_000)
    value = _Itimerspec(0, _REPEAT_NANOSECONDS if seconds else 0, whole, part)
    # A failure that a test injects (tests/faults) may hit this call, and hits once.
    if _libc.timer_settime(timer, 0, ctypes.byref(value), None) != 0:
        _libc.timer_settime(timer, 0, ctypes.byref(value), None)
