"""The page of runs, in a real Chromium: what it shows is what the runs say."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vm.klog.printk import BEGIN
from vm.report import command, page
from vm.results import changes, model
from vm.results.model import VM, KernelRun, Property, Run, TestResult, Verdict
from vm.tests.records import EVERYTHING, SPLAT, kernel, run
from vm.tests.report import browser
from vm.tests.report.browser import Browser

pytestmark = pytest.mark.deadline(180)

P, F, K, S, C = Verdict.PASSED, Verdict.FAILED, Verdict.KNOWN, Verdict.SKIPPED, Verdict.CRASHED
ROWS = """[...document.querySelectorAll('#body [role=row]')].map(
    row => [...row.children].map(cell => cell.textContent))"""
TITLED = ROWS.replace("cell.textContent", "cell.role === 'rowheader' ? cell.title : cell.textContent")
TYPE_B = """(q => { q.value = 'test_b'; q.dispatchEvent(new Event('input', {bubbles: true})) })(
    document.querySelector('[name=q]'))"""
ACTIVE = "document.getElementById(document.getElementById('grid').getAttribute('aria-activedescendant')).textContent"
# Class and text, colour, and the colour behind it, of what can be read.
COLOURS = """
[...document.querySelectorAll(
  'h1, h2, h1 span, .facts, td, th, .chip, #body [role]:not([role=row]), label, summary, a'
)].filter(e => e.offsetParent && e.textContent.trim()).map(e => {
  let up = e;
  while (up && getComputedStyle(up).backgroundColor === 'rgba(0, 0, 0, 0)') up = up.parentElement;
  return [`${e.className} ${e.textContent.trim().slice(0, 20)}`, getComputedStyle(e).color,
    getComputedStyle(up || document.documentElement).backgroundColor];
})"""
CUT = """[...document.querySelectorAll('#grid [role=rowheader], #grid [role=gridcell], #grid [role=columnheader]')]
    .filter(e => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight + 1).map(e => e.textContent)"""
SPARE = """Math.max(...[...document.querySelectorAll('#body [role=row]')].map(row => {
    const ends = [...row.children].map(cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect().bottom;
    });
    return row.offsetHeight > 36 ? row.getBoundingClientRect().bottom - Math.max(...ends) : 0;
}))"""
OVERLAPS = """[...document.querySelectorAll('#body [role=row]')].filter((row, n, all) => n &&
    Math.abs(row.getBoundingClientRect().top - all[n - 1].getBoundingClientRect().bottom) > 1
).map(row => row.textContent)"""
# The rows that are drawn reach from the upper end of what can be seen to the lower.
FILLED = """(() => {
    const seen = document.getElementById('frame').getBoundingClientRect();
    const rows = [...document.querySelectorAll('#body [role=row]')].map(row => row.getBoundingClientRect());
    return rows[0].top <= seen.top && rows[rows.length - 1].bottom >= seen.bottom;
})()"""
INSIDE = """(() => {{
    const seen = document.getElementById('frame').getBoundingClientRect();
    const head = document.getElementById('head').getBoundingClientRect();
    const row = document.getElementById('r{}c-1').getBoundingClientRect();
    return row.top >= head.bottom - 1 && row.bottom <= seen.bottom + 1;
}})()"""
COUNT = "document.getElementById('count').textContent"
DETAIL = "document.getElementById('detail').innerText"
ALL = len({test.test for each in EVERYTHING.kernels for test in each.tests})
ISSUE = "Copy Fail (CVE-2026-31431): fixed in 6.12.85 by a664bf3d603d"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser without anything to reach."""
    assert browser.PROGRAM, "no chromium: make check installs it (vm/setup.sh check)"
    with browser.started(tmp_path_factory.mktemp("profile"), "--host-resolver-rules=MAP * ~NOTFOUND") as found:
        yield found


