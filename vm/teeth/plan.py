"""What a run of teeth is told: the mutants that were built, and in what order their tests are best run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.decode import decode
from vm.teeth.changes import Mutant


@dataclass(frozen=True)
class Bite:
    """One mutant, as a guest is told of it.

    Attributes:
        name: the mutant's.
        source: the first file it changes.
        function: in which its first change is.
        files: pairs of a module's path below ``kernel/`` without suffix and the changed file.
        tests: files and folders to run.
        first: ids of the tests to begin with: those that noticed earlier.
        equivalent: why no test can notice.
        fix: the commit whose tests must all notice, and no others.
        unshown: pairs of a case of these and why it passes with the bug.
        also: further tests that may notice.
    """

    name: str
    source: str
    function: str
    files: tuple[tuple[str, ...], ...]
    tests: tuple[str, ...]
    first: tuple[str, ...] = ()
    equivalent: str = ""
    fix: str = ""
    unshown: tuple[tuple[str, ...], ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bites:
    """A run of teeth.

    Attributes:
        bites: the mutants.
        modules: to be loaded after a change.
        sysctls: ``NAME=VALUE`` to be set after a change.
        seconds: that the tests of a mutant may take together under KVM; they are scaled like any deadline.
        whole: whether all of a mutant's tests are run, and not only until the first that notices.
    """

    bites: tuple[Bite, ...]
    modules: tuple[str, ...]
    sysctls: tuple[str, ...]
    seconds: float
    whole: bool

    def save(self, path: Path) -> None:
        """Write it where a guest reads it."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def load(path: Path) -> Bites:
    """Read what ``save`` wrote."""
    found: Bites = decode(Bites, json.loads(path.read_text()), str(path))
    return found


def bite(mutant: Mutant, modules: Mapping[str, Path], first: tuple[str, ...]) -> Bite:
    """Return a mutant that was built, for a guest."""
    return Bite(
        name=mutant.name,
        source=mutant.sources[0],
        function=mutant.changes[0].function if mutant.changes else "",
        files=tuple((name, str(file)) for name, file in modules.items()),
        tests=mutant.tests,
        first=first,
        equivalent=mutant.equivalent,
        fix=mutant.fix,
        unshown=mutant.unshown,
        also=mutant.also,
    )


@dataclass
class Order:
    """Decides which tests of a mutant come first, and learns from those that noticed.

    Attributes:
        tests: ids of all tests, as collected.
        noticed: how often each test noticed a change, by source file and by function.
        useless: tests that failed without any change.
        seconds: the longest that a case of each test function took.
    """

    tests: list[str]
    noticed: dict[str, dict[int, int]] = field(default_factory=dict)
    useless: set[int] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, bite: Bite) -> list[int]:
        """Return the numbers of a mutant's tests.

        First what noticed before, here or near. Then of each function one case, then of each the second, and so on;
        those whose ids have the name of the file (``gcm``) before others, and quick ones before slow ones. Of a fix
        only its own.
        """
        numbers = {nodeid: number for number, nodeid in enumerate(self.tests)}
        first = [numbers[nodeid] for nodeid in bite.first if nodeid in numbers]
        for near in () if bite.fix else (bite.function, bite.source):
            counts = self.noticed.get(near, {})
            first += sorted(counts, key=lambda number: -counts[number])
        own = [number for nodeid, number in numbers.items() if _below(nodeid, bite.tests)]
        word = re.sub(r"^(algif|crypto)_|_(alg|user)$", "", Path(bite.source).stem)
        seen: dict[tuple[bool, str], int] = {}
        rounds = []
        for number in own:
            key = word not in self.tests[number], self.tests[number].partition("[")[0]
            seen[key] = seen.get(key, 0) + 1
            # Three cases of what has the name, for one of the others.
            rounds.append((seen[key] * (3 if key[0] else 1) * (1 + self.seconds.get(key[1], 0.0)), number))
        ordered = dict.fromkeys([*first, *(number for _, number in sorted(rounds))])
        return [number for number in ordered if number not in self.useless]

    def took(self, number: int, seconds: float) -> None:
        """A test was run to its end, and it took so long."""
        function = self.tests[number].partition("[")[0]
        self.seconds[function] = max(seconds, self.seconds.get(function, 0.0))

    def learn(self, bite: Bite, number: int) -> None:
        """A test noticed; where nothing was changed, it is of no use any more."""
        if not bite.function:
            self.useless.add(number)
            return
        for key in (bite.function, bite.source):
            counts = self.noticed.setdefault(key, {})
            counts[number] = counts.get(number, 0) + 1


def _below(nodeid: str, places: tuple[str, ...]) -> bool:
    return any(nodeid == place or nodeid.startswith((f"{place}/", f"{place}::", f"{place}[")) for place in places)
