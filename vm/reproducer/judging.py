"""What is said of a call when it has been made, in C: what it returned, and what it wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vm.reproducer import data as bytes_of
from vm.reproducer import names
from vm.reproducer.check import Answer, Check, Differs, Holds, Result, Returns, Success, Unsupported
from vm.reproducer.context import Context, Said, errno_of
from vm.reproducer.follow import Use
from vm.reproducer.record import Event

_LONGEST_LITERAL = 512
_BYTES = {
    "read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "sendto", "recvfrom", "sendmsg",
    "recvmsg", "splice", "tee", "vmsplice", "sendfile", "completion",
}  # fmt: skip
_COUNTS = {"poll": "ready", "ppoll": "ready", "io_submit": "requests", "io_getevents": "events",
           "io_uring_enter": "requests", "sendmmsg": "messages", "recvmmsg": "messages", "epoll_wait": "ready",
           "epoll_pwait": "ready"}  # fmt: skip
_TITLES = {
    "pread64": "pread", "pwrite64": "pwrite", "completion": "io_uring", "sendto": "send", "recvfrom": "recv",
    "pipe2": "pipe", "openat": "open", "accept4": "accept", "epoll_pwait": "epoll_wait", "eventfd2": "eventfd",
    "epoll_create1": "epoll_create", "fadvise64": "posix_fadvise",
}  # fmt: skip


class Judging(Context):
    """Writes it.

    Attributes:
        interrupts: whether a call is to be ended by a signal.
        judged: how many calls have to give a number.
        held: how often bytes are compared.
    """

    interrupts = False
    judged = held = 0

    def made(self, use: Use, said: Said, checks: Sequence[Check]) -> list[str]:
        """Return the statements that make the call and look at what it did."""
        event = use.event
        call, unit = _TITLES.get(event.call, event.call), self.unit(event.call)
        results = [check for check in checks if isinstance(check, Result | Success | Returns)]
        holds = [check for check in checks if isinstance(check, Holds | Differs)]
        if holds and not said.output:
            raise Unsupported(f"nothing that {event.call} wrote can be looked at")
        differs = any(isinstance(check, Differs) for check in holds)
        answers = [check for check in checks if isinstance(check, Answer)]
        if answers and not said.target:
            said.target = "got"
        if event.blocked and not (results and isinstance(results[0], Returns | Success)) and not self._awaited(results):
            return self._interrupted(event, said, call, unit, bool(results))
        lines = self._unjudged(event, said, call, differs) if not results else []
        for each in results:
            lines += self._result(each, said, call, unit)
        for look in holds:
            lines += self.content(look, call, said.output, bool(results))
        for told in answers:
            self.helpers.add("expect_answer")
            self.headers.add("errno.h")
            words = f'{errno_of(told.error)}, "{names.error_word(-told.error) if told.error else "success"}"'
            lines.append(f'\texpect_answer("{call}", {said.output}, got, {words});')
        return lines

    def _unjudged(self, event: Event, said: Said, call: str, differs: bool) -> list[str]:
        """Return the call alone: what succeeded has to."""
        succeeded = event.result is not None and event.result >= 0
        if differs:
            return [f"\tgot = {said.expression};"]
        if not succeeded:
            return [f"\t(void)!{_operand(said.expression)};"]
        self.helpers.add("must")
        assign = f"{said.target} = " if said.target else ""
        return [f'\t{assign}must("{call}", {said.expression});']

    def _awaited(self, results: Sequence[Check]) -> bool:
        """Say whether a call that waited is to end by itself."""
        first = results[0] if results else None
        return isinstance(first, Result) and first.wanted not in ((self.use.event.result,), (-4,))

    def _result(self, check: Check, said: Said, call: str, unit: str) -> list[str]:
        assign = f"{said.target} = " if said.target else ""
        if isinstance(check, Returns):
            return [f"\t{assign or '(void)!'}{said.expression if assign else _operand(said.expression)};"]
        if isinstance(check, Success):
            self.helpers.add("succeeds")
            return [f'\t{assign}succeeds("{call}", {said.expression});']
        assert isinstance(check, Result)
        if len(check.wanted) > 1:
            return self._any(check, said, call, unit)
        wanted = check.wanted[0]
        self.headers |= {"errno.h"} if wanted < 0 else set()
        if self.judged == 1 and wanted < 0 and not said.target:
            return self._refused(said, call, unit, names.error(-wanted))
        self.helpers.add("expect")
        words = names.error_word(-wanted) if wanted < 0 else f"{wanted} {unit}".strip() if unit else "success"
        if wanted > 0 and not unit:
            words = str(wanted)
        return [f'\t{assign}expect("{call}", {said.expression}, {errno_of(wanted)}, "{words}");']

    def _refused(self, said: Said, call: str, unit: str, error: str) -> list[str]:
        """Return the only judged call of a program, which has to fail."""
        self.headers |= {"errno.h", "stdlib.h", "string.h"}
        wrong = f'"{call}: got %s, expected {error}\\n"'
        name = "strerrorname_np(errno) ?: strerror(errno)"
        if not unit:
            return [
                f"\tgot = {said.expression};",
                f"\tif (got >= 0 || errno != {error}) {{",
                f'\t\tprintf({wrong}, got < 0 ? strerrorname_np(errno) : "success");',
                "\t\texit(1);",
                "\t}",
            ]
        return [
            f"\tgot = {said.expression};",
            "\tif (got >= 0)",
            f'\t\tprintf("{call}: got %ld {unit}, expected {error}\\n", got);',
            f"\telse if (errno != {error})",
            f"\t\tprintf({wrong}, {name});",
            f"\tif (got >= 0 || errno != {error})",
            "\t\texit(1);",
        ]

    def _any(self, check: Result, said: Said, call: str, unit: str) -> list[str]:
        """Return a call that may end in several ways."""
        self.headers |= {"errno.h", "stdlib.h", "string.h"}
        condition = " && ".join(f"got != {errno_of(each)}" for each in check.wanted)
        words = " or ".join(names.error_word(-each) if each < 0 else str(each) for each in check.wanted)
        lines = [f"\tgot = {said.expression};", "\tif (got < 0)", "\t\tgot = -errno;", f"\tif ({condition}) {{"]
        lines += [
            f'\t\tprintf("{call}: got %ld %s, expected {words}\\n", got,',
            f'\t\t       got < 0 ? strerror(-got) : "{unit}");',
            "\t\texit(1);",
            "\t}",
        ]
        return lines + ([f"\t{said.target} = got;"] if said.target else [])

    def content(self, check: Check, call: str, output: str, sized: bool) -> list[str]:
        """Return statements that look at the bytes that a call wrote."""
        if isinstance(check, Differs):
            self.headers |= {"string.h", "stdlib.h"}
            name = self.constant(check.unwanted, "unwanted")
            size = len(check.unwanted)
            condition = f"got == {size} && " if not sized else ""
            return [
                f"\tif ({condition}!memcmp({output}, {name}, {size})) {{",
                f'\t\tprintf("{call}: got the {size} bytes that should not come\\n");',
                "\t\texit(1);",
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
        name = self.constant(wanted, "expected")
        if self.held != 1 or not re.fullmatch(r"\w+", output):
            self.helpers.add("expect_bytes")
            return [f'\texpect_bytes("{call}", {where}, {name}, {len(wanted)});']
        self.headers.add("stdlib.h")
        self.literals.pop(name, None)
        got = f"{output}[i]" if not check.offset else f"{output}[i + {check.offset}]"
        return [
            f"\tfor (int i = 0; i < {len(wanted)}; i++) {{",
            f"\t\tif ({got} == {name}[i])",
            "\t\t\tcontinue;",
            f'\t\tprintf("{call}: at byte %d got %02x, expected %02x\\n", i, {got}, {name}[i]);',
            "\t\texit(1);",
            "\t}",
        ]

    def _interrupted(self, event: Event, said: Said, call: str, unit: str, judged: bool) -> list[str]:
        """It waited until a signal came: that is how it is."""
        if len(self.threads) > 1:
            raise Unsupported("a signal ends a call, and there are several threads")
        self.interrupts = True
        result = event.result or 0
        before = ["\tinterrupting = 1;", "\talarm(1);"]
        after = ["\tinterrupting = 0;", f"\talarm({self.plan.deadline});"]
        if not judged:
            return [*before, f"\t(void)!{_operand(said.expression)};", *after]
        self.helpers.add("expect")
        self.headers.add("errno.h")
        words = '-EINTR, "EINTR"' if result < 0 else f'{result}, "{result} {unit}"'
        return [*before, f'\texpect("{call}", {said.expression}, {words});', *after]

    def unit(self, call: str) -> str:
        """Return what the numbers of a call are of; empty where nobody has to be told."""
        return "bytes" if call in _BYTES else _COUNTS.get(call, "")


def _operand(expression: str) -> str:
    return f"({expression})" if " ? " in expression else expression
