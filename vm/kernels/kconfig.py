"""Kernel configuration fragments: read, merge, and check what a kernel made of them.

A fragment is a file of ``kconfigs/``. Its lines are options with the reason beside them::

    CONFIG_CRYPTO_CFB=y    # [..6.1] cfb(…)

The bracket lists the series that have the option, unless all have it: ``[..6.1]``, ``[6.1..6.12]``, ``[..5.10,7.2..]``.
It was checked against the series in ``VETTED`` only. An option is asked for in every series: the bracket does no more
than explain why it is missing from a .config.

``override:`` before the reason allows a line to differ from an earlier fragment's. A comment line
``# as modules: NAME NAME`` asks for all tristate options of those fragments as modules; a line
``# make: VAR=value`` adds variables to the command line of make.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vm.base import arch, files
from vm.base.errors import UsageError
from vm.kernels.symbols import Symbol, scan, unmet

FRAGMENTS = files.ROOT / "kconfigs"
SUFFIX = ".config"

# Every kernel has these, after its architecture's, and `base` comes after all variants, so that none can keep a guest
# from booting.
FIRST = ("af_alg", "algorithms")
LAST = ("base",)

Series = tuple[int, int]

# The series for which the brackets of the fragments were checked against the source.
VETTED: tuple[Series, ...] = ((5, 10), (6, 1), (6, 12), (7, 2), (7, 3))


@dataclass(frozen=True)
class Option:
    """One line of a fragment.

    Attributes:
        name: the symbol, without ``CONFIG_``.
        value: ``y``, ``m``, ``n``, a number or a quoted string, as .config files write it.
        series: pairs of first and last series that have the option, None for an open end; empty means all.
        override: may differ from an earlier fragment's value.
        reason: why it is there.
        where: ``file:line``, for messages.
    """

    name: str
    value: str
    series: tuple[tuple[Series | None, Series | None], ...]
    override: bool
    reason: str
    where: str

    def expected(self, version: Series) -> bool | None:
        """Say whether a kernel of this series has the option: yes, no, or None when nobody looked."""
        if version in VETTED:
            return self._listed(version)
        below = [s for s in VETTED if s < version]
        above = [s for s in VETTED if s > version]
        if not below or not above:
            return None
        neighbours = {self._listed(below[-1]), self._listed(above[0])}
        return neighbours.pop() if len(neighbours) == 1 else None

    def _listed(self, version: Series) -> bool:
        if not self.series:
            return True
        return any((not lo or lo <= version) and (not hi or version <= hi) for lo, hi in self.series)


@dataclass(frozen=True)
class Fragment:
    """One file of ``kconfigs/``: its options, and the fragments it turns into modules, and make variables."""

    name: str
    options: tuple[Option, ...]
    as_modules: tuple[str, ...] = ()
    make: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """An option that was asked for and not got.

    Attributes:
        option: what was asked for.
        got: the value in the .config, ``n`` when there is none.
        why: the reason, for people.
        explained: whether the fragment says that this series lacks the option.
    """

    option: Option
    got: str
    why: str
    explained: bool

    def __str__(self) -> str:
        return f"CONFIG_{self.option.name}={self.option.value} ({self.option.where}), got {self.got}: {self.why}"


def variants() -> list[str]:
    """Return the names that can follow a ``+`` in a kernel spec, sorted."""
    others = {*FIRST, *LAST, *(row.name for row in arch.ARCHITECTURES)}
    return sorted(p.stem for p in FRAGMENTS.glob(f"*{SUFFIX}") if p.stem not in others)


def chosen(names: Iterable[str], architecture: arch.Architecture | None = None) -> list[Fragment]:
    """Return the fragments of a kernel with these variants, in the order of merging.

    Args:
        names: of the variants.
        architecture: the kernel's, the machine's own by default.

    Raises:
        UsageError: no such variant, or a fragment that does not parse.
    """
    wanted = dict.fromkeys(names)
    for name in wanted:
        if name not in variants():
            raise UsageError(f"no kernel variant +{name}; there are: {', '.join('+' + v for v in variants())}")
    own = (architecture or arch.default()).name
    return [parse(FRAGMENTS / (name + SUFFIX)) for name in (own, *FIRST, *sorted(wanted), *LAST)]


def parse(path: Path) -> Fragment:
    """Read one fragment.

    Raises:
        UsageError: it cannot be read, or a line is neither an option with its reason nor a comment.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the configuration fragment {path}: {error.strerror}") from error
    options: list[Option] = []
    as_modules: list[str] = []
    make: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("# as modules:"):
            as_modules += line.partition(":")[2].split()
        elif line.startswith("# make:"):
            make += line.partition(":")[2].split()
        elif line.strip() and not line.startswith("#"):
            options.append(_option(line, f"{path.name}:{number}"))
    return Fragment(path.name.removesuffix(SUFFIX), tuple(options), tuple(as_modules), tuple(make))


