"""What a guest is told, and which tests it begins with."""

from __future__ import annotations

from pathlib import Path

from vm.teeth.build import Built
from vm.teeth.changes import Change, Mutant
from vm.teeth.command import _bite
from vm.teeth.plan import Bite, Bites, Order, load

TESTS = [
    "tests/a/test_x.py::test_one[1]",
    "tests/a/test_x.py::test_one[2]",
    "tests/a/test_x.py::test_two",
    "tests/b/test_y.py::test_three",
]


def _mutant(source: str = "s.c", function: str = "f") -> Mutant:
    return Mutant("m", (Change(source, function, "a", "b"),), ("tests/a",))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """By JSON: with the tuples that it does not have."""
    mutant = Mutant("fix:abc", _mutant().changes, ("tests/a",), fix="abc", unshown=(("t[1]", "why"),))
    bite = Bite(mutant, (("crypto/x", "/cache/x.ko"),), ("tests/a::t",))
    plan = Bites((bite,), "builtins:dict", 3.0, whole=False)
    plan.save(tmp_path / "plan.json")
    assert load(tmp_path / "plan.json") == plan


def test_each_function_has_its_turn_before_any_has_two() -> None:
    """Only of the mutant's own places."""
    assert Order(TESTS).of(Bite(_mutant())) == [0, 2, 1]


def test_what_is_slow_comes_later() -> None:
    """Of all its cases the slowest counts."""
    order = Order(TESTS)
    order.took(0, 0.1)
    order.took(1, 5.0)
    assert order.of(Bite(_mutant())) == [2, 0, 1]


def test_those_with_the_name_of_the_file_come_first() -> None:
    """Three of them for one of the others."""
    order = Order([*TESTS, "tests/a/test_x.py::test_four[gcm(aes)]", "tests/a/test_x.py::test_four[gcm(des)]"])
    assert order.of(Bite(_mutant("crypto/gcm.c")))[:3] == [4, 5, 0]
    assert order.of(Bite(_mutant("crypto/algif_x.c")))[0] == 0


def test_what_noticed_earlier_comes_first() -> None:
    """What is written down of this mutant, what noticed in this function, in this file; of any place."""
    order = Order(TESTS)
    order.learn(_mutant(function="g"), 3)
    order.learn(_mutant(), 1)
    assert order.of(Bite(_mutant(), first=(TESTS[2], "gone"))) == [2, 1, 3, 0]
    assert order.of(Bite(_mutant("other.c", "h"))) == [0, 2, 1]


def test_what_fails_without_a_change_is_not_asked_again() -> None:
    """It would be taken for the one that notices every mutant."""
    order = Order(TESTS)
    order.learn(Mutant("m", (), ("tests/a",), unchanged="s.c"), 2)
    assert order.of(Bite(_mutant())) == [0, 1]


def test_a_mutant_begins_with_what_noticed_others_near_it() -> None:
    """Its own first, then those of its function, then those of its file: the ones that noticed most."""
    killers = {
        "x:f.m": ("own",),
        "x:f.other": ("near",),
        "x:g.a": ("far", "far often"),
        "x:g.b": ("far often",),
        "y:f.m": ("of another file",),
    }
    mutant = Mutant("x:f.m", (Change("crypto/x.c", "f", "a", "b"),), ("tests/a",))
    assert _bite(Built(mutant, {}), killers).first == ("own", "near", "far often", "far")
    assert _bite(Built(Mutant("fix:abc", mutant.changes, (), fix="abc"), {}), killers).first == ()
