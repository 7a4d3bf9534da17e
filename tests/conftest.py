"""Fixtures that several folders use."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg.netlink import CryptoNetlink


@pytest.fixture
def crypto() -> Iterator[CryptoNetlink]:
    """Give an open NETLINK_CRYPTO socket, or skip the test."""
    try:
        netlink = CryptoNetlink()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        pytest.skip("kernel has no NETLINK_CRYPTO")
    with netlink:
        yield netlink
