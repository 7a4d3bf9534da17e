"""What the bench makes of its measurements; measuring itself needs machines and is not tested."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vm.base import room
from vm.base.errors import UsageError
from vm.bench import command as bench
from vm.bench import runs as bench_runs
from vm.bench.command import stages
from vm.bench.judge import Quiet, Ratio, described, in_turn, machine
from vm.bench.runs import Bare, Timing, rate_of_console
from vm.kernels.spec import Kernel

CONSOLE = """\
[    0.500000] Run /init as init process
[   10.000000] vm-test: begin t.py::test_a[6.1-0]
[   10.200000] vm-test: end t.py::test_a[6.1-0]
[   10.300000] vm-test: begin t.py::test_a[6.1-1]
[   10.400000] vm-test: end t.py::test_a[6.1-1]
[   10.450000] vm-test: begin t.py::test_a[6.1-2]
[   10.500000] vm-test: end t.py::test_a[6.1-2]
"""


def test_the_rate_counts_from_the_first_begin_to_the_last_end() -> None:
    assert rate_of_console(CONSOLE) == pytest.approx(3 / 0.5)


@pytest.mark.parametrize("text", ["", "[ 1.0] vm-test: begin a\n", "no stamps\n"])
def test_a_console_without_tests_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="two tests"):
        rate_of_console(text)


def test_stages_are_in_order_and_add_up_to_the_whole() -> None:
    moments = {
        "process 1 of the RAM disk": 1.5,
        "pytest imported": 0.5,
        "QEMU started": 2.0,
        "Python in the guest": 9.0,
        "tests": 12.0,
    }
    run = Timing(moments, seconds=13.0, processor=1.0, tests=1, busy=1.0, guests=1.0)
    found = stages(run, Bare(seconds=4.0, processor=4.0, uptime=3.0))
    assert [(name, round(seconds, 6)) for name, seconds in found] == [
        ("pytest imported", 0.5),
        ("QEMU started", 1.5),
        # What the bare boot took beyond the kernel's own time: 4 - 3.
        ("kernel entered (firmware)", 1.0),
        # By the guest's clock, which begins there.
        ("process 1 of the RAM disk", 1.5),
        ("Python in the guest", 4.5),
        ("tests", 3.0),
        ("teardown", 1.0),
    ]
    assert sum(seconds for _, seconds in found) == pytest.approx(run.seconds)


@pytest.mark.parametrize(
    ("value", "at_most", "expected"),
    [(4.0, True, "met"), (4.1, True, "missed"), (4.0, False, "met"), (3.9, False, "missed")],
)
def test_goals_have_a_direction(value: float, at_most: bool, expected: str) -> None:
    assert Ratio("r", (value,) * 5, 4.0, at_most).verdict().endswith(expected)


def test_a_ratio_is_the_middle_one_with_the_middle_half_as_its_spread() -> None:
    """Quartiles of 1, 2, 3, 4, 10 with both ends: 2 and 4 (a single slow pair is no spread)."""
    ratio = Ratio("r", (3.0, 10.0, 1.0, 2.0, 4.0), 5.0, True)
    assert (ratio.median, ratio.middle, round(ratio.spread, 3)) == (3.0, (2.0, 4.0), 0.667)
    assert ratio.verdict() == "goal at most 5: not judged (spread 67% of at most 25%)"
    assert Ratio("r", (3.0,) * 4, 5.0, True).verdict() == "goal at most 5: not judged (4 of 5 pairs)"
    assert Ratio("r", (3.0,) * 5, 5.0, True).verdict("noise") == "goal at most 5: not judged (noise)"


@pytest.mark.parametrize(
    ("load", "times", "doubt"),
    [
        (0.5, [1.0, 1.0, 1.2], ""),
        (0.7, [1.0], "busy: load 0.7 on 2 processors"),
        (0.0, [1.0, 1.4, 1.5], "the same work took 40% longer"),
    ],
)
def test_a_busy_machine_is_seen(load: float, times: list[float], doubt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "processors", lambda: 2)
    found = Quiet(load, times).doubt()
    assert doubt in found
    assert bool(found) == bool(doubt)


def test_pairs_are_measured_in_changing_order() -> None:
    assert ["".join(in_turn(pair, "abc")) for pair in range(3)] == ["abc", "cba", "abc"]


def test_work_that_is_looked_at_takes_time_and_the_machine_has_a_name() -> None:
    quiet = Quiet()
    quiet.look()
    assert quiet.times[0] > 0
    told = machine()
    assert told["processors"] == room.processors()
    assert f"kernel {platform.release()}" in described(told, 1.5)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[float], tuple[int, dict[str, Any]]]:
    """Return what runs the bench on made-up times; the bare boot of each second pair takes ``factor`` times as long."""
    image = tmp_path / "vmlinuz"
    kernel = Kernel("6.1", "6.1", "6.1.0-1", image=image)
    made: list[str] = []

    def bare(_kernel: Kernel, _accelerator: object, _qemu: str, _work: Path, more: Sequence[str] = ()) -> Bare:
        made.append("bare" if more else "ours")
        slow = factor if made.count("bare") % 2 == 0 else 1.0
        return Bare(seconds=5.0 * slow, processor=4.0, uptime=3.0)

    def whole(_spec: str, file: Path, _work: Path, extra: Sequence[str] = ()) -> Timing:
        words = list(extra)
        vms = int(words[words.index("--vms") + 1]) if "--vms" in words else 1
        made.append(f"{file.stem}-{vms}")
        return Timing({"QEMU started": 1.0}, 15.0, 12.0, 480 if "small" in file.stem else 1, 10.0 / vms, 8.0)

    factor = 1.0
    monkeypatch.setattr(bench, "resolve", lambda _specs, _say: [kernel])
    monkeypatch.setattr(bench, "probe", lambda *_args, **_named: SimpleNamespace(name="tcg"))
    monkeypatch.setattr(bench, "bare_boot", bare)
    monkeypatch.setattr(bench, "whole_command", whole)
    monkeypatch.setattr(bench, "guest_rate", lambda _work: 70.0)
    monkeypatch.setattr(bench, "_loop_in_guest", lambda *_args: 900.0)
    monkeypatch.setattr(bench, "Quiet", lambda: Quiet(0.0, [1.0]))
    monkeypatch.setattr(Quiet, "look", lambda _self: None)

    def run(slower: float) -> tuple[int, dict[str, Any]]:
        nonlocal factor
        factor = slower
        file = tmp_path / "figures" / "bench.json"
        status = bench.main(["--kernel", "6.1", "--json", str(file)])
        assert made.count("bare") == made.count("test_small-2") == 5
        return status, json.loads(file.read_text())

    return run


def test_figures_are_printed_and_written(
    measured: Callable[[float], tuple[int, dict[str, Any]]], capfd: pytest.CaptureFixture[str]
) -> None:
    status, told = measured(1.0)
    output = capfd.readouterr().out
    assert status == 0
    assert {ratio["name"]: ratio["median"] for ratio in told["ratios"]} == {
        "fixed cost": 3.0,
        "tests a second": 70.0,
        "two machines": 2.0,
    }
    assert all(len(ratio["pairs"]) == 5 and not ratio["doubt"] for ratio in told["ratios"])
    assert re.search(r"^fixed cost +3\.00  3\.00 to 3\.00 .*: met$", output, re.MULTILINE)
    assert told["machine"]["load"] == 0.0


def test_what_differs_from_pair_to_pair_is_not_judged(
    measured: Callable[[float], tuple[int, dict[str, Any]]], capfd: pytest.CaptureFixture[str]
) -> None:
    status, told = measured(2.0)
    output, errors = capfd.readouterr()
    assert status == 1
    assert [bool(ratio["doubt"]) for ratio in told["ratios"]] == [True, False, False]
    assert "not judged (spread" in output
    assert "not judged: fixed cost: spread" in errors
    assert "measure again when nothing else runs" in errors


def test_the_plain_loop_calls_the_very_test(tmp_path: Path) -> None:
    file = tmp_path / "test_small.py"
    out = tmp_path / "out"
    file.write_text(f"def test_small(number):\n    open({str(out)!r}, 'a').write(f'{{number}}\\n')\n")
    assert bench.plain_loop(file, 3) > 0
    assert out.read_text() == "0\n1\n2\n"


def test_the_small_tests_are_tests_and_pass(tmp_path: Path) -> None:
    file = tmp_path / "test_small.py"
    file.write_text(bench._SMALL)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert bench.plain_loop(file) > 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_processors_time_of_ended_children_is_seen(tmp_path: Path) -> None:
    before = bench_runs._processor()
    bench_runs.checked(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"])
    assert bench_runs._processor() > before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "round"),
        (["--rounds", "many"], "--rounds"),
        (["--kernel", "running"], "'running'"),
        (["--kernel", "./no/such"], "./no/such"),
    ],
)
def test_bad_input_is_one_line_and_status_4(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench.main(arguments) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert said in line


def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(UsageError, match=r"status 3.*no good"):
        bench_runs.checked(["sh", "-c", "echo no good >&2; exit 3"])
