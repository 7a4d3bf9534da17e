"""What tests reach: flags in a source file, and which tests a mutant is left with."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.teeth import reach
from vm.teeth.changes import Change, Mutant
from vm.teeth.plan import Bite, Order
from vm.teeth.reach import Reach, Reached

SOURCE = """\
#include <linux/a.h>
#include <linux/b.h>

struct late;

static int twice(int a)
{
	return 2 * a;
}

static const struct ops table = {
	.twice = twice,
};

static void long_one(int a,
		struct late *b)
{
	if (a) {
		twice(a);
	}
}
"""
REACH = Reach(
    ("x:twice", "x:long_one", "y:other"),
    (Reached("t::a", 0.5, "YNN"), Reached("t::b[1]", 0.1, "NYN"), Reached("t::c", 2.0, "NNY")),
)


def test_each_function_sets_its_flag() -> None:
    """As its first statement, in the order of the text; the flags are declared behind what is included."""
    text, names = reach.instrument(SOURCE, "x", ["long_one", "table", "gone", "twice"])
    assert names == ["twice", "long_one"]
    assert "int a)\n{ reached_x[0] = true; \n\treturn" in text
    assert "struct late *b)\n{ reached_x[1] = true; \n\tif" in text
    head = text.partition("struct late;")[0].splitlines()
    assert head[1:5] == [
        "#include <linux/b.h>",
        "#include <linux/moduleparam.h>",
        "static bool reached_x[2];",
        "module_param_array(reached_x, bool, NULL, 0644);",
    ]
    assert reach.instrument(SOURCE, "x", ["table"]) == (SOURCE, [])


def test_flags_are_read_and_cleared(tmp_path: Path) -> None:
    """Of every module that has some; the kernel prints a Y or N for each."""
    for module, text in (("x", "Y,N\n"), ("y_z", "Y\n")):
        (tmp_path / module / "parameters").mkdir(parents=True)
        (tmp_path / module / "parameters" / f"reached_{module}").write_text(text)
        (tmp_path / module / "parameters" / "other").write_text("7\n")
    assert reach.read(tmp_path) == {"x": "YN", "y_z": "Y"}
    reach.clear(tmp_path)
    assert reach.read(tmp_path) == {"x": "NN", "y_z": "N"}


def test_what_guests_found_is_put_together() -> None:
    """Flags of a module that was not loaded are those of nothing."""
    words = [reach.pack({"t::a": (0.5, {"x": "YN", "y": "N"})}), reach.pack({"t::c": (2.0, {"y": "Y"})})]
    assert reach.unpack(words, REACH.functions) == Reach(REACH.functions, (REACH.tests[0], REACH.tests[2]))


def test_a_function_has_the_tests_that_reach_it(tmp_path: Path) -> None:
    """A table has those of its file; of a file that was not looked at nothing is known."""
    REACH.save(tmp_path / "map")
    found = reach.load(tmp_path / "map")
    assert found == REACH
    assert REACH.of("crypto/x.c", "twice") == "YNN"
    assert REACH.of("crypto/x.c", "table") == "YYN"
    assert REACH.of("crypto/z.c", "twice") is None
    assert reach.load(tmp_path / "no map") is None


def test_what_was_known_of_other_tests_is_kept() -> None:
    """Unless it was about other functions."""
    again = Reach(REACH.functions, (Reached("t::a", 0.1, "NNN"),))
    assert again.besides(REACH).tests == (again.tests[0], *REACH.tests[1:])
    assert again.besides(Reach(("x:gone",), (Reached("t::c", 2.0, "Y"),))) == again


def test_only_tests_that_reach_a_mutant_are_run() -> None:
    """And those of which nothing is known yet, unless other cases do not; wherever they are, the quick ones first."""
    order = Order(["t::a", "t::b[1]", "t::b[2]", "t::c", "t::c[x]", "t::new"], known=[one.test for one in REACH.tests])
    for one in REACH.tests:
        order.takes(one.test, one.seconds)
    mutant = Mutant("m", (Change("crypto/x.c", "table", "a", "b"),), ("elsewhere",))
    assert order.of(Bite(mutant, reached="YYN")) == [5, 1, 0, 2]
    assert order.of(Bite(mutant)) == []


def test_what_no_guest_packs_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_MOST", 4000)
    too_much = reach.pack({"t::a": (0.5, {"x": "Y" * 5000})})
    for word in (too_much, "0" * 9, "\x7f", reach.pack({})[:-5]):
        with pytest.raises(UsageError, match="cannot be read"):
            reach.unpack([word], ["x:f"])


def test_nearest_are_those_that_noticed_then_those_that_reach_little_else() -> None:
    tests = (
        Reached("t.py::wide[a]", 1.0, "YYY"),
        Reached("t.py::wide[b]", 1.0, "YYN"),
        Reached("t.py::narrow", 9.0, "NYN"),
        Reached("t.py::quick", 2.0, "NYN"),
        Reached("t.py::none", 1.0, "NNN"),
    )
    found = Reach(("gcm:f", "gcm:g", "gcm:h"), tests).nearest(
        {"gcm:g.no-check": ["t.py::wide[a]", "t.py::gone"], "gcm:other.x": ["t.py::quick"]}, most=3
    )
    assert found == {
        "gcm:f": ["t.py::wide[b]"],
        "gcm:g": ["t.py::wide[a]", "t.py::quick", "t.py::narrow"],
        "gcm:h": ["t.py::wide[a]"],
    }