def of(name: str, **tests: Verdict) -> KernelRun:
    results = [
        TestResult(
            f"tests/a/test_x.py::test_{test}",
            f"tests/a/test_x.py::test_{test}[{name}]",
            verdict,
            reason="" if verdict is P else f"why {test}",
            rerun=f".venv/bin/pytest --kernel={name}-1 'x[{name}]'",
            known_issue=ISSUE if verdict is K else "",
            absence="not built" if verdict is S else "",
        )
        for test, verdict in tests.items()
    ]
    return KernelRun(name, name, release=f"{name}-amd64", tests=tuple(results))


TWO = run(of("6.1", a=P, b=F, c=P, d=S, e=K), of("6.2", a=P, b=F, c=F, d=P, e=P))


def shown(chromium: Browser, directory: Path, *runs: Run, fragment: str = "", script: bool = True) -> Browser:
    found = []
    for number, each in enumerate(runs):
        (directory / str(number)).mkdir(exist_ok=True)
        found.append((directory / str(number), each))
    page.write(found, directory / "index.html")
    chromium.open(f"{(directory / 'index.html').as_uri()}{'#' if fragment else ''}{fragment}", script=script)
    return chromium


def rows(chromium: Browser) -> dict[str, list[str]]:
    said: list[list[str]] = chromium.evaluate(ROWS)
    return {row[0].lstrip("▸▾ "): row[1:] for row in said}


def test_every_cell_is_the_verdict_of_the_run(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, EVERYTHING, fragment="view=all")
    found = {title: cells for title, *cells in chromium.evaluate(TITLED)}
    for number, each in enumerate(EVERYTHING.kernels):
        own = {test.test: test.verdict.value for test in each.tests}
        for test in {test.test for one in EVERYTHING.kernels for test in one.tests}:
            assert found[test][number] == own.get(test, "absent"), (test, each.name)
    assert chromium.evaluate(COUNT) == f"{ALL} of {ALL} tests"


def test_the_first_view_is_what_differs(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO)
    found = {label.rpartition("::")[2]: cells for label, cells in rows(chromium).items() if "test_x" not in label}
    assert found == {"test_c": ["passed", "failed"], "test_d": ["skipped", "passed"], "test_e": ["known", "passed"]}
    assert chromium.evaluate(COUNT) == "3 of 5 tests"
    shown(chromium, tmp_path, run(of("6.1", a=P, b=F)))
    assert chromium.evaluate(COUNT) == "1 of 2 tests", "of one kernel, what fails"


def test_folded_rows_count_what_is_below(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, fragment="view=all")
    assert rows(chromium)["tests/a/test_x.py"] == ["2 1k 1s 1F", "3 2F"]
    chromium.evaluate("document.querySelector('#body [role=rowheader]').click()")
    assert list(rows(chromium)) == ["tests/a/test_x.py"]
    assert "x=" in chromium.evaluate("location.hash")


@pytest.mark.parametrize("kind", list(changes.Change))
def test_classes_of_change_are_those_of_the_runs(kind: changes.Change, chromium: Browser, tmp_path: Path) -> None:
    a, b = EVERYTHING.kernels[:2]
    before, after = ({test.test: test.verdict for test in each.tests} for each in (a, b))
    tests = [test for test in {**before, **after} if changes.change(before.get(test), after.get(test)) is kind]
    shown(chromium, tmp_path, EVERYTHING, fragment=f"view=changes&a={a.name}&b={b.name}&class={kind.value}")
    assert chromium.evaluate(COUNT) == f"{len(tests)} of {ALL} tests"
    button = f"[...document.querySelectorAll('#classes button')].find(b => b.textContent.startsWith('{kind.value}'))"
    assert chromium.evaluate(f"{button}.textContent") == f"{kind.value} {len(tests)}"
    assert chromium.evaluate(f"{button}.getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize(
    ("fragment", "count"),
    [
        ("view=all", 5),
        ("view=all&q=test_a", 1),
        ("view=all&q=TEST_X+-test_a", 4),
        ("view=all&q=why+c", 1),
        ("view=all&verdict=known", 1),
        ("view=all&absence=not+built", 1),
        ("view=failing", 2),
        ("view=changes", 4),
        ("view=nonsense&sort=nonsense&a=no&b=no&cell=no", 3),
    ],
)
def test_a_view_can_be_mailed(fragment: str, count: int, chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, fragment=fragment)
    assert chromium.evaluate(COUNT) == f"{count} of 5 tests"


