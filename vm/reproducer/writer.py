"""Writes a recording as a C program: the kernel's style, nothing but the C library and the kernel's headers.

Each call of the recording is a step. A step is judged when there are checks for it; of the others, those that succeeded
have to succeed, or nothing can be said (exit status 2). What a program ends with:

====  ==========================================================
0     ``as expected``
1     the fault, with one line that says what came and what should
2     a step before what is judged failed
====  ==========================================================

What is used once stands where it is used, as far as it is short: helpers, bytes, names. How each call is written stands
by subject in sockets.py, descriptors.py, requests.py, rings.py, mappings.py and privileges.py, what is said of it when
it has been made in judging.py.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from vm.reproducer import data as bytes_of
from vm.reproducer.check import Holds, Result, Unsupported
from vm.reproducer.context import DEADLINE, WIDTH, Plan, Said, columns
from vm.reproducer.descriptors import Descriptors
from vm.reproducer.follow import CHILD, Use
from vm.reproducer.helpers import HELPERS, ordered, shared_turns
from vm.reproducer.judging import Judging
from vm.reproducer.mappings import Mappings
from vm.reproducer.privileges import Privileges
from vm.reproducer.record import Event
from vm.reproducer.requests import Requests
from vm.reproducer.rings import Rings

__all__ = ["DEADLINE", "Plan", "write"]


def write(plan: Plan) -> str:
    """Return the program.

    Raises:
        Unsupported: it cannot be written.
    """
    return Writer(plan).text()


class Writer(Judging, Rings, Descriptors, Requests, Mappings, Privileges):
    """Writes one program."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.contexts = {}
        self.blocks = {}
        self.interrupts = False
        self.turns = 0
        self.units = {self.unit(use.event.call) for use in plan.uses if self._expected(use)}
        self.judged = sum(bool(self._expected(use)) for use in plan.uses)
        self.held = sum(
            isinstance(check, Holds) for use in plan.uses for check in plan.checks.get(use.event.number, ())
        )

    def _expected(self, use: Use) -> list[Result]:
        """Return the checks of a call by a number that it has to give."""
        checks = self.plan.checks.get(use.event.number, [])
        return [check for check in checks if isinstance(check, Result) and len(check.wanted) == 1]

    # ---- the whole

    def text(self) -> str:
        """Return the program."""
        bodies: dict[int, list[str]] = {task: [] for task in self.threads}
        for place, use in enumerate(self.plan.uses):
            bodies[use.event.task] += self._step(place, use)
        for region in self.plan.regions.static:
            if region.used:
                aligned = f"__attribute__((aligned({region.alignment})))"
                self.define(region.name, f"static unsigned char {region.name}[{region.length}] {aligned};")
                self.prepared = [*self.assign(region.name, region.initial), *self.prepared]
        self._inline(bodies)
        self._drop_unused(bodies)
        return self._assembled(bodies)

    def _inline(self, bodies: dict[int, list[str]]) -> None:
        """Put bytes in the place of their name where that stands once, and the line has room."""
        lists = [self.prepared, *bodies.values()]
        for name, literal in self.literals.items():
            pattern = re.compile(rf"\b{name}\b")
            found = [(lines, at) for lines in lists for at, line in enumerate(lines) if pattern.search(line)]
            if len(found) != 1 or any(pattern.search(line) for other, text in self.definitions.items() if other != name
                                      for line in text):  # fmt: skip
                continue
            lines, at = found[0]
            line = pattern.sub(lambda _, literal=literal: literal, lines[at])  # type: ignore[misc]
            if len(pattern.findall(lines[at])) == 1 and columns(line) <= WIDTH:
                lines[at] = line
                del self.definitions[name]

    def _drop_unused(self, bodies: dict[int, list[str]]) -> None:
        """Take what a call gave away again where no other needs it: compilers complain of such variables."""
        for type_, name in [each for each in self.variables if each[0] == "int" and "[" not in each[1]]:
            used = re.compile(rf"\b{name}\b")
            found = [line for lines in bodies.values() for line in lines if used.search(line)]
            if len(found) == 1 and found[0].strip().startswith(f"{name} = "):
                self.variables.remove((type_, name))
                for lines in bodies.values():
                    if found[0] in lines:
                        value = found[0].replace(f"{name} = ", "", 1)
                        lines[lines.index(found[0])] = "" if value.strip() == "got;" else value

    def _assembled(self, bodies: dict[int, list[str]]) -> str:
        end = self._ending()
        too_late = self._too_late()
        main = self._main(bodies, end)
        # Of processes the function stands before that of the one that begins them.
        order = self.threads[:0:-1] if self.forked else self.threads[1:]
        threads = [line for task in order for line in self._thread(task, bodies[task])]
        if self.plan.masked:
            self.headers |= {"stdlib.h"}
        names_of = ordered(self.helpers)
        for name in names_of:
            self.headers |= set(HELPERS[name].headers)
        lines = ["// SPDX-License-Identifier: MIT", *_comment(self.plan.header), "#define _GNU_SOURCE"]
        lines += [f"#include <{name}>" for name in _in_order(self.headers)]
        lines.append("")
        if self.plan.masked:
            lines += [f"static char left_out[{len(self.plan.uses) + 1}];", ""]
        lines += too_late
        for name in names_of:
            text = shared_turns(HELPERS[name].text) if self.forked else HELPERS[name].text
            lines += [*text.rstrip("\n").splitlines(), ""]
        if "expect" in names_of:
            lines = self._with_unit(lines)
        lines += self._data()
        if len(self.threads) > 1:
            # What threads share cannot be main's own.
            lines += [f"static {each}" for each in self._declarations(bodies)]
        lines += ["", *threads, *main]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"

    def _with_unit(self, lines: list[str]) -> list[str]:
        """Have expect() say what the numbers of this program are of."""
        unit = next(iter(self.units)) if len(self.units) == 1 else ""
        if self.units == {""}:
            return [line.replace("UNIT", "success").replace("call, got, said", "call, said") for line in lines]
        return [line.replace("UNIT", f"%ld {unit}".strip()) for line in lines]

    def _data(self) -> list[str]:
        several = "__thread " if len(self.threads) > 1 else ""
        lines = [f"static unsigned char buffer[{self.room}];"] if self.room else []
        if "control" in self.locals:
            lines.append(f"static {several}long long control[{(self.longest_control + 7) // 8}];")
        if self.most_events:
            lines.append(f"static struct io_event events[{self.most_events}];")
        if self.blocks:
            lines.append(f"static struct iocb requests[{len(self.blocks)}];")
        return lines + [line for each in self.definitions.values() for line in each]

    def _declarations(self, bodies: dict[int, list[str]]) -> list[str]:
        """Return declarations, a line a type."""
        every = "\n".join(line for lines in bodies.values() for line in lines)
        found: dict[str, list[str]] = {}
        for type_, name in self.variables:
            bare = name.removesuffix("[2]").lstrip("*")
            made = re.search(rf"\b{bare} = |\b(pipe2?|socketpair)\(.*\b{bare}[,)]", every)
            first = ""
            if self.plan.masked or not made or len(self.threads) > 1:
                first = {"int": " = { -1, -1 }" if "[" in name else " = -1", "struct ring": " = { .fd = -1 }"}.get(
                    type_, " = NULL" if "*" in name else " = 0"
                )
            if type_ == "struct ring":
                first = " = { .fd = -1 }"
            if type_ == "aio_context_t":
                first = " = 0"
            found.setdefault(type_, []).append(name + first)
        return [line for type_, each in found.items() for line in _wrapped(f"{type_} ", each)]

    def _main(self, bodies: dict[int, list[str]], end: list[str]) -> list[str]:
        body = bodies[0]
        lines = ["int main(void)" if not self.plan.masked else "int main(int argc, char **argv)", "{"]
        own = [] if len(self.threads) > 1 else self._declarations(bodies)
        own += self._own(body)
        if "before" in self.locals:
            own.append("unsigned long before = taint();")
        own_threads = [task for task in self.threads[1:] if task not in self.forked]
        own += [f"pthread_t thread{task};" for task in own_threads]
        lines += [f"\t{each}" for each in own] + ([""] if own else [])
        if self.plan.masked:
            lines.append("\twhile (--argc > 0)\n\t\tleft_out[atoi(argv[argc])] = 1;")
        lines += [*self._alarm_lines(), *self.prepared]
        if self.forked:
            self.headers |= {"sys/mman.h", "signal.h"}
            lines.append(
                "\tshared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
            )
            lines.append("\tsignal(SIGCHLD, child_ended);")
        lines += [f"\tpthread_create(&thread{task}, NULL, steps{task}, NULL);" for task in own_threads]
        lines += body
        lines += [f"\tpthread_join(thread{task}, NULL);" for task in own_threads if self._ends(task)]
        return [*lines, *self._children_end(), *end, "}"]

    def _children_end(self) -> list[str]:
        """Return statements that wait for other processes, and end those that would wait for ever."""
        lines = []
        for task in sorted(self.forked):
            if self._ends(task):
                lines += [f"\twhile (!kill(child{task}, 0))", "\t	sched_yield();"]
        if any(not self._ends(task) for task in self.forked):
            lines.append("\tsignal(SIGCHLD, SIG_IGN);")
        for task in sorted(self.forked):
            if not self._ends(task):
                lines += [f"\tif (child{task} > 0)", f"\t\tkill(child{task}, SIGKILL);"]
        return lines

    def _own(self, body: Sequence[str]) -> list[str]:
        """Return declarations of what a thread has for itself."""
        every = re.sub(r'"[^"]*"', "", "\n".join(body))
        own = ["long got;"] if re.search(r"\bgot\b", every) else []
        own += ["struct msghdr m;"] if re.search(r"\bm = |&m\b", every) else []
        return own + (["char path[32];"] if re.search(r"\bpath\b", every) else [])

    def _ends(self, task: int) -> bool:
        """Say whether a thread had ended by the last step: one that waits for what came later is not waited for."""
        last = self.plan.uses[-1].event
        return all(0 < use.event.left <= last.left for use in self.plan.uses if use.event.task == task)

    def _thread(self, task: int, body: list[str]) -> list[str]:
        own = [f"\t{each}" for each in self._own(body)]
        own += [""] if own else []
        head = [f"static void *steps{task}(void *unused)", "{", *own, "\t(void)unused;"]
        return [*head, *body, "\treturn NULL;", "}", ""]

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
        return [*lines, "\t_exit(write(STDOUT_FILENO, late, sizeof(late) - 1) < 0 ? 2 : 1);", "}", ""]

    def _ending(self) -> list[str]:
        lines = []
        if self.plan.complains:
            self.helpers.add("taint")
            self.locals.add("before")
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
        if event.call == CHILD:
            return self._begun(event)
        checks = self.plan.checks.get(event.number, [])
        say = getattr(self, f"_{event.call}", None)
        if say is None:
            raise Unsupported(f"no C for {event.call}")
        self.use = use
        said: Said | None = say(use)
        if said is None:
            return []
        made = [] if event.call == "memory" else self.made(use, said, checks)
        lines = [*said.before, *made, *said.after]
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

    def _begun(self, event: Event) -> list[str]:
        """Return the statements that begin another process; it has no deadline but what it sets itself."""
        (task,) = event.arguments
        if task not in self.forked:
            return []
        self.helpers |= {"turns", "child_ended", "must"}
        self.variables.append(("pid_t", f"child{task}"))
        self.turns += 1
        turn = self.turns - 1
        fork = [
            f'\tchild{task} = must("fork", fork());',
            f"\tif (!child{task}) {{",
            f"\t\talarm({self.plan.deadline});",
        ]
        fork += [f"\t\tsteps{task}(NULL);", "\t\t_exit(0);", "\t}"]
        return [f"\tbegin({turn});", *fork, f"\tdone({turn});"]

    def _overlapped(self, place: int) -> bool:
        event = self.plan.uses[place].event
        return any(
            other.event.task != event.task and (not event.left or other.event.number < event.left)
            for other in self.plan.uses[place + 1 :]
        )


def _wrapped(begin: str, words: Sequence[str]) -> list[str]:
    """Return declarations of one type, as many a line as it takes."""
    lines, row = [], ""
    for each in words:
        if row and len(begin) + len(row) + len(each) > WIDTH - 10:
            lines.append(f"{begin}{row};")
            row = ""
        row = f"{row}, {each}" if row else each
    return [*lines, f"{begin}{row};"]


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
