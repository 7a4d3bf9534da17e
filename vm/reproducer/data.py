"""Bytes as C has them: as text, as numbers, or by the rule that they were made by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SHORTEST_RUN = 24
"""Bytes that follow a rule are written by it when they are so many."""

# Periods that are looked for: pages.
_USUAL = (4096, 65536)


class Run(NamedTuple):
    """Bytes by a rule: byte i is ``(first + i * step) % modulus``."""

    first: int
    step: int
    modulus: int


@dataclass(frozen=True)
class Part:
    """A range of a buffer.

    Attributes:
        offset: where it begins.
        length: bytes.
        run: the rule, or None for what has none; ``period`` is then set when it repeats the bytes before it.
        period: of that.
        literal: the bytes, where there is no rule.
    """

    offset: int
    length: int
    run: Run | None = None
    period: int = 0
    literal: bytes = b""


def parts(data: bytes) -> list[Part]:
    """Return how to make these bytes: ranges in order."""
    period = _period(data)
    if period and period <= len(data) // 2:
        return [*parts(data[:period]), Part(period, len(data) - period, period=period)]
    found: list[Part] = []
    at = begun = 0
    while at < len(data):
        length, run = _run(data, at)
        if length < SHORTEST_RUN:
            # A run shorter than that is part of what has no rule, and one cannot begin within it but at its end.
            at += max(length - 1, 1)
            continue
        if begun < at:
            found.append(Part(begun, at - begun, literal=data[begun:at]))
        found.append(Part(at, length, run))
        at += length
        begun = at
    if begun < len(data):
        found.append(Part(begun, len(data) - begun, literal=data[begun:]))
    return found


def made(ranges: list[Part]) -> bytes:
    """Return the bytes that such ranges make; the inverse of :func:`parts`."""
    found = bytearray()
    for part in ranges:
        if part.run is not None:
            first, step, modulus = part.run
            found += bytes((first + i * step) % modulus for i in range(part.length))
        elif part.period:
            for at in range(part.length):
                found.append(found[part.offset + at - part.period])
        else:
            found += part.literal
    return bytes(found)


def _run(data: bytes, at: int) -> tuple[int, Run]:
    """Return the longest run from a place on."""
    first = data[at]
    if at + 1 == len(data):
        return 1, Run(first, 0, 256)
    step = data[at + 1] - first
    if step == 0:
        length = len(data) - at - len(data[at:].lstrip(data[at : at + 1]))
        return length, Run(first, 0, 256)
    best = (2, Run(first, step % 256, 256))
    modulus, length = 0, 1
    while at + length < len(data):
        wanted, found = data[at + length - 1] + step, data[at + length]
        if found != wanted:
            if modulus == 0 and step > 0 and 0 < wanted - found <= 256 and wanted - found > max(data[at : at + length]):
                modulus = wanted - found
            elif modulus == 0 or wanted - modulus != found:
                break
        elif modulus and wanted >= modulus:
            break
        length += 1
    if length > best[0] and step > 0:
        best = (length, Run(first, step, modulus or 256))
    return best


def _period(data: bytes) -> int:
    """Return after how many bytes they begin again, to the end; 0 when they do not, or by a simpler rule."""
    head = data[:16]
    if len(data) < 2 * SHORTEST_RUN or data.count(head[:1]) == len(data):
        return 0
    if _run(data, 0)[0] == len(data):
        return 0
    # The first place where the head comes again need not be the period: some rules have it by chance.
    found: list[int] = []
    at = data.find(head, 1)
    while 0 <= at <= len(data) // 2 and len(found) < 8:
        found.append(at)
        at = data.find(head, at + 1)
    candidates = [*found, *(each for each in _USUAL if each <= len(data) // 2)]
    return next((each for each in candidates if data[each:] == data[:-each]), 0)


def is_text(data: bytes) -> bool:
    """Say whether bytes read well as a string."""
    return bool(data) and all(32 <= each < 127 for each in data)


def string(data: bytes) -> str:
    """Return a C string literal of printable bytes."""
    text = data.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"').replace("??", "?\\?")
    return f'"{text}"'


def fnv(data: bytes) -> int:
    """Return the FNV-1a hash of 64 bits, as the program has it for what is too long to stand in it."""
    value = 0xCBF29CE484222325
    for each in data:
        value = (value ^ each) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def strings(data: bytes) -> list[str]:
    """Return bytes as C string literals, 24 bytes each; as text where they all are, and are not many."""
    if is_text(data) and len(data) <= 80:
        return [string(data)]
    rows = [data[at : at + 24] for at in range(0, len(data), 24)]
    return ['"' + "".join(f"\\x{each:02x}" for each in row) + '"' for row in rows]
