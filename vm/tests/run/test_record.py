"""What a run keeps of its kernels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vm.run import record


def algorithm(name: str, driver: str, refcnt: int = 1) -> str:
    return f"name         : {name}\ndriver       : {driver}\nrefcnt       : {refcnt}\ntype         : shash\n\n"


def machines(place: Path, said: Sequence[dict[str, Any] | None]) -> Any:
    found = []
    for number, facts in enumerate(said):
        directory = place / str(number)
        directory.mkdir()
        if facts is not None:
            (directory / "guest.json").write_text(json.dumps(facts))
        found.append(SimpleNamespace(directory=directory))
    return found


@pytest.mark.parametrize("turned", [False, True], ids=["first-more", "first-less"])
def test_a_kernel_has_the_algorithms_and_taints_of_all_its_machines(tmp_path: Path, *, turned: bool) -> None:
    """Which machine runs which test is chance; what a kernel can do and has lived through is not."""
    said: list[dict[str, Any] | None] = [
        {"release": "6.1", "taint": 512, "proc_crypto": algorithm("sha256", "sha256-generic", 2) + algorithm("a", "b")},
        {"release": "6.1", "taint": 64, "proc_crypto": algorithm("sha256", "sha256-generic")},
        None,
        {"release": "6.1", "taint": 64, "proc_crypto": algorithm("sha256", "sha256-ni")},
    ]
    facts = record._facts(machines(tmp_path, said[::-1] if turned else said))
    assert (facts["release"], facts["taint"]) == ("6.1", 576)
    found = [part for part in facts["proc_crypto"].split("\n\n") if part]
    assert sorted(part.splitlines()[1].split(": ")[1] for part in found) == ["b", "sha256-generic", "sha256-ni"]
    assert algorithm("sha256", "sha256-generic", 2).strip() in found, "of the machine that had the most"


def test_a_kernel_of_which_no_machine_spoke_has_no_facts(tmp_path: Path) -> None:
    assert record._facts(machines(tmp_path, [None])) == {}
    assert record._facts([]) == {}
