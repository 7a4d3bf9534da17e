"""Parts of the suite: together they are all of it, each test once, and a merge says what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vm.report import command
from vm.results import events
from vm.results.model import Verdict
from vm.run.shard import Shard, parse, part
from vm.tests.harness import Project, Run

TESTS = """\
@pytest.mark.parametrize("n", range(7))
def test_many(n):
    pass

def test_one():
    assert False

def test_crash():
    guest.panic()
"""


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 40])
def test_parts_together_are_all_and_no_test_is_in_two(parts: int) -> None:
    tests = [f"t.py::test_{n % 7}[{n}]" for n in range(100)]
    seconds = {f"t.py::test_{n}": float(n) for n in range(5)}
    found = [part(tests, Shard(n, parts), seconds) for n in range(1, parts + 1)]
    assert sum(map(len, found)) == len(tests)
    assert set().union(*found) == set(tests)


def test_parts_take_about_the_same_time_and_do_not_depend_on_the_order() -> None:
    tests = [f"t.py::test_{n}" for n in range(50)]
    seconds = {test: float(n % 10) for n, test in enumerate(tests)}
    found = [part(tests, Shard(n, 4), seconds) for n in range(1, 5)]
    times = [sum(seconds[test] for test in own) for own in found]
    assert max(times) - min(times) <= max(seconds.values())
    assert found[2] == part(list(reversed(tests)), Shard(3, 4), seconds)


def test_tests_that_took_no_time_are_dealt_out_too() -> None:
    tests = [f"t.py::test_{n}" for n in range(10)]
    found = [part(tests, Shard(n, 5), dict.fromkeys(tests, 0.0)) for n in range(1, 6)]
    assert list(map(len, found)) == [2] * 5


def test_the_longest_are_dealt_out_first() -> None:
    seconds = {"t.py::long": 4.0, **{f"t.py::short_{n}": 1.0 for n in range(4)}}
    found = [part([f"{test}[x]" for test in seconds], Shard(n, 2), seconds) for n in (1, 2)]
    assert found == [{"t.py::long[x]"}, {f"t.py::short_{n}[x]" for n in range(4)}]


def test_what_nobody_timed_counts_as_the_middle_of_the_others() -> None:
    seconds = {"t.py::a": 1.0, "t.py::b": 4.0, "t.py::c": 9.0}
    # 4 and 4 of no known time stand against one of 9: at 1 s or 9 s each they would not.
    tests = ["t.py::c", "t.py::new", "t.py::newer"]
    assert part(tests, Shard(1, 2), seconds) == {"t.py::c"}
    # One of no known time takes longer than one of 1 s, and less than one of 9.
    assert [part(["t.py::a", "t.py::new", "t.py::c"], Shard(n, 3), seconds) for n in (1, 2, 3)] == [
        {"t.py::c"},
        {"t.py::new"},
        {"t.py::a"},
    ]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "1/2/3", "-1/3"])
def test_what_is_no_part_is_refused(project: Project, text: str) -> None:
    project.tests("def test_it(): pass")
    done = project.run("-q", f"--shard={text}")
    assert done.status == 4
    assert "expected a part as i/n" in done.output


def test_parse() -> None:
    assert parse("2/3") == Shard(2, 3)
    assert (parse("3/3"), parse("1/1")) == (Shard(3, 3), Shard(1, 1))
    assert str(parse("2/3")) == "2/3"


def parts(project: Project, count: int, *arguments: str) -> list[Run]:
    return [project.run("-q", "--shard", f"{n}/{count}", *arguments, program="vm test") for n in range(1, count + 1)]


def test_runs_of_all_parts_are_one_and_without_one_something_is_missing(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.tests(TESTS)
    runs = parts(project, 3)
    names = [str(run.directory) for run in runs]
    ids = [{test.test for test in events.load(run.directory).kernels[0].tests} for run in runs]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 9
    # pytest counts the tests of other parts as left out.
    for done, own in zip(runs, ids, strict=True):
        assert f"{9 - len(own)} deselected" in done.output
    capsys.readouterr()
    assert command.main(["merge", *names, "--into", str(tmp_path / "all")]) == 1
    assert "missing" not in capsys.readouterr().out
    whole = events.load(tmp_path / "all")
    assert {test.test for test in whole.kernels[0].tests} == set().union(*ids)
    assert whole.kernels[0].counts() == {Verdict.PASSED: 7, Verdict.FAILED: 1, Verdict.CRASHED: 1}

    assert command.main(["merge", names[0], names[2]]) == 1
    said = capsys.readouterr().out
    assert f"missing: shard 2/3 of 6.1.0-fake: {len(ids[1])} tests not run" in said
    for test in ids[1]:
        assert f"6.1.0-fake: not run: {test}: not run: shard 2/3 is not among these runs" in said
    assert command.main(["merge", names[0], "--kernel", "6.2"]) == 1
    assert "missing: kernel 6.2" in capsys.readouterr().out


def test_a_shard_that_was_lost_in_a_run_that_is_all_well_is_no_success(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.tests("def test_a(): pass\ndef test_b(): pass")
    runs = parts(project, 2)
    assert [run.status for run in runs] == [0, 0]
    assert command.main(["merge", *(str(run.directory) for run in runs)]) == 0
    assert command.main(["merge", str(runs[0].directory)]) == 1
    assert "missing: shard 2/2" in capsys.readouterr().out
    # Alone it is what it is.
    assert command.main([str(runs[0].directory), "--status"]) == 0


def test_more_parts_than_tests_is_no_failure(project: Project) -> None:
    project.tests("def test_a(): pass")
    runs = parts(project, 2)
    assert [run.status for run in runs] == [0, 0]
    assert [len(events.load(run.directory).kernels[0].tests) for run in runs] == [1, 0]


def test_nothing_chosen_is_still_said(project: Project) -> None:
    project.tests("def test_a(): pass")
    assert project.run("-q", "--shard=1/2", "-k", "nothing").status == 5


def test_times_of_the_project_deal_tests_out(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.tests("import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_a(n): pass\ndef test_long(): pass")
    whole = project.run("-q")
    capsys.readouterr()
    assert command.main([str(whole.directory), "--format", "timings"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == ["t/test_it.py::test_a", "t/test_it.py::test_long"]
    (project.directory / "times.json").write_text(json.dumps({"t/test_it.py::test_a": 1, "t/test_it.py::test_long": 4}))
    with (project.directory / "pytest.ini").open("a") as file:
        file.write("timings = times.json\n")
    ids = [[test.test for test in events.load(run.directory).kernels[0].tests] for run in parts(project, 2)]
    assert sorted(map(len, ids)) == [1, 4]
    assert ["t/test_it.py::test_long"] in ids


def test_what_needs_a_machine_for_itself_has_one_in_its_part_alone(project_with_issues: Project) -> None:
    project_with_issues.tests("""\
        def test_plain(): pass

        @pytest.mark.fixed_by("ba9876543210", "crypto: stand up")
        @pytest.mark.parametrize("n", range(2))
        def test_falls(n): guest.panic(guest.OOPS)
        """)
    found: list[str] = []
    for run in parts(project_with_issues, 3):
        found += [test.test for test in events.load(run.directory).kernels[0].tests]
        assert all(test.verdict is not Verdict.NOT_RUN for test in events.load(run.directory).kernels[0].tests)
    assert len(found) == len(set(found)) == 3
