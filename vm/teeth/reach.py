"""Which functions of the kernel each test reaches: what cannot see a change need not be run to look for it.

``python -m vm teeth --reach`` builds the files that mutants change with a flag in each function (``instrument``), runs
the suite on them once, and keeps what it found beside the changed modules. A function's flags are a parameter of its
module, ``/sys/module/gcm/parameters/reached_gcm``: ``N,Y,N``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.decode import decode
from vm.base.errors import UsageError
from vm.teeth.changes import DoesNotApply, body

SYSFS = Path("/sys/module")
_PARAMETER = "reached_"
# A hundred times what the suite comes to.
_MOST = 2**28


@dataclass(frozen=True)
class Reached:
    """What one test reached.

    Attributes:
        test: its id.
        seconds: that it took.
        flags: of each function, in the order of ``Reach.functions``, ``Y`` or ``N``.
    """

    test: str
    seconds: float
    flags: str


@dataclass(frozen=True)
class Reach:
    """What the tests of one kernel reach.

    Attributes:
        functions: ``gcm:crypto_gcm_setkey``: the stem of the source file, and the function.
        tests: of each test what it reached.
    """

    functions: tuple[str, ...] = ()
    tests: tuple[Reached, ...] = ()

    def of(self, source: str, function: str) -> str | None:
        """Return of each test ``Y`` when it reaches a function, else ``N``; None when that was not looked at.

        Of what is no function (a table of operations) it is told whether the test reaches anything in the file.
        """
        stem = Path(source).stem
        places = [place for place, name in enumerate(self.functions) if name == f"{stem}:{function}"]
        places = places or [place for place, name in enumerate(self.functions) if name.startswith(f"{stem}:")]
        if not places:
            return None
        return "".join("Y" if any(one.flags[place] == "Y" for place in places) else "N" for one in self.tests)

    def besides(self, known: Reach) -> Reach:
        """Return this, and what was known before of other tests, if it was about the same functions."""
        own = {one.test for one in self.tests}
        others = tuple(one for one in known.tests if one.test not in own) if known.functions == self.functions else ()
        return Reach(self.functions, self.tests + others)

    def nearest(self, noticed: Mapping[str, Sequence[str]], most: int = 16) -> dict[str, list[str]]:
        """Return of each function the tests that tell soonest of a change to it.

        First those that noticed one, then of each test function what reaches least besides; of that the shortest first.

        Args:
            noticed: tests by mutant, ``gcm:crypto_gcm_setkey.no-check``.
            most: how many of a function.
        """
        size = {one.test: (one.flags.count("Y"), one.seconds) for one in self.tests}
        found: dict[str, list[str]] = {name: [] for name in self.functions}
        for mutant, tests in sorted(noticed.items()):
            found.get(mutant.partition(".")[0], []).extend(test for test in tests if test in size)
        for place, name in enumerate(self.functions):
            least: dict[str, str] = {}
            for test in sorted((one.test for one in self.tests if one.flags[place] == "Y"), key=size.__getitem__):
                least.setdefault(test.partition("[")[0], test)
            found[name] = list(dict.fromkeys([*found[name], *least.values()]))[:most]
        return {name: tests for name, tests in found.items() if tests}

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        made = path.with_suffix(".new")
        made.write_bytes(zlib.compress(json.dumps(dataclasses.asdict(self)).encode()))
        made.replace(path)


def load(path: Path) -> Reach | None:
    """Read what ``save`` wrote; None when there is nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    found: Reach = decode(Reach, json.loads(zlib.decompress(data)), str(path))
    return found


def instrument(text: str, stem: str, functions: Iterable[str]) -> tuple[str, list[str]]:
    """Return a source file's text with a flag that each function sets when it is called, and which functions those are.

    Args:
        text: of the file.
        stem: its name without suffix: distinguishes files of one module.
        functions: names; what is no function of this file (a variable, a macro) is passed over.
    """
    places = {}
    for name in functions:
        try:
            start, end = body(text, name)
        except DoesNotApply:
            continue
        opened = re.match(r"[^{]*\)\s*\{", text[start:end])
        if opened and not text[start:].startswith("#"):
            places[start + opened.end()] = name
    if not places:
        return text, []
    for number, place in reversed(list(enumerate(sorted(places)))):
        text = f"{text[:place]} {_PARAMETER}{stem}[{number}] = true; {text[place:]}"
    includes = list(re.finditer(r"^#include .*\n", text, re.MULTILINE))
    declared = (
        f"#include <linux/moduleparam.h>\nstatic bool {_PARAMETER}{stem}[{len(places)}];\n"
        f"module_param_array({_PARAMETER}{stem}, bool, NULL, 0644);\n"
    )
    behind = includes[-1].end()
    return text[:behind] + declared + text[behind:], [places[place] for place in sorted(places)]


def clear(sysfs: Path = SYSFS) -> None:
    """In a guest: have every function of the loaded modules not reached."""
    for path in _parameters(sysfs):
        path.write_text(",".join("N" for _ in path.read_text().split(",")))


def read(sysfs: Path = SYSFS) -> dict[str, str]:
    """In a guest: return the flags of each file by its stem; those of a module that is not loaded are not in it."""
    return {
        path.name.removeprefix(_PARAMETER): path.read_text().strip().replace(",", "") for path in _parameters(sysfs)
    }


def _parameters(sysfs: Path) -> list[Path]:
    return sorted(sysfs.glob(f"*/parameters/{_PARAMETER}*"))


def pack(found: Mapping[str, tuple[float, Mapping[str, str]]]) -> str:
    """Return, as one word, of each test how long it took and the flags of each file."""
    return base64.b85encode(zlib.compress(json.dumps(found).encode())).decode()


def unpack(words: Iterable[str], functions: Sequence[str]) -> Reach:
    """Return what guests packed.

    Args:
        words: of each guest's tests.
        functions: as ``Reach`` has them, those of a file in the order of its flags.

    Raises:
        UsageError: nobody packed that, or so much that it would fill the host's memory.
    """
    lengths: dict[str, int] = {}
    for name in functions:
        stem = name.partition(":")[0]
        lengths[stem] = lengths.get(stem, 0) + 1
    tests = []
    for word in words:
        try:
            found: dict[str, tuple[float, dict[str, str]]] = json.loads(_inflated(base64.b85decode(word)))
        except (ValueError, zlib.error) as error:
            raise UsageError(f"what a guest says that its tests reach cannot be read: {error}") from None
        for test, (seconds, flags) in found.items():
            every = "".join(flags.get(stem, "N" * length) for stem, length in lengths.items())
            tests.append(Reached(test, seconds, every))
    return Reach(tuple(functions), tuple(tests))


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MOST)
    if inflater.unconsumed_tail:
        raise ValueError(f"a guest packed more than {_MOST >> 20} MiB of flags")
    if not inflater.eof:
        raise ValueError("its end is missing")
    return text
