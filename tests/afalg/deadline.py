"""A deadline for system calls that may block for ever.

AF_ALG ignores SO_RCVTIMEO and SO_SNDTIMEO, and neither poll nor MSG_DONTWAIT tells the same story as a
blocking call: a skcipher socket polls readable although recv would block, and a non-blocking send stops
half way. Only a signal ends a blocked call as it is, so a timer of the calling thread sends one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

DEFAULT_SECONDS = 20.0
"""Deadline of every blocking call that names none. Generous: an emulated guest can stall for seconds."""

_REPEAT_NANOSECONDS = 20_000_000
_SIGEV_THREAD_ID = 4
_CLOCK_MONOTONIC = 1
# Not SIGALRM, which pytest plugins use; not the first real-time signals, which the C library takes; and not the
# one by which vm/worker.py ends a test.
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
    """What a system call returned: its result, the errno it left, and whether its deadline had passed."""

    result: int
    errno: int
    expired: bool


def bounded(function: Callable[..., int], *arguments: Any, seconds: float | None = None) -> Outcome:
    """Call ``function(*arguments)``, a ctypes function of the C library, and interrupt it at the deadline.

    Args:
        function: returns an int and sets errno (``use_errno=True``).
        seconds: from now; None takes DEFAULT_SECONDS.
    """
    seconds = DEFAULT_SECONDS if seconds is None else seconds
    timer = _timer_of_this_thread()
    end = time.monotonic() + seconds
    _arm(timer, seconds)
    try:
        result = function(*arguments)
        left = ctypes.get_errno()
    finally:
        _arm(timer, 0)
    return Outcome(result, left, time.monotonic() >= end)


def check(outcome: Outcome, call: str, seconds: float | None, wanted: int | None = None) -> int:
    """Return the result of a bounded call, or raise what it means.

    Args:
        wanted: bytes asked for; fewer at the deadline means that the call was blocked for the rest.

    Raises:
        DeadlineExpired: the deadline interrupted the call.
        OSError: the call failed, with the kernel's errno.
    """
    result, left, expired = outcome
    seconds = DEFAULT_SECONDS if seconds is None else seconds
    if result < 0:
        if expired and left == errno.EINTR:
            raise DeadlineExpired(call, seconds)
        raise OSError(left, f"{call}: {os.strerror(left)}")
    if expired and wanted is not None and result < wanted:
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
