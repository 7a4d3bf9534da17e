"""What runs real programs, and what makes a table of them: tried on programs of this machine, and made-up cells."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import time
from pathlib import Path

import pytest

from tests.afalg.privileges import CAP_SYS_ADMIN, PLAIN_USER, ROOT, ROOT_WITHOUT_CAPABILITIES, SYS_ADMIN, Identity
from tests.programs import __main__ as command_line
from tests.programs import cells, table
from tests.programs.catalogue import PROGRAMS, Program, Result, packages
from tests.programs.cells import Cell
from tests.programs.policies import NONE, POLICIES
from tests.programs.session import Late, Session
from tests.programs.table import Row
from tests.programs.test_programs import test_program as judge
from vm import uses
from vm.results import model

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be somebody else takes root")


@pytest.fixture
def session(tmp_path: Path) -> Session:
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("pytest", "test")):
            path.chmod(0o777)
    return Session(tmp_path, ROOT)


def test_a_command_is_run_to_its_end(session: Session) -> None:
    done = session.run("sh", "-c", "echo out; echo first; echo it is not there >&2; exit 3")
    assert (done.status, done.out, done.err) == (3, "out\nfirst\n", "it is not there\n")
    assert done.complaint == "it is not there"
    assert session.uses == {}


def test_what_it_does_with_af_alg_is_recorded(session: Session) -> None:
    session.run("python3", "-c", "import socket\ntry: socket.socket(38, 5, 0)\nexcept OSError: pass")
    (use,) = session.uses.values()
    assert sum(use.calls.values()) == 1


def test_a_command_that_does_not_end_is_ended(session: Session) -> None:
    began = time.monotonic()
    with pytest.raises(Late, match="no end within"):
        session.run("sh", "-c", "trap '' TERM; echo $$ >pid; sleep 600", seconds=0.5)
    assert time.monotonic() - began < 60
    with contextlib.suppress(ProcessLookupError):
        end = os.pidfd_open(int((session.place / "pid").read_text()))
        assert select.select([end], [], [], 30)[0]
        os.close(end)


def test_a_daemon_is_waited_for_by_what_it_says(session: Session) -> None:
    with session.started("sh", "-c", "echo ready; sleep 600") as daemon:
        assert daemon.wait_for(60, "ready")
        assert not daemon.ended(0)
    with session.started("sh", "-c", "echo broken; exit 1") as daemon:
        assert not daemon.wait_for(60, "ready")
        assert daemon.done.status == 1


@as_root
@pytest.mark.parametrize(
    ("identity", "uid", "capabilities"),
    [
        (PLAIN_USER, 65534, 0),
        (ROOT_WITHOUT_CAPABILITIES, 0, 0),
        (SYS_ADMIN, 65534, 1 << CAP_SYS_ADMIN),
    ],
    ids=lambda value: value.name if isinstance(value, Identity) else None,
)
def test_a_program_is_who_it_shall_be(session: Session, identity: Identity, uid: int, capabilities: int) -> None:
    session.identity = identity
    status = dict(
        line.split(":\t") for line in session.run("cat", "/proc/self/status").out.splitlines() if ":\t" in line
    )
    assert (int(status["Uid"].split()[1]), int(status["CapEff"], 16)) == (uid, capabilities)


def program(run: Result | Exception, **changes: object) -> Program:
    def result(_session: Session) -> Result:
        if isinstance(run, Exception):
            raise run
        return run

    return dataclasses.replace(Program("it", ("it",), result), **changes)  # type: ignore[arg-type]


USER = uses.Who("it", 0, True, False)


@pytest.mark.parametrize(
    ("result", "calls", "without", "verdict"),
    [
        (Result(True), ["bind: ok"], ["bind: ok"], cells.WORKS),
        (Result(True), ["bind: ENOENT"], ["bind: ok"], cells.FALLS_BACK),
        # What it probes for and never has makes no difference.
        (Result(True), ["bind: ENOENT"], ["bind: ENOENT"], cells.WORKS),
        (Result(False, "why"), ["bind: ENOENT"], ["bind: ok"], cells.FAILS),
        (Result(True), [], [], cells.UNUSED),
    ],
)
def test_verdicts(
    result: Result, calls: list[str], without: list[str], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(words: list[str]) -> list[uses.Use]:
        made = [uses.Use(USER, "hash", "md5") for _ in words[:1]]
        for use in made:
            use.calls.update(words)
            use.operations.update(["hash"] * (words == ["bind: ok"]))
        return made

    monkeypatch.setattr(cells, "_run", lambda *_: (result, recorded(calls)))
    monkeypatch.setattr(cells, "_without_policy", lambda _name: (Result(True), recorded(without)))
    cell, _ = cells.measure(program(result), POLICIES[-1])
    assert cell.verdict == verdict
    assert cell.refused == (("hash md5: bind: ENOENT",) if verdict in (cells.FALLS_BACK, cells.FAILS) else ())
    assert cell.works == (verdict != cells.FAILS)
    assert cell.calls == (), "they are those of a run without a policy"


def test_the_calls_of_a_program_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [uses.Use(USER), uses.Use(USER, "hash", "md5")]
    made[0].calls.update(["socket: ok"] * 2)
    made[1].calls.update(["bind: ok", "accept: ok", "bind: ENOENT"])
    monkeypatch.setattr(cells, "_without_policy", lambda _name: (Result(True), made))
    cell, _ = cells.measure(program(Result(True)), NONE)
    assert cell.calls == ("hash md5: accept: ok 1x, bind: ENOENT 1x, bind: ok 1x", "socket: ok 2x")


@pytest.mark.parametrize("trouble", [Late("no end within 1 s"), AssertionError("another key")], ids=["late", "wrong"])
def test_a_program_that_is_late_or_wrong_has_no_cell(trouble: Exception) -> None:
    with pytest.raises(type(trouble), match=str(trouble)):
        cells.measure(program(trouble), POLICIES[-1])


def test_programs_and_policies_have_names_of_their_own() -> None:
    assert len({each.name for each in PROGRAMS}) == len(PROGRAMS)
    assert len({each.name for each in POLICIES}) == len(POLICIES)
    for each in PROGRAMS:
        for policy in POLICIES:
            assert table._split(f"{each.name}-{policy.name}") == (each.name, policy.name)


def test_packages_are_those_of_the_release() -> None:
    assert "libpython3.11-testsuite" in packages("bookworm")
    assert {"cryptsetup-bin", "libpython3.13-testsuite"} <= set(packages(""))
    assert packages("", ["kcapi", "openssl"]) == ["apparmor", "kcapi-tools", "openssl"]


def test_programs_are_chosen_by_words_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def run(words: list[str]) -> int:
        given.extend(words)
        return 0

    monkeypatch.setattr(command_line, "run", run)
    assert command_line.main(["--kernels", "6.12", "--only", "kcapi, tc filter", "-x"]) == 0
    assert given[given.index("-k") + 1] == "((kcapi) or (tc and filter))"
    assert given[-4:] == ["--kernels", "6.12", "-x", "tests/programs"]
    given.clear()
    assert command_line.main(["--only", "kcapi", "-k", "level-1 or fips"]) == 0
    assert given[given.index("-k") + 1] == "((kcapi)) and (level-1 or fips)"


def test_a_word_of_no_program_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--only", "emacs"]) == 4
    assert "error: no program with 'emacs' in its name; there are cryptsetup benchmark," in capsys.readouterr().err


# ---- the table


def run_of(**kernels: dict[tuple[str, str], Cell]) -> model.Run:
    made = []
    for name, found in kernels.items():
        tests = tuple(
            model.TestResult(
                f"tests/programs/test_programs.py::test_program[{program}-{policy}]", "", model.Verdict.PASSED,
                properties=(model.Property("cell", json.dumps(dataclasses.asdict(cell))),),
            )
            for (program, policy), cell in found.items()
        )  # fmt: skip
        made.append(model.KernelRun(name=name, spec=name, release=name, tests=tests))
    return model.Run(id="r", started="", kernels=tuple(made))


def rows() -> list[Row]:
    use = ("hash sha256: hash",)
    calls = ("hash sha256: accept: ok 1x, bind: ok 1x", "socket: ok 1x")
    old = {("dgst", "none"): Cell("works", used=use, version="kcapi-tools 1.4", calls=calls)}
    new = {
        **old,
        ("dgst", "level-1,plain-user"): Cell("fails", "no such", ("hash sha256: bind: ENOENT",), use),
        ("dgst", "level-1,root"): Cell("works", used=use),
        ("dgst", "seccomp"): Cell("falls back", "own code", ("socket: EPERM",)),
        ("none", "none"): Cell("does not use AF_ALG"),
        ("there", "none"): Cell("cannot be run", "no module"),
    }
    fips = {("dgst", "fips"): Cell("fails", "not approved")}
    return [
        Row(kernel, *pair, cell)
        for kernel, found in (("6.1", old), ("7.3", new), ("6.1@fips", fips))
        for pair, cell in found.items()
    ]


def test_text_has_every_failure_with_its_words() -> None:
    text = table.as_text(rows())
    assert "dgst, a user, crypto.af_alg_restrict=1: fails: no such [hash sha256: bind: ENOENT]" in text
    used = "dgst (kcapi-tools 1.4), root: hash sha256: hash"
    assert f"{used}\n    hash sha256: accept: ok 1x, bind: ok 1x\n    socket: ok 1x\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("dgst   ")][1:2] or ["?"]
    assert line.split() == ["dgst", "works", "works", "FAILS", "falls", "back"]


def test_the_short_table_tells_kernels_apart_where_they_differ() -> None:
    lines = table.as_markdown(rows()).splitlines()
    assert lines[2] == "| dgst | `sha256` | works | works | fails | – | falls back | fails |"
    assert lines[3] == "| none | nothing | works | – | – | – | – | – |"
    assert lines[4] == "| there | nothing | cannot be run | – | – | – | – | – |"
    assert not any("@fips" in line for line in lines)
    differ = [*rows(), Row("6.1", "dgst", "seccomp", Cell("fails"))]
    assert "fails (6.1), falls back (7.3)" in table.as_markdown(differ)


def test_versions_of_a_program_are_told_apart() -> None:
    found = [
        Row("7.3", "luks", "none", Cell("works", version=f"cryptsetup-bin {version}")) for version in ("2.7", "2.8")
    ]
    assert [line.split(" |")[0] for line in table.as_markdown(found).splitlines()[2:4]] == [
        "| luks, 2.7",
        "| luks, 2.8",
    ]
    assert "luks, 2.8" in table.as_text(found)


def test_readme_has_the_table_of_what_is_stored() -> None:
    assert table.in_readme() == table.as_markdown(table.stored())


def test_the_table_of_several_runs_takes_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "first": [Row("6.1", "dgst", "none", Cell("fails")), Row("6.1", "enc", "none", Cell("works"))],
        "second": [Row("6.1", "dgst", "none", Cell("works"))],
    }
    monkeypatch.setattr("tests.programs.table.events.load", lambda path: path.parent.name)
    monkeypatch.setattr(table, "collect", lambda name: found[name])
    for name in found:
        (tmp_path / name).mkdir()
    assert table.main([f"{tmp_path}/{name}/results.json" for name in found]) == 0
    assert "FAILS" not in capsys.readouterr().out
    rows = json.loads((tmp_path / "second/programs.json").read_text())
    assert [(row["program"], row["cell"]["verdict"]) for row in rows] == [("dgst", "works"), ("enc", "works")]


def test_the_readme_may_keep_what_no_run_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [Row("6.12", "dgst", "none", Cell("works")), Row("6.1", "enc", "none", Cell("works"))]
    for name, content in (("README", table.BEGIN + table.END), ("DATA", table._as_json(before))):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(table, name, tmp_path / name)
    monkeypatch.setattr("tests.programs.table.events.load", lambda _path: None)
    monkeypatch.setattr(table, "collect", lambda _run: [Row("6.12", "dgst", "none", Cell("fails"))])
    for options, kept in ((["--keep"], [("6.1", "works"), ("6.12", "fails")]), ([], [("6.12", "fails")])):
        assert table.main([f"{tmp_path}/results.json", "--readme", *options]) == 0
        assert [(row.kernel, row.cell.verdict) for row in table.stored()] == kept
        assert ("| enc |" in table.in_readme()) == bool(options)


# ---- what the kernel's documentation promises


PROMISED = ["iwd start", "bluetooth-meshd", "bluez smp-tester", "cryptsetup benchmark", "kcapi-dgst sha256"]


@pytest.mark.parametrize("name", PROMISED)
def test_a_promise_that_is_broken_is_told_with_the_algorithm_and_the_call(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of a program is made up; that it fails where it shall work is what the test of it says."""
    program = next(each for each in PROGRAMS if each.name == name)
    policy = next(each for each in POLICIES if each.name == "level-1,root")
    found = [Cell(cells.FAILS, "no such cipher", ("hash sha256: bind: ENOENT",)), Cell(cells.WORKS)]
    monkeypatch.setattr(Program, "absent", lambda _self: "")
    monkeypatch.setattr(Program, "lacks", lambda _self: "")
    monkeypatch.setattr("tests.programs.cells.measure", lambda *_: (found.pop(0), []))
    monkeypatch.setattr("tests.programs.cells.predicted", lambda *_: {})
    monkeypatch.setattr("tests.programs.policies.applied", lambda _policy: contextlib.nullcontext())
    told: list[str] = []
    with pytest.raises(AssertionError, match=r"hash sha256: bind: ENOENT") as error:
        judge(program, policy, None, lambda key, _value: told.append(key))
    assert f"{name} fails under level-1,root: no such cipher" in str(error.value)
    assert "cell" in told, "the table has it all the same"
    judge(program, policy, None, lambda key, _value: told.append(key))
