"""Files that name tests which notice a change of the kernel name tests that there are."""

from __future__ import annotations

import pytest

from tests.selftests.test_parity import functions
from vm.base import toml
from vm.base.files import ROOT
from vm.run import near

TEETH = ROOT / "tests" / "teeth"


def named() -> dict[str, tuple[str, ...]]:
    killers = toml.read(TEETH / "killers.toml").values()
    return {
        "killers.toml": tuple(test for tests in killers for test in tests),
        "near.json": near.load(TEETH / "near.json").tests,
    }


@pytest.mark.parametrize(("file", "tests"), named().items(), ids=list(named()))
def test_there_are_such_tests(file: str, tests: tuple[str, ...]) -> None:
    assert len(tests) > 100
    places = {test.partition("[")[0] for test in tests}
    gone = [place for place in sorted(places) if place.partition("::")[2] not in functions(place.partition("::")[0])]
    assert not gone, f"{file} names tests that are gone; write it anew (python -m vm teeth --record)"
