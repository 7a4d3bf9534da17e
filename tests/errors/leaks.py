"""What a test may not leave behind: whatever held.py counts, and memory of options that no socket has any more."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.afalg import Aead, Socket
from tests.afalg.netlink import drop_default_generator
from tests.errors.held import Held, difference, held, sockets_in_use
from tests.errors.raises import outcome

SO_MEMINFO, _OPTMEM = 55, 6
_SETTLE_SECONDS = 5.0
_PATIENCE = 4
"""How often to look again, a little later, before the garbage is collected: that takes as long as a test."""

_CONTROLS = [Path("/proc/dynamic_debug/control"), Path("/sys/kernel/debug/dynamic_debug/control")]
_CLOSED_WITHOUT_GIVING_BACK = "optmem leakage"
_failed = pytest.StashKey[bool]()


def option_memory(sock: Socket) -> int:
    """Return the bytes of options and requests that the socket holds (SO_MEMINFO, sock_diag(7))."""
    counters = sock.getsockopt(SO_MEMINFO, 64)
    return int.from_bytes(counters[4 * _OPTMEM : 4 * _OPTMEM + 4], sys.byteorder)


class LostMemory:
    """What the kernel says about sockets that were gone before their option memory was given back.

    Every socket counts it. When that is not 0 at the end, the kernel has a message for developers (__sk_destruct in
    net/core/sock.c), which is switched on here (kernel document admin-guide/dynamic-debug-howto.rst). Where that cannot
    be, or the log cannot be read, nothing is ever told.
    """

    def __init__(self) -> None:
        self._log = -1
        with contextlib.suppress(OSError):
            self.switch("+p")
            self._log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def switch(self, flags: str) -> None:
        """Switch the message on (``+p``) or off (``-p``)."""
        control = next((path for path in _CONTROLS if path.exists()), _CONTROLS[0])
        control.write_text(f"file net/core/sock.c func __sk_destruct {flags}")

    def forget(self) -> None:
        """Pass over what was said until now."""
        if self._log >= 0:
            os.lseek(self._log, 0, os.SEEK_END)

    def told(self) -> list[str]:
        """Return what was said since ``forget``."""
        found = []
        while self._log >= 0:
            try:
                record = os.read(self._log, 8192).decode(errors="replace")
            except BlockingIOError:
                break
            except BrokenPipeError:  # Records were overwritten; the next read goes on with the first that is left.
                continue
            if _CLOSED_WITHOUT_GIVING_BACK in record:
                found.append(record.partition(";")[2].partition("\n")[0])
        return found

    def close(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
            with contextlib.suppress(OSError):
                self.switch("-p")


def collect_garbage() -> None:
    """Close what nobody can reach any more; also the variables of a failed test, which Python keeps for debuggers."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()


def left_behind(before: Held) -> list[str]:
    """Return what is still held that was not before, or what is not, in words. The kernel may take a moment."""
    end = time.monotonic() + _SETTLE_SECONDS
    looked = 0
    while found := difference(before, held()):
        if time.monotonic() > end:
            return found
        looked += 1
        if looked == _PATIENCE:
            collect_garbage()
        time.sleep(0.001 * min(looked, 20))
    return []


def check_nothing_left(before: Held, memory: LostMemory) -> None:
    """Fail when something is held now that was not before, too much was let go, or memory was lost."""
    found = left_behind(before)
    assert not found, "left behind: " + "; ".join(found)
    lost = memory.told()
    assert not lost, f"a socket lost memory: {lost[0]}"


# Fixtures, for the conftest.py of a folder ---------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remember which tests fail."""
    item.stash[_failed] = True
    try:
        result = yield
    except pytest.skip.Exception:
        item.stash[_failed] = False
        raise
    item.stash[_failed] = False
    return result


@pytest.fixture(scope="session")
def lost_memory() -> Generator[LostMemory, None, None]:
    memory = LostMemory()
    yield memory
    memory.close()


@pytest.fixture(scope="package", autouse=True)
def _no_garbage_of_others() -> None:
    """Let go what tests of other folders have left to the garbage collector, before the first of this one."""
    collect_garbage()


@pytest.fixture(autouse=True)
def _nothing_left_behind(
    request: pytest.FixtureRequest, _no_garbage_of_others: None, lost_memory: LostMemory
) -> Generator[None, None, None]:
    """Fail a test after which something is still held. One that failed by itself is only cleaned up after."""
    before = held()
    lost_memory.forget()
    yield
    if request.node.stash.get(_failed, False):
        collect_garbage()
        left_behind(before)
    else:
        check_nothing_left(before, lost_memory)


@pytest.fixture(scope="session")
def _default_generator() -> None:
    """Have the kernel hold its default generator before a test counts references: seqiv draws its secret from it.

    One that it has from booting may be another than what it would take now, so that is dropped.
    """
    before = sockets_in_use()
    drop_default_generator()
    outcome(lambda: Aead("seqiv(rfc4106(gcm(aes)))").close())
    # A socket of netlink is counted until some time after its close.
    end = time.monotonic() + _SETTLE_SECONDS
    while sockets_in_use() != before and time.monotonic() < end:
        time.sleep(0.001)
