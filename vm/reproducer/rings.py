"""Requests of io_uring, in C, by raw system calls."""

from __future__ import annotations

import struct as binary
from typing import Any

from vm.guest import uring
from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Unsupported
from vm.reproducer.context import Said, signed, struct
from vm.reproducer.follow import Use
from vm.reproducer.sockets import Sockets, sockaddr_alg

_FIXED = (uring.READ_FIXED, uring.WRITE_FIXED)
_MESSAGE_FLAGS = (uring.SEND, uring.RECV, uring.SENDMSG, uring.RECVMSG, uring.SEND_ZC)
_COMMANDS = {0: "SIOCINQ", 1: "SIOCOUTQ", 2: "GETSOCKOPT", 3: "SETSOCKOPT", 5: "GETSOCKNAME"}
# Registering: buffers, and no buffers any more; and asking what the kernel knows, which changes nothing.
_BUFFERS, _NO_BUFFERS, _PROBE = 0, 1, 8


class Rings(Sockets):
    """Writes them."""

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
        """Return statements that add a request to a ring."""
        opcode = request["opcode"]
        if opcode not in uring.NAMES:
            raise Unsupported(f"no C for operation {opcode} of io_uring")
        if opcode == uring.ACCEPT and request["address"]:
            raise Unsupported("an accept of io_uring that asks for an address")
        said: list[str] = []
        name = f"IORING_OP_{uring.NAMES[opcode]}"
        fields = [f".opcode = {opcode} /* {name} */" if opcode in uring.NEWER else f".opcode = {name}"]
        fields.append(self._about(request))
        where = self._address_of(request, fields, said)
        if where:
            fields.append(f".addr = {where}")
        for member, key in (("flags", "flags"), ("ioprio", "priority"), ("len", "length"), ("user_data", "data")):
            if request[key]:
                fields.append(f".{member} = {request[key]}")
        if request["group"]:
            grouped = request["flags"] & uring.SELECT or opcode == uring.PROVIDE_BUFFERS
            fields.append(f".buf_{'group' if grouped else 'index'} = {request['group']}")
        if request["offset"]:
            fields.append(self._offset_of(request))
        if request["op_flags"]:
            sends = opcode in _MESSAGE_FLAGS
            words = names.flags(request["op_flags"], names.MESSAGE_FLAGS) if sends else str(request["op_flags"])
            fields.append(f".{'msg' if sends else 'rw'}_flags = {words}")
        return [*said, *struct(f"ring_add(&{ring}, &(struct io_uring_sqe)", fields, ");")]

    def _about(self, request: dict[str, Any]) -> str:
        """Return the member that says what a request is about: a descriptor as a rule."""
        number = signed(request["fd"] & 0xFFFFFFFF, 32)
        if request["opcode"] == uring.SOCKET:
            self.headers |= {"sys/socket.h"}
            return f".fd = {names.one(number, names.FAMILIES)}"
        return f".fd = {number if request['opcode'] == uring.PROVIDE_BUFFERS else self.fd(number)}"

    def _offset_of(self, request: dict[str, Any]) -> str:
        if request["opcode"] == uring.COMMAND:
            command = request["offset"] & 0xFFFFFFFF
            return f".off = {command} /* SOCKET_URING_OP_{_COMMANDS.get(command, '?')} */"
        if request["opcode"] == uring.SOCKET:
            return f".off = {names.one(request['offset'] & 0xF, names.TYPES)}"
        return f".off = {_unsigned(request['offset'])}"

    def _address_of(self, request: dict[str, Any], fields: list[str], said: list[str]) -> str:
        """Return what the address of a request is; other members that go with it are added to its fields."""
        opcode, buffer = request["opcode"], request.get("buffer")
        if letter := uring.MESSAGES.get(opcode):
            return f"(unsigned long){self._gathered(request['message'], letter, said)}"
        if opcode == uring.COMMAND:
            return self._command(request, fields, said)
        if opcode == uring.SPLICE:
            fields.append(f".splice_fd_in = {self.fd(request['splice_fd_in'])}")
            fields.append(f".splice_off_in = {_unsigned(request['address'])}")
            return ""
        if opcode == uring.BIND and buffer:
            raw = unpack(buffer.get("data", "x"))
            known = sockaddr_alg(raw, request["offset"])
            if known is not None:
                self.headers |= {"sys/socket.h", "linux/if_alg.h"}
                return f"(unsigned long)&{self._address(raw, *known)}"
        if opcode == uring.LINK_TIMEOUT and buffer and len(raw := unpack(buffer.get("data", "x"))) == 16:
            self.headers.add("linux/time_types.h")
            seconds, part = binary.unpack("@qq", raw)
            return f"(unsigned long)&(struct __kernel_timespec){{ {seconds}, {part} }}"
        if request["flags"] & uring.SELECT:
            return ""
        if buffer is not None:
            target = opcode in (*uring.WRITES, uring.PROVIDE_BUFFERS)
            where = self.target(buffer, 0) if target else self.source(buffer, "data", said)
            return f"(unsigned long)({where})"
        return f"{request['address']}" if request["address"] else ""

    def _gathered(self, message: dict[str, Any], letter: str, said: list[str]) -> str:
        """Return the address of a msghdr or an iovec that a request is of."""
        if letter in "vV":
            return self.parts(message, letter, said)
        # The kernel writes into that of a receiver when the request is done.
        name = self.fresh("header")
        self.headers |= {"sys/socket.h", "sys/uio.h"}
        before, members, adds = self._fields(message, letter, name, "own")
        self.define(name, f"static struct msghdr {name};")
        said += [*before, *struct(f"{name} = (struct msghdr)", members or ["0"], ";"), *adds]
        return f"&{name}"

    def _command(self, request: dict[str, Any], fields: list[str], said: list[str]) -> str:
        """Return level and option of a socket's command; the value's members are added."""
        level, option, value = request["address"] & 0xFFFFFFFF, request["address"] >> 32, request["value"]
        fields.append(f".splice_fd_in = {request['splice_fd_in']} /* optlen */")
        if value["at"]:
            sets = request["offset"] == uring.SETSOCKOPT
            where = self.source(value, "value", said) if sets else self.target(value, 0)
            fields.append(f".addr3 = (unsigned long)({where}) /* optval */")
        words = self._option(level, option).split(", ") if request["address"] else ["0", "0"]
        return f"{words[0]} | (__u64){words[1]} << 32"

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
