"""Requests of AIO, in C, by raw system calls."""

from __future__ import annotations

import struct as binary
from typing import Any

from vm.guest.tracee import unpack
from vm.reproducer.check import Events, Result, Unsupported
from vm.reproducer.context import Context, Said, errno_of, struct
from vm.reproducer.follow import Use

_AIO = {
    0: "IOCB_CMD_PREAD",
    1: "IOCB_CMD_PWRITE",
    2: "IOCB_CMD_FSYNC",
    5: "IOCB_CMD_POLL",
    7: "IOCB_CMD_PREADV",
    8: "IOCB_CMD_PWRITEV",
}
_LONGEST_WAIT = 5


class Requests(Context):
    """Writes them."""

    contexts: dict[int, str]
    blocks: dict[int, int]
    most_pointers = most_events = 0

    # ---- AIO

    def _io_setup(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h"}
        name = self.fresh("context")
        if 1 in use.event.out:
            self.contexts[int.from_bytes(unpack(use.event.out[1]), "little")] = name
        self.variables.append(("aio_context_t", name))
        return Said(f"syscall(SYS_io_setup, {use.event.arguments[0]}, &{name})")

    def _context(self, value: int) -> str:
        return self.contexts.get(value, str(value))

    def _io_destroy(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h"}
        return Said(f"syscall(SYS_io_destroy, {self._context(use.event.arguments[0])})")

    def _io_submit(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h"}
        context, count, blocks = use.event.arguments
        if count != len(blocks):
            raise Unsupported("an io_submit that cannot be read")
        said: list[str] = []
        pointers = []
        for block in blocks:
            number, lines = self._iocb(block)
            said += lines
            pointers.append(f"&requests[{number}]")
        where = f"(struct iocb *[]){{ {', '.join(pointers)} }}" if pointers else "NULL"
        return Said(f"syscall(SYS_io_submit, {self._context(context)}, {count}, {where})", before=said)

    def _iocb(self, block: dict[str, Any]) -> tuple[int, list[str]]:
        if "command" not in block:
            raise Unsupported("an iocb that cannot be read")
        said: list[str] = []
        number = self.blocks[block["at"]] = len(self.blocks)
        where, size = str(block.get("buffer", 0)), 0
        vectored = block["command"] in (7, 8)
        if vectored:
            # The kernel has read it when io_submit(2) returns.
            parts = self.parts(block, "V" if block["command"] == 7 else "v", said)
            where, size = f"(unsigned long)({parts})", len(block["parts"])
        for part in () if vectored else block["parts"]:
            pointer = self.target(part, 0) if block["command"] == 0 else self.source(part, "data", said)
            where, size = f"(unsigned long)({pointer})", part["length"]
        fields = [f".aio_data = {block['data']}"] if block["data"] else []
        fields += [f".aio_lio_opcode = {_AIO.get(block['command'], block['command'])}"]
        fields += [f".aio_fildes = {self.fd(block['fd'])}", f".aio_buf = {where}", f".aio_nbytes = {size}"]
        fields += [f".aio_offset = {block['offset']}"] if block["offset"] else []
        if block["flags"] & 1:
            fields += [".aio_flags = IOCB_FLAG_RESFD", f".aio_resfd = {self.fd(block['resfd'])}"]
        return number, [*said, *struct(f"requests[{number}] = (struct iocb)", fields, ";")]

    def _io_getevents(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h", "time.h"}
        context, least, most, _, timeout = use.event.arguments
        self.most_events = max(self.most_events, most)
        raw = unpack(timeout.get("data", "x")) if timeout["at"] else b""
        seconds = min(binary.unpack("@qq", raw)[0], _LONGEST_WAIT) if len(raw) == 16 else _LONGEST_WAIT
        wait = f"&(struct timespec){{ {max(seconds, 0)}, 0 }}"
        call = f"syscall(SYS_io_getevents, {self._context(context)}, {least}, {most}, events, {wait})"
        after = []
        for check in self.plan.checks.get(use.event.number, ()):
            if isinstance(check, Events):
                after += self._order(check)
        if self.judges(use, Result) and not self.judges(use, Events):
            for place, (_, _, result, _) in enumerate(use.event.out.get(3, [])):
                self.headers |= {"errno.h", "stdlib.h"}
                wanted = errno_of(result)
                after += [
                    f"\tif (events[{place}].res != {wanted}) {{",
                    f'\t\tprintf("io_getevents: got %lld, expected {wanted}\\n", (long long)events[{place}].res);',
                    "\t\texit(1);",
                    "\t}",
                ]
        return Said(call, after=after)

    def _order(self, check: Events) -> list[str]:
        """Return statements that look at which requests events are of."""
        self.headers.add("stdlib.h")
        lines = []
        for place, data in enumerate(check.wanted):
            lines += [
                f"\tif (events[{place}].data != {data}) {{",
                f'\t\tprintf("io_getevents: got request %llu as number {place}, expected {data}\\n",',
                f"\t\t       (unsigned long long)events[{place}].data);",
                "\t\texit(1);",
                "\t}",
            ]
        return lines

    def _io_cancel(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h"}
        context, block = use.event.arguments[:2]
        number = self.blocks.get(block["at"])
        where = f"&requests[{number}]" if number is not None else "&(struct iocb){ 0 }" if block["at"] else "NULL"
        return Said(f"syscall(SYS_io_cancel, {self._context(context)}, {where}, &(struct io_event){{ 0 }})")
