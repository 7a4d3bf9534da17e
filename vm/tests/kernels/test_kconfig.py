"""Fragments: what may be written in them, how they add up, and how a vanished option is found out."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels import kconfig
from vm.kernels.kconfig import Fragment, Option
from vm.kernels.symbols import Symbol, scan, unmet

ALL_FRAGMENTS = sorted(kconfig.FRAGMENTS.glob("*.config"))


def option(name: str, value: str = "y", series: str = "", override: bool = False) -> Option:
    """An option as a fragment would give it."""
    bracket = f"[{series}] " if series else ""
    line = f"CONFIG_{name}={value} # {bracket}{'override: ' if override else ''}for a test"
    return kconfig._option(line, f"test.config:{name}")


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# -- the fragments of this project -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL_FRAGMENTS, ids=lambda p: p.stem)
def test_every_fragment_parses_and_begins_with_what_it_is_for(path: Path) -> None:
    fragment = kconfig.parse(path)
    assert fragment.options
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", ALL_FRAGMENTS, ids=lambda p: p.stem)
def test_no_option_stands_twice_in_a_fragment(path: Path) -> None:
    names = [o.name for o in kconfig.parse(path).options]
    assert len(names) == len(set(names))


def test_there_are_the_variants_the_project_promises() -> None:
    promised = {"accelerated", "coverage", "debug", "faults", "modules", "selftests"}
    assert promised <= set(kconfig.variants())
    assert not {"base", "x86_64", "af_alg", "algorithms"} & set(kconfig.variants())


# Two ways to turn self-tests on, each with a command line of its own for the kernel.
EXCLUSIVE = {("fips", "selftests")}


@pytest.mark.parametrize("pair", sorted(itertools.combinations(kconfig.variants(), 2)), ids="+".join)
def test_variants_do_not_contradict_each_other(pair: tuple[str, str]) -> None:
    if pair in EXCLUSIVE:
        with pytest.raises(UsageError, match=r"CONFIG_CMDLINE is .* and"):
            kconfig.merge(kconfig.chosen(pair))
    else:
        assert len(kconfig.merge(kconfig.chosen(pair))) > 150


def test_nothing_changes_what_booting_needs() -> None:
    booting = kconfig.parse(kconfig.FRAGMENTS / "base.config")
    fragments = kconfig.chosen([v for v in kconfig.variants() if v != "fips"])
    assert fragments[-1] == booting
    merged = kconfig.merge(fragments)
    assert {o.name: merged[o.name].value for o in booting.options} == {o.name: o.value for o in booting.options}
    assert not any(o.override for o in booting.options)


def test_as_modules_names_fragments_that_exist() -> None:
    for path in ALL_FRAGMENTS:
        for name in kconfig.parse(path).as_modules:
            assert (kconfig.FRAGMENTS / f"{name}.config").exists()


# -- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_A=y",
        "CONFIG_A=y #",
        "CONFIG_A = y # spaces",
        "A=y # no prefix",
        "CONFIG_A=yes # neither y, m nor n",
        "CONFIG_A # no value",
        "CONFIG_A=y reason without a mark",
        "CONFIG_A=y # [..] empty range",
        "CONFIG_A=y # [6] half a version",
        "CONFIG_A=y # [..6.1;7.2..] wrong separator",
        'CONFIG_A="open # string',
    ],
)
def test_a_line_that_is_no_option_with_its_reason_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "f.config", f"# head\n\n{line}\n")
    with pytest.raises(UsageError, match=r"^f\.config:3: expected "):
        kconfig.parse(path)


def test_a_fragment_is_read_whole(tmp_path: Path) -> None:
    text = """# About it.
