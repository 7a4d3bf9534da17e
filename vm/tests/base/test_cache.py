"""The cache: entries are complete or absent, whatever happens while they are made."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vm.base import cache
from vm.base.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30.0


def fill(temporary: Path) -> None:
    (temporary / "content").write_text("whole")


def refuse(temporary: Path) -> None:
    raise AssertionError("made again")


def test_entry_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "kernels" / "one"
    assert cache.entry(path, fill) == path
    assert (path / "content").read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o755
    assert cache.entry(path, refuse) == path


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_failure_leaves_nothing_and_the_next_try_works(tmp_path: Path, error: BaseException) -> None:
    def fail(temporary: Path) -> None:
        (temporary / "content").write_text("half")
        raise error

    path = tmp_path / "one"
    with pytest.raises(type(error)):
        cache.entry(path, fail)
    assert [file.name for file in tmp_path.iterdir()] == ["one.lock"]
    assert (cache.entry(path, fill) / "content").read_text() == "whole"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space left in {} (while making one); free some, or set AFALG_CACHE to a directory on"),
        (errno.EDQUOT, "no space left in {}"),
        (errno.EROFS, "cannot write in {} (while making one): Read-only file system; set AFALG_CACHE"),
        (errno.EACCES, "cannot write in {}"),
    ],
)
def test_disk_trouble_is_one_line(tmp_path: Path, number: int, text: str) -> None:
    def fail(temporary: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UsageError) as refusal:
        cache.entry(tmp_path / "one", fail)
    assert str(refusal.value).startswith(text.format(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["one.lock"]


def test_other_errors_keep_their_trace(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        raise OSError(errno.EIO, "broken disk")

    with pytest.raises(OSError, match="broken disk"):
        cache.entry(tmp_path / "one", fail)


# Makes the entry argv[1] with what it is: says "making", waits for a line, writes its process id.
MAKER = """
import os, sys
from pathlib import Path
from vm.base import cache
def make(temporary):
    print("making", flush=True)
    (temporary / "half").touch()
    sys.stdin.readline()
    (temporary / "content").write_text(str(os.getpid()))
cache.entry(Path(sys.argv[1]), make, lambda: print("waiting", flush=True))
print("done", flush=True)
"""


def maker(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_second_run_waits_for_the_first_and_takes_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "one"
    first = maker(path)
    assert said(first) == "making"
    second = maker(path)
    assert said(second) == "waiting"
    assert not path.exists(), "not before it is whole"
    assert first.communicate("\n", timeout=SECONDS)[0] == "done\n"
    assert second.communicate("", timeout=SECONDS)[0] == "done\n", "made nothing"
    assert (path / "content").read_text() == str(first.pid)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "one"
    first = maker(path)
    assert said(first) == "making"
    second = maker(path)
    assert said(second) == "waiting"
    first.send_signal(signal.SIGKILL)
    first.wait(SECONDS)
    assert said(second) == "making", "the lock went with its holder"
    assert len(list(tmp_path.glob(".one.*.tmp"))) == 1, "the killed one's is gone"
    second.communicate("\n", timeout=SECONDS)
    assert (path / "content").read_text() == str(second.pid)
    assert not (path / "half").exists() or list(tmp_path.glob(".one*")) == []


def test_who_waits_for_a_lock_can_say_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "one"
    first = maker(path)
    assert said(first) == "making"
    assert re.fullmatch(rf"process {first.pid} since \d\d:\d\d:\d\d", cache.holder(path))
    first.communicate("\n", timeout=SECONDS)
    assert cache.holder(tmp_path / "two") == "a process that did not say its number"


def test_an_entry_that_a_run_has_taken_is_not_removed(tmp_path: Path) -> None:
    path = cache.entry(tmp_path / "one", fill)
    assert not cache.remove(path)
    assert (path / "content").read_text() == "whole"


def test_an_entry_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "one"
    process = maker(path)
    process.communicate("\n", timeout=SECONDS)
    assert cache.remove(path)
    assert not path.exists()
    assert (cache.entry(path, fill) / "content").read_text() == "whole"


def test_a_cache_that_can_only_be_read_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one"
    path.mkdir()

    def closed(_path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cache, "_lock_file", closed)
    assert cache.entry(path, refuse) == path


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"AFALG_CACHE": "{}/a", "XDG_CACHE_HOME": "{}/x", "HOME": "{}/h"}, "a"),
        ({"XDG_CACHE_HOME": "{}/x", "HOME": "{}/h"}, "x/af-alg-tests"),
        ({"HOME": "{}/h"}, "h/.cache/af-alg-tests"),
    ],
    ids=["named", "xdg", "home"],
)
def test_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("AFALG_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert cache.cache_dir() == tmp_path / expected
    assert (tmp_path / expected).is_dir()


def test_cache_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match=r"cannot create the cache directory .*; set AFALG_CACHE to a directory"):
        cache.cache_dir()


# flock(2), "NFS details": there it is a lock of fcntl(2), which wants a file that is open in the right way.
AS_ON_NFS = """
import errno, fcntl, os
local = fcntl.flock
def flock(file, operation):
    mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
    refused = {fcntl.LOCK_SH: os.O_WRONLY, fcntl.LOCK_EX: os.O_RDONLY}
    if refused.get(operation & ~fcntl.LOCK_NB) == mode:
        raise OSError(errno.EBADF, "Bad file descriptor")
    local(file, operation)
fcntl.flock = flock
"""
EVERY_LOCK = """
import sys
from pathlib import Path
from vm.base import cache
path = Path(sys.argv[1])
with cache.locked(path):
    print(cache.holder(path).split()[0])
cache.entry(path, lambda temporary: None)
cache.hold(path)
print(cache.remove(path), cache._held.pop(path).close(), cache.remove(path))
"""


def test_locks_can_be_had_on_nfs(tmp_path: Path) -> None:
    code = AS_ON_NFS + EVERY_LOCK
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one")], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert (run.stderr, run.stdout.splitlines()) == ("", ["process", "False None True"])


@pytest.mark.parametrize(("mode", "operation"), [("a", fcntl.LOCK_SH), ("r", fcntl.LOCK_EX)])
def test_a_lock_of_fcntl_wants_a_file_that_is_open_in_the_right_way(tmp_path: Path, mode: str, operation: int) -> None:
    """What AS_ON_NFS does the kernel does; and how the cache opens its files serves for both."""
    (tmp_path / "one.lock").touch()
    with open(tmp_path / "one.lock", mode) as file, pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.lockf(file, operation)
    with cache._lock_file(tmp_path / "one") as file:
        fcntl.lockf(file, operation)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match=r"one\.lock: .*; set AFALG_CACHE to a directory on a local disk"):
        cache.entry(tmp_path / "one", fill)
