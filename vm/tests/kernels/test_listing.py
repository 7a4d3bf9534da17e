"""The table of kernels: what is cached, what can be had, and that every spec in it works."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vm.kernels import listing as kernels
from vm.kernels.apt import packages as apt
from vm.tests import archive
from vm.tests.apt_machine import Machine
from vm.tests.archive import World

# Each runs apt a dozen times.
pytestmark = pytest.mark.deadline(120)


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert kernels.main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KERNEL=", "version", "suite", "MB"]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:]}


def test_table_names_what_is_cached_and_what_can_be_had(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.resolve("6.1.100", "trixie/6.12")
    found = table(capsys)
    assert found["6.1.100"] == "6.1.100-1 bookworm 0 cached"
    assert found["trixie/6.12.20-1"] == "6.12.20-1 trixie cached"
    assert found["6.1.120-1"] == "6.1.120-1 bookworm-security 0", "typed in full: there are two revisions"
    assert found["6.1.120-2"] == "6.1.120-2 bookworm-security 0"
    others = [spec for spec in found if "6.12.20" not in spec]
    flavours = ["6.1.119-cloud", "6.1.119-rt"]
    assert others == ["6.1.120-2", "6.1.120-1", *flavours, "6.1.110", "6.1.100", "6.1.9"], "newest first"


def test_every_spec_of_the_table_works(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {**table(capsys), **table(capsys, "--suite", "trixie-backports", "--suite", "experimental")}
    for spec, rest in rows.items():
        if "cannot be had" not in rest:
            assert machine.version(spec) == rest.split()[0]
    assert sum("cannot be had: the suite has no linux-modules-7.1.5+deb13-amd64" in rest for rest in rows.values()) == 1


def test_table_of_an_unknown_suite_is_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--suite", "nosuch"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: no suite 'nosuch'")


def test_table_without_a_network_has_what_is_cached(
    cut_off: Machine, mirror: World, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = cut_off.world
    archive.configure(dataclasses.replace(unreachable, address=f"copy:{mirror.root}"))
    cut_off.resolve("bookworm/6.1.100")
    archive.configure(unreachable)
    cut_off.age_lists(apt.FRESH_SECONDS + 1)
    assert table(capsys) == {"bookworm/6.1.100-1": "6.1.100-1 bookworm cached"}
    assert kernels.main([]) == 0
    assert re.search(r"no network.*only what is cached:$", capsys.readouterr().err, re.MULTILINE)
