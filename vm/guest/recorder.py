"""Records the system calls of a test: every one that matters, whoever makes it, with what its arguments point to.

    python -m vm.guest.recorder DESCRIPTOR -- COMMAND…

runs COMMAND and writes what its process records to DESCRIPTOR, a JSON object a line, each before the kernel goes on:
what a call that takes the machine down was about is known by then. COMMAND has ``VM_RECORDER`` in its environment, two
descriptors: what wants to be recorded writes a byte to the second and reads one from the first (:func:`begin`).
From then on ``write(-1, text)`` is a note (:func:`note`), which the kernel refuses and the record has.

It looks on by ptrace(2), and not from within, by wrapping functions. So it sees what Python's ``os`` and ``mmap`` do,
what other threads and children do, the rings of io_uring as the kernel found them, and calls with pointers to nothing;
a test cannot do anything that it does not see. What it costs is paid only while a test is recorded.
PTRACE_GET_SYSCALL_INFO (Linux 5.3) tells the arguments alike on every architecture.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import mmap
import os
import platform
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.guest import syscalls

ENVIRONMENT = "VM_RECORDER"
"""Two descriptors: what the recorder answers by, and what it is asked by."""

END = "end"
"""The note that ends a recording."""

_MOST = 1 << 24
"""Bytes of one buffer that are kept."""

_SYSCALL, _DETACH, _SEIZE, _INTERRUPT, _LISTEN, _EVENT_MESSAGE, _INFO = 24, 17, 0x4206, 0x4207, 0x4208, 0x4201, 0x420E
# Stops at system calls are told from others, and what a thread or process starts is recorded, too.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
_ENTRY, _EXIT = 1, 2
_EVENT_STOP = 128
# Of waitpid(2), __WALL: threads as well.
_ALL = 0x40000000
_EVENT_EXEC = 4
_PIDFD_GETFD = 438
_SLOTS = 0x10000000
_AUDIT_64_BIT = 0x80000000
# Files that the interpreter reads, and their like.
_DULL = (".py", ".pyc", ".so", ".pth", ".toml", ".json", ".cfg", ".ini", ".txt", "/locale.alias", "__pycache__")
_OF_PROCESSES = ("/proc/stat", "/proc/sys/kernel/tainted", "/dev/kmsg")


def note(text: str) -> None:
    """Write a note into the recording of this process; nothing where none is made."""
    with contextlib.suppress(OSError):
        os.write(-1, text.encode())


def begin() -> bool:
    """Have the recorder look on from now on, until the note END; False where there is none."""
    told = os.environ.get(ENVIRONMENT)
    if told is None:
        return False
    answers, questions = map(int, told.split(","))
    os.write(questions, b"?")
    return os.read(answers, 1) == b"!"


def pack(data: bytes) -> str:
    """Return bytes as text: hexadecimal, or packed where they are many."""
    if len(data) <= 64:
        return f"x{data.hex()}"
    return "z" + base64.b64encode(zlib.compress(data, 6)).decode()


def unpack(text: str) -> bytes:
    """Return what :func:`pack` was given."""
    return bytes.fromhex(text[1:]) if text[0] == "x" else zlib.decompress(base64.b64decode(text[1:]))


@dataclass
class Task:
    """A thread that is looked on.

    Attributes:
        thread: its number.
        number: in the order of their beginnings; 0 is the test's own.
        process: number of the first thread of its process.
        call: what it is in, with its arguments; None while it is in none that is recorded.
        entered: number of the event that was its entry.
    """

    thread: int
    number: int
    process: int
    call: syscalls.Call | None = None
    arguments: list[int] = field(default_factory=list)
    entered: int = 0
    inside: bool = False


class Memory:
    """The memory of a process, read through proc(5)."""

    def __init__(self, thread: int) -> None:
        self.descriptor = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, address: int, length: int) -> bytes:
        """Return what can be read of a range from its beginning on."""
        length = min(length, _MOST)
        found = b""
        while address and len(found) < length and address + len(found) < 1 << 63:
            at = address + len(found)
            try:
                part = os.pread(self.descriptor, length - len(found), at)
            except OSError:
                part = b""
            if not part:
                # Perhaps only the end of it cannot be read.
                page = min(4096 - at % 4096, length - len(found))
                try:
                    part = os.pread(self.descriptor, page, at) if page < length - len(found) else b""
                except OSError:
                    part = b""
            if not part:
                break
            found += part
        return found

    def string(self, address: int) -> bytes:
        """Return a string without its end."""
        return self.read(address, 512).partition(b"\0")[0]

    def word(self, address: int, size: int = 8) -> int:
        """Return a number; 0 where there is none."""
        return int.from_bytes(self.read(address, size), sys.byteorder)

    def buffer(self, address: int, length: int) -> dict[str, Any]:
        """Return a range as the record has it: where it is, its length, and what can be read of it."""
        if not address:
            return {"at": 0, "length": length}
        return {"at": address, "length": length, "data": pack(self.read(address, length))}


class Rings:
    """An io_uring of a process, as far as what goes in and comes out of it has been seen.

    Its memory is mapped here, too: before Linux 6.10 proc(5) does not show that of the process.

    Args:
        process: that has it.
        descriptor: of it there.
        parameters: ``struct io_uring_params`` as the kernel filled it in.

    Raises:
        OSError: no pidfd_getfd(2) (Linux 5.6), or no right to it.
    """

    def __init__(self, process: int, descriptor: int, parameters: bytes) -> None:
        self.entries, self.completions = struct.unpack_from("@2I", parameters)
        self.submissions = struct.unpack_from("@8I", parameters, 40)
        self.completed = struct.unpack_from("@8I", parameters, 80)
        self.submitted = self.seen = 0
        other = os.pidfd_open(process)
        try:
            own = _libc.syscall(_PIDFD_GETFD, other, descriptor, 0)
            if own < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            size = max(self.submissions[6] + 4 * self.entries, self.completed[5] + 16 * self.completions)
            self.ring = mmap.mmap(own, size, prot=mmap.PROT_READ)
            self.slots = mmap.mmap(own, 64 * self.entries, prot=mmap.PROT_READ, offset=_SLOTS)
            os.close(own)
        finally:
            os.close(other)

    def close(self) -> None:
        """Let go of it: it is not gone before."""
        self.ring.close()
        self.slots.close()

    def _word(self, at: int) -> int:
        return int.from_bytes(self.ring[at : at + 4], sys.byteorder)

    def fresh(self) -> list[bytes]:
        """Return the submissions since the last call."""
        tail, found = self._word(self.submissions[1]), []
        while self.submitted != tail:
            slot = self._word(self.submissions[6] + 4 * (self.submitted % self.entries))
            found.append(self.slots[64 * slot : 64 * slot + 64])
            self.submitted = (self.submitted + 1) & 0xFFFFFFFF
        return found

    def done(self) -> list[list[int]]:
        """Return the completions since the last call: data, result, flags."""
        tail, found = self._word(self.completed[1]), []
        while self.seen != tail:
            at = self.completed[5] + 16 * (self.seen % self.completions)
            found.append(list(struct.unpack_from("@QiI", self.ring, at)))
            self.seen = (self.seen + 1) & 0xFFFFFFFF
        return found


# Requests of io_uring whose address is of data: what is read, what is written, and what is a msghdr or an iovec.
_URING_READS, _URING_WRITES = {23, 26, 5, 47}, {22, 27, 4}
_URING_MESSAGES = {9: "m", 10: "M", 1: "V", 2: "v"}


class Recorder:
    """Looks on.

    Args:
        output: descriptor that the record goes to.
    """

    def __init__(self, output: int) -> None:
        self.output = output
        self.calls = syscalls.known()
        self.tasks: dict[int, Task] = {}
        self.memories: dict[int, Memory] = {}
        self.count = self.numbers = 0
        self.ending = False
        self.dull: set[tuple[int, int]] = set()
        self.live: dict[tuple[int, int, int], bytes] = {}
        self.rings: dict[int, Rings] = {}
        self.announced: dict[int, int] = {}
        self.strays: set[int] = set()

    # ---- its life

    def attach(self, process: int) -> None:
        """Begin with all threads of a process, of which the first is the test's."""
        self.__init__(self.output)  # type: ignore[misc]
        threads = sorted(int(each.name) for each in Path(f"/proc/{process}/task").iterdir())
        for thread in sorted(threads, key=lambda each: each != process):
            self._adopt(thread, process)
            _ptrace(_SEIZE, thread, 0, _OPTIONS)
            _ptrace(_INTERRUPT, thread, 0, 0)

    def turn(self) -> tuple[int, int] | None:
        """Wait for what comes next and act on it; return number and status of a process that ended, else None."""
        thread, status = self._next()
        if not os.WIFSTOPPED(status):
            self.tasks.pop(thread, None)
            return thread, status
        number, event = os.WSTOPSIG(status), status >> 16
        task = self.tasks.get(thread)
        if task is None:
            # A thread may be seen before the one that made it says so.
            task = self._adopt(thread, self._process_of(thread))
        sent = 0
        if event in (1, 2, 3):
            self._told(task)
        elif event == _EVENT_EXEC:
            # Another program, with nothing of the test in it: a modprobe says a megabyte.
            self._release(thread)
            return None
        elif event == _EVENT_STOP:
            if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                _ptrace(_LISTEN, thread, 0, 0)
                return None
        elif number == signal.SIGTRAP | 0x80:
            self._stopped(task)
        elif event == 0:
            sent = number
            self._write({"signal": number, "task": task.number})
        if self.ending:
            # Any stop will do: one at a system call takes the place of the one that was asked for.
            self._release(thread, sent)
        elif thread in self.tasks:
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_SYSCALL, thread, 0, sent)
        return None

    def _next(self) -> tuple[int, int]:
        """Wait for a thread, of several that have stopped the one whose last stop is longest ago.

        The kernel would always tell of the same one: a thread that asks in a loop whether another has come so far would
        have that one wait for ever.
        """
        for thread in list(self.tasks) if len(self.tasks) > 1 else ():
            with contextlib.suppress(ChildProcessError):
                found, status = os.waitpid(thread, os.WNOHANG | _ALL)
                if found:
                    self.tasks[thread] = self.tasks.pop(thread)
                    return found, status
        return os.waitpid(-1, _ALL)

    def _process_of(self, thread: int) -> int:
        with contextlib.suppress(OSError, IndexError):
            for line in Path(f"/proc/{thread}/status").read_text().splitlines():
                if line.startswith("Tgid:"):
                    return int(line.split()[1])
        return thread

    def _adopt(self, thread: int, process: int) -> Task:
        task = self.tasks[thread] = Task(thread, self.numbers, process)
        self.numbers += 1
        if process not in self.memories:
            self.memories[process] = Memory(thread)
        return task

    def _told(self, task: Task) -> None:
        """A thread has made another, or a process."""
        message = ctypes.c_ulong()
        _ptrace(_EVENT_MESSAGE, task.thread, 0, ctypes.addressof(message))
        made = int(message.value)
        child = self.tasks.get(made) or self._adopt(made, self._process_of(made))
        self.dull |= {(child.process, each) for process, each in self.dull if process == task.process}
        self._write({"made": child.number, "task": task.number, "process": child.process == made})

    def _release(self, thread: int, sent: int = 0) -> None:
        with contextlib.suppress(ProcessLookupError):
            _ptrace(_DETACH, thread, 0, sent)
        self.tasks.pop(thread, None)

    def _end(self, task: Task) -> None:
        """Let all of them go."""
        self.ending = True
        while self.rings:
            self.rings.popitem()[1].close()
        for thread in list(self.tasks):
            if thread != task.thread:
                with contextlib.suppress(ProcessLookupError):
                    _ptrace(_INTERRUPT, thread, 0, 0)
        self._release(task.thread)

    # ---- one stop

    def _stopped(self, task: Task) -> None:
        raw = ctypes.create_string_buffer(128)
        try:
            _ptrace(_INFO, task.thread, len(raw), ctypes.addressof(raw))
        except ProcessLookupError:
            return
        operation, architecture = struct.unpack_from("@BxxxI", raw)
        if operation == _ENTRY:
            number, *arguments = struct.unpack_from("@7Q", raw, 24)
            self._entry(task, number, list(arguments), architecture)
        elif operation == _EXIT:
            (result,) = struct.unpack_from("@q", raw, 24)
            self._exit(task, result)

    def _entry(self, task: Task, number: int, arguments: list[int], architecture: int) -> None:
        if not architecture & _AUDIT_64_BIT:
            self._write({"foreign": number, "task": task.number, "arguments": arguments})
            task.call = None
            return
        task.call = self.calls.get(number)
        task.arguments = arguments
        if task.call is None or not self._matters(task):
            task.call = None
            return
        memory = self.memories[task.process]
        if task.call.name == "write" and _int(arguments[0]) == -1:
            text = memory.read(arguments[1], arguments[2]).decode(errors="replace")
            self._write({"note": text, "task": task.number, **self._changes(task)})
            task.call = None
            if text == END:
                self._end(task)
            return
        said: dict[str, Any] = {"call": task.call.name, "task": task.number}
        said |= self._changes(task)
        said["arguments"] = [
            self._before(memory, letter, arguments[place], number, arguments)
            for place, (letter, number) in enumerate(task.call.arguments)
        ]
        said |= self._further(task, memory)
        task.entered = self._write(said)

    def _exit(self, task: Task, result: int) -> None:
        if task.call is None:
            return
        call, task.call = task.call, None
        memory = self.memories[task.process]
        said: dict[str, Any] = {"of": task.entered, "task": task.number, "result": result}
        if result >= 0:
            for place, (letter, number) in enumerate(call.arguments):
                found = self._after(memory, letter, task.arguments[place], number, task.arguments, result)
                if found is not None:
                    said[f"out{place}"] = found
        self._learn(task, call.name, result, memory)
        said |= self._changes(task)
        self._write(said)

    def _matters(self, task: Task) -> bool:
        """Say whether a call is none of the interpreter's own."""
        name, arguments = task.call.name if task.call else "", task.arguments
        if name in ("openat", "open"):
            path = self.memories[task.process].string(arguments[name == "openat"]).decode(errors="replace")
            flags = arguments[1 + (name == "openat")]
            task.inside = not flags & 3 and (path.endswith(_DULL) or path in _OF_PROCESSES or "/.venv/" in path)
            return True
        if name in ("mmap", "mprotect", "munmap", "madvise", "clone", "clone3", "fork", "vfork", "exit"):
            return name != "madvise"
        if task.call is not None and task.call.arguments and task.call.arguments[0][0] == "f":
            return name == "close" or (task.process, _int(arguments[0])) not in self.dull
        return True

    # ---- arguments

    def _before(self, memory: Memory, letter: str, value: int, number: int, arguments: Sequence[int]) -> Any:
        if letter in "if":
            return _int(value)
        if letter == "s":
            return pack(memory.string(value)) if value else None
        if letter == "<":
            return memory.buffer(value, arguments[number] & 0xFFFFFFFF if number > 2 else arguments[number])
        if letter == "@":
            return memory.buffer(value, number)
        if letter == "o":
            return struct.unpack("@q", memory.read(value, 8))[0] if value and memory.read(value, 8) else None
        if letter in "mMvV":
            return self._scattered(memory, letter, value, arguments[number] if letter in "vV" else 1)
        if letter in "wW":
            return [
                self._scattered(memory, letter.replace("w", "m").replace("W", "M"), value + 64 * at, 1)
                for at in range(min(arguments[number], 64))
            ]
        if letter == "P":
            raw = memory.read(value, 8 * arguments[number])
            return [list(struct.unpack_from("@ihh", raw, 8 * at)) for at in range(len(raw) // 8)]
        if letter == "I":
            return [self._iocb(memory, memory.word(value + 8 * at)) for at in range(min(arguments[number], 1024))]
        if letter == "g":
            return {"at": value}
        if letter == ">":
            return {"at": value, "length": arguments[number]}
        if letter in "=E":
            return {"at": value}
        return value

    def _after(
        self, memory: Memory, letter: str, value: int, number: int, arguments: Sequence[int], result: int
    ) -> Any:
        if letter == ">":
            return pack(memory.read(value, min(result, arguments[number])))
        if letter == "=" and value:
            return pack(memory.read(value, number))
        if letter == "g" and value:
            place = arguments.index(value)
            return pack(memory.read(value, memory.word(arguments[place + 1], 4)))
        if letter == "P":
            raw = memory.read(value, 8 * arguments[number])
            return [list(struct.unpack_from("@ihh", raw, 8 * at)) for at in range(len(raw) // 8)]
        if letter == "E":
            raw = memory.read(value, 32 * result)
            return [list(struct.unpack_from("@QQqq", raw, 32 * at)) for at in range(len(raw) // 32)]
        if letter == "V":
            return self._gathered(memory, value, arguments[number], result)
        if letter == "M":
            header = memory.read(value, 56)
            iov, count, control, length, flags = struct.unpack_from("@QQQQi", header, 16)
            return {
                **self._gathered(memory, iov, count, result),
                "control": pack(memory.read(control, length)),
                "flags": flags,
            }
        if letter == "W":
            found = []
            for at in range(result):
                header = memory.read(value + 64 * at, 64)
                iov, count, _, _, flags, size = struct.unpack_from("@QQQQi4xI", header, 16)
                found.append({**self._gathered(memory, iov, count, size), "flags": flags, "size": size})
            return found
        if letter == "w":
            return [memory.word(value + 64 * at + 56, 4) for at in range(result)]
        return None

    def _scattered(self, memory: Memory, letter: str, value: int, count: int) -> dict[str, Any]:
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

    def _gathered(self, memory: Memory, iov: int, count: int, size: int) -> dict[str, Any]:
        """Return what was written into the parts of an iovec, one after the other."""
        raw = memory.read(iov, 16 * min(count, 2048))
        found = []
        for at in range(len(raw) // 16):
            address, length = struct.unpack_from("@QQ", raw, 16 * at)
            found.append(pack(memory.read(address, min(length, size))))
            size -= min(length, size)
        return {"parts": found}

    def _iocb(self, memory: Memory, address: int) -> dict[str, Any]:
        raw = memory.read(address, 64)
        if len(raw) < 64:
            return {"at": address}
        data, _, _, command, _, fd, buffer, size, offset, _, flags, resfd = struct.unpack("@QIIHhIQQqQII", raw)
        said: dict[str, Any] = {
            "at": address,
            "data": data,
            "command": command,
            "fd": _int(fd),
            "offset": offset,
            "flags": flags,
            "resfd": resfd,
        }
        if command in (7, 8):
            said |= self._scattered(memory, "v", buffer, size)
        elif command in (0, 1):
            said["parts"] = [memory.buffer(buffer, size)]
        else:
            said["buffer"], said["parts"] = buffer, []
        return said

    def _sqe(self, task: Task, memory: Memory, raw: bytes) -> dict[str, Any]:
        names: tuple[str, ...] = (
            "opcode",
            "flags",
            "priority",
            "fd",
            "offset",
            "address",
            "length",
            "op_flags",
            "data",
        )
        names += ("group", "personality", "splice_fd_in", "option", "pad")
        said: dict[str, Any] = dict(zip(names, struct.unpack("@BBHiQQIIQHHiQQ", raw), strict=True))
        opcode = said["opcode"]
        if opcode in _URING_READS or opcode in _URING_WRITES:
            said["buffer"] = memory.buffer(said["address"], said["length"])
            if opcode in _URING_WRITES:
                self._watch(task, memory, said["address"], said["length"])
        elif letter := _URING_MESSAGES.get(opcode):
            said["message"] = self._scattered(memory, letter, said["address"], said["length"] or 1)
            if letter in "MV":
                for part in said["message"].get("parts", ()):
                    self._watch(task, memory, part["at"], part["length"])
        elif opcode == 46:
            said["value"] = memory.buffer(said["option"], min(said["splice_fd_in"], 4096))
            self._watch(task, memory, said["option"], min(max(said["splice_fd_in"], 0), 4096))
        elif opcode in (15, 56):
            said["buffer"] = memory.buffer(said["address"], 16 if opcode == 15 else min(said["offset"], 128))
        return said

    # ---- what goes on beside calls

    def _further(self, task: Task, memory: Memory) -> dict[str, Any]:
        """Return what belongs to the call that begins and is not behind its arguments; watch what it lends."""
        name, arguments = task.call.name if task.call else "", task.arguments
        if name == "close" and (closed := self.rings.pop(arguments[0], None)):
            closed.close()
        if name == "io_uring_enter" and (ring := self.rings.get(arguments[0])):
            return {"submissions": [self._sqe(task, memory, raw) for raw in ring.fresh()]}
        if name == "io_uring_register" and _int(arguments[1]) == 0:
            found = self._scattered(memory, "v", arguments[2], arguments[3])
            for part in found["parts"]:
                self._watch(task, memory, part["at"], part["length"])
            return {"vector": found}
        if name == "vmsplice":
            for part in self._scattered(memory, "V", arguments[1], arguments[2])["parts"]:
                self._watch(task, memory, part["at"], part["length"])
        if name == "io_submit":
            for at in range(min(arguments[1], 1024)):
                for part in self._iocb(memory, memory.word(arguments[2] + 8 * at)).get("parts", ()):
                    self._watch(task, memory, part["at"], part["length"])
        if name == "keyctl" and _int(arguments[0]) in (1, 2, 10, 11):
            return {"payload": memory.buffer(arguments[2], min(arguments[3], 4096))}
        if name == "ioctl":
            return {"value": memory.word(arguments[2], 4)}
        if name == "prctl" and _int(arguments[0]) == 22:
            arguments = [0, 0, arguments[2]]
        if name in ("seccomp", "prctl") and arguments[2] and _int(task.arguments[0]) in (1, 22):
            header = memory.read(arguments[2], 16)
            if len(header) == 16:
                length, at = struct.unpack("@H6xQ", header)
                return {"filter": memory.buffer(at, 8 * length)}
        return {}

    def _learn(self, task: Task, name: str, result: int, memory: Memory) -> None:
        """Remember what later calls refer to."""
        arguments = task.arguments
        if name in ("openat", "open") and result >= 0:
            (self.dull.add if task.inside else self.dull.discard)((task.process, result))
        elif name in ("socket", "accept4", "accept", "memfd_create", "dup", "eventfd2") and result >= 0:
            self.dull.discard((task.process, result))
        elif name == "close":
            self.dull.discard((task.process, _int(arguments[0])))
        elif name == "io_uring_setup" and result >= 0:
            with contextlib.suppress(OSError):
                self.rings[result] = Rings(task.process, result, memory.read(arguments[1], 120))
        elif name == "munmap":
            for key in [key for key in self.live if arguments[0] <= key[1] < arguments[0] + arguments[1]]:
                del self.live[key]

    def _watch(self, task: Task, memory: Memory, address: int, length: int) -> None:
        if 0 < length <= _MOST and address:
            self.live[task.process, address, length] = memory.read(address, length)

    def _changes(self, task: Task) -> dict[str, Any]:
        """Return what changed in memory that the kernel has references to, and what came out of rings."""
        said: dict[str, Any] = {}
        memory = self.memories[task.process]
        changed = []
        for (process, address, length), before in self.live.items():
            now = memory.read(address, length) if process == task.process else before
            if now != before:
                self.live[process, address, length] = now
                changed.append({"at": address, "length": length, "data": pack(now)})
        if changed:
            said["changed"] = changed
        if done := [[fd, each] for fd, ring in self.rings.items() for each in ring.done()]:
            said["completions"] = done
        return said

    def _write(self, said: dict[str, Any]) -> int:
        self.count += 1
        line = json.dumps({"n": self.count, **said}, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self.output, line) :]
        return self.count


def _int(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def _ptrace(request: int, thread: int, address: int, data: int) -> None:
    _libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if _libc.ptrace(request, thread, address, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace: {os.strerror(error)}")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


def main(arguments: Sequence[str]) -> int:
    """Run a command and record what it wants to have recorded; return its exit status."""
    output, (_, *command) = int(arguments[0]), arguments[1:]
    if not syscalls.known():
        print(f"recorder: knows no system calls of {platform.machine()}", file=sys.stderr)
        return 4
    questions, ask = os.pipe()
    answers, answer = os.pipe()
    os.set_inheritable(answers, True)
    os.set_inheritable(ask, True)
    process = subprocess.Popen(
        command, pass_fds=(answers, ask), env={**os.environ, ENVIRONMENT: f"{answers},{ask}"}, stdin=subprocess.DEVNULL
    )
    os.close(answers)
    os.close(ask)
    recorder = Recorder(output)
    while os.read(questions, 1):
        recorder.attach(process.pid)
        os.write(answer, b"!")
        while recorder.tasks:
            ended = recorder.turn()
            if ended is not None and ended[0] == process.pid:
                return os.waitstatus_to_exitcode(ended[1])
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
