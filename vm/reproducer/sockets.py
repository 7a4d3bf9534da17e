"""Calls of sockets, in C."""

from __future__ import annotations

import struct as binary
from typing import Any

from vm.guest.tracee import unpack
from vm.reproducer import data as bytes_of
from vm.reproducer import names
from vm.reproducer.check import Unsupported
from vm.reproducer.context import Context, Said, paren, struct
from vm.reproducer.follow import Use

_CLOEXEC = 0o2000000
_LONGEST_IV = 96


class Sockets(Context):
    """Writes them."""

    def _socket(self, use: Use) -> Said:
        family, type_, protocol = use.event.arguments
        self.headers.add("sys/socket.h")
        if family == names.AF_ALG:
            self.headers.add("linux/if_alg.h")
        kind = type_ & ~(_CLOEXEC | 0o4000)
        words = names.one(kind, names.TYPES) + (" | SOCK_NONBLOCK" if type_ & 0o4000 else "")
        return self.makes(use, f"socket({names.one(family, names.FAMILIES)}, {words}, {protocol})")

    def _bind(self, use: Use) -> Said:
        fd, address, length = use.event.arguments
        self.headers |= {"sys/socket.h", "linux/if_alg.h"}
        raw = unpack(address.get("data", "x")) if address["at"] else b""
        fields = sockaddr_alg(raw, length)
        if fields is None:
            said: list[str] = []
            where = self.source(address, "address", said)
            return Said(f"bind({self.fd(fd)}, (struct sockaddr *){paren(where)}, {length})", before=said)
        name = self._address(raw, *fields)
        return Said(f"bind({self.fd(fd)}, (struct sockaddr *)&{name}, sizeof({name}))")

    def _address(self, raw: bytes, type_: bytes, algorithm: bytes, feat: int, mask: int) -> str:
        """Return the name of a sockaddr_alg."""
        if raw in self.constants:
            return self.constants[raw]
        name = self.constants[raw] = self.fresh("address")
        words = [".salg_family = AF_ALG", f".salg_type = {bytes_of.string(type_)}"]
        words += [f".salg_name = {bytes_of.string(algorithm)}"]
        words += [f".salg_feat = 0x{feat:x}"] * bool(feat) + [f".salg_mask = 0x{mask:x}"] * bool(mask)
        self.define(name, *struct(f"static struct sockaddr_alg {name} = ", words, ";", indent=""))
        return name

    def _connect(self, use: Use) -> Said:
        fd, address, length = use.event.arguments
        said: list[str] = []
        where = self.source(address, "address", said)
        return Said(f"connect({self.fd(fd)}, (struct sockaddr *){paren(where)}, {length})", before=said)

    def _listen(self, use: Use) -> Said:
        return Said(f"listen({self.fd(use.event.arguments[0])}, {use.event.arguments[1]})")

    def _shutdown(self, use: Use) -> Said:
        fd, how = use.event.arguments
        return Said(f"shutdown({self.fd(fd)}, {names.one(how, names.SHUTDOWNS)})")

    def _accept4(self, use: Use) -> Said:
        fd, address, length, flags = use.event.arguments
        where = "NULL, NULL"
        if address or length:
            self.room = max(self.room, 128)
            where = "(struct sockaddr *)buffer, &(socklen_t){ 128 }"
        rest = flags & ~_CLOEXEC
        call = f"accept({self.fd(fd)}, {where})" if not rest else f"accept4({self.fd(fd)}, {where}, 0x{rest:x})"
        return self.makes(use, call)

    def _accept(self, use: Use) -> Said:
        return self.makes(use, f"accept({self.fd(use.event.arguments[0])}, NULL, NULL)")

    def _socketpair(self, use: Use) -> Said:
        family, type_, protocol = use.event.arguments[:3]
        self.headers.add("sys/socket.h")
        if not use.made:
            raise Unsupported("sockets that could not be made")
        name = self.declare(use.made[0]).removesuffix("[0]")
        self.declare(use.made[1])
        words = f"{names.one(family, names.FAMILIES)}, {names.one(type_ & 0xF, names.TYPES)}, {protocol}, {name}"
        return Said(f"socketpair({words})")

    def _getsockname(self, use: Use) -> Said:
        self.room = max(self.room, 128)
        words = f"{self.fd(use.event.arguments[0])}, (struct sockaddr *)buffer, &(socklen_t){{ 128 }}"
        return Said(f"{use.event.call}({words})", output="buffer")

    _getpeername = _getsockname

    # ---- options

    def _setsockopt(self, use: Use) -> Said:
        fd, level, option, value, length = use.event.arguments
        said: list[str] = []
        raw = unpack(value.get("data", "x")) if value["at"] else b""
        size = str(length)
        serial = int.from_bytes(raw[:4], "little", signed=True) if len(raw) >= 4 else 0
        if level == names.SOL_ALG and option == 7 and serial in self.keys and length == 4:
            where = f"&{self.keys[serial]}"
        elif (level == names.SOL_SOCKET or option == 7) and len(raw) == length == 4:
            where = f"&(int){{ {serial} }}"
        else:
            where = self.source(value, "key" if option == 1 else "value", said)
        words = f"{self.fd(fd)}, {self._option(level, option)}, {where}, {size}"
        return Said(f"setsockopt({words})", before=said)

    def _getsockopt(self, use: Use) -> Said:
        fd, level, option, value, _ = use.event.arguments
        self.room = max(self.room, 256)
        where = "buffer" if value["at"] else "NULL"
        size = len(unpack(use.event.out[3])) if 3 in use.event.out else 4
        words = f"{self.fd(fd)}, {self._option(level, option)}, {where}, &(socklen_t){{ {size} }}"
        return Said(f"getsockopt({words})", output="buffer")

    def _option(self, level: int, option: int) -> str:
        known: dict[int, str] = {}
        self.headers.add("sys/socket.h")
        if level == names.SOL_ALG:
            known = names.ALG_OPTIONS
            self.headers.add("linux/if_alg.h")
            self.helpers |= {"key_serial"} if option == 7 else set()
        elif level == names.SOL_SOCKET:
            known = names.SOCKET_OPTIONS
        return f"{names.one(level, names.LEVELS)}, {names.one(option, known)}"

    # ---- messages

    def _sendmsg(self, use: Use) -> Said:
        fd, message, flags = use.event.arguments
        said, where = self._message(message, "m")
        return Said(f"sendmsg({self.fd(fd)}, {where}, {names.flags(flags, names.MESSAGE_FLAGS)})", before=said)

    def _recvmsg(self, use: Use) -> Said:
        fd, message, flags = use.event.arguments
        said, where = self._message(message, "M")
        call = f"recvmsg({self.fd(fd)}, {where}, {names.flags(flags, names.MESSAGE_FLAGS)})"
        return Said(call, before=said, output=self.first_target(message.get("parts", ())))

    def _message(self, message: dict[str, Any], letter: str) -> tuple[list[str], str]:
        """Return the statements that make a msghdr, and its address."""
        self.headers |= {"sys/socket.h", "sys/uio.h"}
        said, fields, adds = self._fields(message, letter, "m", "control")
        self.locals.add("m")
        return [*said, *struct("m = (struct msghdr)", fields or ["0"], ";"), *adds], "&m"

    def _fields(
        self, message: dict[str, Any], letter: str, name: str, control: str
    ) -> tuple[list[str], list[str], list[str]]:
        """Return statements before it, members of a msghdr, and statements that add to it."""
        if "parts" not in message:
            raise Unsupported("a msghdr that cannot be read")
        if message["count"] != len(message["parts"]):
            raise Unsupported("an iovec that cannot be read")
        said: list[str] = []
        fields: list[str] = []
        if address := message.get("name"):
            where = self.source(address, "address", said)
            fields += [f".msg_name = (void *){paren(where)}", f".msg_namelen = {address['length']}"]
        if message["parts"]:
            fields.append(f".msg_iov = {self.parts(message, letter, said)}")
            fields.append(f".msg_iovlen = {len(message['parts'])}")
        members, adds = self._control(message["control"], letter, name, control)
        return said, [*fields, *members], adds

    def _control(self, control: dict[str, Any], letter: str, name: str, where: str) -> tuple[list[str], list[str]]:
        """Return members of a msghdr for its control data, and statements that fill it."""
        length = control["length"]
        if not length:
            return [], []
        if not control["at"]:
            return [f".msg_controllen = {length}"], []
        if length > 1 << 16:
            raise Unsupported("control data of many bytes")
        raw = unpack(control.get("data", "x"))
        if letter == "m" and len(raw) < length:
            nowhere = self.unreadable(control["at"], length)
            return [f".msg_control = {nowhere}", f".msg_controllen = {length}"], []
        messages = _cmsgs(raw) if letter == "m" else None
        if letter == "m" and messages is None:
            whole = self.constant(raw, "malformed")
            return [f".msg_control = {whole}", f".msg_controllen = {length}"], []
        if where == "control":
            self.locals.add("control")
            self.longest_control = max(self.longest_control, length)
        else:
            where = f"(long long[{(length + 7) // 8}]){{ 0 }}"
        if messages is None:
            return [f".msg_control = {where}", f".msg_controllen = {length}"], []
        return [f".msg_control = {where}"], [self._cmsg(name, *each) for each in messages]

    longest_control = 0

    def _cmsg(self, name: str, level: int, type_: int, data: bytes) -> str:
        """Return the statement that adds a control message."""
        self.helpers.add("add" if level == names.SOL_ALG else "add_of")
        known = names.ALG_OPTIONS if level == names.SOL_ALG else {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"}
        words = [f"&{name}", names.one(type_, known)]
        if level != names.SOL_ALG:
            words.insert(1, names.one(level, names.LEVELS))
        number = int.from_bytes(data, "little")
        if level == names.SOL_ALG and type_ in (3, 4) and len(data) == 4:
            said = {0: "ALG_OP_DECRYPT", 1: "ALG_OP_ENCRYPT"}.get(number, str(number)) if type_ == 3 else str(number)
            if number >> 31:
                said = hex(number)
            where = f"&(int){{ {said} }}"
        elif level == names.SOL_ALG and type_ == 2 and 4 <= len(data) <= _LONGEST_IV:
            where = f"&{self._iv(data)}"
        else:
            where = self.constant(data, "value")
        return f"\t{'add' if level == names.SOL_ALG else 'add_of'}({', '.join(words)}, {where}, {len(data)});"

    def _iv(self, data: bytes) -> str:
        """Return the name of an IV with its length before it, as struct af_alg_iv has it."""
        if (found := self.constants.get(b"iv" + data)) is not None:
            return found
        name = self.constants[b"iv" + data] = self.fresh("iv")
        words = [str(int.from_bytes(data[:4], "little"))]
        words += bytes_of.strings(data[4:]) if any(data[4:]) else ['""']
        begin = f"static struct {{ unsigned int length; char iv[{len(data) - 3}]; }} {name} = "
        self.define(name, *struct(begin, [words[0], "\n\t".join(words[1:])] if words[1:] else words, ";", indent=""))
        return name

    def _sendmmsg(self, use: Use) -> Said:
        return self._several(use, "m")

    def _recvmmsg(self, use: Use) -> Said:
        return self._several(use, "M")

    def _several(self, use: Use, letter: str) -> Said:
        fd, messages, count, flags = use.event.arguments[:4]
        if count != len(messages):
            raise Unsupported("messages that cannot be read")
        self.headers |= {"sys/socket.h", "sys/uio.h"}
        array = self.fresh("many")
        self.define(array, f"static struct mmsghdr {array}[{max(count, 1)}];")
        said: list[str] = []
        for place, message in enumerate(messages):
            name = f"{array}[{place}].msg_hdr"
            before, fields, adds = self._fields(message, letter, name, "own")
            said += [*before, *struct(f"{name} = (struct msghdr)", fields or ["0"], ";"), *adds]
        words = f"{self.fd(fd)}, {array}, {count}, {names.flags(flags, names.MESSAGE_FLAGS)}"
        return Said(f"sendmmsg({words})" if letter == "m" else f"recvmmsg({words}, NULL)", before=said)

    def _sendto(self, use: Use) -> Said:
        fd, buffer, length, flags, address, size = use.event.arguments
        said: list[str] = []
        self.headers.add("sys/socket.h")
        where = self.source(buffer, "data", said)
        words = f"{self.fd(fd)}, {where}, {length}, {names.flags(flags, names.MESSAGE_FLAGS)}"
        if not address["at"]:
            return Said(f"send({words})", before=said)
        to = self.source(address, "address", said)
        return Said(f"sendto({words}, (struct sockaddr *){paren(to)}, {size})", before=said)

    def _recvfrom(self, use: Use) -> Said:
        fd, buffer, length, flags = use.event.arguments[:4]
        self.headers.add("sys/socket.h")
        where = self.target(buffer, 0, self.written(1))
        return Said(f"recv({self.fd(fd)}, {where}, {length}, {names.flags(flags, names.MESSAGE_FLAGS)})", output=where)


def sockaddr_alg(raw: bytes, length: int) -> tuple[bytes, bytes, int, int] | None:
    """Return type, name, feat and mask of a well-formed address; None for another."""
    if len(raw) != 88 or length != 88:
        return None
    family, type_, feat, mask, name = binary.unpack("@H14sII64s", raw)
    type_, name = type_.rstrip(b"\0"), name.rstrip(b"\0")
    good = family == names.AF_ALG and len(type_) < 14 and len(name) < 64
    return (type_, name, feat, mask) if good and all(32 <= each < 127 for each in type_ + name) else None


def _cmsgs(raw: bytes) -> list[tuple[int, int, bytes]] | None:
    """Return level, type and data of each control message; None when they are not well-formed."""
    found = []
    while raw:
        if len(raw) < 16:
            return None
        length, level, type_ = binary.unpack_from("@Qii", raw)
        padded = (length + 7) & ~7
        if length < 16 or padded > len(raw) or any(raw[length:padded]):
            return None
        found.append((level, type_, raw[16:length]))
        raw = raw[padded:]
    return found
