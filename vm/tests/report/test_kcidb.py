"""KCIDB: valid by its own schema, and by what that does not hold: ids, references, paths."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import kcidb_io
import pytest

from vm.report import command, kcidb
from vm.results import model
from vm.results.model import VM, KernelRun, Run, TestResult, Verdict
from vm.tests.records import EVERYTHING, kernel, run

P, F, K, S = Verdict.PASSED, Verdict.FAILED, Verdict.KNOWN, Verdict.SKIPPED
ISSUE = "Copy Fail (CVE-2026-31431): fixed in 6.12.85 by a664bf3d603d"
ORIGIN = "lab_1"


def said(one: Run, **options: Any) -> dict[str, Any]:
    """Return the document, checked."""
    document: dict[str, Any] = json.loads(kcidb.render(one, ORIGIN, **options))
    kcidb_io.schema.LATEST.validate(json.loads(json.dumps(document)))
    assert document["version"] == {"major": kcidb_io.schema.LATEST.major, "minor": kcidb_io.schema.LATEST.minor}
    ids = {kind: [each["id"] for each in document.get(kind, ())] for kind in document if kind != "version"}
    for own in ids.values():
        assert len(own) == len(set(own))
    for kind, reference, to in (
        ("builds", "checkout_id", "checkouts"),
        ("tests", "build_id", "builds"),
        ("incidents", "issue_id", "issues"),
        ("incidents", "test_id", "tests"),
    ):
        assert {each[reference] for each in document.get(kind, ())} <= set(ids.get(to, ()))
    for each in (each for kind in ids for each in document[kind]):
        assert each["id"].startswith(f"{each['origin']}:")
        assert each["origin"] == ORIGIN
    paths = [(each["build_id"], each["path"]) for each in document.get("tests", ())]
    assert len(paths) == len(set(paths))
    assert re.search(r'"(?:[^"\\]|\\.)*\\u00(?:0[0-8bcef]|1.)', json.dumps(document)) is None
    return document


def status(document: dict[str, Any]) -> dict[str, str]:
    return {each["misc"]["id"].partition("[")[0]: each["status"] for each in document["tests"] if "misc" in each}


def of(*tests: TestResult, **changes: Any) -> Run:
    return run(dataclasses.replace(kernel("6.12.94", P), tests=tests, **changes))


def test_every_verdict() -> None:
    found = said(EVERYTHING)
    assert len(found["checkouts"]) == len(found["builds"]) == 3
    statuses = {each["misc"]["verdict"]: each["status"] for each in found["tests"] if "misc" in each}
    assert statuses == {
        "passed": "PASS",
        "known": "FAIL",
        "skipped": "SKIP",
        "undecided": "FAIL",
        "failed": "FAIL",
        "not run": "MISS",
        "vm lost": "MISS",
        "hung": "FAIL",
        "crashed": "FAIL",
    }
    assert found["builds"][0]["status"] == "FAIL", "one of its verdicts is build failed"


def test_boot() -> None:
    def boot(one: Run) -> list[str]:
        return [each["status"] for each in said(one).get("tests", ()) if each["path"] == "boot"]

    assert boot(of()) == ["PASS"]
    assert boot(of(boot_seconds=())) == ["MISS"]
    resumed = (VM("k-1", state="down", boot_seconds=0.4, resumed=True),)
    assert boot(of(boot_seconds=(), vms=resumed)) == ["PASS"], "it went on from one that had booted"
    assert not any(
        "duration" in each for each in said(of(boot_seconds=(), vms=resumed))["tests"] if each["path"] == "boot"
    )
    failed = dataclasses.replace(kernel("k", Verdict.BOOT_FAILED).tests[0], test="machine[k-1]::boot-failed")
    assert boot(of(failed, boot_seconds=())) == ["FAIL"]
    assert boot(of(accelerator="")) == [], "the machine itself was not booted for it"
    assert boot(of(kernel("k", Verdict.BUILD_FAILED).tests[0])) == []


def test_a_known_issue_is_an_issue_with_an_incident() -> None:
    known = [dataclasses.replace(each, known_issue=ISSUE) for each in kernel("6.12.94", K, K).tests]
    found = said(of(*known))
    (issue,) = found["issues"]
    assert (issue["report_subject"], issue["report_url"], issue["misc"]) == (
        "Copy Fail",
        "https://git.kernel.org/linus/a664bf3d603d",
        {"cve": "CVE-2026-31431", "fix": "a664bf3d603d"},
    )
    assert [each["present"] for each in found["incidents"]] == [True, True]


def test_one_that_is_mended_is_an_incident_that_says_so() -> None:
    reason = (
        f"fixed earlier than the table says: this kernel should have {ISSUE} and other: fixed in 6.5 by 0123456789ab"
    )
    mended = dataclasses.replace(kernel("k", F).tests[0], reason=f"{reason}. If it has the fix, say so")
    found = said(of(mended))
    assert [each["present"] for each in found["incidents"]] == [False, False]
    assert {each["misc"]["fix"] for each in found["issues"]} == {"a664bf3d603d", "0123456789ab"}


def test_a_test_whose_own_code_broke_is_an_error() -> None:
    tests = [
        dataclasses.replace(kernel("k", F).tests[0], test=f"t.py::{name}", nodeid=name, reason=reason, splats=())
        for name, reason in (("a", "NameError: name 'x'"), ("b", "AssertionError: x"), ("c", "OSError: [Errno 22]"))
    ]
    assert status(said(of(*tests))) == {"t.py::a": "ERROR", "t.py::b": "FAIL", "t.py::c": "FAIL"}


@pytest.mark.parametrize(
    ("test", "path"),
    [
        ("tests/errors/test_bind.py::test_it", "af_alg_tests.tests.errors.test_bind.test_it"),
        ("tests/a.py::TestX::test_y[gcm-16]", "af_alg_tests.tests.a.TestX.test_y.gcm-16"),
        ("machine[6.1-1]::before-its-first-test", "af_alg_tests.machine.before-its-first-test"),
    ],
)
def test_paths_of_plain_ids(test: str, path: str) -> None:
    assert kcidb.path_of(test) == path


def test_paths_of_other_ids_are_words_that_differ_where_the_ids_do() -> None:
    ids = [f"tests/a.py::t[{x}]" for x in ("gcm(aes)", "gcm[aes]", "gcm_aes_", "a.b", "a/b", "a::b", "", "é", "a b")]
    paths = [kcidb.path_of(each) for each in ids]
    assert len(set(paths)) == len(ids)
    pattern = kcidb_io.schema.LATEST.json["$defs"]["path"]["pattern"]
    assert all(re.fullmatch(pattern, path) for path in paths)
    assert paths == [kcidb.path_of(each) for each in ids]


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("6.12.117-1~deb12u1", "v6.12.117"),
        ("6.1.192-2", "v6.1.192"),
        ("7.3~rc2-1~exp1", "v7.3-rc2"),
        ("6.8.0-45.45", ""),
        ("6.12.117", ""),
        ("", ""),
    ],
)
def test_upstream_of_a_package(version: str, tag: str) -> None:
    assert kcidb.upstream(version) == tag


def test_commit_of_a_package_is_looked_up_in_a_clone(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "tag.gpgSign=false"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["tag", "-a", "v6.12.94", "-m", "y"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert said(of(), tree=tmp_path)["checkouts"][0]["git_commit_hash"] == head
    assert kcidb.unlisted(said(of(), tree=tmp_path)) == []
    assert "6.12.94-1~bpo12+1" in kcidb.unlisted(said(of()))[0]
    assert "git_commit_hash" not in said(of(version="6.1.1-1"), tree=tmp_path)["checkouts"][0]


def test_commit_of_a_tree_without_changes_alone() -> None:
    commit = "0123456789" * 4
    assert said(of(version="", commit=commit))["checkouts"][0]["git_commit_hash"] == commit
    for other in (f"{commit}-dirty", commit[:12]):
        assert "git_commit_hash" not in said(of(version="", commit=other))["checkouts"][0]


def test_what_is_sent_twice_is_the_same_and_other_runs_are_others() -> None:
    assert said(EVERYTHING) == said(EVERYTHING)
    other = dataclasses.replace(EVERYTHING, host=dataclasses.replace(EVERYTHING.host, os="other"))
    ids = [{each["id"] for each in said(one)["tests"]} for one in (EVERYTHING, other)]
    assert not ids[0] & ids[1]


def test_logs_are_bounded() -> None:
    long = dataclasses.replace(kernel("k", F).tests[0], details="x" * 99_999 + "end", splats=(), kernel_log="\0")
    (excerpt,) = [each["log_excerpt"] for each in said(of(long))["tests"] if "log_excerpt" in each]
    assert len(excerpt) == kcidb.MOST_OF_A_LOG
    assert "end" in excerpt[-10:]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.json").write_text(model.dump(EVERYTHING))
    assert command.main([str(tmp_path), "--kcidb", str(tmp_path / "k.json"), "--origin", "me"]) == 0
    assert "the dashboard will not list it: 6.12.94" in capsys.readouterr().out
    assert json.loads((tmp_path / "k.json").read_text())["checkouts"][0]["origin"] == "me"
    monkeypatch.setenv(kcidb.ORIGIN_VARIABLE, "Not Me")
    assert command.main([str(tmp_path), "--kcidb", str(tmp_path / "k.json")]) == 4
    assert "small letters" in capsys.readouterr().err


def test_a_run_without_kernels_is_valid_too() -> None:
    assert set(said(run())) == {"version"}
    assert said(run(KernelRun("k", "k")))["builds"][0]["status"] == "PASS"


def test_machines_that_complained_alike_have_paths_that_differ() -> None:
    tests = [
        dataclasses.replace(kernel("k", F).tests[0], test=f"machine[k-{n}]::boot", nodeid=f"m{n}") for n in (1, 2, 3)
    ]
    paths = [each["path"] for each in said(of(*tests))["tests"] if each["path"] != "boot"]
    assert paths == [f"{kcidb.suite()}.machine.boot{end}" for end in ("", "-2", "-3")]


def test_a_known_commit_has_no_patches_and_of_an_unknown_one_nothing_is_said() -> None:
    (known,) = said(of(version="", commit="0123456789" * 4))["checkouts"]
    assert known["patchset_hash"] == ""
    (unknown,) = said(of())["checkouts"]
    assert "patchset_hash" not in unknown


def test_how_a_kernel_was_booted_and_configured_is_kept() -> None:
    (build,) = said(of())["builds"]
    assert build["misc"] == {"config": "6.12.94.config", "cmdline": "console=ttyS0 panic=-1"}
