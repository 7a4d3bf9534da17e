"""What all parts of a program share while it is written: its variables, its data, the memory that calls use."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vm.guest.tracee import unpack
from vm.reproducer import data as bytes_of
from vm.reproducer import names
from vm.reproducer.check import Check, Unsupported
from vm.reproducer.follow import Thing, Use
from vm.reproducer.memory import Region, Regions

DEADLINE = 30
"""Seconds after which a program gives up."""
WIDTH = 100
"""Columns of a line, of which a tab takes eight."""
_SHORT, _SHORT_RUN = 96, 48
_LARGEST_LOCAL = 1024


@dataclass
class Plan:
    """What to write.

    Attributes:
        uses: the calls, in order.
        checks: what is looked at after a call, by the number of its event.
        header: lines of the comment at its beginning.
        complains: whether the fault is that the kernel complains: then the taint is looked at.
        deadline: seconds.
        hang: what to say when that has passed.
        masked: whether steps can be left out when it runs: their places are its arguments.
    """

    uses: Sequence[Use]
    checks: dict[int, list[Check]]
    regions: Regions
    header: Sequence[str] = ()
    complains: bool = False
    deadline: int = DEADLINE
    hang: str = ""
    masked: bool = False


@dataclass
class Said:
    """A call in C.

    Attributes:
        expression: that makes it.
        target: variable that takes what it returns.
        output: expression of where it writes to.
        before, after: statements that it needs.
    """

    expression: str
    target: str = ""
    output: str = ""
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


class Context:
    """One program that is being written; what it needs is found out on the way.

    Attributes:
        helpers, headers: that it needs.
        variables: descriptors and other numbers, as C declares them: type, then name with its size.
        definitions: of data, by name, as lines.
        prepared: statements at its beginning.
        use: the call that is being written.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.helpers: set[str] = set()
        self.headers: set[str] = {"stdio.h", "unistd.h"}
        self.names: dict[int, str] = {}
        self.counts: dict[str, int] = {}
        self.variables: list[tuple[str, str]] = []
        self.constants: dict[bytes, str] = {}
        self.literals: dict[str, str] = {}
        self.definitions: dict[str, list[str]] = {}
        self.prepared: list[str] = []
        self.room = 0
        self.keys: dict[int, str] = {}
        self.paths: dict[str, str] = {}
        self.locals: set[str] = set()
        self.use: Use
        self.threads = sorted({use.event.task for use in plan.uses} | {0})
        self.forked = {use.event.task for use in plan.uses if use.process}

    # ---- variables

    def fd(self, number: int) -> str:
        """Return a descriptor as C has it."""
        thing = self.use.fds.get(number)
        return str(number) if thing is None else self.name(thing)

    def name(self, thing: Thing) -> str:
        """Return the variable of a thing.

        Raises:
            Unsupported: nobody saw it come.
        """
        if id(thing) not in self.names:
            raise Unsupported(f"a descriptor of unknown origin ({thing.kind})")
        return self.names[id(thing)]

    def makes(self, use: Use, expression: str) -> Said:
        """Return a call that makes a descriptor, or does not."""
        return Said(expression, self.declare(use.made[0]) if use.made else "")

    def declare(self, thing: Thing) -> str:
        """Return a new variable for a thing."""
        # A variable must not hide the call that makes others of its kind.
        base = {"unknown": "fd", "socket": "sock"}.get(thing.kind, thing.kind)
        if thing.kind in ("pipe", "pair"):
            return self._declare_pair(thing)
        name = self.names[id(thing)] = self.fresh(base)
        self.variables.append(("struct ring" if base == "ring" else "int", name))
        if base == "ring":
            self.helpers.add("ring")
        return name

    def _declare_pair(self, thing: Thing) -> str:
        first = thing.parent or thing
        if id(first) not in self.names:
            name = self.fresh("pipefd" if thing.kind == "pipe" else "pair")
            self.variables.append(("int", f"{name}[2]"))
            self.names[id(first)] = f"{name}[0]"
        if thing.parent is not None:
            self.names[id(thing)] = self.names[id(first)].replace("[0]", "[1]")
        return self.names[id(thing)]

    def fresh(self, base: str) -> str:
        """Return a name that is not taken."""
        self.counts[base] = self.counts.get(base, 0) + 1
        return base if self.counts[base] == 1 else f"{base}{self.counts[base]}"

    # ---- data

    def constant(self, data: bytes, role: str) -> str:
        """Return an expression of type ``unsigned char *`` or ``char *`` for memory with these bytes.

        Where it turns out to be used once and is short, the bytes take the place of the name (vm/reproducer/writer.py).
        """
        if data in self.constants:
            return self.constants[data]
        if not data:
            return '""'
        name = self.constants[data] = self.fresh(role)
        ranges = bytes_of.parts(data)
        if not any(data):
            self.define(name, f"static unsigned char {name}[{len(data)}];")
            if len(data) <= _LARGEST_LOCAL:
                self.literals[name] = f"(char[{len(data)}]){{ 0 }}"
        elif len(data) <= (_SHORT_RUN if ranges[0].run else _SHORT) or ranges[0].literal == data:
            rows = bytes_of.strings(data)
            self.define(name, f"static unsigned char {name}[] =", *(f"\t{row}" for row in rows[:-1]), f"\t{rows[-1]};")
            if len(rows) == 1:
                self.literals[name] = rows[0]
                self.define(name, f"static unsigned char {name}[] = {rows[0]};")
        else:
            self.define(name, f"static unsigned char {name}[{len(data)}];")
            self.prepared += self.assign(name, data)
        return name

    def define(self, name: str, *lines: str) -> None:
        """Define data at the top of the program."""
        self.definitions[name] = list(lines)

    def assign(self, name: str, data: bytes, offset: int = 0) -> list[str]:
        """Return statements that store bytes."""
        lines = []
        for part in bytes_of.parts(data):
            at = part.offset + offset
            where = name if not at else f"{name} + {at}"
            if part.run is not None and part.run.step == 0:
                if part.run.first or offset or name.startswith("memory"):
                    self.headers.add("string.h")
                    lines.append(f"\tmemset({where}, {part.run.first and hex(part.run.first)}, {part.length});")
            elif part.run is not None:
                lines += [
                    f"\tfor (size_t i = 0; i < {part.length}; i++)",
                    f"\t\t{_element(name, at)} = {_rule(part.run)};",
                ]
            elif part.period:
                lines += [
                    f"\tfor (size_t i = {at}; i < {at + part.length}; i++)",
                    f"\t\t{name}[i] = {name}[i - {part.period}];",
                ]
            else:
                self.headers.add("string.h")
                lines.append(f"\tmemcpy({where}, {self.constant(part.literal, 'bytes')}, {part.length});")
        return lines

    # ---- memory

    def source(self, buffer: dict[str, Any], role: str, said: list[str]) -> str:
        """Return memory that a call reads; what it has to hold is stored first, where it is not there yet."""
        at, length = buffer["at"], buffer["length"]
        if not at:
            return "NULL"
        data = unpack(buffer.get("data", "x"))
        if region := self.plan.regions.of(at, self.use.event.number):
            region.used = True
            said += self._store(region, at - region.at, data)
            return self.within(region, at)
        if len(data) < length and length:
            return self.unreadable(at, length)
        return self.constant(data, role)

    def unreadable(self, at: int, length: int) -> str:
        """Return memory that is not there."""
        if at < 4096:
            return f"(void *){at}"
        if at >= 1 << 47:
            return "(void *)-4096L"
        self.headers.add("sys/mman.h")
        size = max(min(length, 1 << 20), 1)
        return f"mmap(NULL, {size}, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)"

    def within(self, region: Region, at: int) -> str:
        """Return a place in a region."""
        return region.name if at == region.at else f"{region.name} + {at - region.at}"

    def _store(self, region: Region, offset: int, data: bytes) -> list[str]:
        if region.content is None:
            return []
        held = bytes(region.content[offset : offset + len(data)])
        data = data[: len(held)]
        if held == data:
            return []
        first = next(i for i in range(len(data)) if data[i] != held[i])
        last = next(i for i in reversed(range(len(data))) if data[i] != held[i]) + 1
        region.content[offset : offset + len(data)] = data
        if not region.writable(offset + first, last - first, self.use.event.number):
            return []  # it was stored when the memory was made
        return self.assign(region.name, data[first:last], offset + first)

    def target(self, buffer: dict[str, Any], taken: int, written: bytes = b"") -> str:
        """Return memory that a call writes, of which one call may need several parts."""
        at, length = buffer["at"], buffer["length"]
        if not at:
            return "NULL"
        if region := self.plan.regions.of(at, self.use.event.number):
            region.used = True
            if region.content is not None:
                region.content[at - region.at : at - region.at + len(written)] = written
            return self.within(region, at)
        if self.use.event.result == -14 or length > 1 << 28 or at >= 1 << 47 or at < 4096:
            return self.unreadable(at, length)
        self.room = max(self.room, taken + length, 1)
        return "buffer" if not taken else f"buffer + {taken}"

    def written(self, place: int) -> bytes:
        """Return what the call wrote behind one of its arguments."""
        found = self.use.event.out.get(place)
        return unpack(found) if isinstance(found, str) else b""

    def parts(self, vector: dict[str, Any], letter: str, before: list[str]) -> str:
        """Return an iovec.

        Args:
            vector: as it was recorded, ``m`` or ``v`` of what is read, ``M`` or ``V`` of what is written.
            letter: which of these.
            before: takes statements that it needs.
        """
        self.headers.add("sys/uio.h")
        rows: list[str] = []
        taken = 0
        written = self.use.event.out.get(1, {})
        done = written.get("parts", []) if isinstance(written, dict) else []
        for place, part in enumerate(vector.get("parts", ())):
            if letter in "mv":
                where = self.source(part, "data", before)
            else:
                where = self.target(part, taken, unpack(done[place]) if place < len(done) else b"")
                taken += part["length"]
            rows.append(f"{{ {where}, {part['length']} }}")
        if len(rows) == 1:
            return f"&(struct iovec){rows[0]}"
        return f"(struct iovec[]){{ {', '.join(rows)} }}" if rows else "NULL"

    def first_target(self, parts: Sequence[dict[str, Any]]) -> str:
        """Return where output begins, when it lies in one piece."""
        wanted = [part for part in parts if part["length"]]
        if not wanted:
            return "buffer" if self.room else ""
        first = wanted[0]
        if not first["at"]:
            return ""
        region = self.plan.regions.of(first["at"], self.use.event.number)
        if region is None:
            return "buffer" if all(not self.plan.regions.of(p["at"], self.use.event.number) for p in wanted) else ""
        together = all(b["at"] == a["at"] + a["length"] for a, b in itertools.pairwise(wanted))
        return self.within(region, first["at"]) if together else ""

    def judges(self, use: Use, kind: type[Check]) -> bool:
        """Say whether a call is judged by a check of a kind."""
        return any(isinstance(check, kind) for check in self.plan.checks.get(use.event.number, ()))


