"""Calls that make memory, and looks at what it holds, in C."""

from __future__ import annotations

from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Check
from vm.reproducer.context import Context, Said
from vm.reproducer.follow import Use


class Mappings(Context):
    """Writes them."""

    def content(self, check: Check, call: str, output: str, sized: bool) -> list[str]:
        """Return statements that look at bytes (vm/reproducer/writer.py)."""
        raise NotImplementedError

    def _mmap(self, use: Use) -> Said | None:
        region = self.plan.regions.made_by(use.event.number)
        if region is None:
            return None
        _, length, protection, flags, fd, offset = use.event.arguments
        self.headers.add("sys/mman.h")
        region.used = True
        region.name = self.fresh("memory")
        self.variables.append(("unsigned char", f"*{region.name}"))
        file = self.fd(fd) if use.fds else "-1"
        words = f"NULL, {length}, {names.flags(protection, names.PROTECTIONS)}, {names.flags(flags & 0x23, names.MAPS)}"
        said = Said(
            f"{region.name} == MAP_FAILED ? -1 : 0", before=[f"\t{region.name} = mmap({words}, {file}, {offset});"]
        )
        if region.content is not None and any(region.initial):
            said.after = self.assign(region.name, region.initial)
            region.content[:] = region.initial
        return said

    def _mprotect(self, use: Use) -> Said | None:
        at, length, protection = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None or region.static:
            return None
        return Said(f"mprotect({self.within(region, at)}, {length}, {names.flags(protection, names.PROTECTIONS)})")

    def _munmap(self, use: Use) -> Said | None:
        at, length = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None or region.static:
            return None
        return Said(f"munmap({self.within(region, at)}, {length})")

    def _memory(self, use: Use) -> Said | None:
        """Look at memory that the kernel wrote into, or had no business to."""
        at, length = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None:
            return None
        region.used = True
        data = unpack(use.event.out[0])
        if region.content is not None:
            region.content[at - region.at : at - region.at + length] = data
        checks = self.plan.checks.get(use.event.number, [])
        lines = [line for check in checks for line in self.content(check, "memory", self.within(region, at), False)]
        return Said("0", before=lines) if lines else None

    def _clone(self, _: Use) -> None:
        return None
