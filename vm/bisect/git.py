"""Bisect commits in a work tree of our own, that shares the objects of the user's repository and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache, process
from vm.base.errors import BuildFailed, UsageError
from vm.base.progress import Progress
from vm.base.words import last_line
from vm.kernels.build.make import BUILD_DEADLINE

# Terms of our own: git's good and bad cannot change places, and a fix is hunted as often as a bug.
OLD, NEW = "before", "after"


@dataclass(frozen=True)
class Found:
    """How git's bisection ended.

    Attributes:
        commit: the first one with the new answer, None when it was not found.
        words: what git said, or why it stopped.
    """

    commit: str | None
    words: str


@dataclass(frozen=True)
class WorkTree:
    """A clone in the cache, kept for the next bisection: what is built again is what changed.

    Attributes:
        path: the clone.
        source: the user's repository.
        good, bad: commits.
        bad_is_newer: whether the bug came, rather than went, between the two.
    """

    path: Path
    source: str
    good: str
    bad: str
    bad_is_newer: bool

    @classmethod
    @contextlib.contextmanager
    def taken(cls, tree: str, good: str, bad: str, progress: Progress) -> Iterator[WorkTree]:
        """Make the work tree, or bring the one of before up to date; it is the block's own.

        Args:
            tree: the user's repository, which is only read.
            good, bad: names of commits in it.
            progress: told when another bisection of that repository has to be waited for.

        Raises:
            UsageError: no such repository or commit, or both are the same; no space.
        """
        found = _git(Path(tree).expanduser(), "rev-parse", "--absolute-git-dir")
        if found is None:
            raise UsageError(f"{tree} is no git repository that git lets us read; give TREE=path/to/linux")
        source = found.strip()
        commits = {name: _commit(source, name, tree) for name in (good, bad)}
        if commits[good] == commits[bad]:
            raise UsageError(f"{good} and {bad} are the same commit; give two that differ")
        key = hashlib.sha256(source.encode()).hexdigest()[:12]
        path = cache.cache_dir() / "bisect" / key
        with cache.locked(path, lambda: progress(f"waiting for another bisection of {source}")):
            if not (path / ".git" / "HEAD").exists():
                progress(f"making a work tree of {tree}")
                _clone(source, path)
            # Tags are only names for people; the objects are there already.
            _must(path, "fetch", "--quiet", "--tags", "--force", source)
            newer = _git(path, "merge-base", "--is-ancestor", commits[bad], commits[good]) is None
            yield cls(path, source, commits[good], commits[bad], newer)

    def describe(self, commit: str) -> str:
        """Return a name for people that is unique: ``v6.12.95-3-g0123456789ab``."""
        return (_git(self.path, "describe", "--tags", "--always", "--abbrev=12", commit) or commit).strip()

    def oneline(self, commit: str) -> str:
        """Return commit, date and subject."""
        return _must(self.path, "show", "--no-patch", "--format=%h %cs %s", "--abbrev=12", commit).strip()

    def checkout(self, commit: str) -> None:
        """Have the files of ``commit`` in the work tree, whatever a build left there."""
        _must(self.path, "checkout", "--quiet", "--force", "--detach", commit)

    def bisect(self, ask: Callable[[str], str], progress: Progress) -> Found:
        """Let git choose commits until it knows.

        Args:
            ask: answers for a commit: ``good``, ``bad``, ``skip`` or ``stop``.
            progress: told how many steps are left.

        Raises:
            UsageError: git refuses.
        """
        old, new = (self.good, self.bad) if self.bad_is_newer else (self.bad, self.good)
        terms = {("good" if self.bad_is_newer else "bad"): OLD, ("bad" if self.bad_is_newer else "good"): NEW}
        _git(self.path, "bisect", "reset", "HEAD")
        said = _must(self.path, "bisect", "start", "--no-checkout", f"--term-old={OLD}", f"--term-new={NEW}", new, old)
        try:
            while (found := _first(said)) is None:
                commit = _must(self.path, "rev-parse", "BISECT_HEAD").strip()
                progress("\n".join(line for line in said.splitlines() if line.startswith("Bisecting")))
                answer = ask(commit)
                if answer == "stop":
                    return Found(None, "a step could not be judged; give the same command again to go on")
                said = _step(self.path, terms.get(answer, "skip"), commit)
                if "only 'skip'ped commits left" in said:
                    return Found(None, said.strip())
            return Found(found, said.strip())
        finally:
            _git(self.path, "bisect", "reset", "HEAD")


def built(tree: Path, command: str) -> str:
    """Build by a command of the user's in ``tree``; return the path of the image, the last line it printed.

    Raises:
        BuildFailed: it failed.
        UsageError: it named no file.
    """
    result = process.run(["sh", "-c", command], deadline=BUILD_DEADLINE, cwd=tree)
    if result.status:
        raise BuildFailed(f"the command ended with {result.status}: {last_line(result.errors, result.output)}")
    lines = result.output.strip().splitlines()
    image = tree / lines[-1] if lines else None
    if image is None or not image.is_file():
        raise UsageError(f"expected the path of an image as the last line of {command!r}, got {lines[-1:]}")
    return str(image)


def _clone(source: str, path: Path) -> None:
    """Clone whole or not at all: a kill leaves what the next one removes."""
    half = path.with_name(f".{path.name}.tmp")
    for left in (half, path):
        shutil.rmtree(left, ignore_errors=True)
    _must(None, "clone", "--quiet", "--shared", "--no-checkout", source, str(half))
    half.rename(path)


def _first(said: str) -> str | None:
    found = re.search(rf"^([0-9a-f]{{40,}}) is the first '?{NEW}'? commit", said, re.MULTILINE)
    return found[1] if found else None


def _step(path: Path, word: str, commit: str) -> str:
    """Tell git one answer; return what it says. Its status 2 means that only skipped commits are left."""
    result = _run(path, "bisect", word, commit)
    if result.returncode not in (0, 2):
        raise UsageError(f"git bisect {word} failed in {path}: {last_line(result.stderr, result.stdout)}")
    return result.stdout


def _commit(source: str, name: str, tree: str) -> str:
    found = _git(Path(source), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found is None:
        raise UsageError(f"{tree} has no commit {name!r}; give a tag, a branch or a hash (git fetch --tags?)")
    return found.strip()


def _git(path: Path | None, *arguments: str) -> str | None:
    """Return what git printed, None when it failed."""
    result = _run(path, *arguments)
    return result.stdout if result.returncode == 0 else None


def _must(path: Path | None, *arguments: str) -> str:
    result = _run(path, *arguments)
    if result.returncode:
        raise UsageError(
            f"git {arguments[0]} failed{f' in {path}' if path else ''}: {last_line(result.stderr, result.stdout)}"
        )
    return result.stdout


def _run(path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["-C", str(path)] if path is not None else []
    try:
        return subprocess.run(["git", *where, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}; install it (on Debian: apt-get install git)") from error
