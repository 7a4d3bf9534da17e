"""``make programs``: run real programs of Debian under each policy, and show the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.programs import catalogue
from vm.base.command import command
from vm.run.command import main as run


@command
def main(arguments: Sequence[str]) -> int:
    """Run tests/programs with a root that has the programs; arguments are those of ``python -m vm test``.

    ``--root-suite`` chooses the release whose programs are tried.
    """
    words = list(arguments)
    at = words.index("--root-suite") if "--root-suite" in words else None
    suite = words[at + 1] if at is not None and at + 1 < len(words) else ""
    suite = next((word.partition("=")[2] for word in words if word.startswith("--root-suite=")), suite)
    named = ",".join(catalogue.packages(suite))
    ours = ["--root-packages", named, "--then", "tests.programs.table", "-q"]
    where = [] if any("tests/programs" in word for word in words) else ["tests/programs"]
    return run([*ours, *words, *where])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
