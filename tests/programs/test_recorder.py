"""The recorder (vm/uses.py) as people use it for a whole machine: what it says of each program, and what a trace of
that program alone says, which the table is made of."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Rng
from tests.afalg.privileges import ROOT
from tests.doctor import absence
from tests.need import need
from tests.programs import policies
from tests.programs.catalogue import PROGRAMS, Program
from tests.programs.policies import NONE
from tests.programs.session import Session
from vm import uses
from vm.base.files import ROOT as PROJECT
from vm.results.absence import Absence, Lack

pytestmark = [
    pytest.mark.deadline(300),
    # Nothing that another thread may hold is used in the child.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

TRACING = Path("/sys/kernel/tracing")
LACKS = {"tracefs": "kernel has no kprobe events", "audit": "kernel has no records of system calls"}
CASES = [
    (program, by)
    for program in PROGRAMS
    for by in uses.MEANS
    # By audit it is the same for all. A partner's uses are not told from the program's.
    if program.uses and not program.partner and (by == "tracefs" or program.name.startswith(("kcapi", "tc")))
]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Program) else str(value)


@contextlib.contextmanager
def watched(by: str, output: Path) -> Iterator[None]:
    """Have the recorder watch the machine during the block; its JSON is there afterwards."""
    command = "import sys; from vm import uses; sys.exit(uses.main(sys.argv[1:]))"
    words = [sys.executable, "-c", command, "--live", "3000", "--by", by, "--json", "--output", str(output)]
    with subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as watcher:
        try:
            assert watcher.stderr is not None
            said = watcher.stderr.readline()
            if "no tracefs" in said or "no audit system" in said:
                pytest.skip(LACKS[by])
            assert said.startswith("watching for"), said
            yield
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(120) == 0
        finally:
            watcher.kill()


def binds(calls: dict[str, int]) -> Counter[str]:
    return Counter({call: count for call, count in calls.items() if call.startswith("bind: ")})


@pytest.mark.parametrize(("program", "by"), CASES, ids=name_of)
def test_a_whole_machine_is_told_of_as_one_program_is(program: Program, by: str) -> None:
    """Each bind of a program, and what came of it, by whichever means."""
    if absence.fips_mode():
        # Half of them do nothing there.
        pytest.skip(str(Lack(Absence.FIPS, "kernel is in FIPS mode")))
    if program.generator:
        need(Rng, program.generator).close()
    assert not program.absent()
    assert not program.lacks()
    if by == "tracefs" and not (TRACING / "kprobe_events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], capture_output=True, timeout=60)
    place = Path(tempfile.mkdtemp(prefix="recorder-"))
    place.chmod(0o777)
    (place / "session").mkdir()
    session = Session(place / "session", ROOT, functools.partial(policies.confine, NONE))
    try:
        with policies.applied(NONE), watched(by, place / "uses.json"):
            result = program.run(session)
        assert result.ok, result.said
        told = json.loads((place / "uses.json").read_text())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert by in told["means"] or "kprobe" in told["means"]
    alone: dict[tuple[str, str], Counter[str]] = {}
    for use in session.uses.values():
        alone[use.type, use.name] = alone.get((use.type, use.name), Counter()) + binds(use.calls)
    whole: dict[tuple[str, str], Counter[str]] = {}
    for entry in told["uses"]:
        key = entry["type"], entry["name"]
        whole[key] = whole.get(key, Counter()) + binds(entry["calls"])
    assert {key: found for key, found in whole.items() if found} == {
        key: found for key, found in alone.items() if found
    }
    assert any(alone.values()), "it bound nothing"
    # Who makes a call is looked up after it: of a short-lived program it may not be known any more, which is said (-1).
    assert {entry["uid"] for entry in told["uses"]} <= {os.geteuid(), -1}
