"""Requests in flight, in C: AIO and io_uring, by raw system calls."""

from __future__ import annotations

import struct as binary
from typing import Any

from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Events, Result, Unsupported
from vm.reproducer.context import Context, Said, errno_of, signed, struct
from vm.reproducer.follow import Use

_AIO = {0: "IOCB_CMD_PREAD", 1: "IOCB_CMD_PWRITE", 2: "IOCB_CMD_FSYNC", 5: "IOCB_CMD_POLL"}
_URING = {
    0: "NOP", 4: "READ_FIXED", 5: "WRITE_FIXED", 6: "POLL_ADD", 13: "ACCEPT", 14: "ASYNC_CANCEL", 19: "CLOSE",
    22: "READ", 23: "WRITE", 26: "SEND", 27: "RECV", 30: "SPLICE",
}  # fmt: skip
_FIXED = (4, 5)
_WRITES = (22, 27, 4)
# Registering: buffers, and no buffers any more; and asking what the kernel knows, which changes nothing.
_BUFFERS, _NO_BUFFERS, _PROBE = 0, 1, 8
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
        if block["command"] in (7, 8):
            raise Unsupported("an iocb with an iovec")
        said: list[str] = []
        number = self.blocks[block["at"]] = len(self.blocks)
        where, size = str(block.get("buffer", 0)), 0
        for part in block["parts"]:
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

    # ---- io_uring

    def _io_uring_setup(self, use: Use) -> Said:
        self.headers |= {"linux/io_uring.h", "sys/syscall.h"}
        if not use.made:
            return Said(f"syscall(SYS_io_uring_setup, {use.event.arguments[0]}, &(struct io_uring_params){{ 0 }})")
        name = self.declare(use.made[0])
        self.names[id(use.made[0])] = f"{name}.fd"
        return Said(f"ring_open(&{name}, {use.event.arguments[0]})")

    def _ring(self, number: int) -> str:
        return self.fd(number).removesuffix(".fd")

    def _io_uring_enter(self, use: Use) -> Said:
        fd, submit, wait = use.event.arguments[:3]
        said: list[str] = []
        self.headers |= {"linux/io_uring.h", "sys/syscall.h"}
        for request in use.event.more.get("submissions", ()):
            self.helpers.add("ring_add")
            said += self._sqe(self._ring(fd), request)
        flags = "IORING_ENTER_GETEVENTS" if wait else "0"
        return Said(f"syscall(SYS_io_uring_enter, {self.fd(fd)}, {submit}, {wait}, {flags}, NULL, 0)", before=said)

    def _sqe(self, ring: str, request: dict[str, Any]) -> list[str]:
        opcode = request["opcode"]
        if opcode not in _URING:
            raise Unsupported(f"no C for operation {opcode} of io_uring")
        grouped = request["group"] and opcode not in _FIXED
        if request["flags"] & 32 or grouped or (opcode == 13 and request["address"]):
            raise Unsupported("buffers of a group of io_uring")
        said: list[str] = []
        fields = [f".opcode = IORING_OP_{_URING[opcode]}", f".fd = {self.fd(signed(request['fd'], 32))}"]
        where = ""
        if "buffer" in request:
            own = request["buffer"]
            where = self.target(own, 0) if opcode in _WRITES else self.source(own, "data", said)
        elif opcode == 30:
            source = self.fd(request["splice_fd_in"])
            fields += [f".splice_fd_in = {source}", f".splice_off_in = {_unsigned(request['address'])}"]
        elif request["address"]:
            where = str(request["address"])
        if where:
            fields.append(f".addr = (unsigned long)({where})")
        for name, key in (("flags", "flags"), ("ioprio", "priority"), ("len", "length"), ("user_data", "data")):
            if request[key]:
                fields.append(f".{name} = {request[key]}")
        if request["group"]:
            fields.append(f".buf_index = {request['group']}")
        if request["offset"]:
            fields.append(f".off = {_unsigned(request['offset'])}")
        if request["op_flags"]:
            own_flags = request["op_flags"]
            sends = opcode in (26, 27)
            said_flags = f".msg_flags = {names.flags(own_flags, names.MESSAGE_FLAGS)}" if sends else ""
            fields.append(said_flags or f".rw_flags = {own_flags}")
        return [*said, *struct(f"ring_add(&{ring}, &(struct io_uring_sqe)", fields, ");")]

    def _completion(self, use: Use) -> Said:
        self.helpers.add("ring_take")
        target = self.declare(use.made[0]) if use.made else ""
        return Said(f"ring_take(&{self._ring(use.event.arguments[0])})", target)

    def _io_uring_register(self, use: Use) -> Said | None:
        fd, operation = use.event.arguments[:2]
        self.headers |= {"linux/io_uring.h", "sys/syscall.h"}
        if operation == _PROBE:
            return None
        if operation == _NO_BUFFERS:
            return Said(f"syscall(SYS_io_uring_register, {self.fd(fd)}, IORING_UNREGISTER_BUFFERS, NULL, 0)")
        if operation != _BUFFERS:
            raise Unsupported(f"no C for io_uring_register of {operation}")
        said: list[str] = []
        vector = use.event.more["vector"]
        parts = self.parts(vector, "v", said)
        words = f"{self.fd(fd)}, IORING_REGISTER_BUFFERS, {parts}, {len(vector['parts'])}"
        return Said(f"syscall(SYS_io_uring_register, {words})", before=said)


def _unsigned(value: int) -> str:
    return f"{value}ULL" if value >= 1 << 31 else str(value)
