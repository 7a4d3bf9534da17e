"""Fixtures that several folders use."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg.netlink import CryptoNetlink
from tests.doctor import absence
from tests.need import lacking


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
