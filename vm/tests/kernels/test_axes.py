"""Kernels booted in other ways: how they are named, and what becomes of it in their machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels import axes
from vm.kernels.resolve import resolve
from vm.machine import profile
from vm.machine.vm import Vm
from vm.tests.archive import bzimage
from vm.tests.harness import Project


@pytest.mark.parametrize(
    ("spec", "base", "names"),
    [
        pytest.param("6.12", "6.12", (), id="none"),
        pytest.param("6.12@no-avx2", "6.12", ("no-avx2",), id="one"),
        pytest.param("6.12@no-avx2@fips@no-avx2", "6.12", ("fips", "no-avx2"), id="several"),
        pytest.param("source:6.12+debug@poison", "source:6.12+debug", ("poison",), id="behind-variants"),
        pytest.param("/me@home/bzImage", "/me@home/bzImage", (), id="sign-in-a-path"),
        pytest.param("/boot/a@2", "/boot/a@2", (), id="sign-in-a-file"),
        pytest.param("@fips", "", ("fips",), id="newest"),
    ],
)
def test_a_spec_is_split_at_its_axes(spec: str, base: str, names: tuple[str, ...]) -> None:
    """Only behind the last sign, and only what is one."""
    assert axes.split(spec) == (base, names)


def test_an_axis_that_there_is_not_is_one_error() -> None:
    """It lists those that there are."""
    with pytest.raises(UsageError, match="no axis @no-avx3; there are: @no-avx2,"):
        axes.split("6.12@no-avx3")


def test_the_running_kernel_has_none() -> None:
    """It is booted already."""
    with pytest.raises(UsageError, match="as it was booted"):
        resolve(["running@fips"], print)


def test_its_machines_are_told(tmp_path: Path) -> None:
    """Features are left out of the usual processor, or of the user's; the command line has its words."""
    image = tmp_path / "vmlinuz-6.1.0-fake"
    image.write_bytes(bzimage("6.1.0-fake"))
    plain, varied = resolve([str(image), f"{image}@no-avx2@fips"], lambda _line: None)
    assert varied.name == f"{plain.name}@fips@no-avx2"
    assert Vm.of(plain, "tcg").cpu == ""
    vm = Vm.of(varied, "tcg", "more=1")
    assert vm.kernel_arguments == ["fips=1", "more=1"]
    assert vm.cpu.startswith("-avx2,")
    usual = profile.cpu(varied.architecture, "tcg", "tcg")
    assert profile.cpu(varied.architecture, "tcg", "tcg", vm.cpu) == f"{usual},{vm.cpu}"
    assert profile.cpu(varied.architecture, "tcg", "tcg", f"Haswell,{vm.cpu}").startswith("Haswell,-avx2,")


def test_features_that_two_axes_leave_out_are_named_once() -> None:
    """QEMU takes the last word about a feature, and warns of none."""
    left = axes.without(("no-avx", "no-avx2"))
    assert len(left) == len(set(left))


def test_a_run_names_the_axes_and_so_does_what_runs_it_again(tmp_path: Path) -> None:
    """Both kernels of one image are tested, each under its own name."""
    project = Project(tmp_path)
    project.tests("def test_it():\n    assert 0\n")
    image = project.kernel("6.1.0-fake")
    run = project.run(f"--kernel={image}@fips")
    assert set(run.verdicts) == {"t/test_it.py::test_it[6.1.0-fake]", "t/test_it.py::test_it[6.1.0-fake@fips]"}
    assert f"--kernel={image}@fips" in run.output
