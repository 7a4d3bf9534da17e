"""Kernels of one name that were not booted alike."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pytest

from vm.report import command
from vm.results import events, write
from vm.results.boots import arguments, told_apart
from vm.results.model import KernelRun, Run, TestResult, Verdict

P, F = Verdict.PASSED, Verdict.FAILED
CONFIG = "#\n# Linux/x86 6.12\nCONFIG_CRYPTO=y\nCONFIG_CRYPTO_LZO=m\n# CONFIG_KASAN is not set\n"


def cmdline(words: str = "", run: str = "a", accelerator: str = "tcg") -> str:
    """Return /proc/cmdline of a guest, with what differs from one machine to another."""
    tcg = "no_timer_check cryptomgr.notests" if accelerator == "tcg" else ""
    return (
        f'"nr_open=1048576 TERM={run} ro panic=-1 console=ttyS0,115200 {tcg} {words} '
        f'rcupdate.rcu_cpu_stall_timeout={21 if tcg else 210} init="/home/a b/results/{run}/vms/6.12-1/init"'
    ).replace('"nr_open', "nr_open")


def saved(place: Path, name: str, line: str, *, config: str = CONFIG, shard: str = "", **changes: object) -> Path:
    """Write a run of one kernel and one test, which has the run's name, and return its directory."""
    test = f"t.py::{name}"
    kernel = KernelRun(
        "6.12.117",
        "6.12",
        cmdline=line,
        config="kernels/config" if config else "",
        tests=(TestResult(test, f"t.py::{name}[6.12.117]", P),),
        selected=(test,) if shard else (),
    )
    run = Run(
        name, "2026-11-23T11:45:02Z", finished="2026-11-23T12:00:00Z", exit_status=0, shard=shard, kernels=(kernel,)
    )
    (place / name / "kernels").mkdir(parents=True)
    (place / name / "kernels/config").write_text(config)
    write.write(dataclasses.replace(run, **changes), place / name)  # type: ignore[arg-type]
    return place / name


def merged(place: Path, *runs: Path) -> dict[str, list[str]]:
    """Return the tests of each kernel after ``results merge``."""
    assert command.main(["merge", *map(str, runs), "--into", str(place / "all")]) == 0
    return {kernel.name: [test.test for test in kernel.tests] for kernel in events.load(place / "all").kernels}


def test_shards_of_a_kernel_that_was_booted_alike_are_one_on_whatever_machine(tmp_path: Path) -> None:
    one = saved(tmp_path, "a", cmdline("fips=1", "a", "tcg"), shard="1/2")
    other = saved(tmp_path, "b", cmdline("fips=1", "b", "kvm"), shard="2/2")
    assert merged(tmp_path, one, other) == {"6.12.117": ["t.py::a", "t.py::b"]}


def test_a_kernel_with_another_argument_is_another_and_its_name_says_so(tmp_path: Path) -> None:
    runs = [
        saved(tmp_path, "a", cmdline("fips=1 mitigations=off")),
        saved(tmp_path, "b", cmdline("mitigations=off")),
        saved(tmp_path, "c", cmdline("mitigations=off fips=1", "c")),
    ]
    assert merged(tmp_path, *runs) == {"6.12.117 (fips=1)": ["t.py::a", "t.py::c"], "6.12.117": ["t.py::b"]}


def test_a_kernel_that_never_came_up_is_told_by_what_was_asked(tmp_path: Path) -> None:
    asked = ("pytest", "--kernel=6.12", "--kernel-argument", "fips=1", "--kernel-argument=a=b")
    runs = [
        saved(tmp_path, "a", cmdline()),
        saved(tmp_path, "b", "", config="", command=asked),
        saved(tmp_path, "c", "", config=""),
    ]
    assert merged(tmp_path, *runs) == {"6.12.117": ["t.py::a", "t.py::c"], "6.12.117 (a=b fips=1)": ["t.py::b"]}


