"""Memory whose address matters: mappings with pages of their own, and what requests in flight refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vm.guest.tracee import unpack
from vm.reproducer.follow import Use, buffers

_WRITE = 2
_USUAL = 3


@dataclass
class Region:
    """A range of memory.

    Attributes:
        at: where it was.
        length: bytes.
        born, died: numbers of the events between which it is there.
        static: whether it is an array, and no mapping.
        content: what it holds, as far as has been written; None when that is a file's.
        initial: what is first seen in it.
        changes: protections of ranges: number of the event, offset, length, protection.
        name: variable.
        used: whether the program refers to it.
    """

    at: int
    length: int
    born: int
    died: int
    static: bool
    content: bytearray | None
    initial: bytes = b""
    changes: list[tuple[int, int, int, int]] = field(default_factory=list)
    name: str = ""
    used: bool = False
    alignment: int = 16

    def writable(self, offset: int, length: int, number: int) -> bool:
        """Say whether a range can be written when the event of a number begins."""
        result = True
        for when, begin, size, protection in self.changes:
            if when < number and begin < offset + length and offset < begin + size:
                result = bool(protection & _WRITE)
        return result


class Regions:
    """All of a recording.

    Args:
        uses: its events.
    """

    def __init__(self, uses: Sequence[Use]) -> None:
        self.all: list[Region] = []
        maps = self._maps(uses)
        for use in uses:
            event = use.event
            shared = _lent(use)
            for buffer in [*buffers(event.arguments), *buffers(event.more)]:
                at, length = buffer["at"], buffer["length"]
                if not at or not length:
                    continue
                region = next((each for each in maps if _holds(each, at, event.number)), None)
                beyond = region is not None and at + length > region.at + region.length
                if region is not None and (
                    region.changes or region.content is None or beyond or (at, length) in shared
                ):
                    self._keep(region)
                elif (at, length) in shared and not any(_holds(each, at, event.number) for each in self.all):
                    self._lend(at, length, event.number)
        for place, region in enumerate(each for each in self.all if each.static):
            region.name = f"shared{place + 1 if place else ''}"
        for region in self.all:
            if region.content is not None:
                region.initial = self._first(region, uses)
                if region.static:
                    region.content[:] = region.initial

    @property
    def static(self) -> list[Region]:
        """Those that are arrays."""
        return [each for each in self.all if each.static]

    def of(self, at: int, number: int) -> Region | None:
        """Return the region that an address is in when an event happens."""
        return next((each for each in self.all if _holds(each, at, number)), None)

    def made_by(self, number: int) -> Region | None:
        """Return the mapping that an event made."""
        return next((each for each in self.all if each.born == number and not each.static), None)

    def _maps(self, uses: Sequence[Use]) -> list[Region]:
        found: list[Region] = []
        for use in uses:
            event = use.event
            if event.call == "mmap" and (event.result or -1) > 0:
                _, length, protection, _, _, _ = event.arguments
                if any(thing.kind == "ring" for thing in use.fds.values()):
                    continue
                content = None if use.fds else bytearray(min(length, 1 << 26))
                region = Region(event.result or 0, length, event.number, 1 << 60, False, content)
                if protection != _USUAL:
                    region.changes.append((event.number, 0, length, protection))
                found.append(region)
            elif event.call == "mprotect" and event.result == 0:
                at, length, protection = event.arguments
                region_ = next((each for each in found if _holds(each, at, event.number)), None)
                if region_ is not None and (protection != _USUAL or region_.changes):
                    region_.changes.append((event.number, at - region_.at, length, protection))
            elif event.call == "munmap" and event.result == 0:
                at, length = event.arguments
                for each in found:
                    if at <= each.at < at + length and each.died == 1 << 60:
                        each.died = event.number + 1
        return found

    def _keep(self, region: Region) -> None:
        if region not in self.all:
            self.all.append(region)

    def _lend(self, at: int, length: int, number: int) -> None:
        region = Region(at, length, number, 1 << 60, True, bytearray(length))
        region.alignment = 4096 if at % 4096 == 0 else 16
        for other in self.all:
            if other.static and other.at < at + length and at < other.at + other.length:
                other.died = number
        self.all.append(region)

    def _first(self, region: Region, uses: Sequence[Use]) -> bytes:
        """Return what is seen of a region first, at each of its bytes."""
        found = bytearray(region.length if region.length < 1 << 26 else 0)
        known = bytearray(len(found))
        for use in uses:
            if not region.born <= use.event.number < region.died or use.event.call == "memory":
                continue
            for buffer in [*buffers(use.event.arguments), *buffers(use.event.more)]:
                offset = buffer["at"] - region.at
                data = unpack(buffer["data"]) if "data" in buffer and buffer["at"] else b""
                if not 0 <= offset < region.length:
                    continue
                for place, each in enumerate(data[: max(len(found) - offset, 0)], start=offset):
                    if not known[place]:
                        known[place], found[place] = 1, each
        return bytes(found)


def _holds(region: Region, at: int, number: int) -> bool:
    return region.at <= at < region.at + region.length and region.born <= number < region.died


def _lent(use: Use) -> set[tuple[int, int]]:
    """Return the ranges that the kernel refers to when the call has returned."""
    event = use.event
    found: list[Any] = []
    if event.call in ("vmsplice", "io_submit"):
        found = event.arguments
    elif event.call in ("io_uring_enter", "io_uring_register"):
        found = [event.more]
    return {(each["at"], each["length"]) for each in buffers(found)}
