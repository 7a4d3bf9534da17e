"""Several runs as one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.report import command
from vm.results import events, model, write
from vm.results.merge import merge, placed
from vm.results.model import VM, KernelRun, Run, Stall, TestResult, Verdict

P, F, N, L, B = Verdict.PASSED, Verdict.FAILED, Verdict.NOT_RUN, Verdict.VM_LOST, Verdict.BOOT_FAILED


def kernel(name: str = "6.1", version: str = "6.1.9-1", **tests: Verdict) -> KernelRun:
    return KernelRun(
        name,
        name,
        version=version,
        config="kernels/6.1/config",
        proc_crypto="kernels/6.1/proc_crypto",
        vms=(VM(f"{name}-1", f"vms/{name}-1/console.log"),),
        tests=tuple(TestResult(test, f"{test}[{name}]", verdict, vm=f"{name}-1") for test, verdict in tests.items()),
    )


def run(*kernels: KernelRun, name: str = "a", status: int | None = 0) -> Run:
    finished = None if status is None else "2026-11-23T12:00:00Z"
    return Run(name, "2026-11-23T11:45:02Z", finished=finished, exit_status=status, kernels=kernels)


def verdicts(merged: Run) -> dict[str, Verdict]:
    return {test.test: test.verdict for each in merged.kernels for test in each.tests}


@pytest.mark.parametrize(
    ("a", "b", "together"), [(P, F, F), (F, P, F), (N, P, P), (P, N, P), (L, P, P), (N, F, F), (N, L, L), (P, P, P)]
)
def test_a_verdict_on_the_kernel_counts_before_none_and_else_the_worst(
    a: Verdict, b: Verdict, together: Verdict
) -> None:
    merged = merge([run(kernel(x=a)), run(kernel(x=b), name="b")])
    assert verdicts(merged) == {"x": together}
    assert merged.status == int(not together.good)


def test_parts_of_the_suite_are_one_run() -> None:
    merged = merge([run(kernel(x=P)), run(kernel(y=P), kernel("7.3", z=P), name="b")])
    assert verdicts(merged) == {"x": P, "y": P, "z": P}
    assert ([each.name for each in merged.kernels], merged.id, merged.status) == (["6.1", "7.3"], "a+b", 0)


def test_a_run_that_was_cut_off_and_the_one_that_did_the_rest() -> None:
    merged = merge([run(kernel(x=P, y=N), status=None), run(kernel(y=P), name="b")])
    assert (verdicts(merged), merged.status) == ({"x": P, "y": P}, 0)
    assert merge([run(kernel(x=P, y=N), status=None), run(kernel(x=P), name="b")]).status == 1


def test_what_parts_know_of_a_kernel_is_known_of_the_whole() -> None:
    stalls = [Stall(f"6.1-{n}", f"t{n}", 1.5, "hung") for n in (1, 2)]
    parts = [
        dataclasses.replace(kernel(x=P), taint=1, stalls=(stalls[0],), boot_seconds=(1.0,), reason="did not boot"),
        dataclasses.replace(kernel(y=P), taint=512, stalls=(stalls[1],), boot_seconds=(2.0,)),
    ]
    early = dataclasses.replace(run(parts[1], name="b"), started="2026-11-22T00:00:00Z", revision="v2")
    merged = merge([dataclasses.replace(run(parts[0]), revision="v1"), early])
    (whole,) = merged.kernels
    assert (merged.started, merged.revision) == ("2026-11-22T00:00:00Z", "v1 v2")
    assert (whole.taint, whole.stalls, whole.boot_seconds) == (513, tuple(stalls), (1.0, 2.0))
    assert [vm.name for vm in whole.vms] == ["6.1-1", "6.1-1"]
    # It came up in one of them. Where it did in none, the reason stays.
    assert whole.reason == ""
    assert merge([run(parts[0]), run(parts[0], name="b")]).kernels[0].reason == "did not boot"


def test_parts_of_two_choices_of_tests_miss_what_either_should_have() -> None:
    parts = [
        dataclasses.replace(run(dataclasses.replace(kernel(**{own: P}), selected=(own, absent)), name=own), shard="1/2")
        for own, absent in (("x", "y"), ("z", "u"))
    ]
    merged = merge(parts)
    assert verdicts(merged) == {"x": P, "z": P, "y": N, "u": N}
    assert merged.kernels[0].tests[-1].reason == "not run: shard 2/2 is not among these runs"


def test_two_kernels_of_one_name_are_not_taken_for_one() -> None:
    with pytest.raises(UsageError, match=r"6.1 is 6.1.9-1 in one run and 6.1.10-1 in another"):
        merge([run(kernel(x=P)), run(kernel(version="6.1.10-1", x=P), name="b")])


def test_paths_lead_from_where_the_result_is() -> None:
    absolute = dataclasses.replace(kernel(x=P), config="/boot/config", proc_crypto="name : a\n")
    moved = placed(run(absolute), "1-a").kernels[0]
    assert (moved.config, moved.proc_crypto) == ("/boot/config", "name : a\n")
    assert (moved.vms[0].console, moved.vms[0].name, moved.tests[0].vm) == (
        "1-a/vms/6.1-1/console.log",
        "a/6.1-1",
        "a/6.1-1",
    )


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Two runs on disk, the second with a failure."""
    for name, verdict in (("one", P), ("two", F)):
        place = tmp_path / name
        for file in ("kernels/6.1/config", "kernels/6.1/proc_crypto", "vms/6.1-1/console.log"):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(f"name : of {name}\n")
        write.write(run(kernel(**{name: verdict}), name=name, status=int(verdict is F)), place)
    return str(tmp_path / "one"), str(tmp_path / "two")


