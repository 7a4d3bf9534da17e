"""What people are told of skips."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.run import skipped
from vm.tests.harness import Project

KINDS = [skipped.Kind(re.compile("kernel has no (hash|rng) .*"), "algorithms that it does not have")]


def test_a_kind_is_counted_and_the_rest_is_named() -> None:
    reasons = {"kernel has no hash md4": 30, "kernel has no rng drbg": 2, "kernel has no keys": 1, "odd: one": 4}
    line = skipped.summary("6.1", reasons, KINDS)
    assert line == "6.1: 37 tests skipped: 2 algorithms that it does not have; no keys; odd: one"


def test_a_kind_is_counted_by_class() -> None:
    reasons = {
        "fips: kernel has no hash md4": 3,
        "fips: kernel has no rng x": 1,
        "not built: kernel has no hash md5": 1,
        "restricted by sysctl: kernel has no io_uring: kernel.io_uring_disabled=2": 1,
    }
    told = " ".join(skipped.summary("6.1", reasons, KINDS).split())
    kind = "algorithms that it does not have"
    restricted = "no io_uring (restricted by sysctl: kernel.io_uring_disabled=2)"
    assert told == f"6.1: 6 tests skipped: 2 {kind} (fips); 1 {kind} (not built); {restricted}"


def test_nothing_skipped_is_not_told_of() -> None:
    assert skipped.summary("6.1", {}, KINDS) == ""


def test_a_long_line_is_folded() -> None:
    reasons = {f"kernel has no part-of-some-kind number {n}": 1 for n in range(30)}
    lines = skipped.summary("6.1", reasons, KINDS).splitlines()
    assert max(map(len, lines)) <= skipped.WIDTH
    assert all(line.startswith("    ") for line in lines[1:])
    assert sum(line.count("number") for line in lines) == 30


def test_the_list_has_every_reason_by_number_of_tests() -> None:
    assert skipped.listing({"b": 2, "a": 2, "c": 10}) == "    10 c\n     2 a\n     2 b\n"


@pytest.mark.parametrize("text", ["[[kind]]\nreason = '('\nsays = 'x'\n", "[[kind]]\nsays = 'x'\n", "[["])
def test_a_bad_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "skips.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"skipped\.py"):
        skipped.load(path)


def test_a_run_tells_of_skips_in_one_line_a_kernel(project: Project) -> None:
    """The list is among the results. Before, the terminal had a line for every reason."""
    project.tests("""
        @pytest.mark.parametrize("n", range(50))
        def test_a(n): pytest.skip(f"not in this version: kernel has no hash h{n}")
        def test_b(): pytest.skip("not in this version: kernel has no keys")
        def test_c(): pass
    """)
    (project.directory / "skips.toml").write_text(
        "[[kind]]\nreason = 'kernel has no hash .*'\nsays = 'algorithms'\n"
        "[[skip]]\nreason = 'kernel has no .*'\nbecause = 'any'\nsince = ['99.0']\n"
    )
    run = project.run("-o", "skip_budget=skips.toml", "-rfExX", kernels=["6.1.0-a", "6.12.0-b"])
    assert run.status == 0
    for kernel in ("6.1.0-a", "6.12.0-b"):
        assert (
            f"{kernel}: 51 tests skipped: 50 algorithms (not in this version); no keys (not in this version)\n"
            in run.output
        )
        listed = (run.directory / "kernels" / kernel / "skipped").read_text()
        assert listed.count("kernel has no hash h") == 50
    assert "SKIPPED [" not in run.output
