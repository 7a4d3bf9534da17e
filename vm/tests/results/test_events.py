"""The stream of a run: what was written is what is read, however the run ended."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.results import events
from vm.results.model import VM, KernelRun, Run, Stall, TestResult, Verdict
from vm.results.table import summary_lines
from vm.tests.records import EVERYTHING


def stream_of(run: Run, end: bool = True) -> list[events.Event]:
    """Return the events of a run that comes to ``run``."""
    found: list[events.Event] = [events.RunBegan(run.id, run.started, run.command, run.host, run.revision)]
    for kernel in run.kernels:
        found.append(events.KernelSeen(dataclasses.replace(kernel, vms=(), tests=(), stalls=())))
        found += [events.VmSeen(kernel.name, vm) for vm in kernel.vms]
        for result in kernel.tests:
            found += [events.TestBegan(kernel.name, result.nodeid), events.TestEnded(kernel.name, result)]
        found += [events.Stalled(kernel.name, stall) for stall in kernel.stalls]
    if end:
        assert run.finished is not None
        assert run.exit_status is not None
        found.append(events.RunEnded(run.finished, run.exit_status))
    return found


def written(stream: Iterable[events.Event]) -> list[str]:
    return [events.encode(event) for event in stream]


def cut(*tests: str) -> list[events.Event]:
    """Return the events of a run of one kernel that has collected ``tests`` and ended none."""
    return [
        events.RunBegan("r", "2026-11-27T08:00:00Z"),
        events.KernelSeen(KernelRun("6.1", "6.1")),
        events.Collected("6.1", tests, tuple(f"{test}[6.1]" for test in tests)),
    ]


def passed(test: str) -> TestResult:
    return TestResult(test, f"{test}[6.1]", Verdict.PASSED)


def test_what_is_written_is_read() -> None:
    assert events.fold(written(stream_of(EVERYTHING)), "it") == EVERYTHING


def test_a_run_without_an_end_was_cut_off() -> None:
    stream = [*cut("a", "b", "c"), events.TestEnded("6.1", passed("a")), events.TestBegan("6.1", "b[6.1]", "6.1-1")]
    run = events.fold(written(stream), "it")
    assert (run.finished, run.exit_status) == (None, None)
    (kernel,) = run.kernels
    assert [(test.test, test.verdict, test.reason) for test in kernel.tests] == [
        ("a", Verdict.PASSED, ""),
        ("b", Verdict.NOT_RUN, "the run was cut off while it ran"),
        ("c", Verdict.NOT_RUN, "the run was cut off before it"),
    ]
    assert not kernel.good
    assert any("cut off" in line for line in summary_lines(run))


def test_the_last_word_on_a_test_and_on_a_vm_counts() -> None:
    crashed = dataclasses.replace(passed("a"), verdict=Verdict.CRASHED)
    stream = [
        *cut("a"),
        events.VmSeen("6.1", VM("6.1-1", "vms/6.1-1/console.log")),
        events.TestEnded("6.1", passed("a")),
        events.TestEnded("6.1", crashed),
        events.VmSeen("6.1", VM("6.1-1", "vms/6.1-1/console.log", "crashed", "panic")),
        events.Stalled("6.1", Stall("6.1-1", "a", 30.0, "hung")),
    ]
    (kernel,) = events.fold(written(stream), "it").kernels
    assert kernel.tests == (crashed,)
    assert [vm.state for vm in kernel.vms] == ["crashed"]
    assert len(kernel.stalls) == 1


@pytest.mark.parametrize("torn", [1, 20, 60])
def test_a_line_that_was_not_finished_is_passed_over(torn: int) -> None:
    lines = written([*cut("a", "b"), events.TestEnded("6.1", passed("a")), events.TestEnded("6.1", passed("b"))])
    (kernel,) = events.fold([*lines[:-1], lines[-1][:-torn]], "it").kernels
    assert [test.verdict for test in kernel.tests] == [Verdict.PASSED, Verdict.PASSED if torn == 1 else Verdict.NOT_RUN]


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "from the future", "kernel": "6.1"}',
        '{"event": "test ended", "kernel": "6.1", "result": {"test": "a", "nodeid": "a[6.1]", "verdict": "splendid"}}',
        '{"event": "test ended"}',
        "[1, 2]",
        "null",
        "",
    ],
)
def test_what_is_not_known_makes_nothing_green(line: str) -> None:
    (kernel,) = events.fold([*written(cut("a")), line], "it").kernels
    assert [test.verdict for test in kernel.tests] == [Verdict.NOT_RUN]


def test_members_of_a_later_revision_are_passed_over() -> None:
    lines = [json.dumps({**json.loads(line), "later": 1}) for line in written(stream_of(EVERYTHING))]
    assert events.fold(lines, "it") == EVERYTHING


@pytest.mark.parametrize("lines", [[], ["{}"], ["nonsense\n"], written(cut("a"))[1:]], ids=len)
def test_no_run(lines: list[str]) -> None:
    with pytest.raises(UsageError, match="no run began in it"):
        events.fold(lines, "it")


def test_a_newer_schema_is_refused() -> None:
    began = json.loads(events.encode(cut("a")[0]))
    with pytest.raises(UsageError, match="has schema 99"):
        events.fold([json.dumps({**began, "schema": 99})], "it")


def test_each_event_is_on_the_disk_at_once(tmp_path: Path) -> None:
    stream = events.Stream(tmp_path / events.NAME)
    for number, event in enumerate(stream_of(EVERYTHING), 1):
        stream.add(event)
        assert len((tmp_path / events.NAME).read_text().splitlines()) == number
    assert stream.fold.run() == events.load(tmp_path) == EVERYTHING
    stream.close()
    assert stream.trouble == ""


def test_a_full_disk_costs_what_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a line is written, then nothing, then there is room again."""
    stream = events.Stream(tmp_path / events.NAME)
    for event in cut("a", "b", "c"):
        stream.add(event)
    real, room = os.write, [30]

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = real(descriptor, data[: room[0]])
        room[0] -= count
        return count

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        stream.add(events.TestEnded("6.1", passed("a")))
        stream.add(events.TestEnded("6.1", passed("b")))
    stream.add(events.TestEnded("6.1", passed("c")))
    assert "No space left on device" in stream.trouble
    verdicts = {test.test: test.verdict for kernel in events.load(tmp_path).kernels for test in kernel.tests}
    assert verdicts == {"a": Verdict.NOT_RUN, "b": Verdict.NOT_RUN, "c": Verdict.PASSED}


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    stream = events.Stream(tmp_path / "missing" / events.NAME)
    for event in stream_of(EVERYTHING):
        stream.add(event)
    stream.close()
    assert "cannot write" in stream.trouble
    assert stream.fold.run() == EVERYTHING


