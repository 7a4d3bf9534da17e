"""What a run of teeth is told: the mutants that were built, and in what order their tests are best run."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.decode import decode
from vm.teeth.changes import Mutant


@dataclass(frozen=True)
class Bite:
    """One mutant, built, as a guest is told of it.

    Attributes:
        mutant: what was changed, and which tests should notice.
        files: pairs of a module's path below ``kernel/`` without suffix and the changed file.
        first: ids of the tests to begin with: those that noticed earlier.
        reached: of each test of ``Bites.known`` whether it reaches the changed function: ``YN…``; empty when that is
            not known, and then the mutant's places decide.
        counts: whether no fault is looked for, but what each test reaches.
    """

    mutant: Mutant
    files: tuple[tuple[str, ...], ...] = ()
    first: tuple[str, ...] = ()
    reached: str = ""
    counts: bool = False


@dataclass(frozen=True)
class Bites:
    """A run of teeth.

    Attributes:
        bites: the mutants.
        release: ``MODULE:FUNCTION`` that has a kernel let go of what it keeps of modules.
        seconds: that the tests of a mutant may take together under KVM; they are scaled like any deadline.
        whole: whether all of a mutant's tests are run, and not only until the first that notices.
        folders: with all tests that may be run.
        known: tests of which it is known what they reach.
        took: seconds that each of them took.
    """

    bites: tuple[Bite, ...]
    release: str
    seconds: float
    whole: bool
    folders: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    took: tuple[float, ...] = ()

    def save(self, path: Path) -> None:
        """Write it where a guest reads it."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def load(path: Path) -> Bites:
    """Read what ``save`` wrote."""
    found: Bites = decode(Bites, json.loads(path.read_text()), str(path))
    return found


@dataclass
class Order:
    """Decides which tests of a mutant come first, and learns from those that noticed.

    Attributes:
        tests: ids of all tests, as collected.
        noticed: how often each test noticed a change, by source file and by function.
        useless: tests that failed without any change.
        seconds: the longest that a case of each test function took.
        known: tests of which it is known what they reach, in the order of ``Bite.reached``.
    """

    tests: list[str]
    noticed: dict[str, dict[int, int]] = field(default_factory=dict)
    useless: set[int] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    known: Sequence[str] = ()

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Of each test its place among all."""
        return {nodeid: number for number, nodeid in enumerate(self.tests)}

    def of(self, bite: Bite) -> list[int]:
        """Return the numbers of a mutant's tests.

        First what noticed before, here or near. Then of each function one case, then of each the second, and so on;
        those whose ids have the name of the file (``gcm``) before others, and quick ones before slow ones. Of a fix
        only its own; of another none that is known not to reach what is changed, wherever it is.
        """
        mutant = bite.mutant
        first = [self.numbers[nodeid] for nodeid in bite.first if nodeid in self.numbers]
        for near in () if mutant.fix else (mutant.function, mutant.sources[0]):
            counts = self.noticed.get(near, {})
            first += sorted(counts, key=lambda number: -counts[number])
        word = re.sub(r"^(algif|crypto)_|_(alg|user)$", "", Path(mutant.sources[0]).stem)
        seen: dict[tuple[bool, str], int] = {}
        rounds = []
        reaches = self._reaches(bite.reached) if bite.reached else functools.partial(_below, places=mutant.tests)
        for nodeid, number in self.numbers.items():
            if not reaches(nodeid):
                continue
            elsewhere, function = word not in nodeid, nodeid.partition("[")[0]
            turn = seen[elsewhere, function] = seen.get((elsewhere, function), 0) + 1
            # Three cases of what has the name, for one of the others.
            rounds.append((turn * (3 if elsewhere else 1) * (1 + self.seconds.get(function, 0.0)), number))
        ordered = dict.fromkeys([*first, *(number for _, number in sorted(rounds))])
        return [number for number in ordered if number not in self.useless]

    def _reaches(self, flags: str) -> Callable[[str], bool]:
        """Return what says of a test whether it may reach a change: yes where nothing is known.

        A case of which nothing is known does when another one of its function does.
        """
        known = {test: flag == "Y" for test, flag in zip(self.known, flags, strict=True)}
        functions: dict[str, bool] = {}
        for test, reaches in known.items():
            function = test.partition("[")[0]
            functions[function] = functions.get(function, False) or reaches
        return lambda test: known.get(test, functions.get(test.partition("[")[0], True))

    def took(self, number: int, seconds: float) -> None:
        """A test was run to its end, and it took so long."""
        self.takes(self.tests[number], seconds)

    def takes(self, nodeid: str, seconds: float) -> None:
        """So long a test took, now or in an earlier run."""
        function = nodeid.partition("[")[0]
        self.seconds[function] = max(seconds, self.seconds.get(function, 0.0))

    def learn(self, mutant: Mutant, number: int) -> None:
        """A test noticed; where nothing was changed, it is of no use any more."""
        if not mutant.changes:
            self.useless.add(number)
            return
        for key in (mutant.function, mutant.sources[0]):
            counts = self.noticed.setdefault(key, {})
            counts[number] = counts.get(number, 0) + 1


def _below(nodeid: str, places: tuple[str, ...]) -> bool:
    return any(nodeid == place or nodeid.startswith((f"{place}/", f"{place}::", f"{place}[")) for place in places)
