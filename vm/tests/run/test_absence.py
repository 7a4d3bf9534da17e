"""What guests say of themselves proves the class of a skip; the class is in the results."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.tests.harness import INI, Project

pytestmark = pytest.mark.deadline(60)

BUDGET = """
[[skip]]
reason = "kernel has no such thing"
because = "for this test"
config = ["THING"]
sysctls = ["kernel.ostype"]
fips = true
"""
TESTS = """
def test_proven(): pytest.skip("restricted by sysctl: kernel has no such thing: kernel.ostype=Linux")
def test_not_proven(): pytest.skip("restricted by sysctl: kernel has no such thing: kernel.ostype=Minix")
def test_not_told(): pytest.skip("not built: kernel has no such thing")
def test_no_such_class(): pytest.skip("why not: kernel has no such thing")
def test_fails(): assert False
def test_passes(): pass
"""


def test_class_of_a_skip_is_proven_by_what_the_guest_said(tmp_path: Path) -> None:
    """And a failure is run again on a kernel that is booted with the same arguments."""
    project = Project(tmp_path)
    (tmp_path / "skips.toml").write_text(BUDGET)
    (tmp_path / "pytest.ini").write_text(f"{INI}skip_budget = skips.toml\n")
    project.tests(TESTS)
    run = project.run("--kernel-argument=fips=1", "--kernel-argument=a b")
    record = json.loads((run.directory / "results.json").read_text())
    tests = {test["test"].split("::")[1]: test for test in record["kernels"][0]["tests"]}
    assert {name: (test["verdict"], test["absence"]) for name, test in tests.items()} == {
        "test_proven": ("skipped", "restricted by sysctl"),
        "test_not_proven": ("failed", ""),
        "test_not_told": ("undecided", ""),
        "test_no_such_class": ("failed", ""),
        "test_fails": ("failed", ""),
        "test_passes": ("passed", ""),
    }
    assert "its .config is unknown" in tests["test_not_told"]["reason"]
    assert "kernel.ostype is Linux" in tests["test_not_proven"]["reason"]
    assert "--kernel-argument=fips=1 '--kernel-argument=a b'" in tests["test_fails"]["rerun"]


@pytest.mark.parametrize("kernels", [("6.1.0-fake",), ("6.1.0-fake", "6.2.0-fake")], ids=["alone", "beside another"])
def test_kernel_that_lacks_what_every_test_needs_is_one_verdict(tmp_path: Path, kernels: tuple[str, ...]) -> None:
    project = Project(tmp_path)
    (tmp_path / "pytest.ini").write_text(f"{INI}kernel_check = lacks:everything\n")
    (tmp_path / "lacks.py").write_text(
        "import os\n\ndef everything():\n"
        "    return 'not built: this kernel has nothing' * ('6.1.0' in os.environ.get('VM_CONSOLE', ''))\n"
    )
    project.tests("@pytest.mark.parametrize('n', range(60))\ndef test_a(n): pass\n")
    run = project.run("--vms=2", kernels=kernels, environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    assert run.status == 1
    verdicts = Counter(run.verdicts.values())
    assert verdicts == {"failed": 1, "passed": 60} if len(kernels) > 1 else {"failed": 1}
    assert "not built: this kernel has nothing" in run.output
    record = json.loads((run.directory / "results.json").read_text())["kernels"][0]
    assert [(test["test"], test["absence"]) for test in record["tests"]] == [("machine::unfit", "not built")]
    project.assert_nothing_left()
