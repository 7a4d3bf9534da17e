"""The run in short, as Markdown: read again by a parser of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from vm.report import command
from vm.results import markdown, model
from vm.results.model import KernelRun, Run, TestResult, Verdict
from vm.tests.records import EVERYTHING, kernel, run

ISSUE = "Copy *Fail* (CVE-2026-31431): fixed in 6.12.85 by a664bf3d603d"
P, F, K, S = Verdict.PASSED, Verdict.FAILED, Verdict.KNOWN, Verdict.SKIPPED


def html(text: str) -> str:
    """As GitHub shows it, with tables and no HTML of its own."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def of(spec: str, **tests: Verdict) -> KernelRun:
    results = (
        TestResult(f"t.py::{name}", f"t.py::{name}[k]", verdict, reason="why") for name, verdict in tests.items()
    )
    return KernelRun(spec, spec, tests=tuple(results))


def test_every_kernel_and_number_is_in_the_table() -> None:
    shown = html(markdown.render(EVERYTHING))
    for each in EVERYTHING.kernels:
        assert f"<code>{each.name}</code>" in shown
    assert "<th>kernel</th>" in shown
    assert shown.count("<tr>") >= 1 + len(EVERYTHING.kernels)


def test_numbers_stand_below_their_verdicts() -> None:
    broken = dataclasses.replace(of("7.3"), reason="did not | boot")
    lines = markdown.render(run(of("6.12", a=P, b=P, c=F), of("6.1", a=S, b=P, c=P), broken)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[:4] == [
        ["kernel", "passed", "skipped", "failed", "accelerator"],
        ["---", "---:", "---:", "---:", "---"],
        ["`6.12`", "2", "", "1", "none"],
        ["`6.1`", "2", "1", "", "none"],
    ]
    assert "`7.3`: did not \\| boot" in lines


def test_kernels_that_differ_are_side_by_side_but_for_what_one_lacks() -> None:
    lines = markdown.render(run(of("6.12", a=P, b=P, c=F, d=P), of("6.1", a=F, b=S, c=F))).splitlines()
    assert "| `t.py::a` | 1 | passed | failed |" in lines
    assert not any("t.py::b" in line or "t.py::d" in line for line in lines if line.startswith("|"))
    assert "2 more differ only in what a kernel does not have." in lines
    assert "Nowhere." in markdown.render(run(of("6.12", a=P), of("6.1", a=P))).splitlines()


def test_what_is_long_says_how_much_more_there_is() -> None:
    names = [f"t{n}" for n in range(13)]
    before, after = (run(of("6.12", **dict.fromkeys(names, verdict))) for verdict in (P, F))
    assert "- **regression**: 13 tests\n" in markdown.render(after, before)
    assert "  - and 3 more\n" in markdown.render(after, before)
    ten = [run(of("6.12", **dict.fromkeys(names[:10], verdict))) for verdict in (P, F)]
    assert "more" not in markdown.render(ten[1], ten[0])


def test_nightly_kernels_are_compared_by_what_was_asked_for() -> None:
    before, after = (run(dataclasses.replace(of("6.12", a=v), name=f"6.12.{n}")) for n, v in enumerate((P, F)))
    text = markdown.render(after, before)
    assert "### `6.12.1` since `6.12.0, 2026-11-23T11-45-02`" in text
    assert "- **regression**: 1 test" in text


def test_code_in_a_table_is_one_cell_whatever_is_in_it() -> None:
    name = "t.py::a[`x`|``y``]"
    kernels = [KernelRun(k, k, tests=(TestResult(name, name, v),)) for k, v in (("6.12", P), ("6.1", F))]
    shown = html(markdown.render(run(*kernels)))
    assert "<td><code>t.py::a[`x`¦``y``]</code></td>" in shown


def test_known_issues_have_links_and_are_not_among_the_failures() -> None:
    known = dataclasses.replace(kernel("6.12", K).tests[0], known_issue=ISSUE, splats=())
    text = markdown.render(run(dataclasses.replace(kernel("6.12", P), tests=(known,))))
    shown = html(text)
    assert '<a href="https://git.kernel.org/linus/a664bf3d603d">a664bf3d603d</a>' in shown
    assert '<a href="https://www.cve.org/CVERecord?id=CVE-2026-31431">CVE-2026-31431</a>' in shown
    assert "Copy *Fail*" in shown, "its stars are no markup"
    assert "Failures by cause" not in text


def test_failures_of_one_cause_stand_together_with_one_command() -> None:
    bad = [dataclasses.replace(test, rerun=f"pytest x{n}") for n, test in enumerate(kernel("6.12", F, F, F).tests)]
    text = markdown.render(run(dataclasses.replace(kernel("6.12", P), tests=tuple(bad))))
    assert "3 failed on `6.12`" in text
    assert text.count("pytest x") == 1


def test_text_of_a_failure_is_no_markup() -> None:
    evil = "<script>alert(1)</script> | ``` # [x](y) &amp;"
    bad = dataclasses.replace(kernel("6.12", F).tests[0], reason=evil, splats=(), rerun="a ``` b")
    shown = html(markdown.render(run(dataclasses.replace(kernel("6.12", P), tests=(bad,)))))
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | ``` # [x](y) &amp;amp;" in shown
    assert "a ``` b" in shown


def test_what_changed_since_an_earlier_run() -> None:
    before = run(of("6.12", a=P, b=F, c=F, d=P))
    after = run(of("6.12", a=F, b=P, c=F, e=P), of("6.1", a=P))
    text = markdown.render(after, before)
    for line in (
        "- **regression**: 1 test\n  - `t.py::a`: why",
        "- **fixed**: 1 test\n  - `t.py::b`",
        "- **still failing**: 1 test",
        "- **disappeared**: 1 test\n  - `t.py::d`",
        "- **new pass**: 1 test",
        "`6.1` was not in that run.",
    ):
        assert line in text
    same = run(of("6.12", a=P, b=S))
    assert "Nothing changed." in markdown.render(same, same)


def test_it_stays_short() -> None:
    words = [f"why {'abcdefghij'[n % 10]}{chr(97 + n // 10 % 26)} " * 99 for n in range(8000)]
    tests = tuple(TestResult(f"t.py::t[{n}]", f"t.py::t[k-{n}]", F, reason=why) for n, why in enumerate(words))
    text = markdown.render(run(KernelRun("6.12", "6.12", tests=tests)))
    assert len(text.encode()) < 100_000
    assert "more" in text


def test_a_run_that_was_cut_off_is_not_well() -> None:
    cut = dataclasses.replace(run(of("6.12", a=P)), finished=None)
    assert "cut off" in markdown.render(cut).splitlines()[0]
    assert "all well" in markdown.render(dataclasses.replace(run(of("6.12", a=P)), exit_status=0)).splitlines()[0]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(name: str, one: Run) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(model.dump(one))
        return str(tmp_path / name)

    old, new = written("old", run(of("6.12", a=P))), written("new", run(of("6.12", a=F)))
    assert command.main([new, "--markdown", "--base", old]) == 0
    assert "**regression**: 1 test" in capsys.readouterr().out
    assert command.main([new, "--base", old]) == 4
