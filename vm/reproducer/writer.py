"""Writes a recording as a C program: C11, the kernel's style, nothing but the C library and the kernel's headers.

Each call of the recording is a step. A step is judged when there are checks for it; of the others, those that succeeded
have to succeed, or nothing can be said (exit status 2). What a program ends with:

====  ==========================================================
0     ``as expected``
1     the fault, with one line that says what came and what should
2     a step before what is judged failed
====  ==========================================================
"""

from __future__ import annotations

import itertools
import re
import struct
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vm.guest.recorder import unpack
from vm.reproducer import data as bytes_of
from vm.reproducer import names
from vm.reproducer.check import Check, Differs, Holds, Result, Returns, Success, Unsupported
from vm.reproducer.follow import Thing, Use
from vm.reproducer.helpers import HELPERS, ordered
from vm.reproducer.memory import Region, Regions
from vm.reproducer.record import Event

DEADLINE = 30
"""Seconds after which a program gives up."""
_LONGEST_LITERAL = 512
_CLOEXEC = 0o2000000
_BYTES = {
    "read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "sendto", "recvfrom", "sendmsg",
    "recvmsg", "splice", "tee", "vmsplice", "sendfile", "completion",
}  # fmt: skip
_COUNTS = {"poll": "ready", "ppoll": "ready", "io_submit": "requests", "io_getevents": "events",
           "io_uring_enter": "requests", "sendmmsg": "messages", "recvmmsg": "messages"}  # fmt: skip


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
        before: statements that it needs.
    """

    expression: str
    target: str = ""
    output: str = ""
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    block: bool = False


def write(plan: Plan) -> str:
    """Return the program.

    Raises:
        Unsupported: it cannot be written.
    """
    return Writer(plan).text()


class Writer:
    """Writes one program; what it needs is found out on the way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.helpers: set[str] = set()
        self.headers: set[str] = {"stdio.h", "unistd.h"}
        self.names: dict[int, str] = {}
        self.counts: dict[str, int] = {}
        self.declared: list[str] = []
        self.constants: dict[bytes, str] = {}
        self.definitions: list[str] = []
        self.prepared: list[str] = []
        self.room = self.parts = self.control = 0
        self.keys: dict[int, str] = {}
        self.contexts: dict[int, str] = {}
        self.requests: dict[int, int] = {}
        self.pointers = self.events = 0
        self.paths: dict[str, str] = {}
        self.locals: set[str] = set()
        self.interrupts = False
        self.turns = 0
        self.threads = sorted({use.event.task for use in plan.uses} | {0})

    # ---- the whole

    def text(self) -> str:
        """Return the program."""
        bodies: dict[int, list[str]] = {task: [] for task in self.threads}
        for place, use in enumerate(self.plan.uses):
            bodies[use.event.task] += self._step(place, use)
        for region in self.plan.regions.static:
            if region.used:
                self.definitions.append(
                    f"static unsigned char {region.name}[{region.length}] __attribute__((aligned({region.alignment})));"
                )
                self.prepared = [*self._assign(region.name, region.initial), *self.prepared]
        return self._assembled(bodies)

    def _assembled(self, bodies: dict[int, list[str]]) -> str:
        self._drop_unused(bodies)
        end = self._ending()
        too_late = self._too_late()
        if self.prepared:
            self.prepared = ["static void prepare(void)", "{", *self.prepared, "}", ""]
        main = self._main(bodies[0], end)
        threads = [line for task in self.threads[1:] for line in self._thread(task, bodies[task])]
        if self.plan.masked:
            self.headers |= {"stdlib.h"}
        names_of = ordered(self.helpers)
        for name in names_of:
            self.headers |= set(HELPERS[name].headers)
        pieces = [HELPERS[name].text.rstrip("\n") for name in names_of]
        lines = ["// SPDX-License-Identifier: MIT", *_comment(self.plan.header), "#define _GNU_SOURCE"]
        lines += [f"#include <{name}>" for name in _in_order(self.headers)]
        lines.append("")
        if "message" in names_of:
            lines += [f"#define PARTS {max(self.parts, 1)}", f"#define CONTROL {max(self.control, 8)}", ""]
        lines += self._masking() + too_late
        for piece in pieces:
            lines += [piece, ""]
        if self.room:
            lines.append(f"static unsigned char buffer[{self.room}];")
        lines += self.definitions
        if "message" in names_of and any(re.search(r"\bm\b", line) for each in bodies.values() for line in each):
            lines.append(f"static {'__thread ' if len(self.threads) > 1 else ''}struct message m;")
        if len(self.threads) > 1:
            # What threads share cannot be main's own.
            lines += [f"static {each}" for each in self.declared]
        lines += ["", *self.prepared, *threads, *main]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"

    def _drop_unused(self, bodies: dict[int, list[str]]) -> None:
        """Take what a call gave away again where no other needs it: compilers complain of such variables."""
        for declared in [each for each in self.declared if each.startswith("int ") and "[" not in each]:
            name = declared.split()[1]
            used = re.compile(rf"\b{name}\b")
            found = [line for lines in bodies.values() for line in lines if used.search(line)]
            if len(found) == 1 and found[0].strip().startswith(f"{name} = "):
                self.declared.remove(declared)
                for lines in bodies.values():
                    if found[0] in lines:
                        value = found[0].replace(f"{name} = ", "", 1)
                        lines[lines.index(found[0])] = "" if value.strip() == "got;" else value

    def _main(self, body: list[str], end: list[str]) -> list[str]:
        lines = ["int main(void)" if not self.plan.masked else "int main(int argc, char **argv)", "{"]
        own = [] if len(self.threads) > 1 else list(self.declared)
        if "got" in self.locals:
            own.append("long got;")
        if "events" in self.locals:
            own.append(f"static struct io_event events[{max(self.events, 1)}];")
        if "requests" in self.locals:
            own.append(f"static struct iocb requests[{len(self.requests)}], *pointers[{max(self.pointers, 1)}];")
        if "before" in self.locals:
            own.append("unsigned long before = taint();")
        own += [f"pthread_t thread{task};" for task in self.threads[1:]]
        lines += [f"\t{each}" for each in own] + ([""] if own else [])
        if self.plan.masked:
            lines.append("\twhile (--argc > 0)\n\t\tleft_out[atoi(argv[argc])] = 1;")
        lines += self._alarm_lines()
        if self.prepared:
            lines.append("\tprepare();")
        lines += [f"\tpthread_create(&thread{task}, NULL, steps{task}, NULL);" for task in self.threads[1:]]
        lines += body
        lines += [f"\tpthread_join(thread{task}, NULL);" for task in self.threads[1:] if self._ends(task)]
        return [*lines, *end, "}"]

    def _ends(self, task: int) -> bool:
        """Say whether a thread had ended by the last step: one that waits for what came later is not waited for."""
        last = self.plan.uses[-1].event
        return all(0 < use.event.left <= last.left for use in self.plan.uses if use.event.task == task)

    def _thread(self, task: int, body: list[str]) -> list[str]:
        own = ["\tlong got;", ""] if any("got" in line for line in body) else []
        return [
            f"static void *steps{task}(void *unused)",
            "{",
            *own,
            "\t(void)unused;",
            *body,
            "\treturn NULL;",
            "}",
            "",
        ]

    def _alarm_lines(self) -> list[str]:
        if self.interrupts:
            lines = ["\t/* Without SA_RESTART: it ends the call. */"]
            lines.append("\tsigaction(SIGALRM, &(struct sigaction){ .sa_handler = too_late }, NULL);")
        elif self.plan.hang:
            lines = ["\tsignal(SIGALRM, too_late);"]
        else:
            lines = []
        return [*lines, f"\talarm({self.plan.deadline});"]

    def _too_late(self) -> list[str]:
        if not self.plan.hang and not self.interrupts:
            return []
        self.headers.add("signal.h")
        said = self.plan.hang or f"not done after {self.plan.deadline} s"
        lines = [f'static const char late[] = {bytes_of.string(said.encode())} "\\n";', ""]
        if self.interrupts:
            lines = ["static volatile sig_atomic_t interrupting;", *lines]
        lines += ["static void too_late(int number)", "{", "\t(void)number;"]
        if self.interrupts:
            lines += ["\tif (interrupting)", "\t\treturn;"]
        lines += ["\tif (write(STDOUT_FILENO, late, sizeof(late) - 1))", "\t\t_exit(1);", "\t_exit(1);", "}", ""]
        return lines

    def _masking(self) -> list[str]:
        if not self.plan.masked:
            return []
        return [f"static char left_out[{len(self.plan.uses) + 1}];", ""]

    def _ending(self) -> list[str]:
        lines = []
        if self.plan.complains:
            self.helpers.add("taint")
            self.locals.add("before")
            self.headers.add("stdio.h")
            lines += [
                "\tif (taint() & ~before) {",
                '\t\tprintf("the kernel complained: taint %lu, expected none\\n", taint());',
                "\t\treturn 1;",
                "\t}",
            ]
        return [*lines, '\tputs("as expected");', "\treturn 0;"]

    # ---- one step

    def _step(self, place: int, use: Use) -> list[str]:
        event = use.event
        checks = self.plan.checks.get(event.number, [])
        say = getattr(self, f"_{event.call}", None)
        if say is None:
            raise Unsupported(f"no C for {event.call}")
        self.use = use
        said: Said | None = say(use)
        if said is None:
            return []
        made = [] if event.call == "memory" else self._made(use, said, checks)
        lines = [*said.before, *made, *said.after]
        if said.block:
            lines = ["\t{", *(f"\t{line}" if line else line for line in lines), "\t}"]
        several = len(self.threads) > 1
        if several and self._overlapped(place):
            self.helpers.add("blocks")
            lines = [f"\tblocks({self.turns});", *lines]
        if self.plan.masked:
            lines = [f"\tif (!left_out[{place}]) {{", *(f"\t{line}" if line else line for line in lines), "\t}"]
        if several:
            # Turns are of the steps that there are: some events are none.
            self.helpers.add("turns")
            self.headers.add("pthread.h")
            lines = [f"\tbegin({self.turns});", *lines, f"\tdone({self.turns});"]
            self.turns += 1
        return lines

    def _overlapped(self, place: int) -> bool:
        event = self.plan.uses[place].event
        return any(
            other.event.task != event.task and (not event.left or other.event.number < event.left)
            for other in self.plan.uses[place + 1 :]
        )

    def _made(self, use: Use, said: Said, checks: Sequence[Check]) -> list[str]:
        """Return the statements that make the call and look at what it did."""
        event = use.event
        call, unit = self._title(event.call), self._unit(event.call)
        results = [check for check in checks if isinstance(check, Result | Success | Returns)]
        holds = [check for check in checks if isinstance(check, Holds | Differs)]
        if holds and not said.output:
            raise Unsupported(f"nothing that {event.call} wrote can be looked at")
        lines: list[str] = []
        if event.blocked and not (results and isinstance(results[0], Returns | Success)) and not self._awaited(results):
            return self._interrupted(event, said, call, unit, bool(results))
        if not results and not any(isinstance(check, Differs) for check in holds):
            lines = self._unjudged(event, said, call)
            for check in holds:
                lines += self._content(check, call, said.output, False)
            return lines
        self.helpers.add("result")
        self.locals.add("got")
        lines.append(f"\tgot = result({said.expression});")
        for each in results:
            lines += self._result(each, call, unit)
        if said.target:
            lines.append(f"\t{said.target} = got;")
        for check in holds:
            lines += self._content(check, call, said.output, bool(results))
        return lines

    def _unjudged(self, event: Event, said: Said, call: str) -> list[str]:
        """Return the call alone: what succeeded has to."""
        if event.result is not None and event.result >= 0:
            self.helpers.add("must")
            assign = f"{said.target} = " if said.target else ""
            return [f'\t{assign}must("{call}", {said.expression});']
        self.helpers.add("result")
        return [f"\t(void)result({said.expression});"]

    def _awaited(self, results: Sequence[Check]) -> bool:
        """Say whether a call that waited is to end by itself."""
        first = results[0] if results else None
        return isinstance(first, Result) and first.wanted not in ((self.use.event.result,), (-4,))

    def _result(self, check: Check, call: str, unit: str) -> list[str]:
        if isinstance(check, Result) and len(check.wanted) == 1:
            self.helpers.add("expect")
            wanted = check.wanted[0]
            text = str(wanted) if wanted >= 0 else f"-{names.error(-wanted)}"
            self.headers |= {"errno.h"} if wanted < 0 else set()
            return [f'\texpect("{call}", got, {text}, "{unit}");']
        if isinstance(check, Returns):
            return ["\t(void)got;"]
        self.helpers.add("expect_any")
        if isinstance(check, Result):
            self.headers.add("errno.h")
            condition = " && ".join(
                f"got != {each if each >= 0 else '-' + names.error(-each)}" for each in check.wanted
            )
            words = " or ".join(names.error_word(-each) if each < 0 else str(each) for each in check.wanted)
            return [f"\tif ({condition})", f'\t\texpect_any("{call}", got, "{words}", "{unit}");']
        return ["\tif (got < 0)", f'\t\texpect_any("{call}", got, "success", "{unit}");']

    def _content(self, check: Check, call: str, output: str, sized: bool) -> list[str]:
        if isinstance(check, Differs):
            self.headers |= {"string.h"}
            name = self.constant(check.unwanted, "unwanted")
            size = len(check.unwanted)
            return [
                f"\tif (got == {size} && !memcmp({output}, {name}, {size})) {{",
                f'\t\tprintf("{call}: got the {size} bytes that should not come\\n");',
                "\t\treturn 1;",
                "\t}",
            ]
        assert isinstance(check, Holds)
        wanted = check.wanted
        where = output if not check.offset else f"{output} + {check.offset}"
        if not wanted:
            return []
        if len(wanted) > _LONGEST_LITERAL and any(part.literal for part in bytes_of.parts(wanted)):
            self.helpers.add("expect_hash")
            return [f'\texpect_hash("{call}", {where}, {len(wanted)}, 0x{bytes_of.fnv(wanted):016x}ULL);']
        self.helpers.add("expect_bytes")
        return [f'\texpect_bytes("{call}", {where}, {self.constant(wanted, "expected")}, {len(wanted)});']

    def _interrupted(self, event: Any, said: Said, call: str, unit: str, judged: bool) -> list[str]:
        """It waited until a signal came: that is how it is."""
        if len(self.threads) > 1:
            raise Unsupported("a signal ends a call, and there are several threads")
        self.interrupts = True
        self.helpers.add("result")
        self.locals.add("got")
        lines = ["\tinterrupting = 1;", "\talarm(1);", f"\tgot = result({said.expression});"]
        lines += ["\tinterrupting = 0;", f"\talarm({self.plan.deadline});"]
        if judged:
            self.helpers.add("expect")
            self.headers.add("errno.h")
            wanted = "-EINTR" if event.result < 0 else str(event.result)
            lines.append(f'\texpect("{call}", got, {wanted}, "{unit}");')
        else:
            lines.append("\t(void)got;")
        if said.target:
            lines.append(f"\t{said.target} = got;")
        return lines

    def _title(self, call: str) -> str:
        return {
            "pread64": "pread",
            "pwrite64": "pwrite",
            "completion": "io_uring",
            "sendto": "send",
            "recvfrom": "recv",
            "pipe2": "pipe",
        }.get(call, call)

    def _unit(self, call: str) -> str:
        return "bytes" if call in _BYTES else _COUNTS.get(call, "")

    # ---- names and data

    def fd(self, number: int) -> str:
        """Return a descriptor as C has it."""
        thing = self.use.fds.get(number)
        if thing is None:
            return str(number)
        return self.name(thing)

    def name(self, thing: Thing) -> str:
        """Return the variable of a thing."""
        if id(thing) not in self.names:
            raise Unsupported(f"a descriptor of unknown origin ({thing.kind})")
        return self.names[id(thing)]

    def declare(self, thing: Thing) -> str:
        """Return a new variable for a thing."""
        base = thing.kind if thing.kind != "unknown" else "fd"
        if thing.kind in ("pipe", "pair"):
            first = thing.parent or thing
            if id(first) not in self.names:
                name = self.fresh("pipefd" if thing.kind == "pipe" else "pair")
                self.declared.append(f"int {name}[2] = {{ -1, -1 }};")
                self.names[id(first)] = f"{name}[0]"
            if thing.parent is not None:
                self.names[id(thing)] = self.names[id(first)].replace("[0]", "[1]")
            return self.names[id(thing)]
        name = self.names[id(thing)] = self.fresh(base)
        self.declared.append(f"struct ring {name} = {{ .fd = -1 }};" if base == "ring" else f"int {name} = -1;")
        if base == "ring":
            self.helpers.add("ring")
        return name

    def fresh(self, base: str) -> str:
        """Return a name that is not taken."""
        self.counts[base] = self.counts.get(base, 0) + 1
        return base if self.counts[base] == 1 else f"{base}{self.counts[base]}"

    def constant(self, data: bytes, role: str) -> str:
        """Return the name of an array with these bytes."""
        if data in self.constants:
            return self.constants[data]
        if not data:
            return '""'
        ranges = bytes_of.parts(data)
        name = self.constants[data] = self.fresh(role)
        if len(data) <= 64 or (len(ranges) == 1 and ranges[0].literal):
            if bytes_of.is_text(data) and len(data) <= 100:
                self.definitions.append(f"static const unsigned char {name}[] = {bytes_of.string(data)};")
            elif not any(data):
                self.definitions.append(f"static const unsigned char {name}[{len(data)}];")
            else:
                self.definitions += [f"static const unsigned char {name}[] = {{", *bytes_of.numbers(data), "};"]
        else:
            self.definitions.append(f"static unsigned char {name}[{len(data)}];")
            self.prepared += self._assign(name, data)
        return name

    def _assign(self, name: str, data: bytes, offset: int = 0) -> list[str]:
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
                self.helpers.add("fill")
                first, step, modulus = part.run
                lines.append(f"\tfill({where}, {part.length}, {first}, {step}, {modulus});")
            elif part.period:
                self.helpers.add("repeat")
                lines.append(f"\trepeat({where}, {part.length}, {part.period});")
            else:
                self.headers.add("string.h")
                lines.append(f"\tmemcpy({where}, {self.constant(part.literal, 'bytes')}, {part.length});")
        return lines

    def source(self, buffer: dict[str, Any], role: str, said: list[str]) -> str:
        """Return memory that a call reads; what it has to hold is stored first, where it is not there yet."""
        at, length = buffer["at"], buffer["length"]
        if not at:
            return "NULL"
        data = unpack(buffer.get("data", "x"))
        if region := self.plan.regions.of(at, self.use.event.number):
            region.used = True
            said += self._store(region, at - region.at, data)
            return self._within(region, at)
        if len(data) < length and length:
            return self._unreadable(at, length)
        return self.constant(data, role)

    def _unreadable(self, at: int, length: int) -> str:
        if at < 4096:
            return f"(void *){at}"
        if at >= 1 << 47:
            return "(void *)-4096L"
        self.helpers.add("nowhere")
        return f"nowhere({max(min(length, 1 << 20), 1)})"

    def _within(self, region: Region, at: int) -> str:
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
        return self._assign(region.name, data[first:last], offset + first)

    def target(self, buffer: dict[str, Any], taken: int, written: bytes = b"") -> str:
        """Return memory that a call writes, of which one call may need several parts."""
        at, length = buffer["at"], buffer["length"]
        if not at:
            return "NULL"
        if region := self.plan.regions.of(at, self.use.event.number):
            region.used = True
            if region.content is not None:
                region.content[at - region.at : at - region.at + len(written)] = written
            return self._within(region, at)
        if self.use.event.result == -14 or length > 1 << 28 or at >= 1 << 47 or at < 4096:
            return self._unreadable(at, length)
        self.room = max(self.room, taken + length)
        return "buffer" if not taken else f"buffer + {taken}"

    # ---- sockets

    def _socket(self, use: Use) -> Said:
        family, type_, protocol = use.event.arguments
        self.headers.add("sys/socket.h")
        if family == names.AF_ALG:
            self.headers.add("linux/if_alg.h")
        kind = type_ & ~(_CLOEXEC | 0o4000)
        words = names.one(kind, names.TYPES) + (" | SOCK_NONBLOCK" if type_ & 0o4000 else "")
        return self._makes(use, f"socket({names.one(family, names.FAMILIES)}, {words}, {protocol})")

    def _makes(self, use: Use, expression: str) -> Said:
        return Said(expression, self.declare(use.made[0]) if use.made else "")

    def _bind(self, use: Use) -> Said:
        fd, address, length = use.event.arguments
        self.headers |= {"sys/socket.h", "linux/if_alg.h"}
        raw = unpack(address.get("data", "x")) if address["at"] else b""
        said: list[str] = []
        fields = _sockaddr_alg(raw, length)
        if fields is None:
            where = self.source(address, "address", said)
            return Said(f"bind({self.fd(fd)}, (struct sockaddr *){_paren(where)}, {length})", before=said)
        type_, name, feat, mask = fields
        said = ["\tstruct sockaddr_alg address = {", "\t\t.salg_family = AF_ALG,"]
        said += [f"\t\t.salg_type = {bytes_of.string(type_)},", f"\t\t.salg_name = {bytes_of.string(name)},"]
        said += [f"\t\t.salg_feat = 0x{feat:x},"] * bool(feat) + [f"\t\t.salg_mask = 0x{mask:x},"] * bool(mask)
        said += ["\t};", ""]
        return Said(f"bind({self.fd(fd)}, (struct sockaddr *)&address, sizeof(address))", before=said, block=True)

    def _connect(self, use: Use) -> Said:
        fd, address, length = use.event.arguments
        said: list[str] = []
        where = self.source(address, "address", said)
        return Said(f"connect({self.fd(fd)}, (struct sockaddr *){_paren(where)}, {length})", before=said)

    def _listen(self, use: Use) -> Said:
        return Said(f"listen({self.fd(use.event.arguments[0])}, {use.event.arguments[1]})")

    def _shutdown(self, use: Use) -> Said:
        fd, how = use.event.arguments
        return Said(f"shutdown({self.fd(fd)}, {names.one(how, names.SHUTDOWNS)})")

    def _accept4(self, use: Use) -> Said:
        fd, address, length, flags = use.event.arguments
        said = []
        where = "NULL, NULL"
        if address or length:
            said = ["\tsocklen_t length = 128;", ""]
            self.room = max(self.room, 128)
            where = "(struct sockaddr *)buffer, &length"
        rest = flags & ~_CLOEXEC
        call = f"accept({self.fd(fd)}, {where})" if not rest else f"accept4({self.fd(fd)}, {where}, 0x{rest:x})"
        made = self._makes(use, call)
        made.before, made.block = said, bool(said)
        return made

    def _accept(self, use: Use) -> Said:
        return self._makes(use, f"accept({self.fd(use.event.arguments[0])}, NULL, NULL)")

    def _getsockname(self, use: Use) -> Said:
        self.room = max(self.room, 128)
        call = f"{use.event.call}({self.fd(use.event.arguments[0])}, (struct sockaddr *)buffer, &length)"
        return Said(call, output="buffer", before=["\tsocklen_t length = 128;", ""], block=True)

    _getpeername = _getsockname

    def _setsockopt(self, use: Use) -> Said:
        fd, level, option, value, length = use.event.arguments
        self.headers.add("sys/socket.h")
        known = names.ALG_OPTIONS if level == names.SOL_ALG else names.SOCKET_OPTIONS if level == 1 else {}
        if level == names.SOL_ALG:
            self.helpers |= {"sol_alg", *(["key_serial"] if option == 7 else [])}
            self.headers.add("linux/if_alg.h")
        said: list[str] = []
        raw = unpack(value.get("data", "x")) if value["at"] else b""
        size = str(length)
        serial = int.from_bytes(raw[:4], "little", signed=True) if len(raw) >= 4 else 0
        if level == names.SOL_ALG and option == 7 and serial in self.keys and length == 4:
            where = f"&{self.keys[serial]}"
        elif (level == 1 or option == 7) and len(raw) == length == 4:
            where, size = f"&(int){{ {serial} }}", "sizeof(int)"
        else:
            where = self.source(value, "key" if option == 1 else "value", said)
        words = f"{self.fd(fd)}, {names.one(level, names.LEVELS)}, {names.one(option, known)}, {where}, {size}"
        return Said(f"setsockopt({words})", before=said)

    def _getsockopt(self, use: Use) -> Said:
        fd, level, option, value, _ = use.event.arguments
        known = names.ALG_OPTIONS if level == names.SOL_ALG else names.SOCKET_OPTIONS if level == 1 else {}
        if level == names.SOL_ALG:
            self.helpers.add("sol_alg")
            self.headers.add("linux/if_alg.h")
        self.room = max(self.room, 256)
        where = "buffer" if value["at"] else "NULL"
        size = len(unpack(use.event.out[3])) if 3 in use.event.out else 4
        call = (
            f"getsockopt({self.fd(fd)}, {names.one(level, names.LEVELS)}, {names.one(option, known)}, {where}, &length)"
        )
        return Said(call, output="buffer", before=[f"\tsocklen_t length = {size};", ""], block=True)

    def _sendmsg(self, use: Use) -> Said:
        fd, message, flags = use.event.arguments
        said = self._message(message, "m")
        return Said(f"sendmsg({self.fd(fd)}, &m.header, {names.flags(flags, names.MESSAGE_FLAGS)})", before=said)

    def _recvmsg(self, use: Use) -> Said:
        fd, message, flags = use.event.arguments
        said = self._message(message, "M")
        call = f"recvmsg({self.fd(fd)}, &m.header, {names.flags(flags, names.MESSAGE_FLAGS)})"
        return Said(call, before=said, output=self._first_target(message.get("parts", ())))

    def _first_target(self, parts: Sequence[dict[str, Any]]) -> str:
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
        return self._within(region, first["at"]) if together else ""

    def _message(self, message: dict[str, Any], letter: str) -> list[str]:
        """Return the statements that make a msghdr."""
        self.helpers.add("message")
        self.headers |= {"sys/socket.h", "sys/uio.h", "string.h"}
        if "parts" not in message:
            raise Unsupported("a msghdr that cannot be read")
        said = ["\tmemset(&m, 0, sizeof(m));"]
        if name := message.get("name"):
            before: list[str] = []
            where = self.source(name, "address", before)
            said += [
                *before,
                f"\tm.header.msg_name = (void *){_paren(where)};",
                f"\tm.header.msg_namelen = {name['length']};",
            ]
        said += self._control(message["control"], letter)
        taken = 0
        written = self.use.event.out.get(1, {}) if letter == "M" else {}
        for place, part in enumerate(message["parts"]):
            if letter == "m":
                where = self.source(part, "data", said)
            else:
                done = written.get("parts", []) if isinstance(written, dict) else []
                where = self.target(part, taken, unpack(done[place]) if place < len(done) else b"")
                taken += part["length"]
            self.helpers.add("add_data")
            said.append(f"\tadd_data(&m, {where}, {part['length']});")
        if message["count"] != len(message["parts"]):
            raise Unsupported("an iovec that cannot be read")
        self.parts = max(self.parts, len(message["parts"]))
        return said

    def _sendmmsg(self, use: Use) -> Said:
        return self._several(use, "m")

    def _recvmmsg(self, use: Use) -> Said:
        return self._several(use, "M")

    def _several(self, use: Use, letter: str) -> Said:
        fd, messages, count, flags = use.event.arguments[:4]
        if count != len(messages):
            raise Unsupported("messages that cannot be read")
        said = [f"\tstatic struct message many[{max(count, 1)}];", f"\tstruct mmsghdr headers[{max(count, 1)}];", ""]
        for place, message in enumerate(messages):
            said += [re.sub(r"\bm\b", f"many[{place}]", line) for line in self._message(message, letter)]
            said.append(f"\theaders[{place}].msg_hdr = many[{place}].header;")
        words = f"{self.fd(fd)}, headers, {count}, {names.flags(flags, names.MESSAGE_FLAGS)}"
        call = f"sendmmsg({words})" if letter == "m" else f"recvmmsg({words}, NULL)"
        return Said(call, before=said, block=True)

    def _control(self, control: dict[str, Any], letter: str) -> list[str]:
        length = control["length"]
        if not length:
            return []
        if not control["at"]:
            return [f"\tm.header.msg_controllen = {length};"]
        if length > 1 << 16:
            raise Unsupported("control data of many bytes")
        self.control = max(self.control, length)
        if letter == "M":
            return ["\tm.header.msg_control = m.control;", f"\tm.header.msg_controllen = {length};"]
        raw = unpack(control.get("data", "x"))
        if len(raw) < length:
            return [
                f"\tm.header.msg_control = {self._unreadable(control['at'], length)};",
                f"\tm.header.msg_controllen = {length};",
            ]
        messages = _cmsgs(raw)
        if messages is None:
            return [
                "\t/* A malformed control message, as 64 bits have it. */",
                f"\tmemcpy(m.control, {self.constant(raw, 'control')}, {length});",
                "\tm.header.msg_control = m.control;",
                f"\tm.header.msg_controllen = {length};",
            ]
        return [line for each in messages for line in self._cmsg(*each)]

    def _cmsg(self, level: int, type_: int, data: bytes) -> list[str]:
        if level == names.SOL_ALG and type_ in (3, 4) and len(data) == 4:
            self.helpers.add("set_number")
            value = int.from_bytes(data, "little")
            word = {0: "ALG_OP_DECRYPT", 1: "ALG_OP_ENCRYPT"}.get(value, str(value)) if type_ == 3 else str(value)
            return [f"\tset_number(&m, {names.ALG_OPTIONS[type_]}, {word});"]
        if level == names.SOL_ALG and type_ == 2 and len(data) >= 4:
            self.helpers.add("set_iv")
            claimed, iv = int.from_bytes(data[:4], "little"), data[4:]
            return [f"\tset_iv(&m, {self.constant(iv, 'iv')}, {claimed}, {len(iv)});"]
        if level == names.SOL_ALG:
            self.helpers.add("sol_alg")
        known = names.ALG_OPTIONS if level == names.SOL_ALG else {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"}
        self.helpers.add("add_control")
        add = f"add_control(&m, {names.one(level, names.LEVELS)}, {names.one(type_, known)}, {len(data)})"
        if not data:
            return [f"\t{add};"]
        return [f"\tmemcpy({add}, {self.constant(data, 'value')}, {len(data)});"]

    def _sendto(self, use: Use) -> Said:
        fd, buffer, length, flags, address, size = use.event.arguments
        said: list[str] = []
        self.headers.add("sys/socket.h")
        where = self.source(buffer, "data", said)
        words = names.flags(flags, names.MESSAGE_FLAGS)
        if not address["at"]:
            return Said(f"send({self.fd(fd)}, {where}, {length}, {words})", before=said)
        to = self.source(address, "address", said)
        return Said(
            f"sendto({self.fd(fd)}, {where}, {length}, {words}, (struct sockaddr *){_paren(to)}, {size})", before=said
        )

    def _recvfrom(self, use: Use) -> Said:
        fd, buffer, length, flags = use.event.arguments[:4]
        self.headers.add("sys/socket.h")
        where = self.target(buffer, 0, self._written(1))
        return Said(f"recv({self.fd(fd)}, {where}, {length}, {names.flags(flags, names.MESSAGE_FLAGS)})", output=where)

    def _written(self, place: int) -> bytes:
        found = self.use.event.out.get(place)
        return unpack(found) if isinstance(found, str) else b""

    # ---- files and pipes

    def _read(self, use: Use) -> Said:
        fd, buffer, length = use.event.arguments[:3]
        where = self.target(buffer, 0, self._written(1))
        if use.event.call == "pread64":
            return Said(f"pread({self.fd(fd)}, {where}, {length}, {use.event.arguments[3]})", output=where)
        return Said(f"read({self.fd(fd)}, {where}, {length})", output=where)

    _pread64 = _read

    def _write(self, use: Use) -> Said:
        fd, buffer, length = use.event.arguments[:3]
        said: list[str] = []
        where = self.source(buffer, "data", said)
        if use.event.call == "pwrite64":
            return Said(f"pwrite({self.fd(fd)}, {where}, {length}, {use.event.arguments[3]})", before=said)
        return Said(f"write({self.fd(fd)}, {where}, {length})", before=said)

    _pwrite64 = _write

    def _writev(self, use: Use) -> Said:
        return self._vectored(use, "v")

    def _readv(self, use: Use) -> Said:
        return self._vectored(use, "V")

    _pwritev, _preadv = _writev, _readv

    def _vectored(self, use: Use, letter: str) -> Said:
        fd, vector, count = use.event.arguments[:3]
        said = self._parts(vector, letter)
        if len(vector.get("parts", ())) != count:
            raise Unsupported("an iovec that cannot be read")
        further = f", {use.event.arguments[3]}" if use.event.call.startswith("p") else ""
        output = self._first_target(vector["parts"]) if letter == "V" else ""
        return Said(f"{use.event.call}({self.fd(fd)}, parts, {count}{further})", before=said, output=output, block=True)

    def _parts(self, vector: dict[str, Any], letter: str) -> list[str]:
        self.headers.add("sys/uio.h")
        rows: list[str] = []
        before: list[str] = []
        taken = 0
        written = self.use.event.out.get(1, {})
        for place, part in enumerate(vector.get("parts", ())):
            if letter == "v":
                where = self.source(part, "data", before)
            else:
                done = written.get("parts", []) if isinstance(written, dict) else []
                where = self.target(part, taken, unpack(done[place]) if place < len(done) else b"")
                taken += part["length"]
            rows.append(f"\t\t{{ (void *){_paren(where)}, {part['length']} }},")
        return ["\tstruct iovec parts[] = {", *rows, "\t};", "", *before]

    def _pipe2(self, use: Use) -> Said:
        self.headers |= {"fcntl.h"}
        if not use.made:
            raise Unsupported("a pipe that could not be made")
        name = self.declare(use.made[0]).removesuffix("[0]")
        self.declare(use.made[1])
        flags = use.event.arguments[1] & ~_CLOEXEC
        if flags:
            return Said(f"pipe2({name}, {names.flags(flags, names.OPEN_FLAGS)})")
        return Said(f"pipe({name})")

    def _socketpair(self, use: Use) -> Said:
        family, type_, protocol = use.event.arguments[:3]
        self.headers.add("sys/socket.h")
        name = self.declare(use.made[0]).removesuffix("[0]")
        self.declare(use.made[1])
        words = f"{names.one(family, names.FAMILIES)}, {names.one(type_ & 0xF, names.TYPES)}, {protocol}, {name}"
        return Said(f"socketpair({words})")

    def _splice(self, use: Use) -> Said:
        fd, at, to, to_at, length, flags = use.event.arguments
        self.headers.add("fcntl.h")
        said: list[str] = []
        for name, value in (("from", at), ("to", to_at)):
            if value is not None:
                said.append(f"\tloff_t {name} = {value};")
        words = f"{self.fd(fd)}, {'&from' if at is not None else 'NULL'}, {self.fd(to)}, "
        words += f"{'&to' if to_at is not None else 'NULL'}, {length}, {names.flags(flags, names.SPLICE_FLAGS)}"
        return Said(f"splice({words})", before=[*said, *([""] if said else [])], block=bool(said))

    def _tee(self, use: Use) -> Said:
        fd, to, length, flags = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"tee({self.fd(fd)}, {self.fd(to)}, {length}, {names.flags(flags, names.SPLICE_FLAGS)})")

    def _vmsplice(self, use: Use) -> Said:
        fd, vector, count, flags = use.event.arguments
        self.headers.add("fcntl.h")
        said = self._parts(vector, "v")
        return Said(
            f"vmsplice({self.fd(fd)}, parts, {count}, {names.flags(flags, names.SPLICE_FLAGS)})",
            before=said,
            block=True,
        )

    def _sendfile(self, use: Use) -> Said:
        to, fd, at, count = use.event.arguments
        self.headers.add("sys/sendfile.h")
        said = [f"\toff_t from = {at};", ""] if at is not None else []
        where = "&from" if at is not None else "NULL"
        return Said(f"sendfile({self.fd(to)}, {self.fd(fd)}, {where}, {count})", before=said, block=bool(said))

    def _memfd_create(self, use: Use) -> Said:
        self.headers.add("sys/mman.h")
        flags = use.event.arguments[1] & ~1
        word = {0: "0", 2: "MFD_ALLOW_SEALING"}.get(flags, hex(flags))
        return self._makes(use, f'memfd_create("{unpack(use.event.arguments[0]).decode()}", {word})')

    def _openat(self, use: Use) -> Said:
        _, path, flags, mode = use.event.arguments if use.event.call == "openat" else (0, *use.event.arguments)
        self.headers.add("fcntl.h")
        text = unpack(path).decode(errors="replace")
        words = ["O_RDONLY", "O_WRONLY", "O_RDWR", "3"][flags & 3]
        if rest := flags & ~(3 | _CLOEXEC | 0o100000):
            words += f" | {names.flags(rest, names.OPEN_FLAGS)}"
        if use.fds:
            self.helpers.add("reopen")
            return self._makes(use, f"reopen({self.name(next(iter(use.fds.values())))}, {words})")
        if re.match(r"/proc/\d+|/proc/self/task/\d+", text):
            text = re.sub(r"^/proc/(self/task/)?\d+", "/proc/thread-self", text)
        elif not text.startswith(("/proc", "/sys", "/dev")):
            text = self.paths.setdefault(text, f"/tmp/reproducer-{len(self.paths)}")
            self.headers.add("sys/stat.h")
            if not flags & 0o100:
                words += " | O_CREAT" if flags & 3 else ""
        mode_text = f", 0{mode or 0o600:o}" if "O_CREAT" in words else ""
        return self._makes(use, f'open("{text}", {words}{mode_text})')

    _open = _openat

    def _close(self, use: Use) -> Said:
        return Said(f"close({self.fd(use.event.arguments[0])})")

    def _dup(self, use: Use) -> Said:
        return self._makes(use, f"dup({self.fd(use.event.arguments[0])})")

    _dup2 = _dup3 = _dup

    def _lseek(self, use: Use) -> Said:
        fd, offset, whence = use.event.arguments
        return Said(f"lseek({self.fd(fd)}, {_signed(offset)}, {names.one(whence, names.WHENCE)})")

    def _ftruncate(self, use: Use) -> Said:
        fd, size = use.event.arguments
        return Said(f"ftruncate({self.fd(fd)}, {size})")

    def _fsync(self, use: Use) -> Said:
        return Said(f"{use.event.call}({self.fd(use.event.arguments[0])})")

    _fdatasync = _fsync

    def _fallocate(self, use: Use) -> Said:
        fd, mode, offset, length = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"fallocate({self.fd(fd)}, {mode}, {offset}, {length})")

    def _fadvise64(self, use: Use) -> Said:
        fd, offset, length, advice = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"posix_fadvise({self.fd(fd)}, {offset}, {length}, {advice})")

    def _fchmod(self, use: Use) -> Said:
        self.headers.add("sys/stat.h")
        return Said(f"fchmod({self.fd(use.event.arguments[0])}, 0{use.event.arguments[1]:o})")

    def _fchown(self, use: Use) -> Said:
        fd, user, group = use.event.arguments
        return Said(f"fchown({self.fd(fd)}, {user}, {group})")

    def _fcntl(self, use: Use) -> Said:
        fd, command, value = use.event.arguments
        self.headers.add("fcntl.h")
        if command in (0, 1030):
            return self._makes(use, f"dup({self.fd(fd)})")
        known = names.SEALS if command == 1033 else names.OPEN_FLAGS if command == 4 else {}
        word = names.flags(value, known) if known else str(value)
        return Said(f"fcntl({self.fd(fd)}, {names.one(command, names.COMMANDS)}, {word})")

    def _ioctl(self, use: Use) -> Said:
        fd, request, _ = use.event.arguments
        self.headers |= {"sys/ioctl.h"}
        value = use.event.more.get("value", 0)
        words = f"{self.fd(fd)}, {names.IOCTLS.get(request & 0xFFFFFFFF, hex(request & 0xFFFFFFFF))}, &value"
        return Said(f"ioctl({words})", before=[f"\tlong value = {value};", ""], block=True)

    def _eventfd2(self, use: Use) -> Said:
        self.headers.add("sys/eventfd.h")
        first, flags = use.event.arguments
        word = "EFD_NONBLOCK" if flags & 0o4000 else "0"
        return self._makes(use, f"eventfd({first}, {word})")

    def _poll(self, use: Use) -> Said:
        asked, count, timeout = use.event.arguments[:3]
        self.headers.add("poll.h")
        rows = [
            f"\t\t{{ .fd = {self.fd(fd)}, .events = {names.flags(events & 0xFFFF, names.POLLS)} }},"
            for fd, events, _ in asked
        ]
        if use.event.call == "ppoll":
            raw = unpack(timeout.get("data", "x")) if timeout["at"] else b""
            seconds, part = struct.unpack("@qq", raw) if len(raw) == 16 else (-1, 999_000_000)
            timeout = seconds * 1000 + part // 1_000_000 if raw else -1
        call = f"poll(asked, {count}, {min(timeout, 1000) if timeout > 0 else timeout})"
        return Said(call, before=["\tstruct pollfd asked[] = {", *rows, "\t};", ""], block=True)

    _ppoll = _poll

    def _epoll_create1(self, use: Use) -> Said:
        self.headers.add("sys/epoll.h")
        return self._makes(use, "epoll_create1(0)")

    def _epoll_ctl(self, use: Use) -> Said:
        raise Unsupported("epoll")

    _epoll_wait = _epoll_pwait = _epoll_ctl

    # ---- memory

    def _mmap(self, use: Use) -> Said | None:
        region = self.plan.regions.made_by(use.event.number)
        if region is None:
            return None
        _, length, protection, flags, fd, offset = use.event.arguments
        self.headers.add("sys/mman.h")
        region.used = True
        region.name = self.fresh("memory")
        self.declared.append(f"unsigned char *{region.name} = NULL;")
        file = self.fd(fd) if use.fds else "-1"
        words = f"NULL, {length}, {names.flags(protection, names.PROTECTIONS)}, {names.flags(flags & 0x23, names.MAPS)}"
        said = Said(
            f"{region.name} == MAP_FAILED ? -1 : 0", before=[f"\t{region.name} = mmap({words}, {file}, {offset});"]
        )
        if region.content is not None and any(region.initial):
            said.after = self._assign(region.name, region.initial)
            region.content[:] = region.initial
        return said

    def _mprotect(self, use: Use) -> Said | None:
        at, length, protection = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None or region.static:
            return None
        return Said(f"mprotect({self._within(region, at)}, {length}, {names.flags(protection, names.PROTECTIONS)})")

    def _munmap(self, use: Use) -> Said | None:
        at, length = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None or region.static:
            return None
        return Said(f"munmap({self._within(region, at)}, {length})")

    def _memory(self, use: Use) -> Said | None:
        """Look at memory that the kernel wrote into, or had no business to."""
        at, length = use.event.arguments
        region = self.plan.regions.of(at, use.event.number)
        if region is None:
            return None
        region.used = True
        checks = self.plan.checks.get(use.event.number, [])
        data = unpack(use.event.out[0])
        if region.content is not None:
            region.content[at - region.at : at - region.at + length] = data
        lines = [line for check in checks for line in self._content(check, "memory", self._within(region, at), False)]
        return Said("0", before=lines) if lines else None

    def _clone(self, _: Use) -> None:
        return None

    # ---- keys

    def _add_key(self, use: Use) -> Said:
        type_, description, payload, length, keyring = use.event.arguments
        self.headers |= {"sys/syscall.h", "linux/keyctl.h"}
        said: list[str] = []
        where = self.source(payload, "payload", said)
        words = f"{_text(type_)}, {_text(description)}, {where}, {length}, {names.one(keyring, names.KEYRINGS)}"
        target = ""
        if use.event.result is not None and use.event.result >= 0:
            target = self.keys[use.event.result] = self.fresh("key_serial")
            self.declared.append(f"int {target} = 0;")
        return Said(f"syscall(SYS_add_key, {words})", target, before=said)

    def _keyctl(self, use: Use) -> Said:
        operation, *arguments = use.event.arguments
        self.headers |= {"sys/syscall.h", "linux/keyctl.h"}
        known = {3: ("KEYCTL_REVOKE", 1), 5: ("KEYCTL_SETPERM", 2), 8: ("KEYCTL_LINK", 2), 9: ("KEYCTL_UNLINK", 2)}
        known |= {15: ("KEYCTL_SET_TIMEOUT", 2), 21: ("KEYCTL_INVALIDATE", 1), 0: ("KEYCTL_GET_KEYRING_ID", 2)}
        if operation not in known:
            raise Unsupported(f"no C for keyctl operation {operation}")
        name, count = known[operation]
        words = []
        for value in arguments[:count]:
            number = _signed(value & 0xFFFFFFFF, 32)
            words.append(self.keys.get(number) or names.one(number, names.KEYRINGS))
        return Said(f"syscall(SYS_keyctl, {', '.join([name, *words])})")

    # ---- requests in flight

    def _io_setup(self, use: Use) -> Said:
        self.helpers.add("io_setup")
        size = use.event.arguments[0]
        if 1 not in use.event.out:
            name = self.fresh("context")
        else:
            name = self.contexts[int.from_bytes(unpack(use.event.out[1]), "little")] = self.fresh("context")
        self.declared.append(f"aio_context_t {name} = 0;")
        return Said(f"io_setup({size}, &{name})")

    def _context(self, value: int) -> str:
        return self.contexts.get(value, str(value))

    def _io_destroy(self, use: Use) -> Said:
        self.headers |= {"linux/aio_abi.h", "sys/syscall.h"}
        return Said(f"syscall(SYS_io_destroy, {self._context(use.event.arguments[0])})")

    def _io_submit(self, use: Use) -> Said:
        self.helpers.add("io_submit")
        context, count, blocks = use.event.arguments
        if count != len(blocks):
            raise Unsupported("an io_submit that cannot be read")
        said: list[str] = []
        for place, block in enumerate(blocks):
            said += self._iocb(place, block)
        self.locals.add("requests")
        self.pointers = max(self.pointers, count)
        return Said(f"io_submit({self._context(context)}, {count}, pointers)", before=said)

    def _iocb(self, place: int, block: dict[str, Any]) -> list[str]:
        commands = {0: "IOCB_CMD_PREAD", 1: "IOCB_CMD_PWRITE", 2: "IOCB_CMD_FSYNC", 5: "IOCB_CMD_POLL"}
        commands |= {7: "IOCB_CMD_PREADV", 8: "IOCB_CMD_PWRITEV"}
        if "command" not in block:
            raise Unsupported("an iocb that cannot be read")
        if block["command"] in (7, 8):
            raise Unsupported("an iocb with an iovec")
        said: list[str] = []
        number = self.requests[block["at"]] = len(self.requests)
        where, size = "0", 0
        for part in block["parts"]:
            pointer = self.target(part, 0) if block["command"] == 0 else self.source(part, "data", said)
            where, size = f"(__u64)(unsigned long)({pointer})", part["length"]
        if not block["parts"]:
            where = str(block.get("buffer", 0))
        fields = [
            f".aio_data = {block['data']}",
            f".aio_lio_opcode = {commands.get(block['command'], block['command'])}",
        ]
        fields += [f".aio_fildes = {self.fd(block['fd'])}", f".aio_buf = {where}", f".aio_nbytes = {size}"]
        fields += [f".aio_offset = {block['offset']}"] if block["offset"] else []
        if block["flags"] & 1:
            fields += [".aio_flags = IOCB_FLAG_RESFD", f".aio_resfd = {self.fd(block['resfd'])}"]
        rows = [f"\t\t{each}," for each in fields]
        return [
            *said,
            f"\trequests[{number}] = (struct iocb){{",
            *rows,
            "\t};",
            f"\tpointers[{place}] = &requests[{number}];",
        ]

    def _io_getevents(self, use: Use) -> Said:
        self.helpers.add("io_getevents")
        context, least, most, _, timeout = use.event.arguments
        self.locals.add("events")
        self.events = max(self.events, most)
        raw = unpack(timeout.get("data", "x")) if timeout["at"] else b""
        seconds = min(struct.unpack("@qq", raw)[0], 5) if len(raw) == 16 else 5
        said = [f"\tstruct timespec timeout = {{ .tv_sec = {max(seconds, 0)} }};", ""]
        call = f"io_getevents({self._context(context)}, {least}, {most}, events, &timeout)"
        after = []
        if any(isinstance(check, Result) for check in self.plan.checks.get(use.event.number, ())):
            self.helpers.add("expect")
            for place, (_, _, result, _) in enumerate(use.event.out.get(3, [])):
                text = str(result) if result >= 0 else f"-{names.error(-result)}"
                after.append(f'\texpect("io_getevents", events[{place}].res, {text}, "bytes");')
        return Said(call, before=said, after=after, block=True)

    def _io_cancel(self, use: Use) -> Said:
        raise Unsupported("io_cancel")

    def _io_uring_setup(self, use: Use) -> Said:
        if not use.made:
            self.helpers.add("ring")
            return Said(f"syscall(SYS_io_uring_setup, {use.event.arguments[0]}, &(struct io_uring_params){{ 0 }})")
        name = self.declare(use.made[0])
        self.names[id(use.made[0])] = f"{name}.fd"
        return Said(f"ring_open(&{name}, {use.event.arguments[0]})")

    def _ring(self, number: int) -> str:
        return self.fd(number).removesuffix(".fd")

    def _io_uring_enter(self, use: Use) -> Said:
        fd, submit, wait = use.event.arguments[:3]
        said: list[str] = []
        self.helpers |= {"ring_enter", *(["ring_add"] if use.event.more.get("submissions") else [])}
        for request in use.event.more.get("submissions", ()):
            said += self._sqe(self._ring(fd), request)
        return Said(f"ring_enter(&{self._ring(fd)}, {submit}, {wait})", before=said)

    def _sqe(self, ring: str, request: dict[str, Any]) -> list[str]:
        known = {0: "NOP", 4: "READ_FIXED", 5: "WRITE_FIXED", 6: "POLL_ADD", 13: "ACCEPT", 14: "ASYNC_CANCEL",
                 19: "CLOSE", 22: "READ", 23: "WRITE", 26: "SEND", 27: "RECV", 30: "SPLICE"}  # fmt: skip
        opcode = request["opcode"]
        if opcode not in known:
            raise Unsupported(f"no C for operation {opcode} of io_uring")
        if request["flags"] & 32 or request["group"] or (opcode == 13 and request["address"]):
            raise Unsupported("buffers of a group of io_uring")
        said: list[str] = []
        fields = [f".opcode = IORING_OP_{known[opcode]}", f".fd = {self.fd(_signed(request['fd'], 32))}"]
        where = ""
        if "buffer" in request:
            writes = opcode in (22, 27, 4)
            where = self.target(request["buffer"], 0) if writes else self.source(request["buffer"], "data", said)
        elif opcode == 30:
            fields += [
                f".splice_fd_in = {self.fd(request['splice_fd_in'])}",
                f".splice_off_in = {_unsigned(request['address'])}",
            ]
        elif request["address"]:
            where = str(request["address"])
        if where:
            fields.append(f".addr = (__u64)(unsigned long)({where})")
        for name, field_ in (("flags", "flags"), ("ioprio", "priority"), ("len", "length"), ("user_data", "data")):
            if request[field_]:
                fields.append(f".{name} = {request[field_]}")
        if request["offset"]:
            fields.append(f".off = {_unsigned(request['offset'])}")
        if request["op_flags"]:
            fields.append(
                f".rw_flags = {request['op_flags']}"
                if opcode not in (26, 27)
                else f".msg_flags = {names.flags(request['op_flags'], names.MESSAGE_FLAGS)}"
            )
        rows = [f"\t\t{each}," for each in fields]
        return [*said, f"\tring_add(&{ring}, &(struct io_uring_sqe){{", *rows, "\t});"]

    def _completion(self, use: Use) -> Said:
        fd = use.event.arguments[0]
        self.helpers |= {"ring_take", "result"}
        said = Said(f"ring_take(&{self._ring(fd)}).res")
        if use.made:
            said.target = self.declare(use.made[0])
        # It is a negative errno already.
        said.expression = f"ring_take(&{self._ring(fd)}).res"
        return said

    def _io_uring_register(self, use: Use) -> Said:
        raise Unsupported("registered buffers of io_uring")