# as modules: af_alg algorithms
# make: GCOV_PROFILE_af_alg.o=y V=1
CONFIG_A=y       # reason
CONFIG_B=n       # [..5.10,7.2..] override: other reason
CONFIG_C="x # y" # a string with a mark in it
CONFIG_D=60      # [6.1..6.12] a number
"""
    fragment = kconfig.parse(write(tmp_path, "f.config", text))
    assert fragment.name == "f"
    assert fragment.as_modules == ("af_alg", "algorithms")
    assert fragment.make == ("GCOV_PROFILE_af_alg.o=y", "V=1")
    a, b, c, d = fragment.options
    assert (a.name, a.value, a.series, a.override, a.reason, a.where) == (
        "A", "y", (), False, "reason", "f.config:4",
    )  # fmt: skip
    assert (b.value, b.series, b.override) == ("n", ((None, (5, 10)), ((7, 2), None)), True)
    assert (c.value, c.reason) == ('"x # y"', "a string with a mark in it")
    assert (d.value, d.series) == ("60", (((6, 1), (6, 12)),))


def test_a_fragment_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration fragment .*none\.config"):
        kconfig.parse(tmp_path / "none.config")


def test_an_unknown_variant_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no kernel variant \+debgu; there are: .*\+debug"):
        kconfig.chosen(["debgu"])


# -- merging -----------------------------------------------------------------------------------------------


def test_two_values_for_one_option_are_refused_with_both_places() -> None:
    one, other = Fragment("one", (option("A", "y"),)), Fragment("two", (option("A", "n"),))
    with pytest.raises(UsageError, match=r"CONFIG_A is y in test\.config:A and n in test\.config:A"):
        kconfig.merge([one, other])


def test_the_same_value_twice_is_no_contradiction() -> None:
    merged = kconfig.merge([Fragment("one", (option("A"),)), Fragment("two", (option("A"),))])
    assert merged["A"].value == "y"


def test_an_override_wins() -> None:
    later = option("A", "n", override=True)
    merged = kconfig.merge([Fragment("one", (option("A"),)), Fragment("two", (later,))])
    assert merged["A"].value == "n"


def test_as_modules_turns_tristates_alone_into_modules_and_spares_what_it_names() -> None:
    symbols = {
        name: Symbol(name, kind, True, ((),))
        for name, kind in {"A": "tristate", "B": "bool", "C": "tristate", "D": "tristate"}.items()
    }
    alg = Fragment("alg", (option("A"), option("B"), option("C")))
    other = Fragment("other", (option("D"),))
    variant = Fragment("variant", (option("C"),), as_modules=("alg",))
    merged = kconfig.merge([alg, other, variant], symbols)
    assert {name: o.value for name, o in merged.items()} == {"A": "m", "B": "y", "C": "y", "D": "y"}


def test_rendered_options_are_sorted_and_read_back(tmp_path: Path) -> None:
    merged = kconfig.merge([Fragment("f", (option("B", "n"), option("C", "7"), option("A")))])
    text = kconfig.render(merged)
    assert text == "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=7\n"
    assert kconfig.read_config(write(tmp_path, ".config", text)) == {"A": "y", "C": "7"}


# -- series ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "version", "expected"),
    [
        ("", (5, 10), True),
        ("", (6, 6), True),
        ("..6.1", (6, 1), True),
        ("..6.1", (6, 12), False),
        ("..6.1", (5, 15), True),  # between two series that have it
        ("..6.1", (6, 6), None),  # between one that has it and one that has not
        ("6.12..", (5, 15), False),
        ("..5.10,7.2..", (5, 10), True),
        ("..5.10,7.2..", (6, 1), False),
        ("..5.10,7.2..", (7, 3), True),
        ("", (5, 4), None),  # older and newer than anybody looked
        ("", (7, 4), None),
    ],
)
def test_what_a_bracket_says_about_a_series(series: str, version: tuple[int, int], expected: bool | None) -> None:
    assert option("A", series=series).expected(version) is expected


# -- validation --------------------------------------------------------------------------------------------

KCONFIG = """
config HAVE_IT
\tbool

menu "Crypto"
\tdepends on NET

config CRYPTO_ONE
\ttristate "One"
\tdepends on SMP && !NUMA
\thelp
\t  config IN_A_HELP_TEXT
\t  is none.

if DEBUG
config CRYPTO_TWO
\tbool "Two" if EXPERT
\tdepends on \\
\t\tX86 || ARM
endif

config CRYPTO_HIDDEN
\ttristate
endmenu

