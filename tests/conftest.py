"""Fixtures that several folders use."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Socket
from tests.afalg.netlink import CryptoNetlink
from tests.afalg.sockets import Source
from tests.doctor import absence
from tests.need import lacking


@pytest.fixture(scope="session", autouse=True)
def _no_test_of_a_type_that_is_not_there() -> Iterator[None]:
    """Have a bind to a type that this kernel lacks as a whole skip its test, as need() does.

    Many tests bind without need(), to see what bind does. Threads and children get the errno: skipping is not theirs.
    """
    missing = frozenset() if absence.no_sockets() else absence.missing_types()
    if not missing:
        yield
        return
    bind, tester = Socket.bind_raw, os.getpid()

    def bind_or_skip(self: Socket, address: Source, length: int | None = None) -> None:
        try:
            bind(self, address, length)
        except OSError as error:
            type_ = type_of(address) if isinstance(address, bytes) else ""
            mine = os.getpid() == tester and threading.current_thread() is threading.main_thread()
            if error.errno == errno.ENOENT and type_ in missing and mine:
                pytest.skip(str(absence.of_algorithm(type_, "")))
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Socket, "bind_raw", bind_or_skip)
        yield


def type_of(address: bytes) -> str:
    """Return the type that an address names (struct sockaddr_alg)."""
    return address[2:16].partition(b"\0")[0].decode(errors="replace")


@pytest.fixture
def crypto() -> Iterator[CryptoNetlink]:
    """Give an open NETLINK_CRYPTO socket, or skip the test; at its end the socket still gives the right answer."""
    try:
        netlink = CryptoNetlink()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        lacking(absence.NETLINK_CRYPTO, error.errno)
    with netlink:
        yield netlink
        # The last entry is the oldest: nobody takes it away.
        driver = re.findall(r"^driver +: (\S+)", Path("/proc/crypto").read_text(), re.MULTILINE)[-1][:63]
        assert netlink.get(driver=driver).driver == driver
