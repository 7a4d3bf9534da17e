"""``python -m vm build SPEC…``: build kernels and print their images."""

from __future__ import annotations

from collections.abc import Sequence

from vm.base.command import Parser, command, say
from vm.base.errors import BuildFailed
from vm.kernels.resolve import resolve_one
from vm.kernels.spec import several


@command
def main(arguments: Sequence[str]) -> int:
    """Build each of ``arguments`` (specs of any kind) and print its image."""
    parser = Parser(prog="python -m vm build", description="Build kernels, or fetch them, and print their images.")
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="a kernel, as source:6.12+debug or path/to/linux")
    try:
        for spec in (spec for text in parser.parse_args(arguments).specs for spec in several(text)):
            print(resolve_one(spec, say).image)
    except BuildFailed as error:
        say(f"error: {error}")
        return 1
    return 0
