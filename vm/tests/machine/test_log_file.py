"""Logs that a guest floods: bounded on the disk while they grow, and in what is read of them."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import IO

import pytest

from vm.machine import log_file

KIB = 1024


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kibs in {"HEAD": 8, "KEPT": 64, "READ": 16, "_SLACK": 16, "MOST": 512}.items():
        monkeypatch.setattr(log_file, name, kibs * KIB)


def line(number: int) -> bytes:
    return f"{number:1023}\n".encode()


def flood(log: IO[bytes], first: int, count: int) -> None:
    for number in range(first, first + count):
        log.write(line(number))


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=["at-its-own-offset", "append"])
def test_the_middle_is_given_back_while_the_log_grows(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "console.log"
    bound = log_file.Bound(path)
    assert bound.keep(), "not there yet"
    with open(path, mode, buffering=0) as log:
        for second in range(40):
            flood(log, second * 64, 64)
            assert bound.keep()
            assert path.stat().st_blocks * 512 < (8 + 64 + 16 + 64) * KIB
        assert path.stat().st_size == 40 * 64 * KIB
    bound.finish()
    kept = path.read_text()
    assert kept.startswith(line(0).decode())
    assert kept.endswith(line(40 * 64 - 1).decode())
    assert "\0" not in kept
    assert log_file.LEFT_OUT in kept
    assert kept.count("\n") > 64 + 8
    assert path.stat().st_size < (8 + 64 + 16 + 64) * KIB


def test_a_short_log_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"one\r\ntwo\xff\n")
    bound = log_file.Bound(path)
    assert bound.keep()
    bound.finish()
    assert path.read_bytes() == b"one\r\ntwo\xff\n"
    assert log_file.text(path) == "one\ntwo\ufffd\n"
    assert log_file.text(tmp_path / "none") == ""


def test_of_a_long_log_the_beginning_and_the_end_are_read(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    with open(path, "wb", buffering=0) as log:
        flood(log, 0, 100)
    said = log_file.text(path).split("\n")
    assert (int(said[0]), int(said[-2])) == (0, 99)
    assert len(said) == 8 + 16 + 3
    assert f"0.1 MB {log_file.LEFT_OUT}" in said[9]


def test_where_no_part_of_a_file_can_be_given_back_it_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> bool:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return False

    monkeypatch.setattr(log_file, "_punch", refuse)
    path = tmp_path / "console.log"
    bound = log_file.Bound(path)
    with open(path, "wb", buffering=0) as log:
        flood(log, 0, 400)
        assert bound.keep()
        flood(log, 400, 200)
        assert not bound.keep()
    bound.finish()
    assert path.stat().st_size == 600 * KIB
