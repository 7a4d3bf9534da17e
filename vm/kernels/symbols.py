"""What the Kconfig files of a kernel source tree say about a symbol: its type, and what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Symbol:
    """What the Kconfig files of a source tree say about one symbol.

    Attributes:
        type: ``bool``, ``tristate``, ``string``, ``int`` or ``hex``, empty when it has none of its own.
        prompt: whether somebody can choose it; else its value follows from other symbols.
        depends: the conditions of each definition, those of the menus and ifs around it included.
    """

    name: str
    type: str
    prompt: bool
    depends: tuple[tuple[str, ...], ...]


def scan(tree: Path, arch: str) -> dict[str, Symbol]:
    """Read all Kconfig files of a source tree that ``arch`` sees. Takes about a second."""
    symbols: dict[str, Symbol] = {}
    for path in _kconfig_files(tree, arch):
        for symbol in _definitions(path):
            known = symbols.get(symbol.name)
            symbols[symbol.name] = symbol if known is None else _joined(known, symbol)
    return symbols


def unmet(symbol: Symbol, config: Mapping[str, str]) -> str:
    """Return the conditions that fail, of the definition of which fewest do; empty when one has none."""
    best = min(
        ([c for c in conditions if not _holds(c, config)] for conditions in symbol.depends),
        key=len,
        default=[],
    )
    return " and ".join(f"({c})" if " " in c else c for c in best)


def _joined(one: Symbol, other: Symbol) -> Symbol:
    """A symbol may be defined in several places: it can be set when the conditions of one of them hold."""
    return Symbol(one.name, one.type or other.type, one.prompt or other.prompt, one.depends + other.depends)


_TOKEN = re.compile(r'\s*(&&|\|\||!=|=|!|\(|\)|"[^"]*"|\$\([^()]*(?:\([^()]*\)[^()]*)*\)|[\w./-]+)')


def _holds(condition: str, config: Mapping[str, str]) -> bool:
    """Evaluate a Kconfig condition, taking what calls the compiler or compares sizes for true."""
    tokens: list[str] = []
    position = 0
    while position < len(condition.rstrip()):
        found = _TOKEN.match(condition, position)
        if found is None:
            return True
        tokens.append(found[1])
        position = found.end()
    try:
        return _Condition(tokens, config).disjunction()
    except (IndexError, ValueError):
        return True


class _Condition:
    """Recursive descent over the tokens of one condition: ``||`` binds weakest, then ``&&``, then ``!``."""

    def __init__(self, tokens: list[str], config: Mapping[str, str]) -> None:
        self.tokens = tokens
        self.config = config

    def disjunction(self) -> bool:
        value = self.conjunction()
        while self._next_is("||"):
            value = self.conjunction() or value
        return value

    def conjunction(self) -> bool:
        value = self.term()
        while self._next_is("&&"):
            value = self.term() and value
        return value

    def term(self) -> bool:
        if self._next_is("!"):
            return not self.term()
        if self._next_is("("):
            value = self.disjunction()
            if not self._next_is(")"):
                raise ValueError
            return value
        left = self.tokens.pop(0)
        if self._next_is("="):
            return self._value(left) == self._value(self.tokens.pop(0))
        if self._next_is("!="):
            return self._value(left) != self._value(self.tokens.pop(0))
        return left.startswith("$(") or self._value(left) not in ("n", "")

    def _next_is(self, token: str) -> bool:
        if self.tokens and self.tokens[0] == token:
            self.tokens.pop(0)
            return True
        return False

    def _value(self, token: str) -> str:
        if token in ("y", "m", "n") or token.startswith('"'):
            return token.strip('"')
        return self.config.get(token, "n").strip('"')


# Other architectures would answer for ours, and the rest has no Kconfig files that count.
_SKIPPED = {"Documentation", "tools", "scripts", "LICENSES", "samples", ".git", "debian"}


def _kconfig_files(tree: Path, arch: str) -> Iterator[Path]:
    yield from sorted(tree.glob("Kconfig*"))
    for top in sorted(tree.iterdir()):
        if top.name == "arch":
            yield from (p for p in [top / "Kconfig"] if p.is_file())
            yield from sorted((top / arch).rglob("Kconfig*"))
        elif top.is_dir() and top.name not in _SKIPPED and not top.name.startswith("build"):
            yield from sorted(p for p in top.rglob("Kconfig*") if p.is_file())


_TYPE = re.compile(r'(?:def_)?(bool|tristate|string|int|hex)\b\s*("[^"]*"|\'[^\']*\')?')


# Words that begin an entry, and so end the one before.
_ENTRIES = {
    *("config", "menuconfig", "menu", "choice", "if", "endif", "endmenu", "endchoice", "comment"),
    *("source", "rsource", "osource", "orsource", "mainmenu"),
}


def _definitions(path: Path) -> Iterator[Symbol]:
    """Walk one Kconfig file, keeping the conditions of the ifs, menus and choices around each symbol."""
    around: list[list[str]] = []
    entry = ""
    name, kind, prompt = "", "", False
    depends: list[str] = []
    for line in [*_logical_lines(path), "endif"]:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word in _ENTRIES:
            if entry in ("config", "menuconfig"):
                yield Symbol(name, kind, prompt, (tuple(c for level in around for c in level) + tuple(depends),))
            entry, name, kind, prompt, depends = word, rest, "", False, []
        if word in ("if", "menu", "choice"):
            around.append([rest] if word == "if" else [])
        elif word in ("endif", "endmenu", "endchoice"):
            del around[-1:]
        elif word == "depends":
            conditions = around[-1] if entry in ("menu", "choice") else depends
            conditions.append(rest.removeprefix("on").strip())
        elif word == "prompt":
            prompt = True
        elif found := _TYPE.match(line.strip()):
            kind, prompt = found[1], prompt or found[2] is not None


def _logical_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a Kconfig file that matter: continued ones joined, comments and help left out."""
    pending = ""
    help_indent: int | None = None
    awaiting_help = False
    for raw in path.read_text(encoding="utf-8", errors="replace").expandtabs(8).splitlines():
        if not raw.strip():
            continue
        indent = len(raw) - len(raw.lstrip())
        if awaiting_help:
            help_indent, awaiting_help = indent, False
        if help_indent is not None:
            if indent >= help_indent and indent > 0:
                continue
            help_indent = None
        line = pending + raw.split(" #", 1)[0].rstrip()
        if line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            pending = line[:-1] + " "
            continue
        pending = ""
        if line.strip() in ("help", "---help---"):
            awaiting_help = True
            continue
        yield line
