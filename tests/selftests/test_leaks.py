"""The check of what a test leaves behind: what it reads, and that a failed test is nothing to the next one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.errors import kernel_memory
from tests.errors.held import Held, difference

NOTHING = Held(frozenset("012"), "sockets: used 7", "", "", "", "")

MODULES = """\
algif_hash 16384 {hash} - Live 0xffffffffc0493000
af_alg 32768 {af_alg} algif_hash, Live 0xffffffffc0487000
"""
ALGORITHMS = """\
name         : sha256
driver       : sha256-generic
module       : kernel
priority     : 100
refcnt       : {generic}
selftest     : passed

name         : sha256
driver       : sha256-ni
module       : sha256_ssse3
refcnt       : {ni}
type         : shash

"""
KEYS = """\
039da4c4 I------     2 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
07955e6c I------ {users:5} {left} 000d0000     0     0 user      af-alg: 16
"""
KEY_USERS = """\
    0:    15 14/14 3/1000000 40/25000000
65534:     {number} {number}/{number} {number}/200 40/20000
"""


def found(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return difference(dataclasses.replace(NOTHING, **old), dataclasses.replace(NOTHING, **new))


def test_descriptors() -> None:
    """With what the new ones are, if they are still open."""
    assert found({}, {"descriptors": frozenset(["0", "1", "2", "99999"])}) == [
        "file descriptors: 3 before, 4 after: 99999 is closed by now"
    ]
    assert found({}, {"descriptors": frozenset("01")}) == ["file descriptors: 3 before, 2 after"]
    assert found({}, {"descriptors": frozenset("013")}) == []


def test_sockets() -> None:
    assert found({}, {"sockets": "sockets: used 9"}) == ["sockets: used 7 before, 9 after"]


def test_users_of_modules() -> None:
    before = MODULES.format(hash=0, af_alg=1)
    assert found({"modules": before}, {"modules": MODULES.format(hash=1, af_alg=2)}) == [
        "references to module af_alg: 1 before, 2 after",
        "references to module algif_hash: 0 before, 1 after",
    ]
    assert found({"modules": before.splitlines(keepends=True)[1]}, {"modules": before.replace(" 1 ", " 3 ")}) == []


def test_references_to_algorithms() -> None:
    """By driver, for a name has several; an instance that appears is none."""
    before, after = ALGORITHMS.format(generic=1, ni=5), ALGORITHMS.format(generic=1, ni=4)
    assert found({"algorithms": before}, {"algorithms": after}) == [
        "references to algorithm sha256-ni: 5 before, 4 after"
    ]
    instance = before.replace("sha256-ni", "hmac(sha256-ni)")
    assert found({"algorithms": before}, {"algorithms": before + instance}) == []


def test_references_to_keys() -> None:
    """That one expires a minute sooner is no difference."""
    before = KEYS.format(users=1, left="  5m")
    assert found({"keys": before}, {"keys": KEYS.format(users=2, left="  5m")}) == [
        "references to key 07955e6c: 1 before, 2 after"
    ]
    assert found({"keys": before}, {"keys": KEYS.format(users=1, left="  4m")}) == []


def test_new_keys() -> None:
    """A keyring stays, and so does what nobody holds until it is collected."""
    ring = KEYS.format(users=1, left="perm").splitlines(keepends=True)[0]
    assert found({"keys": ring}, {"keys": KEYS.format(users=1, left="perm")}) == ["a key of type user"]
    assert found({"keys": ring}, {"keys": KEYS.format(users=0, left="perm")}) == []
    assert found({"keys": ""}, {"keys": ring}) == []


def test_keys_of_others() -> None:
    """Two keyrings apart, which every user may have from some time on."""
    root = KEY_USERS.splitlines(keepends=True)[0]
    assert found({"key_users": root}, {"key_users": KEY_USERS.format(number=2)}) == []
    assert found({"key_users": root}, {"key_users": KEY_USERS.format(number=3)}) == [
        "keys of user 65534: 0 before, 3 after"
    ]


VERDICTS = {"PASSED", "FAILED", "ERROR"}
CONFTEST = """\
from tests.errors import held, leaks
from tests.errors.leaks import _no_garbage_of_others, _nothing_left_behind, lost_memory, pytest_runtest_call

# Of this process alone: on a machine where others work, anything else changes at any time.
held._content = lambda path: ""
leaks._SETTLE_SECONDS = 0.5
"""
FAILING = """\
import gc
import os
import pytest

class Pipe:
    def __init__(self):
        self.ends = os.pipe()

    def __del__(self):
        for end in self.ends:
            os.close(end)

kept = []

def test_fails():
    pipe = Pipe()
    assert not pipe

def test_after_a_failure():
    gc.collect()

