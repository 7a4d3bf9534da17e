"""Versions of packages: sorted as dpkg sorts them, and matched by whole numbers."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from vm.kernels import versions

ORDER = [
    "5.10.9-1", "5.10.223-1", "6.1.9-1", "6.1.120-1", "6.1.120-2", "6.1.120-10",
    "6.8.0-9.9", "6.8.0-45.45~22.04.1", "6.8.0-45.45", "6.8.0-45.46", "6.8.0-101.101", "6.12.20-1~bpo12+1",
    "6.12.20-1~deb12u1", "6.12.20-1", "7.3~rc7-1~exp1", "7.3-1~exp1", "7.3-1", "7.3.1-1", "7.3.1+a-1", "1:1.0-1",
]  # fmt: skip


def test_versions_sort_as_dpkg_sorts_them() -> None:
    for low, high in itertools.pairwise(ORDER):
        assert subprocess.run(["dpkg", "--compare-versions", low, "lt", high]).returncode == 0, "the list is right"
    assert sorted(sorted(ORDER), key=versions.key) == ORDER


@pytest.mark.parametrize(
    ("wanted", "version", "expected"),
    [
        ("6.1", "6.1.120-1", True),
        ("6.1", "6.12.20-1", False),
        ("6.1.1", "6.1.120-1", False),
        ("6.1.120-1", "6.1.120-10", False),
        ("6.1.120-1", "6.1.120-1~bpo12+1", True),
        ("7.3", "7.3~rc7-1~exp1", True),
        ("7.3-rc7", "7.3~rc7-1~exp1", True),
        ("7.3-rc6", "7.3~rc7-1~exp1", False),
        ("7", "7.3~rc7-1~exp1", True),
        ("", "7.3-1", True),
        ("6.8", "6.8.0-45.45", True),
        ("6.8.0", "6.8.0-45.45", True),
        ("6.8.0-45", "6.8.0-45.45", True),
        ("6.8.0-45", "6.8.0-45.45~22.04.1", True),
        ("6.8.0-45.45", "6.8.0-45.45~22.04.1", True),
        ("6.8.0-4", "6.8.0-45.45", False),
        ("6.8.0-45.4", "6.8.0-45.45", False),
        ("6.8.1", "6.8.0-45.45", False),
    ],
)
def test_whole_numbers_match(wanted: str, version: str, *, expected: bool) -> None:
    assert versions.matches(wanted, version, "release") is expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.12", False),
        ("7.3-rc7", True),
        ("6.12.94", True),
        ("6.1.192-2", True),
        ("", False),
        ("6", False),
        ("6.8.0", False),
        ("6.8.0-45", True),
        ("6.8.0-45.45", True),
    ],
)
def test_exact_is_one_point_release(version: str, *, expected: bool) -> None:
    assert versions.is_exact(version) is expected


CLOUD, GENERAL = "6.1.0-50-cloud-amd64", "6.1.0-50-amd64"


@pytest.mark.parametrize(
    ("wanted", "release", "expected"),
    [
        ("6.1-cloud", CLOUD, True),
        ("6.1.176-cloud", CLOUD, True),
        ("6.1.176-1-cloud", CLOUD, True),
        ("6.1.0-50-cloud", CLOUD, True),
        (CLOUD, CLOUD, True),
        ("6.1-rt", CLOUD, False),
        ("6.1", CLOUD, False),
        ("", CLOUD, False),
        ("6.1.0-50", CLOUD, False),
        ("6.1-cloud", GENERAL, False),
        ("6.1-16k", "6.1.0-50-arm64-16k", True),
        ("6.1", "6.1.0-50-arm64-16k", False),
    ],
)
def test_other_kernels_than_the_general_one_are_named_by_their_flavour(
    wanted: str, release: str, *, expected: bool
) -> None:
    assert versions.matches(wanted, "6.1.176-1", release) is expected


@pytest.mark.parametrize(("version", "expected"), [("6.1-cloud", False), ("6.1.176-cloud", True)])
def test_a_flavour_makes_no_exact_version(version: str, *, expected: bool) -> None:
    assert versions.is_exact(version) is expected


def test_a_flavour_is_asked_for_as_it_is_shown() -> None:
    assert versions.with_flavour("6.1.176", CLOUD) == "6.1.176-cloud"
    assert versions.with_flavour("6.1.176", GENERAL) == "6.1.176"


@pytest.mark.parametrize(("wanted", "expected"), [("6.1.0-50", True), ("6.1.0-5", False), ("6.1.0", False)])
def test_an_abi_is_named_without_its_flavour(wanted: str, *, expected: bool) -> None:
    assert versions.matches(wanted, "6.1.176-1", "6.1.0-50-amd64") is expected
