"""A console by time: split it by boot and test, find the test that began last, show its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.klog.printk import BEGIN, END, clean, parse_line
from vm.klog.splats import cause_of_death, find_splats


@dataclass(frozen=True)
class Console:
    """A console's text by time.

    Attributes:
        boot: before the first test.
        tests: text of each test by its id; what came between two tests belongs to the former, whose late
            consequence it most likely is. A test that ran twice has both texts.
        after: after the end of the last test; empty when the text ends within one.
        running: id of the test that had begun and not ended, None when there is none.
    """

    boot: str
    tests: dict[str, str] = field(default_factory=dict)
    after: str = ""
    running: str | None = None


def split(text: str) -> Console:
    """Divide a console's text at the markers of the tests."""
    boot: list[str] = []
    after: list[str] = []
    tests: dict[str, list[str]] = {}
    running: str | None = None
    into = boot
    for raw in text.split("\n"):
        message = parse_line(0, raw).text if "vm-test: " in raw else ""
        if message.startswith(BEGIN):
            running = message[len(BEGIN) :]
            # What came since the end of the test before belongs to that one: see Console.tests.
            if into is after and tests:
                tests[next(reversed(tests))] += after
                after = []
            into = tests.setdefault(running, [])
            tests[running] = tests.pop(running)  # the newest is the last
        into.append(raw)
        if message.startswith(END) and running is not None:
            running = None
            into = after
    texts = {name: "\n".join(lines) for name, lines in tests.items()}
    return Console("\n".join(boot), texts, "\n".join(after), running)


def last_test(text: str) -> str | None:
    """Return the id of the test that began last, whether or not it ended; None when none began."""
    found = None
    for raw in text.split("\n"):
        if BEGIN in raw and (message := parse_line(0, raw).text).startswith(BEGIN):
            found = message[len(BEGIN) :]
    return found


def tail(text: str, lines: int = 20) -> str:
    """Return the last ``lines`` lines that are not empty, without what would upset a terminal."""
    kept = [said for raw in text.split("\n") if (said := clean(raw).rstrip())]
    return "\n".join(kept[-lines:])


@command
def main(argv: Sequence[str]) -> int:
    """Print the splats of console files and why the VMs died; exit with 1 when there are any."""
    parser = Parser(prog="python -m vm console", description=main.__doc__)
    parser.add_argument("file", nargs="+", type=Path, help="text of a console")
    found = False
    for path in parser.parse_args(argv).file:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}; give the text of a console") from error
        splats = find_splats(text)
        found = found or bool(splats)
        for splat in splats:
            print(f"{path}: {splat.kind}: {splat.title}\n  fingerprint: {splat.fingerprint}")
        print(f"{path}: last test: {last_test(text) or 'none'}")
        print(f"{path}: if it died, of: {cause_of_death(text) or 'nothing the kernel told'}")
    return 1 if found else 0