def struct(prefix: str, fields: Sequence[str], suffix: str, indent: str = "\t") -> list[str]:
    """Return lines with an initializer in braces: one where it fits, else fields by the line."""
    whole = f"{indent}{prefix}{{ {', '.join(fields)} }}{suffix}"
    if columns(whole) <= WIDTH:
        return [whole]
    lines, row = [f"{indent}{prefix}{{"], ""
    for each in fields:
        if row and columns(f"{indent}\t{row} {each},") > WIDTH:
            lines.append(f"{indent}\t{row}")
            row = ""
        row = f"{row} {each}," if row else f"{each},"
    return [*lines, f"{indent}\t{row}", f"{indent}}}{suffix}"]


def columns(line: str) -> int:
    """Return how wide a line is, with tabs of eight."""
    return len(line.expandtabs(8))


def paren(expression: str) -> str:
    """Return an expression that a cast can stand before."""
    return f"({expression})" if " " in expression else expression


def signed(value: int, bits: int = 64) -> int:
    """Return an unsigned number as a signed one."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def text(packed: str | None) -> str:
    """Return a string of a recording in C."""
    return "NULL" if packed is None else bytes_of.string(unpack(packed))


def errno_of(number: int) -> str:
    """Return what a call gives, in C: ``-EINVAL`` or ``32``."""
    return str(number) if number >= 0 else f"-{names.error(-number)}"


def _element(name: str, at: int) -> str:
    return f"{name}[i]" if not at else f"{name}[i + {at}]"


def _rule(run: bytes_of.Run) -> str:
    first, step, modulus = run
    said = "i" if step == 1 else f"i * {step}"
    if first:
        said = f"{first} + {said}"
    if modulus == 256:
        return said
    return f"({said}) % {modulus}" if re.search(r"[+*]", said) else f"{said} % {modulus}"