def _sockaddr_alg(raw: bytes, length: int) -> tuple[bytes, bytes, int, int] | None:
    """Return type, name, feat and mask of a well-formed address; None for another."""
    if len(raw) != 88 or length != 88:
        return None
    family, type_, feat, mask, name = struct.unpack("@H14sII64s", raw)
    type_, name = type_.rstrip(b"\0"), name.rstrip(b"\0")
    good = family == names.AF_ALG and len(name) < 64 and all(32 <= each < 127 for each in type_ + name)
    return (type_, name, feat, mask) if good else None


def _cmsgs(raw: bytes) -> list[tuple[int, int, bytes]] | None:
    """Return level, type and data of each control message; None when they are not well-formed."""
    found = []
    while raw:
        if len(raw) < 16:
            return None
        length, level, type_ = struct.unpack_from("@Qii", raw)
        padded = (length + 7) & ~7
        if length < 16 or padded > len(raw) or any(raw[length:padded]):
            return None
        found.append((level, type_, raw[16:length]))
        raw = raw[padded:]
    return found


def _text(packed: str | None) -> str:
    return "NULL" if packed is None else bytes_of.string(unpack(packed))


def _paren(expression: str) -> str:
    return f"({expression})" if " " in expression else expression


def _signed(value: int, bits: int = 64) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _unsigned(value: int) -> str:
    return f"{value}ULL" if value >= 1 << 31 else str(value)


def _comment(header: Sequence[str]) -> list[str]:
    lines = ["/*"]
    for paragraph in header:
        wrapped = textwrap.wrap(
            paragraph.replace("*/", "* /"),
            92,
            subsequent_indent="  " if ": " in paragraph[:12] else "",
            break_long_words=False,
        ) or [""]
        lines += [f" * {line}".rstrip() for line in wrapped]
    return [*lines, " */"]


def _in_order(headers: set[str]) -> list[str]:
    """Return headers, those of the C library first; linux/ ones want some of them before."""
    return sorted(headers, key=lambda name: (name.startswith("linux/"), "/" in name, name))
