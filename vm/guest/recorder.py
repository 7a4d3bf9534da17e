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

import contextlib
import ctypes
import json
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.guest import syscalls
from vm.guest.arguments import after, before, iocb, scattered, signed, sqe
from vm.guest.tracee import MOST, Memory, Rings, file_part, pack

ENVIRONMENT = "VM_RECORDER"
"""Two descriptors: what the recorder answers by, and what it is asked by."""

END = "end"
"""The note that ends a recording."""

_SYSCALL, _DETACH, _SEIZE, _INTERRUPT, _LISTEN, _EVENT_MESSAGE, _INFO = 24, 17, 0x4206, 0x4207, 0x4208, 0x4201, 0x420E
# Stops at system calls are told from others, and what a thread or process starts is recorded, too.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
_ENTRY, _EXIT = 1, 2
_EVENT_STOP = 128
# Of waitpid(2), __WALL: threads as well.
_ALL = 0x40000000
_EVENT_EXEC = 4
_AUDIT_64_BIT = 0x80000000
# Files that the interpreter reads, and their like.
_DULL = (".py", ".pyc", ".so", ".pth", ".toml", ".json", ".cfg", ".ini", ".txt", "/locale.alias", "__pycache__")
# Calls that move what a file holds, which may be any: the places of the descriptor, the offset and the length.
_FROM_FILES = {"splice": (0, 1, 4), "sendfile": (1, 2, 3)}
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
        if task.call.name == "write" and signed(arguments[0]) == -1:
            text = memory.read(arguments[1], arguments[2]).decode(errors="replace")
            self._write({"note": text, "task": task.number, **self._changes(task)})
            task.call = None
            if text == END:
                self._end(task)
            return
        said: dict[str, Any] = {"call": task.call.name, "task": task.number}
        said |= self._changes(task)
        said["arguments"] = [
            before(memory, letter, arguments[place], number, arguments)
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
                found = after(memory, letter, task.arguments[place], number, task.arguments, result)
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
            return name == "close" or name in _FROM_FILES or (task.process, signed(arguments[0])) not in self.dull
        return True

    # ---- what goes on beside calls

    def _further(self, task: Task, memory: Memory) -> dict[str, Any]:
        """Return what belongs to the call that begins and is not behind its arguments; watch what it lends."""
        name, arguments = task.call.name if task.call else "", task.arguments
        if name == "close" and (closed := self.rings.pop(arguments[0], None)):
            closed.close()
        if name == "io_uring_enter" and (ring := self.rings.get(arguments[0])):
            submissions = [sqe(memory, raw) for raw in ring.fresh()]
            for _, kept in submissions:
                for at, length in kept:
                    self._watch(task, memory, at, length)
            return {"submissions": [said for said, _ in submissions]}
        if name == "io_uring_register" and signed(arguments[1]) == 0:
            found = scattered(memory, "v", arguments[2], arguments[3])
            for part in found["parts"]:
                self._watch(task, memory, part["at"], part["length"])
            return {"vector": found}
        if name in _FROM_FILES:
            file, at, length = (arguments[place] for place in _FROM_FILES[name])
            where = before(memory, "o", at, 0, arguments)
            return {"source": found} if (found := file_part(task.process, signed(file), where, length)) else {}
        if name == "vmsplice":
            for part in scattered(memory, "V", arguments[1], arguments[2])["parts"]:
                self._watch(task, memory, part["at"], part["length"])
        if name == "io_submit":
            for at in range(min(arguments[1], 1024)):
                for part in iocb(memory, memory.word(arguments[2] + 8 * at)).get("parts", ()):
                    self._watch(task, memory, part["at"], part["length"])
        if name == "keyctl" and signed(arguments[0]) in (1, 2, 10, 11):
            return {"payload": memory.buffer(arguments[2], min(arguments[3], 4096))}
        if name == "ioctl":
            return {"value": memory.word(arguments[2], 4)}
        if name == "prctl" and signed(arguments[0]) == 22:
            arguments = [0, 0, arguments[2]]
        if name in ("seccomp", "prctl") and arguments[2] and signed(task.arguments[0]) in (1, 22):
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
            self.dull.discard((task.process, signed(arguments[0])))
        elif name == "io_uring_setup" and result >= 0:
            with contextlib.suppress(OSError):
                self.rings[result] = Rings(task.process, result, memory.read(arguments[1], 120))
        elif name == "munmap":
            for key in [key for key in self.live if arguments[0] <= key[1] < arguments[0] + arguments[1]]:
                del self.live[key]

    def _watch(self, task: Task, memory: Memory, address: int, length: int) -> None:
        if 0 < length <= MOST and address:
            self.live[task.process, address, length] = memory.read(address, length)

    def _changes(self, task: Task) -> dict[str, Any]:
        """Return what changed in memory that the kernel has references to, and what came out of rings."""
        said: dict[str, Any] = {}
        memory = self.memories[task.process]
        changed = []
        for (process, address, length), held in self.live.items():
            now = memory.read(address, length) if process == task.process else held
            if now != held:
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