def merge(fragments: Sequence[Fragment], symbols: Mapping[str, Symbol] | None = None) -> dict[str, Option]:
    """Put fragments together, later ones after earlier ones.

    Args:
        symbols: the tree's symbols (``scan``); needed when a fragment turns others into modules, because only
            a tristate option can be a module.

    Raises:
        UsageError: an option has two different values and the later line is no override.
    """
    as_modules = {name for fragment in fragments for name in fragment.as_modules}
    merged: dict[str, Option] = {}
    for fragment in fragments:
        for written in fragment.options:
            modular = fragment.name in as_modules and symbols is not None
            option = _as_module(written, symbols or {}) if modular else written
            earlier = merged.get(option.name)
            if earlier is not None and earlier.value != option.value:
                # An option written beside `as modules` says what must stay built in.
                spared = bool(fragment.as_modules) and earlier.value == "m"
                if not (option.override or spared):
                    raise UsageError(
                        f"CONFIG_{option.name} is {earlier.value} in {earlier.where} and {option.value} in "
                        f"{option.where}; leave one out, or write 'override:' before the reason of the second"
                    )
            merged[option.name] = option
    return merged


def render(options: Mapping[str, Option]) -> str:
    """Return the options as a .config file holds them, sorted, so that equal choices give equal text."""
    lines = []
    for name in sorted(options):
        value = options[name].value
        lines.append(f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}")
    return "\n".join(lines) + "\n"


def read_config(path: Path) -> dict[str, str]:
    """Return the values of a .config file, packed by gzip or not, by symbol (``CRYPTO_AES`` → ``m``): those set."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(errors="replace")
    values = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.removeprefix("CONFIG_").partition("=")
            values[name] = value
    return values


def missing(options: Mapping[str, Option], config: Mapping[str, str], version: Series, tree: Path) -> list[Missing]:
    """Return the options asked for and not got, each with its reason, for which ``tree`` is asked.

    Args:
        options: what was asked for.
        config: what the .config says (``read_config``).
        version: the tree's series.
        tree: its sources.
    """
    lost = [o for o in options.values() if not _satisfied(o.value, config.get(o.name, "n"))]
    if not lost:
        return []
    symbols = scan(tree, (arch.of_config(config) or arch.default()).directory)
    return [_explain(option, config, version, symbols) for option in sorted(lost, key=lambda o: o.name)]


_LINE = re.compile(
    r"""CONFIG_(?P<name>[A-Z0-9_a-z]+)=(?P<value>[ymn]|-?\d+|0x[0-9a-fA-F]+|"(?:[^"\\]|\\.)*")
        \s+\#\s+(?:\[(?P<series>[^\]]*)\]\s+)?(?P<override>override:\s+)?(?P<reason>\S.*)""",
    re.VERBOSE,
)


def _option(line: str, where: str) -> Option:
    found = _LINE.fullmatch(line.rstrip())
    if found is None:
        raise UsageError(f"{where}: expected 'CONFIG_NAME=value  # reason' or '# comment', found {line.strip()!r}")
    return Option(
        name=found["name"],
        value=found["value"],
        series=tuple(_ranges(found["series"], where)) if found["series"] is not None else (),
        override=found["override"] is not None,
        reason=found["reason"],
        where=where,
    )


def _ranges(text: str, where: str) -> Iterator[tuple[Series | None, Series | None]]:
    for part in text.split(","):
        found = re.fullmatch(r"(?:(\d+)\.(\d+))?\.\.(?:(\d+)\.(\d+))?", part.strip())
        if found is None or part.strip() == "..":
            raise UsageError(f"{where}: expected series like [..6.1] or [6.1..6.12], found [{text}]")
        lo, hi = found.group(1, 2), found.group(3, 4)
        yield (
            (int(lo[0]), int(lo[1])) if lo[0] else None,
            (int(hi[0]), int(hi[1])) if hi[0] else None,
        )


def _as_module(option: Option, symbols: Mapping[str, Symbol]) -> Option:
    symbol = symbols.get(option.name)
    if option.value == "y" and symbol is not None and symbol.type == "tristate":
        return replace(option, value="m")
    return option


def _satisfied(asked: str, got: str) -> bool:
    # What was asked for as a module is built in when something built in needs it.
    return got == asked or (asked == "m" and got == "y")


def _explain(option: Option, config: Mapping[str, str], version: Series, symbols: Mapping[str, Symbol]) -> Missing:
    expected = option.expected(version)
    symbol = symbols.get(option.name)
    if symbol is None:
        why = "unknown in this version"
    elif lacking := unmet(symbol, config):
        why = f"depends on {lacking}"
    elif not symbol.prompt:
        why = "cannot be chosen in this version"
    else:
        why = "another option decides it (a choice or a select)"
    if expected is None:
        why += "; the fragments were never checked against this series"
    return Missing(option, config.get(option.name, "n"), why, explained=expected is not True)
