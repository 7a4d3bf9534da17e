"""Real programs under each policy: what works, what falls back, what fails and in what words (`make programs`).

A program's own result is checked, by another program or by a published answer. What the kernel's documentation
promises, has to work; everything else is recorded, and the table (tests/programs/table.py) is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.afalg import Rng
from tests.afalg.privileges import CLONE_NEWUSER
from tests.doctor import absence
from tests.need import lacking, need, run_as
from tests.programs import cells, policies
from tests.programs.catalogue import PROGRAMS, Program
from tests.programs.policies import NONE, POLICIES, Policy
from vm import uses
from vm.results.absence import Absence, Lack

# One command of several may take what a session allows it (tests/programs/session.py).
pytestmark = [
    pytest.mark.deadline(300),
    # Nothing that another thread may hold is used in the child.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

PAIRS = [(program, policy) for program in PROGRAMS for policy in POLICIES if program.tried_under(policy)]


def name_of(value: object) -> str:
    assert isinstance(value, Program | Policy)
    return value.name


@pytest.fixture
def held(policy: Policy, tmp_path: Path) -> None:
    """Skip what this kernel cannot have."""
    if policy.fips and not absence.fips_mode():
        pytest.skip("kernel is not in FIPS mode")
    if absence.fips_mode() and not policy.fips:
        pytest.skip(str(Lack(Absence.FIPS, "kernel is in FIPS mode")))
    if policy.level and not uses.RESTRICT.exists():
        lacking(absence.RESTRICTION)
    if policy.identity.namespaces & CLONE_NEWUSER:
        run_as(policy.identity, lambda: None)
    if policy.confined == "AppArmor" and (trouble := policies.load_profile(tmp_path)):
        if not policies.has_apparmor():
            lacking(absence.APPARMOR)
        raise AssertionError(trouble)


@pytest.mark.parametrize(("program", "policy"), PAIRS, ids=name_of)
def test_program(program: Program, policy: Policy, held: None, record_property: Callable[[str, object], None]) -> None:
    """What the kernel's documentation lets a program have, it has; and no program takes a wrong result for a right one.

    Documentation/admin-guide/sysctl/crypto.rst of Linux 7.3.
    """
    if program.generator:
        need(Rng, program.generator).close()
    absent = program.absent()
    assert not (absent and cells.version_of(program)), f"{program.packages[0]} is installed, and {absent}"
    if trouble := absent or program.lacks():
        record_property("cell", json.dumps(asdict(cells.Cell(cells.IMPOSSIBLE, trouble))))
        return
    with policies.applied(policy):
        cell, recorded = cells.measure(program, policy)
    record_property("cell", json.dumps(asdict(cell)))
    record_property("answer", f"{cell.verdict}: {cell.said}" if cell.said else cell.verdict)  # the page of a run has it
    refused = "; ".join(cell.refused) or "nothing of AF_ALG was refused"
    if policy == NONE or program.promised(policy):
        wanted = cells.WORKS if program.uses else cells.UNUSED
        assert cell.verdict == wanted, f"{program.name} {cell.verdict} under {policy.name}: {cell.said} ({refused})"
    if not program.uses:
        assert not recorded, f"{program.name} uses AF_ALG: {cell.used}"
    if policy.level:
        # What the recorder foretells, by asking the kernel, is what came.
        came = {f"{use.type} {use.name}": (use.refused or ["works"])[0] for use in recorded if use.type}
        foretold = cells.predicted(program, policy)
        assert {name: foretold[name] for name in came if name in foretold} == {
            name: said for name, said in came.items() if name in foretold
        }
