"""Changes to a kernel's source, kept as data: what a rule on its text makes of a function.

A file of mutants (``[source]``, then one table a function) is one source file's::

    source = "crypto/af_alg.c"
    tests = ["tests/errors", "tests/requests"]

    [alg_bind]
    short-address = ["addr_len < sizeof(*sa) + 1", "addr_len < sizeof(*sa)"]

    [equivalent]
    "alg_bind.short-address" = "why nobody can tell it from the original"

The first text must be in the function once; the second takes its place. Of a function that a kernel does not have, or
in which the text is not there, the change does not apply to that kernel, which is told. ``[[fix]]`` tables are proofs::

    [[fix]]
    commit = "e4c06479d705"
    changes = [["crypto/af_alg.c", "af_alg_cmsg_send", "text", "what it was before the fix"]]
    unshown = [["test_name[id]", "why this case passes with the bug"]]

On a kernel with these changes every test that is marked ``fixed_by`` this commit must fail, and no other test of the
proof's folders. ``reason`` stands in the place of ``changes`` where no change to modules shows the bug.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.base import toml
from vm.base.errors import UsageError

_ABOUT = ("source", "tests", "equivalent")


class DoesNotApply(Exception):
    """This kernel's source does not have what a change replaces; says what is missing."""


@dataclass(frozen=True)
class Change:
    """One replacement.

    Attributes:
        source: path of the file in a kernel tree: ``crypto/af_alg.c``.
        function: the function, or the initialized variable, in which the text stands.
        old: the text, once in there.
        new: what takes its place.
    """

    source: str
    function: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A kernel with a fault made for the purpose.

    Attributes:
        name: ``af_alg:alg_bind.short-address``, or ``fix:e4c06479d705``.
        changes: what makes it; of one module.
        tests: files and folders of tests that should notice, in the order they are run.
        equivalent: why no test can notice; empty when one must.
        fix: the commit whose tests must notice, and no others; empty for what is no proof.
        unshown: of those tests' cases the ones that pass all the same, with the reason.
        also: further tests that notice: those of other fixes, of the same lines.
        unchanged: the file that is built anew as it is, for a mutant without changes.
    """

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    equivalent: str = ""
    fix: str = ""
    unshown: tuple[tuple[str, ...], ...] = ()
    also: tuple[str, ...] = ()
    unchanged: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The files that it changes, or has built anew."""
        return tuple(dict.fromkeys(change.source for change in self.changes)) or (self.unchanged,)

    @property
    def function(self) -> str:
        """The function of its first change; empty for none."""
        return self.changes[0].function if self.changes else ""


def base(file: Path) -> tuple[tuple[Change, ...], str]:
    """Read what is the same for all mutants: changes of every kernel, and how one lets go of its modules.

    The changes are of what the unchanged kernel does wrong, and tests notice: ``changes = [[source, function, old,
    new], …]``; ``release = "MODULE:FUNCTION"`` is called in a guest before modules are taken out.

    Raises:
        UsageError: the file cannot be read, or is not like that.
    """
    try:
        table = toml.read(file)
        return tuple(Change(*words) for words in table["changes"]), str(table["release"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot use what all mutants have, {file}: {error}; see vm/teeth/changes.py") from error


def mutants(file: Path) -> list[Mutant]:
    """Read a file of mutants.

    Raises:
        UsageError: it cannot be read, or is not as described above.
    """
    try:
        table = toml.read(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot use the mutants {file}: {error}") from error
    source, tests, equivalent = (table.get(key) for key in _ABOUT)
    if not isinstance(source, str) or not _strings(tests):
        raise UsageError(f'{file}: needs source = "crypto/….c" and tests = ["tests/…"]')
    reasons: dict[str, str] = dict(equivalent or {})
    found = [Mutant(f"{file.stem}:unchanged", (), tuple(tests or ()), unchanged=source)]
    for function, rules in table.items():
        for name, rule in rules.items() if function not in _ABOUT else ():
            if not _strings(rule) or len(rule) != 2 or rule[0] == rule[1]:
                raise UsageError(f"{file}: [{function}] {name} is not what is there and what takes its place")
            change = Change(source, function, *rule)
            key = f"{function}.{name}"
            found.append(Mutant(f"{file.stem}:{key}", (change,), tuple(tests or ()), reasons.pop(key, "")))
    if reasons:
        raise UsageError(f"{file}: [equivalent] speaks of {next(iter(reasons))}, and there is no such mutant")
    return found


@dataclass(frozen=True)
class Fix:
    """One ``[[fix]]`` table: see above for its members.

    Attributes:
        commit: as the marker ``fixed_by`` names it.
        changes: source, function, old and new text of each.
        reason: why there are no changes: what shows instead that its tests see the bug.
        tests: files and folders in which no other test may notice.
        unshown: cases that pass with the bug, each with its reason.
        also: further tests that notice, for the bug is of several.
    """

    commit: str
    changes: tuple[tuple[str, ...], ...] = ()
    reason: str = ""
    tests: tuple[str, ...] = ()
    unshown: tuple[tuple[str, ...], ...] = ()
    also: tuple[str, ...] = ()

    def mutant(self) -> Mutant:
        """Return it as what is built."""
        changes = tuple(Change(*words) for words in self.changes)
        return Mutant(f"fix:{self.commit}", changes, self.tests, "", self.commit, self.unshown, self.also)


def fixes(file: Path) -> list[Fix]:
    """Read the file of proofs.

    Raises:
        UsageError: it cannot be read, or is not as described above.
    """
    return toml.tables(file, "fix", Fix, "the proofs", "vm/teeth/changes.py", _check)


def _check(fix: Fix) -> None:
    if bool(fix.changes) == bool(fix.reason):
        raise ValueError(f"{fix.commit} needs changes, or the reason why there are none")
    if any(len(words) != 2 for words in fix.unshown):
        raise ValueError(f"{fix.commit}: a case that is not shown needs its reason")
    if any(len(words) != 4 for words in fix.changes):
        raise ValueError(f"{fix.commit}: a change is a source file, a function, a text, and what takes its place")


def apply(text: str, change: Change) -> str:
    """Return a source file's text with one change.

    Raises:
        DoesNotApply: there is no such function, or its text is not there once.
    """
    start, end = body(text, change.function)
    inside = text[start:end]
    # White space is as the writer of the rule found it; tabs of the kernel are spaces in a rule.
    places = list(re.finditer(r"\s+".join(map(re.escape, change.old.split())), inside))
    if len(places) != 1:
        count = len(places) or "not"
        raise DoesNotApply(f"{change.source}: {change.function} has {count} times: {change.old}")
    place = places[0]
    return text[: start + place.start()] + change.new + text[start + place.end() :]


def body(text: str, name: str) -> tuple[int, int]:
    """Return where the definition of a function, a variable or a macro of C begins and ends in ``text``.

    Raises:
        DoesNotApply: there is none.
    """
    begins = rf"^(?:[A-Za-z_].*?\b)?{re.escape(name)}\b[^;{{}}]*?(?:\)\s*|=\s*)\{{"
    for found in re.finditer(begins, text, re.MULTILINE):
        end = text.find("\n}", found.end())
        # What stands before, up to an empty line, is its type.
        if end >= 0 and "\n\n" not in found[0]:
            return found.start(), end
    raise DoesNotApply(f"there is no {name}")


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
