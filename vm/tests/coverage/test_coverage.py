"""Coverage of the kernel: from counters as gcc writes them (of a small program here) to table and HTML."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from vm.base import cache
from vm.base.errors import UsageError
from vm.coverage import plugin as coverage
from vm.coverage import unreached
from vm.guest import internals

# Compilers, gcov and whole sessions: seconds of processor time, which a busy machine makes a minute.
pytestmark = pytest.mark.deadline(120)

# Eight lines of code in which the argument decides what runs. The kernel's counters have the same format.
SOURCE = """\
#include <stdlib.h>
int sign(int x)
{
    if (x < 0)
        return -1;
    if (x > 0)
        return 1;
    return 0;
}
int main(int argc, char **argv)
{
    return sign(atoi(argv[argc - 1])) == 5;
}
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return a directory with the notes, the source and the program of crypto/af_alg.c."""
    build = tmp_path / "build" / "crypto"
    build.mkdir(parents=True)
    source = tmp_path / "crypto" / "af_alg.c"
    source.parent.mkdir()
    source.write_text(SOURCE)
    (build / "af_alg.c").write_text(SOURCE)
    for step in (
        ["gcc", "-O0", "--coverage", "-c", "../crypto/af_alg.c", "-o", "crypto/af_alg.o"],
        ["gcc", "--coverage", "crypto/af_alg.o", "-o", "program"],
    ):
        subprocess.run(step, cwd=build.parent, check=True, timeout=60)
    return build


def run_guest(notes: Path, *arguments: int) -> dict[str, bytes]:
    """Return the counters of a guest in which the code ran with these arguments."""
    data = notes / "af_alg.gcda"
    data.unlink(missing_ok=True)
    for argument in arguments:
        subprocess.run([notes.parent / "program", str(argument)], check=True, timeout=60)
    return {"af_alg": data.read_bytes()}


# Seconds between counters that exceed the uptime of every machine: monotonic time begins at boot.
NEVER = "1e12"


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return line.split()[1:]


def test_one_guest(notes: Path, tmp_path: Path) -> None:
    coverage.save({"gw0": run_guest(notes, 1)}, tmp_path / "counters")
    text = coverage.report(tmp_path / "counters", tmp_path / "html", [notes])
    # Not reached with 1: return -1, return 0.
    assert row(text, "crypto/af_alg.c") == ["6/8", "75.0%", "2/4", "50.0%"]
    assert row(text, "total") == ["6/8", "75.0%", "2/4", "50.0%"]
    assert row(text, "crypto/algif_rng.c") == ["0/0", "-", "0/0", "-"]
    assert "from 1 guests" in text


def test_lines_that_were_not_reached_are_shown_with_their_reason(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "reasons.toml").write_text(
        '[[unreached]]\nfunction = "sign"\nlines = ["return -1;"]\nafter = "x < 0"\nbecause = "positive only"\n'
        '[[unreached]]\nfunction = "sign"\nlines = ["return 1;"]\nbecause = "never"\n'
        '[[unreached]]\nfunction = "main"\nlines = ["return 0;"]\nbecause = "of another function"\n'
    )
    coverage.save({"gw0": run_guest(notes, 1)}, tmp_path / "counters")
    reasons = unreached.load(tmp_path / "reasons.toml")
    text = coverage.report(tmp_path / "counters", tmp_path / "html", [notes], reasons)
    _, _, missing = text.partition("\n\n")
    assert missing.splitlines()[:-2] == [
        "2 of 8 lines were not reached",
        "",
        "  crypto/af_alg.c:5 sign: return -1;",
        "    because: positive only",
        "",
        "1 of them for no reason that is known:",
        "  crypto/af_alg.c:8 sign: return 0;",
        "",
        "reached, although there is a reason why they cannot be:",
        "  crypto/af_alg.c:7 sign: return 1;",
    ]


def test_a_reason_is_for_the_nearest_of_lines_with_the_same_text() -> None:
    one = coverage.FileCoverage(
        lines={2: 0, 4: 0}, functions={"f": (1, 1)}, source="if (a)\n\tgoto out;\nif (b)\n\tgoto out;\n"
    )
    first, second = unreached.lines_of("x.c", one)
    rule = unreached.Reason("f", "because", ("goto out;",), "if (a)")
    assert rule.covers(first)
    assert not rule.covers(second)
    assert not unreached.Reason("g", "because").covers(first)


def test_bad_reasons_are_wrong_usage(tmp_path: Path) -> None:
    for text in ("[[unreached]]\nfunction = 'x'\n", "[[unreached]]\nwhy = 1\n", "="):
        (tmp_path / "reasons.toml").write_text(text)
        with pytest.raises(UsageError, match=r"cannot use the reasons .*reasons\.toml"):
            unreached.load(tmp_path / "reasons.toml")


def test_guests_add_up(notes: Path, tmp_path: Path) -> None:
    guests = {"gw0": run_guest(notes, 1), "gw1": run_guest(notes, -1, -1)}
    coverage.save(guests, tmp_path / "counters")
    text = coverage.report(tmp_path / "counters", tmp_path / "html", [notes])
    assert row(text, "crypto/af_alg.c") == ["7/8", "87.5%", "3/4", "75.0%"]


def test_the_html_shows_the_source_with_its_counts(notes: Path, tmp_path: Path) -> None:
    coverage.save({"gw0": run_guest(notes, 1, 0, -1)}, tmp_path / "counters")
    coverage.report(tmp_path / "counters", tmp_path / "html", [notes])
    index = (tmp_path / "html/index.html").read_text()
    assert "af_alg.c" in index
    (page,) = (tmp_path / "html").glob("index.af_alg.c.*.html")
    assert "argc" in page.read_text()


def test_counters_of_another_build_are_refused(notes: Path, tmp_path: Path) -> None:
    counters = run_guest(notes, 1)
    stamp = bytearray(counters["af_alg"])
    stamp[8] ^= 0xFF
    coverage.save({"gw0": {"af_alg": bytes(stamp)}}, tmp_path / "counters")
    with pytest.raises(UsageError, match=r"no kernel in the cache has the notes"):
        coverage.report(tmp_path / "counters", tmp_path / "html", [notes])


def test_notes_are_found_in_the_cache(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    counters = run_guest(notes, 1)
    entry = tmp_path / "cache/built/6.12-src-coverage/0123/gcov"
    entry.mkdir(parents=True)
    notes.rename(entry / "crypto")
    coverage.save({"gw0": counters}, tmp_path / "counters")
    assert "6/8" in coverage.report(tmp_path / "counters", tmp_path / "html")


def test_no_counters_is_an_error_and_not_an_empty_table(tmp_path: Path) -> None:
    coverage.save({"gw0": {}}, tmp_path / "counters")
    with pytest.raises(UsageError, match=r"no counters came; test a kernel with \+coverage"):
        coverage.report(tmp_path / "counters", tmp_path / "html", [])


def test_counters_of_an_earlier_run_are_not_counted(notes: Path, tmp_path: Path) -> None:
    coverage.save({"gw7": run_guest(notes, -1)}, tmp_path / "counters")
    coverage.save({"gw0": run_guest(notes, 1)}, tmp_path / "counters")
    assert "6/8" in coverage.report(tmp_path / "counters", tmp_path / "html", [notes])


def test_snapshot_reads_the_five_files_wherever_they_were_built(tmp_path: Path) -> None:
    place = tmp_path / "root/.cache/builds/x/build-coverage/crypto"
    place.mkdir(parents=True)
    for name in (*coverage.FILES, "gcm"):
        (place / f"{name}.gcda").write_bytes(name.encode())
    assert coverage.snapshot(tmp_path) == {name: name.encode() for name in coverage.FILES}
    assert coverage.snapshot(tmp_path / "nowhere") == {}


PROJECT_TEST = """
import os, subprocess
import pytest

