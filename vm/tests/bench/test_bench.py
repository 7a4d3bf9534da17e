"""What the bench makes of its measurements; measuring itself needs machines and is not tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.bench import command as bench
from vm.bench import runs as bench_runs
from vm.bench.command import stages, verdict
from vm.bench.runs import Bare, Timing, rate_of_console

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
    ("name", "value", "expected"),
    [
        ("fixed cost", 4.0, "met"),
        ("fixed cost", 4.1, "missed"),
        ("tests a second", 60.0, "met"),
        ("tests a second", 59.0, "missed"),
        ("two machines", 1.8, "met"),
        ("two machines", 1.79, "missed"),
    ],
)
def test_goals_have_a_direction(name: str, value: float, expected: str) -> None:
    assert verdict(name, value).endswith(expected)


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
