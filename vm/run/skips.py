"""The skip budget: which skips a kernel may have. A skip that nobody expects hides a failure.

The reason of a skip says why the kernel lacks something (vm/results/absence.py), and the budget proves it by the state
of the kernel. It is a TOML file (ini option ``skip_budget``) of tables ``[[skip]]``:

    reason   regular expression that matches all of what the kernel lacks, without the class and what shows it
    because  why a kernel may lack it, for people
    config   symbols of the kernel's .config (without ``CONFIG_``), any of which, when not set, accounts for the skip as
             ``not built``; of ``A|B``, two names of one option, neither
    built_in symbols that account for it when they are ``y`` and no module
    since    versions since which kernels have it: those before account for it as ``not in this version``. The last one
             is the release of mainline, the others are of their series
    until    versions since which they lack it again, or may
    guest    true where guests lack it, for want of a device; false where the skip is for machines that are none
    modules  names of modules, any of which, when blacklisted, accounts for it
    sysctls  names of sysctls that may forbid it
    arguments  names of arguments on the kernel's command line, or of symbols (``CONFIG_…``), that may switch it off
    fips     true where FIPS mode may take it away; false where the skip is for kernels that are not in that mode

Each table says by at least one of these what proves a skip. Where the .config is unknown, nothing tells whether an
option was set: such a skip is ``undecided``. A version that tells nothing (a vendor's, or somebody's own) accounts for
any that is ``not in this version``; the list of skips has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.base import arch, toml
from vm.kernels import kconfig
from vm.results.absence import Absence, Lack, parse
from vm.run import known

FIPS_ENABLED = "crypto.fips_enabled"
OFF = ("off", "0", "n", "no", "false")
UNKNOWN = "its .config is unknown: nothing says whether it was built with what this needs"
"""The objection to a skip for which neither is anything."""
AUTOLOAD = ("kernel.modules_disabled", "kernel.modprobe")


@dataclass(frozen=True)
class Rule:
    """One table of the budget."""

    reason: re.Pattern[str]
    because: str
    config: tuple[str, ...] = ()
    built_in: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    guest: bool | None = None
    modules: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    fips: bool | None = None


@dataclass(frozen=True)
class State:
    """What is known of a kernel, and accounts for skips.

    Attributes:
        config: set symbols of its .config; None when it is unknown.
        cmdline: its command line.
        machine: ``uname -m``.
        sysctls: values by name, of those that the budget names.
        blacklist: lines of modprobe's configuration that keep modules from being loaded.
        judges: who may refuse system calls: ``seccomp`` for a filter, names of security modules.
        version: of the kernel (vm/run/known.py); empty where it tells no series.
        guest: whether it runs in a machine of its own.
    """

    config: dict[str, str] | None = None
    cmdline: str = ""
    machine: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    blacklist: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    version: str = ""
    guest: bool = True

    @property
    def fips(self) -> bool:
        """Whether it is in FIPS mode."""
        return self.sysctls.get(FIPS_ENABLED, "0") != "0"

    @classmethod
    def of_guest(
        cls, config: dict[str, str] | None, facts: dict[str, Any], version: str = "", guest: bool = True
    ) -> State:
        """Return the state that a guest told of (vm/guest/worker.py); facts that are not there account for nothing."""
        return cls(
            config,
            str(facts.get("cmdline", "")),
            str(facts.get("machine", "")),
            dict(facts.get("sysctls", {})),
            tuple(facts.get("blacklist", ())),
            tuple(facts.get("judges", ())),
            version,
            guest,
        )


def load(path: Path) -> list[Rule]:
    """Read a budget.

    Raises:
        UsageError: the file cannot be read, or a table is not as described above.
    """
    return toml.tables(path, "skip", Rule, "the skip budget", "vm/run/skips.py", _check)


def read_config(path: Path | None) -> dict[str, str] | None:
    """Return the set symbols of a .config, None when there is no file."""
    return None if path is None or not path.is_file() else kconfig.read_config(path)


def sysctls(rules: Iterable[Rule]) -> list[str]:
    """Return the names of the sysctls whose values account for skips."""
    return sorted({FIPS_ENABLED, *AUTOLOAD}.union(*(rule.sysctls for rule in rules)))


def objection(reason: str, rules: list[Rule], state: State) -> str | None:
    """Return why a skip is not acceptable, None when it is.

    Args:
        reason: what the test gave.
        rules: the budget; the first that matches decides.
        state: of the kernel.
    """
    lack = parse(reason)
    for rule in rules:
        if rule.reason.fullmatch(lack.what):
            if rule.fips is False and state.fips:
                return "this kernel is in FIPS mode"
            return _unproven(lack, rule, state)
    return "the skip budget has no entry for this reason"


def _unproven(lack: Lack, rule: Rule, state: State) -> str | None:
    """Return what is missing for the skip to be one of this kernel and of this class, None for nothing."""
    match lack.absence:
        case None | Absence.NOT_BUILT:
            return _configured(rule, state)
        case Absence.VERSION:
            return _not_in_this_version(rule, state)
        case Absence.MODULE_MISSING:
            why = _configured(rule, state)
            return why if why in (None, UNKNOWN) else f"{why}: its module has to be built and installed"
        case Absence.BLACKLISTED:
            return _not_blacklisted(lack.evidence, rule, state)
        case Absence.NO_AUTOLOAD:
            return _no_value(lack.evidence, AUTOLOAD, state)
        case Absence.RESTRICTED:
            return _no_value(lack.evidence, rule.sysctls, state)
        case Absence.BLOCKED:
            return None if lack.evidence in state.judges else "no seccomp filter and no security module is there"
        case Absence.FIPS:
            if not state.fips:
                return "this kernel is not in FIPS mode"
            return None if rule.fips else "FIPS mode does not take it away"
        case Absence.ARCHITECTURE:
            return _of_this_architecture(lack.evidence, rule, state)
    return "everything says that this kernel should have it"


def _configured(rule: Rule, state: State) -> str | None:
    """Return what says that the kernel was built with it, or is no machine of the kind that lacks it."""
    if rule.guest is not None:
        return None if rule.guest is state.guest else f"this is {'a' if state.guest else 'no'} guest"
    if rule.fips is False and not rule.config:
        return None
    if state.config is None and (rule.config or rule.built_in):
        return UNKNOWN
    having, config = [], state.config or {}
    for symbol in rule.config:
        found = [each for each in symbol.split("|") if each in config]
        if not found:
            return None
        having += [f"CONFIG_{each}={config[each]}" for each in found]
    if any(config.get(symbol) == "y" for symbol in rule.built_in):
        return None
    return f"this kernel should have it ({', '.join(having) or 'no option takes it away'})"


def _not_in_this_version(rule: Rule, state: State) -> str | None:
    """Judge a skip as of a version that lacks it; on the -rc kernels of a release with a change, any."""
    if not rule.since and not rule.until:
        return "every version has it, says the skip budget"
    release, candidate, _ = state.version.partition("~rc")
    if not known.series_of(state.version) or (candidate and release in (*rule.since, *rule.until)):
        return None
    if rule.since and not known.reached(rule.since, state.version):
        return None
    if rule.until and known.reached(rule.until, state.version):
        return None
    spans = [f"{word} {since[-1]}" for word, since in (("since", rule.since), ("until", rule.until)) if since]
    return f"{state.version} should have it: kernels do {' '.join(spans)}, says the skip budget"


def _no_value(evidence: str, names: Iterable[str], state: State) -> str | None:
    """Judge ``NAME=VALUE`` of a sysctl, which must be one of ``names``."""
    name, _, value = evidence.partition("=")
    if name not in names:
        return f"the skip budget does not say that {name or 'a sysctl'} may forbid it"
    return None if state.sysctls.get(name) == value else f"{name} is {state.sysctls.get(name, 'not there')}"


def _not_blacklisted(evidence: str, rule: Rule, state: State) -> str | None:
    """Judge ``MODULE by WORD``, the word being one of the command line, or a line of modprobe's configuration."""
    module, _, source = evidence.partition(" by ")
    if rule.modules and module not in rule.modules:
        return f"the skip budget does not say that it needs the module {module}"
    if source in state.cmdline.split() or source in state.blacklist:
        return None
    return f"nothing blacklists {module or 'a module'}"


def _of_this_architecture(evidence: str, rule: Rule, state: State) -> str | None:
    name, _, value = evidence.partition("=")
    if name in rule.arguments:
        off = evidence in state.cmdline.split() and value.lower() in OFF
        if off or (state.config or {}).get(name.removeprefix("CONFIG_")) == "y":
            return None
    row = arch.named(state.machine)
    if evidence and evidence == state.machine and not (row and row.calls_32_bit):
        return None
    return f"this kernel runs on {state.machine or 'an unknown machine'}, and nothing switches it off"


def _check(rule: Rule) -> None:
    if not rule.because:
        raise ValueError(f"'because' of {rule.reason.pattern!r} is empty")
    by_lists = (rule.config, rule.built_in, rule.since, rule.until, rule.modules, rule.sysctls, rule.arguments)
    if not any(by_lists) and rule.guest is None and rule.fips is None:
        raise ValueError(f"nothing proves the skips of {rule.reason.pattern!r}")
    known.require_versions((*rule.since, *rule.until), rule.reason.pattern)
