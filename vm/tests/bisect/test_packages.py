"""Bisecting packages: which lie between two, and what their changelogs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.bisect import packages as bisect_packages
from vm.bisect.packages import _CRYPTO
from vm.kernels.catalogue import Candidate, Catalogue


def test_the_lines_on_crypto_of_a_changelog() -> None:
    lines = [
        "    - crypto: af_alg - Set merge to zero early in af_alg_sendmsg",
        "    - [arm64] crypto: qat - lower priority",
        "    - padata: Fix pd UAF once and for all",
        "    - smb: client: fix crypto buffers in non-linear memory",
        "    - blk-crypto: fix missing blktrace bio split events",
    ]
    assert [bool(_CRYPTO.match(line)) for line in lines] == [True, True, True, False, False]


def test_the_packages_between_two_are_those_of_the_series_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild for another release is the same kernel; what cannot be had is named and left out."""

    def candidate(suite: str, version: str, *missing: str) -> Candidate:
        return Candidate(suite, f"{version}-amd64", version, (), missing)

    own = [candidate("a", version) for version in ("6.1.190-1", "6.12.90-2", "6.12.74-2", "6.12.88-1", "7.1.3-1")]
    other = [
        candidate("b", "6.12.90-2~bpo12+1"),
        candidate("b", "6.12.80-1", "linux-modules"),
        candidate("b", "6.12.85-1"),
    ]
    monkeypatch.setattr(Catalogue, "candidates", lambda _self, suite, _: own if suite == "a" else other)
    span, good_first = bisect_packages.between("a/6.12.90", "6.12.74", ["b"], print)
    assert [each.version for each in span.candidates] == ["6.12.74-2", "6.12.85-1", "6.12.88-1", "6.12.90-2"]
    assert span.holes == ("b/6.12.80-1 (no linux-modules)",)
    assert (good_first, span.notes) == (False, ())
    with pytest.raises(UsageError, match=r"no kernel matches '6\.13'"):
        bisect_packages.between("a/6.12.90", "6.13", [], print)
    with pytest.raises(UsageError, match="the same kernel"):
        bisect_packages.between("a/6.12.90", "6.12.90-2", [], print)
    assert "several series" in bisect_packages.between("a/6.12.90", "6.1", [], print)[0].notes[0]


@pytest.mark.vm
@pytest.mark.long
@pytest.mark.deadline(1500)
def test_a_fix_is_found_between_two_packages_of_debian_12(tmp_path: Path) -> None:
    """Linux 6.1.191 took in commit 8eceab19eba9 (CVE-2026-31677): the whole way, on real kernels."""
    test = "tests/regressions/test_skcipher.py::test_room_for_less_than_a_block_is_refused_and_costs_nothing"
    command = [sys.executable, "-m", "vm", "bisect", test, f"--results={tmp_path}"]
    command += ["--good", "bookworm-security/6.1.192", "--bad", "bookworm-security/6.1.190"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1400)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "6.1.190-1 is the last bad one, 6.1.192-" in done.stdout
    assert "crypto: af_alg - limit RX SG extraction by receive buffer budget" in done.stdout
