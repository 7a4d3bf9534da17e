"""Kernels of one name that were not booted alike: another command line, another ``.config``."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import itertools
import re
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path

from vm.results.model import KernelRun, Run

# What tells a kernel where its root is, whom it speaks to and how slow its machine is: no two machines need have that
# alike, and it is not what is tested.
_OF_THE_MACHINE = re.compile(
    r"(?:BOOT_IMAGE|TERM|console|earlycon|earlyprintk|init|initrd|rdinit|resume|root|rootflags|rootfstype"
    r"|rcupdate\.rcu_cpu_stall_timeout|sysctl\.kernel\.hung_task_timeout_secs"
    r"|sysctl\.kernel\.hung_task_check_interval_secs)=.*"
    r"|ro|rw|quiet|no_timer_check|cryptomgr\.notests|virtme.*"
)
_OPTION = re.compile(r"(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set")
_MOST_WORDS = 3


@dataclasses.dataclass(frozen=True)
class _Boot:
    """How a kernel of a run was booted; None where nobody knows.

    Attributes:
        asked: arguments that the run was given for its kernels.
        arguments: words of the kernel's command line.
        config: its options that are not ``n``.
    """

    asked: frozenset[str]
    arguments: frozenset[str] | None
    config: frozenset[str] | None

    def like(self, other: _Boot) -> bool:
        """Whether nothing is known in which the two differ."""
        if self.arguments is None or other.arguments is None:
            if self.asked != other.asked:
                return False
        elif self.arguments != other.arguments:
            return False
        return self.config is None or other.config is None or self.config == other.config


def arguments(cmdline: str) -> tuple[str, ...]:
    """Return the words of a kernel's command line, but for those that only say where and on what it runs."""
    try:
        words = shlex.split(cmdline)
    except ValueError:
        words = cmdline.split()
    return tuple(word for word in words if not _OF_THE_MACHINE.fullmatch(word))


def told_apart(found: Sequence[tuple[Path, Run]]) -> list[Run]:
    """Return runs in which kernels of one name that were not booted alike have names that say how they differ.

    The same kernel with ``fips=1`` becomes ``6.12.117 (fips=1)``; one that has no more than the others keeps its name.

    Args:
        found: runs, each with its directory, where its kernels' configurations are.
    """
    groups: dict[str, list[list[_Boot]]] = {}
    places: dict[tuple[int, str], int] = {}
    for index, (place, run) in enumerate(found):
        for kernel in run.kernels:
            boot = _boot(kernel, run, place)
            own = groups.setdefault(kernel.name, [])
            number = next((n for n, those in enumerate(own) if all(map(boot.like, those))), len(own))
            if number == len(own):
                own.append([])
            own[number].append(boot)
            places[index, kernel.name] = number
    names = {name: _names(name, own) for name, own in groups.items()}
    return [
        dataclasses.replace(run, kernels=tuple(
            dataclasses.replace(kernel, name=names[kernel.name][places[index, kernel.name]]) for kernel in run.kernels
        ))
        for index, (_, run) in enumerate(found)
    ]  # fmt: skip


def inside(path: str) -> bool:
    """Whether a path that a run names leads to a file of its directory, as far as its words say.

    Whoever wrote that run may not have us read and write anywhere.
    """
    return bool(path) and "\n" not in path and not path.startswith("/") and ".." not in Path(path).parts


def _boot(kernel: KernelRun, run: Run, place: Path) -> _Boot:
    config = _options(place / kernel.config) if inside(kernel.config) else None
    return _Boot(_asked(run.command), frozenset(arguments(kernel.cmdline)) if kernel.cmdline else None, config)


def _asked(command: Sequence[str]) -> frozenset[str]:
    """Return what ``--kernel-argument`` gave; ``command`` is that of the run."""
    option = "--kernel-argument"
    pairs = itertools.zip_longest(command, command[1:], fillvalue="")
    return frozenset(
        after if word == option else word.partition("=")[2]
        for word, after in pairs
        if word == option or word.startswith(f"{option}=")
    )


def _options(path: Path) -> frozenset[str] | None:
    """Return the options of a ``.config`` that are not ``n``, None where it cannot be read."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return None
    found = (_OPTION.fullmatch(line) for line in text.splitlines())
    return frozenset(match[0] for match in found if match is not None and match[1] and match[2] != "n")


def _names(name: str, groups: Sequence[Sequence[_Boot]]) -> list[str]:
    """Return a name for each group, the plain one for the group that has no more than all have."""
    lines = [_known([boot.arguments for boot in those if boot.arguments is not None]) for those in groups]
    if not all(lines):
        # One never came up: only what was asked is known of each.
        lines = [_known([boot.asked for boot in those]) for those in groups]
    configs = [_known([boot.config for boot in those if boot.config is not None]) for those in groups]
    names: list[str] = []
    for line, config in zip(lines, configs, strict=True):
        more = sorted(line - _common(lines))
        options = sorted(config - _common([each for each in configs if each])) if config else []
        said = f"{name} ({_shortly([*more, *options])})" if more or options else name
        same = sum(each == said or each.startswith(f"{said} #") for each in names)
        names.append(f"{said} #{same + 1}" if same else said)
    return names


def _known(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    return max(sets, key=len, default=frozenset())


def _common(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    return functools.reduce(frozenset.__and__, sets)


def _shortly(words: Sequence[str]) -> str:
    if len(words) <= _MOST_WORDS:
        return " ".join(words)
    return f"{' '.join(words[:_MOST_WORDS])} and {len(words) - _MOST_WORDS} more"
