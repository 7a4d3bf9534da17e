"""What a test may not leave behind: descriptors, sockets, references to modules and algorithms."""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.afalg import Aead, Socket
from tests.errors.raises import outcome

SO_MEMINFO, _OPTMEM = 55, 6
_SETTLE_SECONDS = 5.0
_MODULES = ("af_alg", "algif_hash", "algif_skcipher", "algif_aead", "algif_rng")


@dataclass(frozen=True)
class Held:
    """What is held at one moment.

    Attributes:
        descriptors: open file descriptors of this process.
        sockets: sockets of this network namespace, all families (/proc/net/sockstat).
        modules: users of each AF_ALG module that is loaded.
        algorithms: references to each implementation in /proc/crypto, by driver.
    """

    descriptors: int
    sockets: int
    modules: dict[str, int]
    algorithms: dict[str, int]


def held() -> Held:
    """Return what is held now. What appears later (a module, an instance of a template) is no leak."""
    modules = {
        name: int(count.read_text()) for name in _MODULES if (count := Path(f"/sys/module/{name}/refcnt")).exists()
    }
    used = re.search(r"sockets: used (\d+)", Path("/proc/net/sockstat").read_text())
    entries = re.findall(
        r"^driver +: (\S+)\n(?:(?!name)\S.*\n)*?refcnt +: (\d+)", Path("/proc/crypto").read_text(), re.M
    )
    return Held(
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        sockets=int(used[1]) if used else -1,
        modules=modules,
        algorithms={driver: int(count) for driver, count in entries},
    )


def difference(before: Held, after: Held) -> list[str]:
    """Return what is held in ``after`` and was not in ``before``, or the other way round, in words."""
    found = []
    if after.descriptors != before.descriptors:
        found.append(f"file descriptors: {before.descriptors} before, {after.descriptors} after")
    if after.sockets != before.sockets:
        found.append(f"sockets: {before.sockets} before, {after.sockets} after")
    # Each module of a type that is loaded holds one reference to af_alg.
    same_modules = before.modules.keys() == after.modules.keys()
    for what, old, new in [
        ("module", before.modules if same_modules else {}, after.modules),
        ("algorithm", before.algorithms, after.algorithms),
    ]:
        for name in old.keys() & new.keys():
            if old[name] != new[name]:
                found.append(f"references to {what} {name}: {old[name]} before, {new[name]} after")
    return found


def option_memory(sock: Socket) -> int:
    """Return the bytes of options and requests that the socket holds (SO_MEMINFO, sock_diag(7))."""
    counters = sock.getsockopt(SO_MEMINFO, 64)
    return int.from_bytes(counters[4 * _OPTMEM : 4 * _OPTMEM + 4], sys.byteorder)


def check_nothing_left(before: Held) -> None:
    """Fail when something is still held that was not before, or too much was let go. The kernel may take a moment.

    An earlier test that failed leaves what it had opened to the garbage collector. When that comes during this one,
    fewer descriptors are open than before it, and what else is held has nothing to be compared with.
    """
    end = time.monotonic() + _SETTLE_SECONDS
    while found := difference(before, now := held()):
        gc.collect()
        if now.descriptors < before.descriptors:
            break
        assert time.monotonic() < end, "left behind: " + "; ".join(found)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Generator[None, None, None]:
    """Fail a test after which something is still held."""
    before = held()
    yield
    check_nothing_left(before)


@pytest.fixture(scope="session")
def _default_generator() -> None:
    """Have the kernel hold its default generator before a test counts references: seqiv draws its secret from it."""
    outcome(lambda: Aead("seqiv(rfc4106(gcm(aes)))").close())
