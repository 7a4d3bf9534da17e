"""What the arguments of a call point to, as the record has it (vm/guest/recorder.py): JSON, bytes packed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

from vm.guest import syscalls, uring
from vm.guest.tracee import Memory, pack

_SQE = ("opcode", "flags", "priority", "fd", "offset", "address", "length", "op_flags", "data", "group", "personality",
        "splice_fd_in", "option", "pad")  # fmt: skip


def before(memory: Memory, letter: str, value: int, number: int, arguments: Sequence[int]) -> Any:
    """Return an argument as the record has it, when its call begins.

    Args:
        memory: of the process.
        letter: what the argument is, with ``number`` (vm/guest/syscalls.py).
        value: as the kernel was given it.
        number: that belongs to the letter.
        arguments: all of the call's.
    """
    if letter in "if":
        return signed(value)
    if letter == "s":
        return pack(memory.string(value)) if value else None
    if letter == "<":
        return memory.buffer(value, arguments[number] & 0xFFFFFFFF if number > 2 else arguments[number])
    if letter == "@":
        return memory.buffer(value, number)
    if letter == "o":
        return struct.unpack("@q", memory.read(value, 8))[0] if value and memory.read(value, 8) else None
    if letter in "mMvV":
        return scattered(memory, letter, value, arguments[number] if letter in "vV" else 1)
    if letter in "wW":
        return [
            scattered(memory, letter.replace("w", "m").replace("W", "M"), value + 64 * at, 1)
            for at in range(min(arguments[number], 64))
        ]
    if letter == "P":
        return _polled(memory, value, arguments[number])
    if letter == "I":
        return [iocb(memory, memory.word(value + 8 * at)) for at in range(min(arguments[number], 1024))]
    if letter == ">":
        return {"at": value, "length": arguments[number]}
    if letter in "=gEe":
        return {"at": value}
    return value


def after(memory: Memory, letter: str, value: int, number: int, arguments: Sequence[int], result: int) -> Any:
    """Return what a call that succeeded wrote behind an argument; None where it did not.

    Args:
        memory, letter, value, number, arguments: as of :func:`before`.
        result: what the call returned.
    """
    if letter == ">":
        return pack(memory.read(value, min(result, arguments[number])))
    if letter == "=" and value:
        return pack(memory.read(value, number))
    if letter == "g" and value:
        place = arguments.index(value)
        return pack(memory.read(value, memory.word(arguments[place + 1], 4)))
    if letter == "P":
        return _polled(memory, value, arguments[number])
    if letter == "E":
        raw = memory.read(value, 32 * result)
        return [list(struct.unpack_from("@QQqq", raw, 32 * at)) for at in range(len(raw) // 32)]
    if letter == "e":
        size = syscalls.epoll_event()
        raw = memory.read(value, size * result)
        return [int.from_bytes(raw[size * at :][:4], sys.byteorder) for at in range(len(raw) // size)]
    if letter == "V":
        return _gathered(memory, value, arguments[number], result)
    if letter == "M":
        header = memory.read(value, 56)
        iov, count, control, length, flags = struct.unpack_from("@QQQQi", header, 16)
        return {
            **_gathered(memory, iov, count, result),
            "control": pack(memory.read(control, length)),
            "flags": flags,
        }
    if letter == "W":
        found = []
        for at in range(result):
            header = memory.read(value + 64 * at, 64)
            iov, count, _, _, flags, size = struct.unpack_from("@QQQQi4xI", header, 16)
            found.append({**_gathered(memory, iov, count, size), "flags": flags, "size": size})
        return found
    if letter == "w":
        return [memory.word(value + 64 * at + 56, 4) for at in range(result)]
    return None


def scattered(memory: Memory, letter: str, value: int, count: int) -> dict[str, Any]:
    """Return a msghdr, or an iovec of ``count`` parts, with what the parts hold where they are read."""
    said: dict[str, Any] = {"at": value}
    if letter in "mM":
        header = memory.read(value, 56)
        if len(header) < 56:
            return said
        name, name_length, iov, count, control, length, flags = struct.unpack("@QI4xQQQQi4x", header)
        said |= {"flags": flags, "iov": iov, "count": count}
        if name or name_length:
            said["name"] = memory.buffer(name, name_length)
        if letter == "m" or not control:
            said["control"] = memory.buffer(control, length)
        else:
            said["control"] = {"at": control, "length": length}
        value = iov
    raw = memory.read(value, 16 * min(count, 2048))
    said["parts"] = []
    for at in range(len(raw) // 16):
        address, length = struct.unpack_from("@QQ", raw, 16 * at)
        reads = letter in "mv"
        said["parts"].append(memory.buffer(address, length) if reads else {"at": address, "length": length})
    return said


def _polled(memory: Memory, address: int, count: int) -> list[list[int]]:
    """Return ``count`` of ``struct pollfd``: descriptor, what is asked for, what was told."""
    raw = memory.read(address, 8 * count)
    return [list(struct.unpack_from("@ihh", raw, 8 * at)) for at in range(len(raw) // 8)]


def _gathered(memory: Memory, iov: int, count: int, size: int) -> dict[str, Any]:
    """Return what was written into the parts of an iovec, one after the other."""
    raw = memory.read(iov, 16 * min(count, 2048))
    found = []
    for at in range(len(raw) // 16):
        address, length = struct.unpack_from("@QQ", raw, 16 * at)
        found.append(pack(memory.read(address, min(length, size))))
        size -= min(length, size)
    return {"parts": found}


def iocb(memory: Memory, address: int) -> dict[str, Any]:
    raw = memory.read(address, 64)
    if len(raw) < 64:
        return {"at": address}
    data, _, _, command, _, fd, buffer, size, offset, _, flags, resfd = struct.unpack("@QIIHhIQQqQII", raw)
    said: dict[str, Any] = {
        "at": address,
        "data": data,
        "command": command,
        "fd": signed(fd),
        "offset": offset,
        "flags": flags,
        "resfd": resfd,
    }
    if command in (7, 8):
        said |= scattered(memory, "v", buffer, size)
    elif command in (0, 1):
        said["parts"] = [memory.buffer(buffer, size)]
    else:
        said["buffer"], said["parts"] = buffer, []
    return said


def sqe(memory: Memory, raw: bytes) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Return a ``struct io_uring_sqe``, and the ranges of memory that the kernel keeps: addresses and lengths."""
    said: dict[str, Any] = dict(zip(_SQE, struct.unpack("@BBHiQQIIQHHiQQ", raw), strict=True))
    opcode, kept = said["opcode"], []
    if opcode in (*uring.READS, *uring.WRITES):
        said["buffer"] = memory.buffer(said["address"], said["length"])
        if opcode in uring.WRITES:
            kept.append((said["address"], said["length"]))
    elif letter := uring.MESSAGES.get(opcode):
        said["message"] = scattered(memory, letter, said["address"], said["length"] or 1)
        if letter in "MV":
            kept += [(part["at"], part["length"]) for part in said["message"].get("parts", ())]
    elif opcode == uring.PROVIDE_BUFFERS:
        # As many buffers as the descriptor's field says, one behind the other.
        size = said["length"] * max(said["fd"], 0)
        said["buffer"] = memory.buffer(said["address"], size)
        kept.append((said["address"], size))
    elif opcode == uring.COMMAND:
        size = min(max(said["splice_fd_in"], 0), 4096)
        said["value"] = memory.buffer(said["option"], size)
        kept.append((said["option"], size))
    elif opcode in (uring.LINK_TIMEOUT, uring.BIND):
        said["buffer"] = memory.buffer(
            said["address"], 16 if opcode == uring.LINK_TIMEOUT else min(said["offset"], 128)
        )
    return said, kept


def signed(value: int) -> int:
    """Return the lower 32 bits of a word as a signed number."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value