def test_what_is_typed_stands_in_the_fragment(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO)
    chromium.evaluate("document.querySelector('[value=all]').click()")
    chromium.evaluate(TYPE_B)
    link = chromium.evaluate("location.href")
    assert link.endswith("#view=all&q=test_b")
    chromium.open(link)
    assert chromium.evaluate(COUNT) == "1 of 5 tests"
    chromium.evaluate("document.getElementById('reset').click()")
    assert chromium.evaluate("location.hash") == ""


def test_a_cell_tells_all_that_is_known_of_it(chromium: Browser, tmp_path: Path) -> None:
    bad = dataclasses.replace(
        kernel("6.2", C).tests[0],
        test="tests/a/test_x.py::test_c",
        nodeid="tests/a/test_x.py::test_c[6.2]",
        vm="6.2-1",
        rerun=".venv/bin/pytest --kernel=6.2-1 'tests/a/test_x.py::test_c[6.2]'",
        details="<script>document.title='no'</script>",
    )
    broken = dataclasses.replace(of("6.2", a=P), tests=(bad,), vms=(VM("6.2-1", "vms/6.2-1/console.log", "crashed"),))
    (tmp_path / "0/vms/6.2-1").mkdir(parents=True)
    console = f"[    1.000000] boot\n[    2.000000] {BEGIN}{bad.nodeid}\n[    3.000000] BUG: it falls\n"
    (tmp_path / "0/vms/6.2-1/console.log").write_text(console)
    both = run(of("6.1", c=P), broken)
    shown(chromium, tmp_path, both, fragment="cell=tests/a/test_x.py::test_c@@6.2")
    text = chromium.evaluate(DETAIL)
    for words in (
        "crashed on 6.2 (6.2-amd64)",
        "why crashed",
        SPLAT.fingerprint,
        SPLAT.text,
        "BUG: it falls",
        "0/vms/6.2-1/console.log, line 2",
        bad.rerun,
        "make bisect TEST=tests/a/test_x.py::test_c BAD=6.2-1 GOOD=6.1-1",
        "<script>document.title='no'</script>",
        "Kernel log",
    ):
        assert words in text
    assert chromium.evaluate("document.title") != "no"
    chromium.press("Escape")
    chromium.wait("!document.getElementById('detail').open && location.hash == ''")


def test_known_issues_are_links(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, fragment="cell=tests/a/test_x.py::test_e@@6.1")
    links = chromium.evaluate("[...document.querySelectorAll('#detail a')].map(a => a.href)")
    assert links == ["https://git.kernel.org/linus/a664bf3d603d", "https://www.cve.org/CVERecord?id=CVE-2026-31431"]


