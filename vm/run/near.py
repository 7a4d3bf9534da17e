"""Tests near a change run early: those that reach the functions that a tree's last commit, and what is not yet
committed, touch; so that a patch that breaks something is red soon.

Which tests those are is a file of the project (``near_map``), written by ``python -m vm teeth --reach --record``: for
each function tests that noticed a change to it, then such as reach little besides. ``algif_hash:hash_sendmsg`` is a
function of crypto/algif_hash.c.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.base import process
from vm.base.errors import UsageError
from vm.kernels import built
from vm.kernels.spec import Kernel

MOST = 40
"""Functions: a commit that touches more (a merge) is near everything."""
_DEADLINE = 20.0
_FOLDERS = ("crypto", "lib/crypto")
_FILE = re.compile(r"(?:\+\+\+ b|--- a)/(?:.*/)?([^/]+)\.c")
_HUNK = re.compile(r"@@ -\S+ \+\S+ @@ ?(.*)")
_FUNCTION = re.compile(r"[A-Za-z_][\w\s*]*?\b(\w+)\(")


@dataclass(frozen=True)
class Near:
    """What is known of all functions.

    Attributes:
        tests: ids, without the kernel.
        functions: of each the places in ``tests``, the nearest first.
    """

    tests: tuple[str, ...] = ()
    functions: Mapping[str, Sequence[int]] = field(default_factory=dict)


def load(path: Path | None) -> Near:
    """Read what :func:`save` wrote; nothing is known without a file.

    Raises:
        UsageError: it is not such a file.
    """
    if path is None or not path.is_file():
        return Near()
    try:
        said = json.loads(path.read_text())
        tests = tuple(map(str, said["tests"]))
        functions = {name: [*places] for name, places in said["functions"].items()}
        known = range(len(tests))
        good = all(type(place) is int and place in known for places in functions.values() for place in places)
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise UsageError(f"{path} is no map of tests: write it anew by python -m vm teeth --reach --record")
    return Near(tests, functions)


def save(path: Path, nearest: Mapping[str, Sequence[str]]) -> None:
    """Write which tests are near each function, a line each, so that what changed is seen in a diff."""
    tests = sorted({test for found in nearest.values() for test in found})
    place = {test: number for number, test in enumerate(tests)}
    lines = [f"{json.dumps(name)}: {[place[test] for test in nearest[name]]}" for name in sorted(nearest)]
    listed = ",\n".join(map(json.dumps, tests))
    path.write_text(f'{{"tests": [\n{listed}\n],\n"functions": {{\n' + ",\n".join(lines) + "\n}}\n")


def near(known: Near, touched: Iterable[str]) -> list[str]:
    """Return ids of tests, the nearest to each touched function before the second nearest to any."""
    rows = [[known.tests[place] for place in known.functions[name]] for name in sorted(touched)]
    columns = itertools.zip_longest(*rows)
    return list(dict.fromkeys(test for column in columns for test in column if test is not None))


def touched(known: Near, tree: Path) -> list[str]:
    """Return the functions of the map that the last commit of a kernel's tree, and what is not committed, touch.

    Of a change outside of any function (a table, a structure) all functions of that file that the map has. Empty for
    what is no repository of git, and for more than ``MOST`` of them.
    """
    found = _of_diff(_diff(tree), known.functions)
    return found if len(found) <= MOST else []


def tree_of(kernel: Kernel) -> Path | None:
    """Return the sources that a kernel was built from, where they are at hand."""
    named = Path(kernel.spec.rpartition(":")[2]).expanduser()
    for place in (*(kernel.image.parents if kernel.image else ()), named):
        if (place / "Kbuild").exists() and (place / "MAINTAINERS").exists():
            return place
        if source := built.source_of(place):
            return source
    return None


def _diff(tree: Path) -> str:
    """Return what git says; nothing where there is none, or no repository that this user may read."""
    # Files that are not as the index has them are looked at, and the index stays as it is.
    environment = {"GIT_OPTIONAL_LOCKS": "0"}
    words = ["git", "-C", str(tree), "diff", "--no-ext-diff", "--no-color", "--no-renames", "-U0"]
    words += ["--src-prefix=a/", "--dst-prefix=b/"]
    for base in ("HEAD~1", "HEAD"):
        try:
            done = process.run([*words, base, "--", *_FOLDERS], deadline=_DEADLINE, environment=environment)
        except UsageError:
            return ""
        if not done.status:
            return done.output
    return ""


def _of_diff(text: str, known: Collection[str]) -> list[str]:
    found: dict[str, None] = {}
    stem = ""
    for line in text.splitlines():
        if file := _FILE.fullmatch(line):
            stem = file[1]
        elif line.startswith(("+++ ", "--- ")):
            stem = stem if line.endswith("/dev/null") else ""
        elif hunk := _HUNK.fullmatch(line):
            function = _FUNCTION.match(hunk[1])
            names = [f"{stem}:{function[1]}"] if function else [name for name in known if name.startswith(f"{stem}:")]
            found |= dict.fromkeys(name for name in names if name in known)
        elif changed := _FUNCTION.match(line[1:]):
            found |= dict.fromkeys({f"{stem}:{changed[1]}"} & set(known))
    return list(found)
