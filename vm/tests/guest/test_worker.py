"""What a guest keeps of the kernel's log: bounded, and it knows when there was more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.guest import worker


@pytest.fixture
def log(tmp_path: Path) -> worker.KernelLog:
    """Return a log that reads what a test puts into the place of /dev/kmsg."""
    found = worker.KernelLog(marking=False)
    if found.reader is not None:
        os.close(found.reader)
    (tmp_path / "kmsg").touch()
    found.reader = os.open(tmp_path / "kmsg", os.O_RDONLY)
    return found


def test_a_kernel_that_logs_without_end_is_not_read_without_end(
    log: worker.KernelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = b"4,1,1000000,-;" + b"x" * 4000 + b"\n"
    monkeypatch.setattr(log, "_next", lambda _reader: record)
    lines = log.read()
    assert log.lost
    assert lines[-1] == worker.OVERWRITTEN
    assert len(lines) * 4000 < worker._MOST_READ + 10_000


def test_records_that_were_overwritten_are_known(log: worker.KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[bytes | OSError] = iter(
        [BrokenPipeError(), b"4,1,1000000,-;hello\n", BlockingIOError(), BlockingIOError()]
    )

    def read(_reader: int) -> bytes:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(log, "_next", read)
    assert log.read() == [worker.OVERWRITTEN, "[    1.000000] hello"]
    assert log.lost
    assert log.read() == []
    assert not log.lost


def test_of_a_long_log_the_beginning_and_the_end_are_kept() -> None:
    lines = [f"line {number}" for number in range(1000)]
    text = worker.bounded(lines, 100)
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("\nline 998\nline 999")
    assert f"\n(... {len(chr(10).join(lines)) - 100} characters left out ...)\n" in text
    assert worker.bounded(lines[:3], 100) == "line 0\nline 1\nline 2"
    assert worker.bounded([]) == ""