def test_fails_otherwise():
    pipe, cycle = Pipe(), []
    cycle += [pipe, cycle]
    pytest.fail("on purpose")

def test_is_skipped():
    pipe = Pipe()
    pytest.skip("on purpose")

def test_after_others():
    gc.collect()

def test_leaks():
    kept.append(Pipe())

def test_after_the_leak():
    pass

def test_lets_go():
    kept.clear()
"""


def test_failed_test_is_cleaned_up_after(tmp_path: Path) -> None:
    """Its descriptors are closed before the next one begins; one that passes and leaves some is an error."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_x.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "--tb=line"]
    run = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    verdicts = [line.split(" - ")[0] for line in run.stdout.splitlines() if line.partition(" ")[0] in VERDICTS]
    assert sorted(verdicts) == [
        "ERROR test_x.py::test_leaks",
        "ERROR test_x.py::test_lets_go",
        "FAILED test_x.py::test_fails",
        "FAILED test_x.py::test_fails_otherwise",
        "PASSED test_x.py::test_after_a_failure",
        "PASSED test_x.py::test_after_others",
        "PASSED test_x.py::test_after_the_leak",
        "PASSED test_x.py::test_leaks",
        "PASSED test_x.py::test_lets_go",
    ], run.stdout


class Memory:
    """Counters of a kernel that loses pages at each call and is given back ``freed`` by others.

    That is at call 20, and 30 at each of the first four looks.
    """

    def __init__(self, loses: int, freed: int) -> None:
        self.pages, self.calls, self.looks, self.loses, self.freed = 1000, 0, 0, loses, freed

    def call(self) -> None:
        self.calls += 1
        self.pages += self.loses
        if self.calls == 20:
            self.pages -= self.freed

    def given(self) -> kernel_memory.Given:
        self.looks += 1
        self.pages -= 30 * (self.looks < 5)
        return kernel_memory.Given({"kmalloc-64": 10}, self.pages)


@pytest.mark.parametrize("freed", [0, 400])
@pytest.mark.parametrize("loses", [0, 1])
def test_lost_pages_are_seen_whatever_others_give_back(loses: int, freed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(loses, freed)
    monkeypatch.setattr(kernel_memory, "given", memory.given)
    monkeypatch.setattr(kernel_memory, "_SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(kernel_memory, "_LAST_SECONDS", 0.5)
    assert kernel_memory.lost(memory.call) == ["pages: 128 more after 128 calls"] * loses


def test_pages_that_others_take_once_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's stack, per-processor memory: as many as 128 calls would lose, but only at one look."""
    memory = Memory(0, -100)
    monkeypatch.setattr(kernel_memory, "given", memory.given)
    monkeypatch.setattr(kernel_memory, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(kernel_memory, "_LAST_SECONDS", 0.05)
    assert kernel_memory.lost(memory.call) == []


@pytest.mark.parametrize(
    ("pages", "at", "freed", "found"),
    [
        # The call before the first look is one, and 32 are between two looks.
        (1, 20, 50, ["kmalloc-64: 128 more after 128 calls", "pages: 78 more after 128 calls"]),
        (1, 50, 50, ["kmalloc-64: 128 more after 128 calls", "pages: 78 more after 128 calls"]),
        (0, 50, -128, ["kmalloc-64: 128 more after 128 calls"]),
        (0, 20, -128, ["kmalloc-64: 128 more after 128 calls"]),
    ],
    ids=["freed-before-a-look", "freed-between-looks", "taken-between-looks", "taken-before-a-look"],
)
def test_pages_are_told_apart_beside_objects_that_are_lost(
    pages: int, at: int, freed: int, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others give back or take some hundred kilobytes once; the call loses an object each time, and a page or none."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    def given() -> kernel_memory.Given:
        return kernel_memory.Given({"kmalloc-64": calls}, 1000 + pages * calls - freed * (calls >= at))

    monkeypatch.setattr(kernel_memory, "given", given)
    monkeypatch.setattr(kernel_memory, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(kernel_memory, "_LAST_SECONDS", 0.01)
    assert kernel_memory.lost(call) == found


def test_objects_that_are_freed_late_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """By RCU, on a machine that has little time for it: a few at each look, for longer than is waited for the next."""
    held, clock = 0, 0.0

    def call() -> None:
        nonlocal held
        held += 1

    def given() -> kernel_memory.Given:
        nonlocal held, clock
        clock += 1.0
        held = max(0, held - 2)
        return kernel_memory.Given({"kmalloc-96": held}, 0)

    monkeypatch.setattr(kernel_memory, "given", given)
    monkeypatch.setattr(kernel_memory.time, "monotonic", lambda: clock)
    assert kernel_memory.lost(call) == []
