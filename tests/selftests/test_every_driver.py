"""What the tests of every driver make of drivers that cannot be had."""

from __future__ import annotations

import errno
from typing import cast

import pytest

from tests.afalg.proc import Implementation
from tests.algorithms import test_drivers


class Entry:
    """As much of an implementation as is asked for."""

    af_alg_type, name = "hash", "sha256"

    def __init__(self, driver: str, asynchronous: bool = False) -> None:
        self.driver, self.asynchronous = driver, asynchronous


def not_there(_driver: str) -> None:
    raise OSError(errno.ENOENT, "bind")


@pytest.mark.parametrize(
    ("asynchronous", "hides", "fails"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_only_what_this_kernel_hides_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, asynchronous: bool, hides: bool, fails: bool
) -> None:
    monkeypatch.setattr(test_drivers, "ignores_lookup_flags", lambda: hides)
    entry = cast(Implementation, Entry("sha256-a", asynchronous))
    assert (test_drivers.trouble_with(entry, not_there) is not None) == fails


def test_names_too_long_to_bind_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    long, told, checked = "x" * 104, [], []
    monkeypatch.setattr(test_drivers, "implementations", lambda: [Entry(long), Entry("x" * 103)])
    test_drivers.check_drivers("hash", "sha256", checked.append, lambda *what: told.append(what))
    assert (checked, told) == (["x" * 103], [("names too long to bind", long)])
    monkeypatch.setattr(test_drivers, "implementations", lambda: [Entry(long)])
    with pytest.raises(AssertionError, match="no driver of sha256 has a name that can be bound"):
        test_drivers.check_drivers("hash", "sha256", checked.append, lambda *_: None)