def test_where_a_run_is_read_from(tmp_path: Path) -> None:
    (tmp_path / events.NAME).write_text("".join(written(stream_of(EVERYTHING, end=False))))
    for path in (tmp_path, tmp_path / events.NAME, tmp_path / "results.json"):
        assert events.load(path).finished is None
    with pytest.raises(UsageError, match="cannot read"):
        events.load(tmp_path / "other" / "results.json")


def test_verdicts_of_a_kernel_that_nothing_was_said_of_are_kept() -> None:
    lines = [events.encode(event) for event in stream_of(EVERYTHING) if not isinstance(event, events.KernelSeen)]
    folded = events.fold(lines, "x")
    assert [kernel.tests for kernel in folded.kernels] == [
        kernel.tests for kernel in EVERYTHING.kernels if kernel.tests
    ]


def test_a_verdict_that_cannot_be_read_is_not_run() -> None:
    lines = [events.encode(event).replace('"crashed"', '"exploded"') for event in stream_of(EVERYTHING)]
    verdicts = [test.verdict for test in events.fold(lines, "x").kernels[0].tests]
    assert Verdict.CRASHED not in verdicts
    assert len(verdicts) == len(Verdict)
    assert verdicts.count(Verdict.NOT_RUN) == 2


def test_a_run_without_a_kernel_is_not_good() -> None:
    assert Run("x", "", finished="2026", exit_status=0).status == 1
