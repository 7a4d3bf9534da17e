"""Having one allocation or one copy to or from user space fail, the next time another one, until none is left.

A kernel with fault injection counts in /proc/thread-self/fail-nth down to the place that fails, in this thread alone
(kernel document fault-injection/fault-injection.rst). A *story* is a generator: it prepares a call, yields it, is
told how the call ended, and says what must be true then. It is told once for every place.

    def story() -> Story:
        with SKCIPHER.open() as cipher:
            ended = yield cipher.tfm.accept
            ...
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.afalg.deadline import DeadlineExpired
from tests.errors.held import sockets_in_use
from tests.errors.raises import name_of

MOST_PLACES = 2000
_SETTLE_SECONDS = 5.0
_DEBUGFS = Path("/sys/kernel/debug")
_KNOBS = {
    # As it is, allocations that may sleep are spared, and so are single pages; every failure is printed with its trace.
    "failslab": {"ignore-gfp-wait": "N", "verbose": "0"},
    "fail_page_alloc": {"ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": "0", "verbose": "0"},
    "fail_usercopy": {"verbose": "0"},
}


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        errno: 0 when it succeeded.
        value: what it returned then.
        injected: whether the failure was injected before it ended.
    """

    errno: int
    value: Any
    injected: bool


Story: TypeAlias = Generator[Callable[[], object], Ended, None]
Allowed: TypeAlias = dict[int, str]
"""Errnos a call may end with, and why; success is always allowed, where the kernel does without."""

NO_MEMORY: Allowed = {errno.ENOMEM: "an allocation failed"}
COPIES: Allowed = {errno.EFAULT: "a copy from or to user space failed, or the page it needed could not be had"}
DESCRIPTORS: Allowed = {errno.ENFILE: "no memory for a socket's inode or file counts as too many of them"}
CONTROL: Allowed = {errno.ENOBUFS: "no memory to copy control data that is too long for the stack (net/socket.c)"}
LOOKUP: Allowed = {errno.ENOENT: "no memory to ask for a module, or to build an instance: as if there was none"}


def available() -> bool:
    """Whether this kernel injects failures into all three: slab, pages and copies."""
    return Path("/proc/thread-self/fail-nth").exists() and all((_DEBUGFS / name).is_dir() for name in _KNOBS)


class Injector:
    """Injects failures into the thread that made it. Closes with the ``with`` block."""

    def __init__(self) -> None:
        for name, values in _KNOBS.items():
            for knob, value in values.items():
                (_DEBUGFS / name / knob).write_text(value)
        self._counter = os.open("/proc/thread-self/fail-nth", os.O_RDWR | os.O_CLOEXEC)

    def attempt(self, n: int, call: Callable[[], object]) -> Ended:
        """Make the call with the n-th place failing, 1 for the first."""
        value: object = None
        error = 0
        os.write(self._counter, b"%d" % n)
        try:
            value = call()
        except DeadlineExpired as expired:
            raise AssertionError(f"place {n}: {expired}") from None
        except OSError as failed:
            error = failed.errno or -1
        except MemoryError:
            # Python itself asked for memory: the place was not the call's.
            pass
        finally:
            left = self._stop()
        return Ended(error, value, left == 0)

    def walk(self, story: Callable[[], Story], allowed: Allowed) -> set[int]:
        """Tell the story with every place failing in turn, and at last with none.

        Returns:
            The errnos that were seen, 0 for success.
        """
        seen = set()
        for n in range(1, MOST_PLACES):
            held = _held()
            ended = self._tell(story(), n)
            assert ended.errno in (0, *allowed), (
                f"place {n}: {name_of(ended.errno)}; allowed are success, {', '.join(map(name_of, allowed))}"
            )
            seen.add(ended.errno)
            _given_back(held, n)
            if not ended.injected:
                assert ended.errno == 0, f"{name_of(ended.errno)} with no failure injected"
                return seen
        raise AssertionError(f"no end after {MOST_PLACES} places")

    def _tell(self, story: Story, n: int) -> Ended:
        """Tell the story once, with the n-th place failing."""
        with contextlib.closing(story):
            ended = self.attempt(n, next(story))
            try:
                story.send(ended)
            except StopIteration:
                return ended
            except (AssertionError, OSError) as wrong:
                raise AssertionError(f"after place {n}, {name_of(ended.errno)}: {wrong}") from wrong
            raise AssertionError("a story yields once")

    def _stop(self) -> int:
        """Inject nothing any more; return how many places were left to count, 0 when one failed."""
        try:
            left = int(os.pread(self._counter, 20, 0))
        except OSError as error:
            # The call had fewer places: the answer itself was the next one, a copy to user space.
            if error.errno != errno.EFAULT:
                raise
            return 1
        try:
            os.write(self._counter, b"0")
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
        return left

    def close(self) -> None:
        os.close(self._counter)


def _held() -> tuple[int, str]:
    """Return what is quick to count: descriptors of this process, sockets of all."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - several times as fast, and called for every place
    return descriptors, sockets_in_use()


def _given_back(before: tuple[int, str], n: int) -> None:
    end = time.monotonic() + _SETTLE_SECONDS
    while (now := _held()) != before:
        assert time.monotonic() < end, f"place {n}: left behind: descriptors, sockets {before} before, {now} after"
