"""The cache's bound: what is removed, in which order, and what never is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from vm.base import cache, prune
from vm.base.errors import UsageError

# Some start another process, which a busy machine may make wait.
pytestmark = pytest.mark.deadline(60)

ROOT = Path(__file__).resolve().parents[3]
SIZE = 1_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own, with a limit of two and a half entries."""
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "2.5M")
    return cache.cache_dir()


def put(path: Path, used: float) -> Path:
    """Make an entry of a megabyte that was last used ``used`` seconds after the epoch."""
    path.mkdir(parents=True)
    (path / "content").write_bytes(os.urandom(SIZE))
    Path(f"{path}.lock").touch()
    os.utime(f"{path}.lock", (used, used))
    return path


def to_limit() -> list[str]:
    said: list[str] = []
    prune.to_limit(said.append)
    return said


# Takes argv[1] as a run does, says so, and ends when its input does.
RUN = """
import sys
from pathlib import Path
from vm.base import cache
cache.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def run_with(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_what_was_used_longest_ago_goes_first_and_no_more_than_needed(home: Path) -> None:
    middle, oldest, newest = (
        put(home / place, used) for place, used in (("kernels/a", 200), ("sources/b", 100), ("built/k/c", 300))
    )
    (said,) = to_limit()
    assert said.startswith("removed from the cache: sources/b (0.0 GB, last used 1970-01-01)")
    assert not oldest.exists()
    assert middle.exists()
    assert newest.exists()


def test_within_the_limit_nothing_goes(home: Path) -> None:
    put(home / "kernels/a", 100)
    put(home / "kernels/b", 100)
    assert to_limit() == []


def test_an_old_entry_that_is_taken_again_is_a_new_one(home: Path) -> None:
    first, second, third = (put(home / "kernels" / name, used) for name, used in (("a", 100), ("b", 200), ("c", 300)))
    process = run_with(first)
    process.communicate("", timeout=30)
    to_limit()
    assert [path.exists() for path in (first, second, third)] == [True, False, True]


def test_what_a_run_uses_stays_until_it_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(home / "sources/a", 100)
    process = run_with(path)
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "0")
    to_limit()
    said: list[str] = []
    assert prune.everything(said.append) == 0
    assert path.exists()
    assert said[0].startswith("a run uses sources/a ")
    process.communicate("", timeout=30)
    assert prune.everything(said.append) >= SIZE
    assert not path.exists()


def test_a_build_going_on_stays(home: Path) -> None:
    out = put(home / "builds/linux-6.12-abc/build", 100)
    with cache.locked(out):
        prune.everything(lambda _: None)
        assert out.exists()
    prune.everything(lambda _: None)
    assert not out.exists()


def test_links_to_a_tree_go_with_its_last_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = home / "builds/linux-6.12-abc"
    put(shadow / "build", 100)
    put(shadow / "build-debug", 3e9)
    (shadow / "Makefile").symlink_to("/linux/Makefile")
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "1.5M")
    to_limit()
    assert not (shadow / "build").exists()
    assert (shadow / "Makefile").is_symlink()
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "0")
    to_limit()
    assert not shadow.exists()


def test_links_stay_for_a_build_that_is_about_to_begin(home: Path) -> None:
    shadow = home / "builds/linux-6.12-abc"
    shadow.mkdir(parents=True)
    process = run_with(shadow)
    to_limit()
    assert shadow.exists()
    process.communicate("", timeout=30)
    to_limit()
    assert not shadow.exists()


def test_a_bisection_goes_only_with_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bisection = put(home / "bisect/a", 100)
    lists = put(home / "apt/bookworm", 100)
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "0")
    assert to_limit() == []
    prune.everything(lambda _: None)
    assert not bisection.exists()
    assert lists.exists()


def test_what_a_killed_removal_left_goes_with_the_next(home: Path) -> None:
    put(home / "kernels/a", 100)
    (home / "kernels/.a.xyz.tmp").mkdir()
    prune.everything(lambda _: None)
    assert [path.name for path in (home / "kernels").iterdir()] == ["a.lock"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 30 * 10**9), ("30G", 30 * 10**9), ("500M", 5 * 10**8), ("1.5gb", 15 * 10**8), ("0", 0), ("none", None)],
)
def test_the_limit_is_read_as_people_write_it(monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None) -> None:
    monkeypatch.setenv(prune.LIMIT_VARIABLE, text)
    assert prune.limit() == expected


def test_without_a_limit_nothing_goes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prune.LIMIT_VARIABLE, "none")
    for name in "abcd":
        put(home / "kernels" / name, 100)
    assert to_limit() == []


@pytest.mark.parametrize("text", ["much", "-1G", "5 apples"])
def test_a_limit_that_is_no_size_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv(prune.LIMIT_VARIABLE, text)
    with pytest.raises(UsageError, match=r"AFALG_CACHE_LIMIT is .*; expected a size like 30G"):
        prune.limit()
    assert prune.main([]) == 4
    assert capsys.readouterr().err.startswith("error: AFALG_CACHE_LIMIT")


def test_the_command_says_how_much_is_free_now(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(home / "kernels/a", 100)
    assert prune.main(["--all"]) == 0
    assert capsys.readouterr().out == f"0.0 GB freed in {home}\n"


def test_what_somebody_else_has_locked_away_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = put(home / "kernels/theirs", 100), put(home / "kernels/ours", 200)
    put(home / "kernels/new", 300)
    opened = cache._lock_file

    def refuse(path: Path) -> IO[str]:
        if path == theirs:
            raise PermissionError
        return opened(path)

    monkeypatch.setattr(cache, "_lock_file", refuse)
    (said,) = to_limit()
    assert "kernels/ours" in said
    assert (theirs.exists(), ours.exists()) == (True, False)


def test_what_a_clock_that_was_ahead_has_dated_is_counted_from_now_on(home: Path) -> None:
    put(home / "kernels/a", time.time() - 1000)
    put(home / "sources/b", time.time() + 1e7)
    lock = home / "sources/b.lock"
    list(prune.entries())
    assert abs(lock.stat().st_mtime - time.time()) < 60
    os.utime(lock, (time.time() - 2000, time.time() - 2000))
    put(home / "built/k/c", time.time())
    (said,) = to_limit()
    assert said.startswith("removed from the cache: sources/b ")