@pytest.mark.parametrize("argument", [1, 0, -1])
def test_it(argument):
    subprocess.run([os.environ["PROGRAM"], str(argument)], check=True)
    if os.environ.get("DIE") == str(argument):
        os._exit(9)
"""


def run_pytest(notes: Path, tmp_path: Path, *options: str, **environment: str) -> SimpleNamespace:
    """Run the plugin in a session of its own, whose 'kernel' is the program."""
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    (project / "test_it.py").write_text(PROJECT_TEST)
    # The program's counters, under what stands for debugfs.
    (project / "debugfs.py").write_text(
        "from pathlib import Path\nfrom vm.coverage import plugin as coverage\n"
        f"coverage.DEBUGFS = Path({str(notes)!r})\n"
        "import os\ncoverage.EVERY_SECONDS = float(os.environ.get('EVERY', 0))\n"
        f"coverage._cached_notes = lambda: [Path({str(notes)!r})]\n"
    )
    here = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "debugfs", "-p", "vm.coverage.plugin", "--coverage-dir=cov",
         *options],
        cwd=project, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": f"{here}:{project}", "PROGRAM": str(notes.parent / "program"), **environment},
    )  # fmt: skip
    return SimpleNamespace(status=result.returncode, text=result.stdout + result.stderr)


def test_a_session_ends_with_the_table(notes: Path, tmp_path: Path) -> None:
    run = run_pytest(notes, tmp_path)
    assert run.status == 0, run.text
    assert row(run.text, "total") == ["8/8", "100.0%", "4/4", "100.0%"]
    assert (tmp_path / "project/cov/html/index.html").exists()


def test_workers_send_their_counters(notes: Path, tmp_path: Path) -> None:
    run = run_pytest(notes, tmp_path, "-n1")
    assert run.status == 0, run.text
    assert row(run.text, "total") == ["8/8", "100.0%", "4/4", "100.0%"]


def test_a_worker_that_crashed_counts_as_far_as_it_came(notes: Path, tmp_path: Path) -> None:
    run = run_pytest(notes, tmp_path, "-n1", "--max-worker-restart=0", "-k", "1 or 0", DIE="0")
    assert run.status == 1, run.text
    assert row(run.text, "total")[:2] == ["6/8", "75.0%"]
    assert "not counted, gw0: 0 tests that ended since its last counters, and the one it went down in" in run.text


def test_tests_that_no_counters_show_are_said(notes: Path, tmp_path: Path) -> None:
    run = run_pytest(notes, tmp_path, "-n1", "--max-worker-restart=0", DIE="-1", EVERY=NEVER)
    assert run.status == 1, run.text
    # The first sends at once, the second too soon after it, the third never.
    assert "not counted, gw0: 1 tests that ended since its last counters, and the one it went down in" in run.text


def test_where_all_counters_came_nothing_is_said_to_miss(notes: Path, tmp_path: Path) -> None:
    run = run_pytest(notes, tmp_path, "-n1", EVERY=NEVER)
    assert run.status == 0, run.text
    assert row(run.text, "total") == ["8/8", "100.0%", "4/4", "100.0%"]
    assert "not counted" not in run.text


def test_a_session_without_counters_fails(notes: Path, tmp_path: Path) -> None:
    (notes / "af_alg.gcda").unlink(missing_ok=True)
    run = run_pytest(notes, tmp_path, PROGRAM="/bin/true")
    assert run.status == 1, run.text
    assert "error: no coverage of the kernel: no counters came" in run.text


def test_a_directory_of_the_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "counters").mkdir()
    (tmp_path / "counters/mine.txt").touch()
    with pytest.raises(pytest.UsageError, match="has other files in it"):
        coverage.claim(tmp_path)
    assert (tmp_path / "counters/mine.txt").exists()
    coverage.claim(tmp_path / "new")
    (tmp_path / "new/counters").mkdir()
    coverage.claim(tmp_path / "new")
    with pytest.raises(pytest.UsageError, match="cannot write"):
        coverage.claim(Path("/proc/x"))


def test_counters_of_a_guest_that_lies_are_bounded() -> None:
    """Names are of the five files, and no path; what does not unpack, or to more than any has, is cut."""
    report = pytest.TestReport("t", ("t", 1, "t"), {}, "passed", None, "teardown")
    lies = {"../../somewhere": zlib.compress(b"x"), "af_alg": zlib.compress(bytes(1 << 25)), "algif_hash": b"noise"}
    internals.attach(report, **{coverage.ATTRIBUTE: lies})
    collector = coverage.Collector()
    collector.pytest_runtest_logreport(report)
    assert {name: len(data) for name, data in collector.newest["here"].items()} == {"af_alg": 1 << 24, "algif_hash": 0}
