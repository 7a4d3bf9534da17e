"""One cell of the table: a program under a policy, what came of it, and what it did with AF_ALG meanwhile."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.afalg.privileges import ROOT, SYS_ADMIN
from tests.programs import policies
from tests.programs.catalogue import BY_NAME, Program, Result
from tests.programs.policies import NONE, Policy
from tests.programs.session import Session
from vm import uses
from vm.base.files import ROOT_PARTS

WORKS, FALLS_BACK, FAILS, UNUSED, IMPOSSIBLE = "works", "falls back", "fails", "does not use AF_ALG", "cannot be run"


@dataclass(frozen=True)
class Cell:
    """What came of a program under a policy.

    Attributes:
        verdict: one of the words above.
        said: to what it falls back, or in what words it fails.
        refused: the calls of AF_ALG that failed, and do not without a policy: ``skcipher xts(aes): bind: ENOENT``.
        used: what it did with AF_ALG: ``skcipher xts(aes): decrypt, encrypt``.
        who: as whom.
        version: of the package that the program is of.
        calls: how often it made which call with which outcome, where nothing else is refused than what the kernel
            refuses by itself: ``skcipher xts(aes): accept: ok 1x, bind: ok 1x``.
    """

    verdict: str
    said: str = ""
    refused: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    who: str = ""
    version: str = ""
    calls: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether the program does what it is for."""
        return self.verdict in (WORKS, FALLS_BACK, UNUSED)


def measure(program: Program, policy: Policy) -> tuple[Cell, list[uses.Use]]:
    """Run a program under a policy; return the cell, and what was recorded.

    Raises:
        AssertionError: the program says that all is well, and its result is wrong; or it did not end in time (Late),
            which on a busy machine tells nothing of AF_ALG.
    """
    alone = policy == NONE or policy.fips
    found, recorded = _without_policy(program.name) if alone else _run(program, policy)
    refused = _refused(recorded)
    # What the kernel does not have anyway is no policy's doing; of FIPS mode nobody can tell here.
    allowed = recorded if alone else _without_policy(program.name)[1]
    if not alone:
        refused = [each for each in refused if each not in _refused(allowed)]
    used = tuple(_used(recorded))
    who = next((use.who.words for use in recorded), "")
    # Programs try what they never use: what was done with it before counts. In FIPS mode, that nothing was done.
    fell_back = refused and not used if policy.fips else set(_used(allowed)) - set(used)
    verdict = FAILS if not found.ok else UNUSED if not recorded else FALLS_BACK if fell_back else WORKS
    said = {FAILS: found.said, FALLS_BACK: found.said or program.fallback}.get(verdict, "")
    calls = tuple(_calls(recorded)) if alone else ()
    return Cell(verdict, said, tuple(refused), used, who, version_of(program), calls), recorded


def version_of(program: Program) -> str:
    """Return name and version of the first package of a program, as the root's list has them; empty without one."""
    names = ROOT_PARTS.read_text().splitlines() if ROOT_PARTS.exists() else []
    found = [name.split("_")[:2] for name in names if name.startswith(f"{program.packages[0]}_")]
    return " ".join(found[0]).replace("%3a", ":") if found else ""


def predicted(program: Program, policy: Policy) -> dict[str, str]:
    """Return what the recorder foretells of the binds of a program under a level, from a run where all is allowed.

    Returns:
        By type and name: ``works``, or the call and its error. Not of what the kernel does not have anyway.
    """
    recorded = _without_policy(program.name)[1]
    who = "capable" if policy.identity in (ROOT, SYS_ADMIN) else "plain"
    answers = uses.ask(recorded, levels=True)
    return {
        f"{use.type} {use.name}": answers.asked[policy.level, who, use.type, use.name]
        for use in recorded
        if use.type and not use.refused
    }


@functools.cache
def _without_policy(name: str) -> tuple[Result, list[uses.Use]]:
    """Return what a program does where everything is allowed; asked once a machine."""
    with policies.applied(NONE):
        return _run(BY_NAME[name], NONE)


def _run(program: Program, policy: Policy) -> tuple[Result, list[uses.Use]]:
    place = Path(tempfile.mkdtemp(prefix="program-"))
    place.chmod(0o777)
    session = Session(place, policy.identity, functools.partial(policies.confine, policy))
    try:
        found = program.run(session)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found, list(session.uses.values())


def _refused(recorded: Iterable[uses.Use]) -> list[str]:
    return sorted(
        f"{use.type} {use.name}: {call}".removeprefix(" : ")
        for use in recorded
        for call in use.refused
        if call.split(":")[0] in ("socket", "bind")
    )


def _used(recorded: Iterable[uses.Use]) -> list[str]:
    """Return what was done; where nothing was, what was bound to be used later."""
    found = {f"{use.type} {use.name}": sorted(use.operations) for use in recorded if use.type}
    found = {name: done for name, done in found.items() if done} or {
        f"{use.type} {use.name}": ["bind"] for use in recorded if use.calls["bind: ok"]
    }
    return sorted(f"{name}: {', '.join(done)}" for name, done in found.items())


def _calls(recorded: Iterable[uses.Use]) -> list[str]:
    return sorted(
        f"{use.type} {use.name}: ".removeprefix(" : ")
        + ", ".join(f"{call} {count}x" for call, count in sorted(use.calls.items()))
        for use in recorded
    )