def test_the_kernel_that_came_up_is_named_too_when_it_is_the_one_that_was_asked_for_more(tmp_path: Path) -> None:
    asked = ("pytest", "--kernel-argument", "fips=1")
    runs = [saved(tmp_path, "a", cmdline("fips=1"), command=asked), saved(tmp_path, "b", "")]
    assert merged(tmp_path, *runs) == {"6.12.117 (fips=1)": ["t.py::a"], "6.12.117": ["t.py::b"]}


def test_a_kernel_with_another_config_is_another_and_its_name_says_so(tmp_path: Path) -> None:
    kasan = CONFIG.replace("# CONFIG_KASAN is not set", "CONFIG_KASAN=y")
    runs = [saved(tmp_path, "a", cmdline()), saved(tmp_path, "b", cmdline(run="b"), config=kasan)]
    assert merged(tmp_path, *runs) == {"6.12.117": ["t.py::a"], "6.12.117 (CONFIG_KASAN=y)": ["t.py::b"]}


def test_one_of_which_no_config_is_known_joins_no_two_that_differ(tmp_path: Path) -> None:
    kasan = CONFIG.replace("# CONFIG_KASAN is not set", "CONFIG_KASAN=y")
    runs = [saved(tmp_path, name, cmdline(), config=text) for name, text in (("a", CONFIG), ("b", ""), ("c", kasan))]
    assert merged(tmp_path, *runs) == {"6.12.117": ["t.py::a", "t.py::b"], "6.12.117 (CONFIG_KASAN=y)": ["t.py::c"]}


def test_a_config_says_the_same_packed_and_without_comments(tmp_path: Path) -> None:
    one, other = saved(tmp_path, "a", cmdline()), saved(tmp_path, "b", cmdline())
    plain = "".join(line for line in CONFIG.splitlines(keepends=True) if line.startswith("CONFIG"))
    plain += "CONFIG_KASAN=n\n"
    (other / "kernels/config.gz").write_bytes(gzip.compress(plain.encode()))
    found = [events.load(one), events.load(other)]
    packed = dataclasses.replace(found[1].kernels[0], config="kernels/config.gz")
    found[1] = dataclasses.replace(found[1], kernels=(packed,))
    apart = told_apart([(one, found[0]), (other, found[1])])
    assert [run.kernels[0].name for run in apart] == ["6.12.117"] * 2


def test_names_stay_apart_where_no_words_tell_and_stay_short(tmp_path: Path) -> None:
    many = CONFIG + "".join(f"CONFIG_X{n}=y\n" for n in range(9))
    less = CONFIG.replace("CONFIG_CRYPTO_LZO=m\n", "")
    runs = [
        saved(tmp_path, str(n), cmdline(), config=config)
        for n, config in enumerate((CONFIG, many, many + "CONFIG_Y=y\n"))
    ]
    assert list(merged(tmp_path, *runs)) == [
        "6.12.117",
        "6.12.117 (CONFIG_X0=y CONFIG_X1=y CONFIG_X2=y and 6 more)",
        "6.12.117 (CONFIG_X0=y CONFIG_X1=y CONFIG_X2=y and 7 more)",
    ]
    found = [events.load(runs[0]), events.load(saved(tmp_path, "less", cmdline(), config=less))]
    apart = told_apart([(runs[0], found[0]), (tmp_path / "less", found[1])])
    assert [run.kernels[0].name for run in apart] == ["6.12.117 (CONFIG_CRYPTO_LZO=m)", "6.12.117"]


def test_what_is_missing_is_said_of_the_kernel_it_is_missing_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = saved(tmp_path, "a", cmdline(), shard="1/2")
    other = saved(tmp_path, "b", cmdline("fips=1"), shard="2/2")
    assert command.main(["merge", str(one), str(other)]) == 1
    said = capsys.readouterr().out
    assert "missing: shard 2/2 of 6.12.117: " in said
    assert "missing: shard 1/2 of 6.12.117 (fips=1): " in said


def test_arguments_are_those_that_no_machine_differs_in() -> None:
    assert arguments(cmdline("fips=1 crypto.x='a b'")) == ("nr_open=1048576", "panic=-1", "fips=1", "crypto.x=a b")
    assert arguments("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet lockdown=integrity") == ("lockdown=integrity",)
    assert arguments("it's fips=1") == ("it's", "fips=1")
