"""The cases of data that is spliced into an op socket: factors, what of them goes together, and a covering array.

Every pair of levels that goes together is in some row of covering.txt, which ``python -m tests.splice.cases`` writes.
That file is kept because to make it takes longer than to run what it says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROWS = Path(__file__).with_name("covering.txt")
PAGE = 4096

FILES = ["tmpfs", "overlay", "memfd", "sealed", "huge", "zero"]
PIPES = ["pipe", "tee", "unix", "tcp", "alg"]
MAPPINGS = ["private", "gift"]

LENGTHS = {
    "0": 0,
    "1": 1,
    "15": 15,
    "16": 16,
    "17": 17,
    "page-1": PAGE - 1,
    "page": PAGE,
    "page+1": PAGE + 1,
    "16pages-1": 16 * PAGE - 1,
    "64K": 16 * PAGE,
    "64K+1": 16 * PAGE + 1,
    "over-sndbuf": 5 * PAGE + 1,
}
"""Bytes that are spliced. The last goes to a socket whose send buffer is smaller, and which does not wait."""

OFFSETS = {"at0": 0, "at1": 1, "at-end": PAGE - 1}
"""Where in a page the data begins."""

FLAGS = {"": 0, "move": 1, "nonblock": 2, "move+nonblock": 3}
"""Of splice and vmsplice. SPLICE_F_MORE is a matter of the place."""


@dataclass(frozen=True)
class Place:
    """Where spliced data stands in its message.

    Attributes:
        begins: whether control data is sent before, with MSG_MORE.
        before: bytes sent with it.
        pieces: splices in which the data comes, with more to come after each but the last.
        more: whether the last announces more as well.
        after: bytes sent behind, with the control data when nothing was sent before; None for no send.
        read_open: whether the result is asked for while more is announced, and the end sent then.
    """

    begins: bool = True
    before: int = 0
    pieces: int = 1
    more: bool = False
    after: int | None = None
    read_open: bool = False


PLACES = {
    "alone": Place(begins=False),
    "after-control": Place(),
    "after-send": Place(before=20),
    "before-send": Place(begins=False, more=True, after=12),
    "between-sends": Place(before=7, more=True, after=9),
    "several": Place(pieces=3),
    "more-ended": Place(more=True, after=0),
    "more-open": Place(more=True, after=0, read_open=True),
}

FACTORS: dict[str, list[str]] = {
    "source": [*FILES, *PIPES, *MAPPINGS],
    "way": ["splice", "sendfile", "vmsplice", "sendmsg", "io_uring"],
    "target": ["ctr(aes)", "cbc(aes)", "gcm(aes)-seal", "gcm(aes)-open", "sha256", "hmac(sha256)", "rng"],
    "length": [*LENGTHS],
    "offset": [*OFFSETS],
    "place": [*PLACES],
    "flags": [*FLAGS],
}


class Case(NamedTuple):
    """One way for data to get into an op socket; a level of each factor."""

    source: str
    way: str
    target: str
    length: str
    offset: str
    place: str
    flags: str

    def __str__(self) -> str:
        return "-".join(level for level in self if level)


class Rule(NamedTuple):
    """What goes together of some factors, and why the rest does not."""

    why: str
    factors: tuple[str, ...]
    holds: Callable[..., bool]


RULES = (
    Rule("sendfile reads files", ("way", "source"), lambda way, source: way != "sendfile" or source in FILES),
    Rule(
        "only memory can be given to vmsplice or sendmsg, and a pipe has none",
        ("way", "source"),
        lambda way, source: way not in ("vmsplice", "sendmsg") or source not in PIPES,
    ),
    Rule(
        "memory gets into a pipe by vmsplice, and to a socket by sendmsg",
        ("way", "source"),
        lambda way, source: way in ("vmsplice", "sendmsg") or source not in MAPPINGS,
    ),
    Rule(
        "SPLICE_F_GIFT is a flag of vmsplice",
        ("way", "source"),
        lambda way, source: way == "vmsplice" or source != "gift",
    ),
    Rule(
        "sendfile and sendmsg have no SPLICE_F flags",
        ("way", "flags"),
        lambda way, flags: not flags or way not in ("sendfile", "sendmsg"),
    ),
    Rule(
        "sendfile announces more only at the end of a file",
        ("way", "place"),
        lambda way, place: way != "sendfile" or PLACES[place].pieces == 1,
    ),
    Rule(
        "there is no end of /dev/zero",
        ("way", "source", "place"),
        lambda way, source, place: (way, source) != ("sendfile", "zero") or not PLACES[place].more,
    ),
    Rule(
        "what an op socket gives begins where it gives it",
        ("source", "offset"),
        lambda source, offset: source != "alg" or offset == "at0",
    ),
    Rule(
        "an rng takes nothing, wherever it stands",
        ("target", "place"),
        lambda target, place: target != "rng" or place == "alone",
    ),
    Rule(
        "a request without control data decrypts",
        ("target", "place"),
        lambda target, place: target != "gcm(aes)-seal" or place != "alone",
    ),
    Rule(
        "what did not fit can be ended only where more was announced before",
        ("length", "place"),
        lambda length, place: length != "over-sndbuf" or place in ("after-control", "after-send"),
    ),
)


def allowed(case: Case) -> bool:
    """Tell whether the levels go together."""
    levels = case._asdict()
    return all(rule.holds(*(levels[factor] for factor in rule.factors)) for rule in RULES)


def every_case() -> Iterator[Case]:
    """Yield the full product, without what does not go together."""
    return filter(allowed, itertools.starmap(Case, itertools.product(*FACTORS.values())))


def covering() -> list[Case]:
    """Return the cases that are always run: each pair of levels that goes together is in one of them."""
    lines = ROWS.read_text().splitlines()
    return [Case(*(level.strip("_") for level in line.split())) for line in lines if not line.startswith("#")]


def make_covering() -> list[Case]:
    """Make that array anew; the same each time."""
    import covertable

    constraints = [
        {
            "operator": "fn",
            "requires": list(rule.factors),
            "evaluate": lambda row, rule=rule: rule.holds(*(row[factor] for factor in rule.factors)),
        }
        for rule in RULES
    ]
    rows = covertable.make(FACTORS, strength=2, constraints=constraints)
    order = {level: at for levels in FACTORS.values() for at, level in enumerate(levels)}
    return sorted((Case(**row) for row in rows), key=lambda case: [order[level] for level in case])


def _main() -> None:
    head = "# Written by `python -m tests.splice.cases`; do not edit.\n"
    ROWS.write_text(head + "".join(" ".join(level or "_" for level in case) + "\n" for case in make_covering()))


if __name__ == "__main__":
    _main()