config CRYPTO_THREE
\tdef_bool y
# config COMMENTED
config NUMBER
\tint
\tprompt "How many"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Kconfig files such as a source tree has."""
    write(tmp_path, "Kconfig", 'mainmenu "x"\n')
    write(tmp_path, "crypto/Kconfig", KCONFIG)
    write(tmp_path, "arch/x86/Kconfig", "config FROM_X86\n\tbool\n")
    write(tmp_path, "arch/arm/Kconfig", "config FROM_ARM\n\tbool\n")
    return tmp_path


def test_scan_finds_symbols_their_types_prompts_and_conditions(tree: Path) -> None:
    symbols = scan(tree, "x86")
    assert set(symbols) == {
        "HAVE_IT", "CRYPTO_ONE", "CRYPTO_TWO", "CRYPTO_HIDDEN", "CRYPTO_THREE", "NUMBER", "FROM_X86",
    }  # fmt: skip
    assert symbols["CRYPTO_ONE"] == Symbol("CRYPTO_ONE", "tristate", True, (("NET", "SMP && !NUMA"),))
    assert symbols["CRYPTO_TWO"].depends == (("NET", "DEBUG", "X86 || ARM"),)
    assert not symbols["CRYPTO_HIDDEN"].prompt
    assert symbols["CRYPTO_THREE"].depends == ((),)
    assert symbols["NUMBER"] == Symbol("NUMBER", "int", True, ((),))


@pytest.mark.parametrize(
    ("config", "lacking"),
    [
        ({"NET": "y", "SMP": "y"}, ""),
        ({"NET": "y", "SMP": "y", "NUMA": "y"}, "(SMP && !NUMA)"),
        ({"SMP": "y"}, "NET"),
        ({}, "NET and (SMP && !NUMA)"),
    ],
)
def test_unmet_names_the_conditions_that_fail(tree: Path, config: dict[str, str], lacking: str) -> None:
    assert unmet(scan(tree, "x86")["CRYPTO_ONE"], config) == lacking


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("A", True),
        ("B", False),
        ("!B", True),
        ("A && B", False),
        ("A || B", True),
        ("B || A && B", False),
        ("(A || B) && !(B)", True),
        ("A=y", True),
        ("A=m", False),
        ("A!=n", True),
        ('S="x"', True),
        ("M", True),
        ("$(cc-option,-fx)", True),
    ],
)
def test_conditions_are_evaluated_as_kconfig_does(condition: str, holds: bool) -> None:
    symbol = Symbol("X", "bool", True, ((condition,),))
    assert (unmet(symbol, {"A": "y", "M": "m", "S": '"x"'}) == "") is holds


def test_an_option_got_is_not_missing(tree: Path) -> None:
    asked = {"CRYPTO_ONE": option("CRYPTO_ONE")}
    assert kconfig.missing(asked, {"CRYPTO_ONE": "y"}, (6, 12), tree) == []


def test_a_vanished_option_is_reported_as_unknown(tree: Path) -> None:
    (lost,) = kconfig.missing({"GONE": option("GONE")}, {}, (6, 12), tree)
    assert not lost.explained
    assert str(lost) == "CONFIG_GONE=y (test.config:GONE), got n: unknown in this version"


def test_a_vanished_option_that_the_fragment_knows_of_is_explained(tree: Path) -> None:
    (lost,) = kconfig.missing({"GONE": option("GONE", series="..6.1")}, {}, (6, 12), tree)
    assert lost.explained


def test_an_option_lost_where_the_fragment_has_it_is_not_explained(tree: Path) -> None:
    (lost,) = kconfig.missing({"GONE": option("GONE", series="..6.1")}, {}, (6, 1), tree)
    assert not lost.explained


def test_a_missing_dependency_is_named(tree: Path) -> None:
    asked = {"CRYPTO_TWO": option("CRYPTO_TWO")}
    (lost,) = kconfig.missing(asked, {"NET": "y", "X86": "y"}, (6, 12), tree)
    assert lost.why == "depends on DEBUG"
    assert not lost.explained


def test_a_symbol_without_prompt_is_told_apart(tree: Path) -> None:
    (lost,) = kconfig.missing({"CRYPTO_HIDDEN": option("CRYPTO_HIDDEN")}, {"NET": "y"}, (6, 12), tree)
    assert lost.why == "cannot be chosen in this version"


def test_a_wrong_value_is_missing_too(tree: Path) -> None:
    asked = {"NUMBER": option("NUMBER", "60"), "CRYPTO_THREE": option("CRYPTO_THREE", "n")}
    lost = kconfig.missing(asked, {"NUMBER": "12", "CRYPTO_THREE": "y"}, (6, 12), tree)
    assert [(one.option.name, one.got) for one in lost] == [("CRYPTO_THREE", "y"), ("NUMBER", "12")]


def test_asked_as_module_and_got_built_in_is_good_and_not_the_other_way_round(tree: Path) -> None:
    asked = {"A": option("A", "m"), "B": option("B", "y")}
    lost = kconfig.missing(asked, {"A": "y", "B": "m"}, (6, 12), tree)
    assert [one.option.name for one in lost] == ["B"]


def test_a_series_nobody_looked_at_is_reported_and_does_not_fail(tree: Path) -> None:
    (lost,) = kconfig.missing({"GONE": option("GONE")}, {}, (9, 9), tree)
    assert lost.explained
    assert "never checked against this series" in lost.why
