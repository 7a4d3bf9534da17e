"""Source lines for what the kernel says of itself: ``af_alg_bind+0x1f/0x2e0`` becomes ``… (crypto/af_alg.c:178)``.

The kernel names code by function and offset; with debugging information (``+debuginfo``, or a tree of the user's built
so) binutils know the line. Without it, and where a name stands for several functions, the text stays as it is. Code
of modules stays as it is too.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm.base import process
from vm.base.arch import POINTERS
from vm.base.errors import UsageError

# Debugging information of a whole kernel is some 300 MB.
_DEADLINE = 120.0
# The file of this function is known, so what precedes it in its path precedes all others too.
_LANDMARK, _LANDMARK_FILE = "start_kernel", "init/main.c"
_PLACE = re.compile(
    rf"(?P<pointer>{POINTERS})?\b(?P<name>[A-Za-z_][\w.]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)(?! \[)"
)


def located(texts: Sequence[str], vmlinux: Path | None) -> list[str]:
    """Return ``texts`` with the source line behind each place in the kernel's code, where it is known.

    Args:
        texts: splats, or anything with places like ``af_alg_bind+0x1f/0x2e0``; together, as a look takes seconds.
        vmlinux: the kernel with symbols; None when there is none.
    """
    places = [place for text in texts for place in _PLACE.finditer(text)]
    if vmlinux is None or not places:
        return list(texts)
    try:
        functions = _functions(vmlinux, vmlinux.stat().st_mtime_ns)
        addresses = {place[0]: address for place in places if (address := _address(functions, place)) is not None}
        landmark = functions[_LANDMARK][0][0]
        lines = _lines(vmlinux, sorted({*addresses.values(), landmark}))
    except (OSError, UsageError, LookupError, ValueError):
        # No file any more, no binutils, no kernel: a help for the reader is no reason to lose the report.
        return list(texts)
    first, _, _ = lines[landmark].partition(_LANDMARK_FILE)
    where = {word: lines[address].removeprefix(first) for word, address in addresses.items()}
    return [_PLACE.sub(lambda m: m[0] + (f" ({where[m[0]]})" if where.get(m[0]) else ""), text) for text in texts]


@functools.cache
def _functions(vmlinux: Path, _changed: int) -> dict[str, list[tuple[int, int]]]:
    """Return addresses and sizes in bytes of each name's functions.

    The size is what the kernel itself takes for it (kernel/kallsyms.c): all up to the next symbol.
    """
    done = process.run(["nm", "--numeric-sort", "--defined-only", str(vmlinux)], deadline=_DEADLINE)
    words = [line.split() for line in done.output.splitlines()]
    symbols = [(int(w[0], 16), w[2]) for w in words if len(w) == 3 and w[1] in "tTwW"]
    addresses = sorted({address for address, _ in symbols})
    end = dict(itertools.pairwise(addresses))
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for address, name in symbols:
        found[name].append((address, end.get(address, address) - address))
    return dict(found)


def _address(functions: Mapping[str, Sequence[tuple[int, int]]], place: re.Match[str]) -> int | None:
    """Return the address of a place; None when no function, or more than one, has that name and size."""
    size, offset = int(place["size"], 16), int(place["offset"], 16)
    starts = [start for start, own in functions.get(place["name"], ()) if own == size]
    if len(starts) != 1 or offset > size:
        return None
    # But for the instruction pointer these are return addresses: the call is before them, perhaps a line before.
    return starts[0] + offset - (0 if place["pointer"] or not offset else 1)


def _lines(vmlinux: Path, addresses: Sequence[int]) -> dict[int, str]:
    """Return file and line of each address, empty where they are not known."""
    done = process.run(["addr2line", "-e", str(vmlinux), *map(hex, addresses)], deadline=_DEADLINE)
    told = [re.sub(r" \(discriminator \d+\)$", "", line) for line in done.output.splitlines()]
    return {address: "" if "?" in line else line for address, line in zip(addresses, told, strict=True)}
