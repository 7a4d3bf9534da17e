"""``make programs``: run real programs of Debian under each policy, and show the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.programs import catalogue
from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.run.command import main as run


@command
def main(arguments: Sequence[str]) -> int:
    """Run tests/programs with a root that has the programs; returns pytest's exit status.

    Raises:
        UsageError: no program has one of the words of --only in its name.
    """
    parser = Parser(
        prog="python -m tests.programs",
        description="Run real programs under each policy, and show the table. Further options are python -m vm test's.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="programs with one of these in their name: kcapi,iwd"
    )
    parser.add_argument(
        "-k", default="", metavar="EXPRESSION", help="of these only tests that pytest's -k would choose"
    )
    parser.add_argument("--root-suite", default="", metavar="SUITE", help="the Debian release that they are of")
    options, rest = parser.parse_known_args(arguments)
    words = words_of(options.only)
    packages = ",".join(catalogue.packages(options.root_suite, words))
    ours = ["--root-packages", packages, "--root-suite", options.root_suite, "--then", "tests.programs.table", "-q"]
    # pytest takes no space within a word of -k, and of several -k the last.
    named = " or ".join(f"({' and '.join(word.split())})" for word in words)
    chosen = " and ".join(f"({each})" for each in (named, options.k) if each)
    ours += ["-k", chosen] if chosen else []
    where = [] if any("tests/programs" in word for word in rest) else ["tests/programs"]
    return run([*ours, *rest, *where])


def words_of(text: str) -> list[str]:
    """Return the words of --only.

    Raises:
        UsageError: one is in no name of a program.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not any(word in program.name for program in catalogue.PROGRAMS):
            known = ", ".join(program.name for program in catalogue.PROGRAMS)
            raise UsageError(f"no program with {word!r} in its name; there are {known}")
    return words


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