def test_merged_directory_has_what_its_run_speaks_of(two: tuple[str, str], tmp_path: Path) -> None:
    assert command.main([*two, "--merge", str(tmp_path / "all"), "--status"]) == 1
    merged = events.load(tmp_path / "all")
    assert verdicts(merged) == {"one": P, "two": F}
    consoles = [(tmp_path / "all" / vm.console).read_text() for vm in merged.kernels[0].vms]
    assert consoles == ["name : of one\n", "name : of two\n"]
    assert (tmp_path / "all" / merged.kernels[0].config).exists()
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "1-one",
        "2-two",
        "environment.json",
        "index.html",
        "junit.xml",
        "kcidb.json",
        "results.json",
        "results.ktap",
    ]


def test_nothing_is_overwritten_by_a_merge(two: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*two, "--merge", two[0]]) == 4
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("form", "words"), [("matrix", "6.1@one"), ("diff", "6.1@one → 6.1@two")])
def test_comparisons_keep_runs_apart(
    form: str, words: str, two: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*two, "--format", form]) == 0
    assert words in capsys.readouterr().out
    assert command.main([*two, "--format", form, "--status"]) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--html", "page", "--kcidb", "json"], "give one of --html, --kcidb and --merge"),
        (["--html", "page", "--merge", "all"], "give one of --html, --kcidb and --merge"),
        (["--html", "page", "--status"], "--status is of what is printed or merged"),
        (["--kcidb", "json", "--status"], "--status is of what is printed or merged"),
    ],
)
def test_what_would_be_left_out_is_refused(
    words: list[str],
    said: str,
    two: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(two[0]).parent)
    before = sorted(Path().iterdir())
    assert command.main([*two, *words]) == 4
    assert said in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before


def test_status_is_the_runs(two: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert [command.main([place, "--status"]) for place in two] == [0, 1]
    assert command.main([*two, "--status", "--format", "json"]) == 1
    assert '"verdict": "failed"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exit_status", "verdict", "status"),
    [(0, P, 0), (1, F, 1), (0, F, 1), (0, B, 1), (2, P, 2), (None, P, 2), (5, P, 5)],
)
def test_exit_status_is_a_view_of_the_run(exit_status: int | None, verdict: Verdict, status: int) -> None:
    assert run(kernel(x=verdict), status=exit_status).status == status


def test_a_kernel_of_which_no_test_was_chosen_is_no_failure() -> None:
    assert run(kernel(x=P), kernel("7.3")).status == 0
    assert run(dataclasses.replace(kernel("7.3"), reason="did not boot"), kernel(x=P)).status == 1


def test_of_one_name_and_one_run_each_counts_once(two: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([two[0], two[0] + "/results.json", "--format", "json"]) == 0
    assert capsys.readouterr().out.count('"nodeid"') == 1


@pytest.mark.parametrize("status", [None, 2, 3, 4])
@pytest.mark.parametrize("tests", [{}, {"x": P}])
def test_a_run_that_did_not_end_well_is_not_made_good_by_another(status: int | None, tests: dict[str, Verdict]) -> None:
    broken = run(kernel("7.3", "7.3.4-1", **tests), name="b", status=status)
    merged = merge([run(kernel(x=P)), broken])
    assert merged.status == 1
    assert verdicts(merged)["machine[7.3]::cut-off"] is N


def test_a_foreign_run_reads_and_writes_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "one").mkdir()
    foreign = run(dataclasses.replace(kernel(x=P), config="../secret"))
    write.write(foreign, tmp_path / "one")
    assert command.main([str(tmp_path / "one"), "--merge", str(tmp_path / "a/all")]) == 0
    assert sorted(path.name for path in (tmp_path / "a").rglob("secret")) == []


def test_two_runs_of_one_second_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, verdict in (("h1", P), ("h2", F)):
        (tmp_path / name).mkdir()
        write.write(run(kernel(x=verdict)), tmp_path / name)
    assert command.main([str(tmp_path / "h1"), str(tmp_path / "h2"), "--format", "diff"]) == 0
    assert "passed → failed" in capsys.readouterr().out


def test_two_files_of_one_directory_are_two_runs(tmp_path: Path) -> None:
    for name, verdict in (("a.json", P), ("b.json", F)):
        (tmp_path / name).write_text(model.dump(run(kernel(x=verdict), name=name)))
    assert command.main([str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--status"]) == 1


def test_a_directory_without_a_run_is_passed_over(
    two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "starting").mkdir()
    (tmp_path / "another").mkdir()
    assert command.main([*two, str(tmp_path / "starting"), "--status"]) == 1
    assert "starting has no run" in capsys.readouterr().err
    assert command.main([str(tmp_path / "starting"), str(tmp_path / "another")]) == 4
    assert command.main([str(tmp_path / "starting")]) == 4


@pytest.mark.parametrize("target", ["all", "deep/er/all"])
def test_a_merge_that_fails_leaves_nothing(
    target: str,
    two: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.rglob("*"))

    def full(*_: object) -> str:
        raise UsageError("cannot write: No space left on device")

    monkeypatch.setattr("vm.report.kcidb.render", full)
    assert command.main(["merge", *two, "--into", str(tmp_path / target)]) == 4
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_merge_that_cannot_write_is_one_line(two: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["merge", *two, "--into", f"{two[0]}/results.json/all"]) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot write {two[0]}/results.json/all: ")
    assert said.count("\n") == 1


def test_a_merge_goes_into_a_directory_that_is_empty(two: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "link").symlink_to("all")
    assert command.main(["merge", *two, "--into", str(tmp_path / "link")]) == 1
    assert verdicts(events.load(tmp_path / "all")) == {"one": P, "two": F}
    assert oct((tmp_path / "all").stat().st_mode)[-3:] == "755"