def test_it_works_by_keyboard(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, fragment="view=all")
    chromium.press("/", text="/")
    assert chromium.evaluate("document.activeElement.name") == "q"
    chromium.evaluate("document.getElementById('grid').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        chromium.press(key)
    chromium.wait("document.getElementById('detail').open")
    assert "test_b" in chromium.evaluate(DETAIL)
    assert "failed on 6.2" in chromium.evaluate(DETAIL)
    chromium.press("Escape")
    chromium.wait("document.activeElement.id == 'grid'")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        chromium.press(key)
    assert list(rows(chromium)) == ["tests/a/test_x.py"], "Left goes up, and folds"


def test_a_screen_reader_is_told_rows_cells_and_where_it_is(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, fragment="view=all")
    chromium.evaluate("document.getElementById('grid').focus()")
    chromium.press("ArrowDown")
    nodes = chromium.accessibility()

    def names(role: str) -> list[str]:
        return [node.get("name", {}).get("value", "") for node in nodes if node["role"]["value"] == role]

    assert "Tests and kernels" in names("treegrid")
    assert {"passed", "failed", "2 passed, 1 known, 1 skipped, 1 failed"} <= set(names("gridcell"))
    assert {"6.1", "6.2"} <= set(names("columnheader"))
    assert "" not in [*names("button"), *names("combobox"), *names("searchbox"), *names("radio"), *names("link")]
    active = chromium.evaluate(ACTIVE)
    assert active.endswith("test_a")


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(dark: bool, chromium: Browser, tmp_path: Path) -> None:
    chromium.emulate(1200, 900, dark=dark)
    shown(chromium, tmp_path, EVERYTHING, fragment="view=all")
    pairs = chromium.evaluate(COLOURS)
    assert len(pairs) > 50
    grounds = {ground for _, _, ground in pairs}
    assert any(luminance(ground) < 0.05 for ground in grounds) == dark
    for what, text, ground in pairs:
        a, b = sorted((luminance(text), luminance(ground)))
        assert (b + 0.05) / (a + 0.05) >= 4.5, f"{what}: {text} on {ground} (WCAG 2, 1.4.3)"
    chromium.emulate(1200, 900)


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of ``rgb(1, 2, 3)``."""
    found = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in found)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_on_a_telephone_only_tables_are_wider_than_the_screen(chromium: Browser, tmp_path: Path) -> None:
    chromium.emulate(390, 844, telephone=True)
    shown(chromium, tmp_path, EVERYTHING, fragment="view=all")
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 390
    assert chromium.evaluate("document.querySelector('#body [role=gridcell]').offsetWidth") >= 60
    chromium.emulate(1200, 900)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("view", ["all", "failing", "changes"])
def test_long_names_wrap_and_nothing_is_cut(view: str, width: int, chromium: Browser, tmp_path: Path) -> None:
    tests = ["t.py::t"] + [
        f"tests/algorithms/aead/test_{'quite_' * n}long.py::test_{'longer_' * n}yet[{'authenc(hmac(sha512),' * n}äπ字]"
        for n in range(1, 8)
    ]

    def long(name: str, *verdicts: Verdict) -> KernelRun:
        results = (TestResult(test, test, verdict) for test, verdict in zip(tests, verdicts, strict=True))
        return KernelRun(name, name, tests=tuple(results))

    names = ("6.1.192", "6.12.117 (CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF=y fips=1 and 7 more)")
    chromium.emulate(width, 844, telephone=width < 800)
    shown(
        chromium,
        tmp_path,
        run(long(names[0], *[P, F] * 4), long(names[1], F, *list(Verdict)[-7:])),
        fragment=f"view={view}",
    )
    try:
        assert chromium.evaluate("document.querySelectorAll('#body [role=row]').length") >= 4
        assert chromium.evaluate(CUT) == []
        # Where no room is wasted: a row has one line more than its text at most.
        assert chromium.evaluate(SPARE) < 40
        assert chromium.evaluate(OVERLAPS) == []
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width
        assert chromium.evaluate("getComputedStyle(document.querySelector('[role=rowheader]')).textOverflow") == "clip"
    finally:
        chromium.emulate(1200, 900)


def test_rows_of_different_heights_are_drawn_wherever_one_is(chromium: Browser, tmp_path: Path) -> None:
    tests = [f"tests/test_it.py::test_{'very_' * (n % 19)}long[{n}]" for n in range(2000)]
    chromium.emulate(390, 844, telephone=True)
    try:
        results = tuple(TestResult(test, test, F) for test in tests)
        shown(chromium, tmp_path, run(KernelRun("6.1", "6.1", tests=results)), fragment="view=failing")
        for share in (0.1, 0.5, 0.93):
            chromium.evaluate(
                f"frame = document.getElementById('frame'); frame.scrollTop = {share} * frame.scrollHeight"
            )
            chromium.wait(FILLED)
        chromium.evaluate("document.getElementById('grid').focus()")
        for key, row in (("Home", 0), ("ArrowDown", 1), ("End", 1999), ("ArrowUp", 1998)):
            chromium.press(key)
            chromium.wait(f"document.getElementById('r{row}c-1')?.classList.contains('current')")
            assert chromium.evaluate(INSIDE.format(row)), key
    finally:
        chromium.emulate(1200, 900)


def test_without_javascript_it_has_the_summary_and_the_failures(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, TWO, script=False)
    text = chromium.evaluate("document.body.innerText")
    for words in ("Not all well", "6.1-amd64", "why b", "pytest --kernel=6.1-1", "Copy Fail", "not built", "test_c"):
        assert words in text
    assert "rows that differ" not in text


def test_nothing_is_fetched_and_nothing_that_a_kernel_says_is_code(chromium: Browser, tmp_path: Path) -> None:
    evil = "</script><img src=http://x.invalid/ onerror=\"document.title='no'\">"
    bad = dataclasses.replace(of("6.1", a=F).tests[0], test=evil, nodeid=evil, reason=evil, details=evil, rerun=evil)
    chromium.requests.clear()
    shown(chromium, tmp_path, run(KernelRun(evil, evil, tests=(bad,), reason=evil)))
    chromium.evaluate("document.querySelector('#body [data-column=\"0\"]').click()")
    chromium.wait("document.getElementById('detail').open")
    assert chromium.evaluate("document.title") != "no"
    assert chromium.evaluate("document.images.length") == 0
    assert {url.partition(":")[0] for url in chromium.requests} <= {"file", "about", "data"}


def test_history_of_several_runs_of_one_kernel(chromium: Browser, tmp_path: Path) -> None:
    def day(number: int, verdict: Verdict) -> Run:
        one = run(of("6.1", a=verdict, b=P))
        return dataclasses.replace(one, id=f"run-{number}", started=f"2026-11-0{number}T00:00:00Z")

    shown(chromium, tmp_path, day(2, F), day(1, P), day(3, P), fragment="view=all")
    assert chromium.evaluate("[...document.querySelectorAll('#head [role=columnheader]')].map(c => c.textContent)") == [
        "test", "6.1@run-1", "6.1@run-2", "6.1@run-3",
    ]  # fmt: skip
    assert rows(chromium)["test_a"] == ["passed", "failed", "passed"]
    assert ".F. tests/a/test_x.py::test_a on 6.1: 2 flips" in chromium.evaluate("document.body.innerText")


def test_answers_that_differ_are_a_table(chromium: Browser, tmp_path: Path) -> None:
    def answering(name: str, answer: str) -> KernelRun:
        test = dataclasses.replace(of(name, a=P).tests[0], properties=(Property("answer", answer),))
        return dataclasses.replace(of(name), tests=(test,))

    shown(chromium, tmp_path, run(answering("6.1", "ENOENT"), answering("6.2", "EINVAL")))
    assert re.search(r"test_a\s+ENOENT\s+EINVAL", chromium.evaluate("document.body.innerText"))
    shown(chromium, tmp_path, run(answering("6.1", "EINVAL"), answering("6.2", "EINVAL")))
    assert "What differs between kernels" not in chromium.evaluate("document.body.innerText")


def test_eight_kernels_of_eight_thousand_tests_open_and_only_visible_rows_are_drawn(
    chromium: Browser, tmp_path: Path
) -> None:
    tests = [f"tests/d{n % 7}/test_{n % 40}.py::test_{n % 200}[{n}]" for n in range(8000)]
    kernels = [
        KernelRun(f"6.{k}", f"6.{k}", tests=tuple(
            TestResult(test, test, F if (n + k) % 50 == 0 else P, details="line\n" * 40) for n, test in enumerate(tests)
        ))
        for k in range(8)
    ]  # fmt: skip
    shown(chromium, tmp_path, run(*kernels), fragment="view=failing")
    assert chromium.evaluate(COUNT) == "1280 of 8000 tests"
    assert (tmp_path / "index.html").stat().st_size < 2_000_000
    assert chromium.evaluate("document.querySelectorAll('#body [role=row]').length") < 80
    chromium.evaluate("document.getElementById('frame').scrollTop = 1e9")
    chromium.wait("document.querySelector('#body [role=row]:last-child').dataset.row == '1279'")


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def test_links_of_a_page_in_the_directory_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "html").mkdir()
    (tmp_path / "html/index.html").touch()
    page.write([(tmp_path, TWO)], tmp_path / "index.html")
    links = Links()
    links.feed((tmp_path / "index.html").read_text())
    assert {"results.json", "junit.xml", "results.ktap", "kcidb.json", "html/index.html"} <= set(links.found)
    assert not [
        link for link in links.found if link.startswith("http") and "kernel.org" not in link and "cve" not in link
    ]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/results.json").write_text(model.dump(TWO))
    assert command.main([str(tmp_path / "a"), "--html", str(tmp_path / "all.html")]) == 0
    assert "<!doctype html>" in (tmp_path / "all.html").read_text()
    assert command.main([str(tmp_path / "a"), "--html", str(tmp_path / "no/where.html")]) == 4
    assert "give --html a file in a directory" in capsys.readouterr().err


def test_what_is_embedded_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_MOST_OF_ALL", 1000)
    tests = tuple(dataclasses.replace(of("6.1", a=F).tests[0], test=f"t{n}", details="x" * 50_000) for n in range(50))
    told = [page._told(column, test, tmp_path, {}, budget) for column, budget in [column()] for test in tests]
    assert sum(len(json.dumps(each)) for each in told) < 60_000
    assert told[-1]["more"]


def column() -> tuple[Any, list[int]]:
    return page.Column("6.1", of("6.1"), TWO, Path("/nowhere")), [1000]


def days(*runs: Run) -> list[tuple[Path, Run]]:
    """Return runs of as many days, the first that of the first day."""
    return [
        (Path(f"/nowhere/{day}"), dataclasses.replace(one, id=f"day-{day}", started=f"2026-11-{day:02}T00:00:00Z"))
        for day, one in enumerate(runs, 1)
    ]


def test_columns_are_in_the_order_in_which_runs_began(tmp_path: Path) -> None:
    found = days(run(of("6.1", a=P)), run(of("6.1", a=F)), run(of("6.1", a=P)))
    for given in (found, found[::-1]):
        text = page.render(given, tmp_path)
        assert re.findall(r'<tr><th scope="row">6\.1@(day-\d)</th>', text) == ["day-1", "day-2", "day-3"]


def test_all_is_well_when_every_run_is(tmp_path: Path) -> None:
    good, bad = dataclasses.replace(run(of("6.1", a=P)), exit_status=0), run(of("6.1", a=F))
    for runs, title in (((good,), "all well: "), ((good, bad), "not all well: "), ((bad,), "not all well: ")):
        assert f"<title>{title}" in page.render(days(*runs), tmp_path)


def test_what_changed_with_the_kernel_is_not_flaky(tmp_path: Path) -> None:
    words = "Flaky: passed and failed on one kernel"
    newer = dataclasses.replace(of("6.1", a=F), release="6.1-next")
    assert words not in page.render(days(run(of("6.1", a=P)), run(newer)), tmp_path)
    assert words in page.render(days(run(of("6.1", a=P)), run(of("6.1", a=F))), tmp_path)


def test_what_is_lacking_most_is_told_first(tmp_path: Path) -> None:
    one = of("6.1", a=S, b=S, c=S)
    rare = dataclasses.replace(one.tests[0], absence="fips")
    text = page.render(days(run(dataclasses.replace(one, tests=(rare, *one.tests[1:])))), tmp_path)
    assert re.findall(r'<th scope="row">(not built|fips)</th><td class="number">(\d)', text) == [
        ("not built", "2"),
        ("fips", "1"),
    ]


def test_a_bisection_is_offered_between_a_kernel_that_is_good_and_one_that_is_bad() -> None:
    columns = page._columns(days(run(of("6.1", a=P)), run(of("6.2", a=F)), run(of("6.3", a=F))))
    passing = page._passing(columns)
    test = columns[1].kernel.tests[0]
    assert page._bisect(columns[1], test, passing).endswith("BAD=6.2-1 GOOD=6.1-1")
    assert page._bisect(columns[1], test, {}).endswith("BAD=6.2-1 GOOD=VERSION")
    here = dataclasses.replace(
        columns[1], kernel=KernelRun("running", "running", tests=(dataclasses.replace(test, rerun=""),))
    )
    assert page._bisect(here, test, passing) == "", "nobody has another kernel to compare the machine's own with"
