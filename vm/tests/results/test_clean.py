"""Old results are removed when somebody asks for it, and then nothing but old results."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vm.results import clean


def put(path: Path, *, hours: float = 48, part: str = "events.jsonl") -> Path:
    path.mkdir(parents=True)
    (path / part).touch()
    for each in (path / part, path):
        os.utime(each, (time.time() - hours * 3600,) * 2)
    return path


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Return the directories of runs, the newest first."""
    names = [f"2026-11-{day:02}T10-00-00" for day in range(1, 13)]
    names.insert(3, "2026-11-03T10-00-00.2")
    names.insert(4, "2026-11-03T10-00-00.10")
    return [put(tmp_path / name) for name in names][::-1]


def test_the_newest_stay(tmp_path: Path, many: list[Path]) -> None:
    assert clean.runs(tmp_path) == many
    assert clean.clean(tmp_path, 3) == many[3:]
    assert [path for path in many if path.exists()] == many[:3]


def test_what_is_no_run_stays(tmp_path: Path, many: list[Path]) -> None:
    others = [
        put(tmp_path / "mine"),
        put(tmp_path / "2026-01-01T10-00-00.before-the-change"),
        put(tmp_path / "2026-01-02T10-00-00", part="notes"),
    ]
    (tmp_path / "2026-01-03T10-00-00").symlink_to("mine")
    (tmp_path / "latest").symlink_to(many[-1].name)
    clean.clean(tmp_path, 0)
    assert all(path.exists() for path in (*others, many[-1], tmp_path / "2026-01-03T10-00-00"))
    assert not any(path.exists() for path in many[:-1])


def test_what_a_run_may_still_write_to_stays(tmp_path: Path) -> None:
    running, begun, old = (put(tmp_path / f"2026-11-0{day}T10-00-00") for day in (1, 2, 3))
    (running / "vms/6.1-1").mkdir(parents=True)
    (running / "vms/6.1-1/witness").touch()
    os.utime(running, (1, 1))
    (begun / "events.jsonl").write_text("{}")
    os.utime(begun, (1, 1))
    assert clean.clean(tmp_path, 0) == [old]


def test_the_command_says_what_it_did(tmp_path: Path, many: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert clean.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{len(many) - clean.KEEP} runs removed from {tmp_path}, {clean.KEEP} left\n"
    assert clean.main([str(tmp_path), "--keep", "-1"]) == 4
    assert clean.main([str(tmp_path / "none")]) == 0


def test_of_many_runs_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "2026-11-01T10-00-00")
    assert clean.hint(tmp_path) == ""
    monkeypatch.setattr(clean, "MANY", 0)
    assert clean.hint(tmp_path) == f"{tmp_path} has 1 runs; make clean-results keeps the newest 10"
