"""List the roots of guests, and make them: ``python -m vm root [ARCHITECTURE]…``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vm.base import arch, cache
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.roots import build, carried


@command
def main(arguments: Sequence[str]) -> None:
    """Make what is named, else list; the command line of ``python -m vm root``."""
    parser = Parser(
        prog="python -m vm root",
        description="Make the roots of these architectures, and print where they are; without any, list them.",
    )
    parser.add_argument("architecture", nargs="*", help="Debian's name of it, or uname -m")
    parser.add_argument("--renew", action="store_true", help="make them anew, of what the mirror has today")
    carry = parser.add_mutually_exclusive_group()
    carry.add_argument("--pack", metavar="FILE", type=Path, help="write the root into an archive, for another machine")
    carry.add_argument("--unpack", metavar="FILE", type=Path, help="take the root that another machine wrote into one")
    options = parser.parse_args(arguments)
    rows = [_asked(word) for word in options.architecture]
    if options.renew and not rows:
        raise UsageError("--renew needs the architectures whose roots are to be made anew")
    if options.pack is not None and len(rows) != 1:
        raise UsageError("--pack needs one architecture")
    if options.unpack is not None:
        if rows:
            raise UsageError("--unpack needs no architecture: the archive says its own")
        print(_line(carried.unpack(options.unpack)))
        return
    for row in rows:
        place = build.place(row)
        if options.renew and place.exists() and not cache.remove(place):
            raise UsageError(f"{place} is in use: try again when that run has ended")
        made = build.cached(row, say)
        if options.pack is not None:
            carried.pack(made, options.pack)
        print(_line(made))
    if not rows:
        for row in arch.ARCHITECTURES:
            print(_line(build.Root(build.place(row), row)) if build.place(row).is_dir() else f"{row.debian:8} -")


def _asked(word: str) -> arch.Architecture:
    if (row := arch.asked(word)) is None:
        known = ", ".join(each.debian for each in arch.ARCHITECTURES)
        raise UsageError(f"no architecture {word!r}; there are {known}")
    return row


def _line(root: build.Root) -> str:
    size = root.image.stat().st_size / 1e6
    digest = root.record["sha256"]
    return f"{root.architecture.debian:8} {root.release.suite:9} {size:4.0f} MB  sha256:{digest}  {root.image}"
