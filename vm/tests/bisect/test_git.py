"""Bisecting commits: a whole bisection of a small repository, and steps under git bisect run."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from vm.base import cache
from vm.base.files import ROOT
from vm.bisect import git as bisect_git
from vm.tests.archive import bzimage
from vm.tests.bisection import TEST, Field


@pytest.fixture
def repository(field: Field) -> Path:
    """Return a repository of seven commits; each has the release of its kernel in a file, one does not build."""
    path = field.project.directory / "linux"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "image").write_bytes(bzimage("6.1.0-fake"))
    for number in range(7):
        (path / "release").write_text(f"6.1.{number}-fake\n" if number != 3 else "broken\n")
        git(path, "add", ".")
        git(path, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", f"change {number}")
        git(path, "tag", f"v{number}")
    return path


def git(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True, text=True).stdout


BUILD_SCRIPT = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from vm.tests.archive import bzimage
release = open("release").read().strip()
assert release != "broken", "cannot compile"
open(f"bzImage-{{release}}", "wb").write(bzimage(release))
print(f"bzImage-{{release}}")
"""
BUILD = shlex.join([sys.executable, "-c", BUILD_SCRIPT])


def test_the_commit_is_found_and_the_users_tree_is_left_alone(field: Field, repository: Path) -> None:
    field.test("assert number < 5")
    (repository / "release").write_text("edited\n")
    before = (
        git(repository, "status", "--porcelain"),
        git(repository, "for-each-ref"),
        git(repository, "worktree", "list"),
    )
    done = field.run("--tree", str(repository), "--good", "v0", "--bad", "v6", "--build", BUILD)
    assert done.returncode == 0
    assert "first bad commit" in done.stdout
    assert "change 5" in done.stdout
    assert "cannot compile" in done.stdout
    assert (repository / "release").read_text() == "edited\n"
    after = (
        git(repository, "status", "--porcelain"),
        git(repository, "for-each-ref"),
        git(repository, "worktree", "list"),
    )
    assert after == before


def test_the_commit_that_fixed_it_is_found(field: Field, repository: Path) -> None:
    field.test("assert number >= 5")
    done = field.run("--tree", str(repository), "--good", "v6", "--bad", "v0", "--build", BUILD)
    assert done.returncode == 0
    assert "first good commit" in done.stdout
    assert "change 5" in done.stdout
    commit = git(repository, "rev-parse", "v5").strip()
    assert f"GOOD={commit} 'BAD={commit}^'" in done.stdout


def steps(field: Field, repository: Path, form: str) -> list[str]:
    """Return the command of one step in one of its forms, as it is given to git."""
    build = field.project.directory / "build.sh"
    build.write_text(BUILD)
    step = field.command("step", "--kernel", str(repository), "--build", f"sh {build}")
    if form == "python":
        return step
    options = [word for word in step[step.index(TEST) + 1 :] if word not in ("--kernel", str(repository))]
    return [str(ROOT / "vm/bisect/step.sh"), TEST, *options]


def bisect_run(field: Field, where: Path, step: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Have git drive steps, as somebody does who is in ``where``."""
    done = subprocess.run(
        ["git", "bisect", "run", *step], cwd=where, env={**field.environment, "PWD": str(where)}, timeout=280,
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("form", ["python", "script"])
def test_git_bisect_run_drives_steps_in_any_tree(field: Field, repository: Path, form: str) -> None:
    field.test("assert number < 5")
    git(repository, "bisect", "start", "v6", "v0")
    done = bisect_run(field, repository, steps(field, repository, form))
    assert f"{git(repository, 'rev-parse', 'v5').strip()} is the first bad commit" in done.stdout
    log = git(repository, "bisect", "log")
    assert f"git bisect skip {git(repository, 'rev-parse', 'v3').strip()}" in log


@pytest.mark.parametrize("form", ["python", "script"])
def test_git_bisect_run_ends_when_a_step_fails(field: Field, repository: Path, form: str) -> None:
    field.test("guest.killed()")
    git(repository, "bisect", "start", "v6", "v0")
    git(repository, "checkout", "-q", "v4")
    done = bisect_run(field, repository, steps(field, repository, form))
    assert done.returncode != 0
    assert "first bad commit" not in done.stdout
    log = [line for line in git(repository, "bisect", "log").splitlines() if line.startswith("git bisect ")]
    assert len(log) == 1, "nothing was judged but the ends"


def test_the_work_tree_is_made_and_renewed_under_its_lock(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bisections of one repository that began together made, or removed, one work tree at once."""
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    done: list[str] = []
    run, locked = bisect_git._run, cache.locked

    def noted(path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        if path is None or path.is_relative_to(tmp_path / "cache"):
            done.append(arguments[0])
        return run(path, *arguments)

    @contextlib.contextmanager
    def noting(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        with locked(path, waiting):
            done.append(f"locked {path.parent.name}")
            yield
            done.append("let go")

    monkeypatch.setattr(bisect_git, "_run", noted)
    monkeypatch.setattr(cache, "locked", noting)
    for _ in range(2):
        with bisect_git.WorkTree.taken(str(repository), "v0", "v6", lambda _line: None) as work:
            done.append("work")
            assert work.describe(work.bad) == "v6"
    each = ["fetch", "merge-base", "work", "describe", "let go"]
    assert done == ["locked bisect", "clone", *each, "locked bisect", *each]


def test_a_work_tree_that_was_half_made_is_made_again(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))

    def killed(path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        found = run(path, *arguments)
        if arguments[0] == "clone":
            raise KeyboardInterrupt
        return found

    run = bisect_git._run
    with monkeypatch.context() as patch:
        patch.setattr(bisect_git, "_run", killed)
        with (
            pytest.raises(KeyboardInterrupt),
            bisect_git.WorkTree.taken(str(repository), "v0", "v6", lambda _line: None),
        ):
            pass
    said: list[str] = []
    with bisect_git.WorkTree.taken(str(repository), "v0", "v6", said.append) as work:
        assert work.path.is_dir()
    assert said == [f"making a work tree of {repository}"]
    assert [path.name for path in work.path.parent.iterdir() if path.suffix == ".tmp"] == []
