"""Known issues: what the table says of versions, and what becomes of tests on fake guests that show an issue."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.guest.expect import State
from vm.kernels.spec import Kernel
from vm.run import known
from vm.run.known import Issue
from vm.tests.harness import Project

TABLE = "[[issue]]\nfix = '0123456789ab'\ntitle = 'y'\n"
ISSUE = Issue(
    fix="a664bf3d603d",
    title="subject",
    cve="CVE-1",
    introduced=("4.14",),
    fixed=("5.10.254", "6.1.170", "6.12.85", "7.0"),
    packages=("5.10.251-2",),
    unfixed=("6.16",),
    seen=("6.6.20",),
)
TESTS = """
    broken = pytest.mark.fixed_by("0123456789ab", "crypto: mend", cve="CVE-2026-1")
    falls = pytest.mark.fixed_by("ba9876543210", "crypto: stand up")

    @falls
    def test_falls():
        if "RELEASE" in guest.machine():
            guest.panic(guest.OOPS)

    @broken
    def test_broken():
        assert "RELEASE" not in guest.machine(), "it is broken"

    @broken
    def test_passes(): pass

    def test_fine(): pass
"""


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("4.9.300", "absent"),
        ("4.14.1", "undecided"),
        ("5.10.223-1", "present"),
        ("5.10.251-1", "present"),
        ("5.10.251-2", "absent"),
        ("5.10.251-5~deb11u1", "absent"),
        ("5.10.254", "absent"),
        ("6.6.1", "present"),
        ("6.6.20-1", "present"),
        ("6.6.21", "undecided"),
        ("6.12.84", "present"),
        ("6.12.85-1~bpo12+1", "absent"),
        ("6.16.12-1~bpo13+1", "present"),
        ("6.99~rc1", "undecided"),
        ("7.0~rc7", "undecided"),
        ("6.12.85~rc1", "undecided"),
        ("6.12.84~rc1", "present"),
        ("7.0", "absent"),
        ("7.3~rc7-1~exp1", "absent"),
        ("", "unplaced"),
    ],
)
def test_a_version_has_an_issue_or_not(version: str, state: str) -> None:
    assert ISSUE.state(version) is State(state)


def test_an_issue_as_old_as_af_alg() -> None:
    issue = Issue("0123456789ab", "t", introduced=("2.6.38",), fixed=("5.10.245", "6.17"))
    assert issue.state("5.10.223-1") is State.PRESENT
    assert issue.state("5.10.245-1") is State.ABSENT
    assert issue.state("2.6.37") is State.ABSENT


def test_an_issue_of_stable_series_alone() -> None:
    issue = Issue("0123456789ab", "t", introduced=("6.18.22", "6.19.12"), fixed=("6.18.24", "6.19.14", "7.0"))
    states = {version: issue.state(version).value for version in ("6.18.21", "6.18.22", "6.18.24", "6.12.90", "7.1")}
    assert states == {
        "6.18.21": "absent",
        "6.18.22": "present",
        "6.18.24": "absent",
        "6.12.90": "absent",
        "7.1": "absent",
    }


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("6.1.0-50-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 6.1.176-1 (2026-07-01)", "6.1.176-1"),
        ("6.1.0-50-amd64", ""),
        ("6.12.0-55.9.1.el10_0.x86_64 (mockbuild@x)", ""),
        ("5.14.0-427.13.1.el9_4.x86_64", ""),
        ("6.4.0-150600.23-default", ""),
        ("6.12.95+deb13-amd64 #1", "6.12.95"),
        ("7.0.0-rc3-00123-g0123456789ab", "7.0~rc3"),
        ("6.12.0", "6.12.0"),
        ("rubbish", ""),
    ],
)  # fmt: skip
def test_the_version_in_what_a_kernel_calls_itself(banner: str, version: str) -> None:
    assert known.version_in(banner) == version


@pytest.mark.parametrize(
    ("release", "version", "found"),
    [
        ("6.1.0-50-amd64", "6.1.176-1", "6.1.176-1"),
        ("5.10.251", "5.10.251-5+debug", "5.10.251-5+debug"),
        ("7.3.0-rc1-afalg", "7.3.0-rc1+debug", "7.3~rc1"),
        ("6.8.0-45-generic", "6.8.0-45.45~22.04.1", ""),
    ],
)
def test_the_version_of_a_package_or_a_source_tree(release: str, version: str, found: str) -> None:
    assert known.version_of(Kernel("name", "spec", release, Path("image"), version=version)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[issue]]\nfix = 'x'\ntitle = 'y'", "12 digits"),
        (f"{TABLE}fixd = []", "unknown key 'fixd'"),
        (f"{TABLE}fixed = '6.1'", "expected an array"),
        (f"{TABLE}fixed = ['soon']", "'soon'"),
        (TABLE, "says neither as 'fails' nor as 'crashes' what it looks like"),
        (f"{TABLE}fails = []", "what it looks like"),
        (f"{TABLE}crashes = true", "expected an array"),
        (f"{TABLE}fails = ['(']", "no regular expression"),
        *(
            (f"{TABLE}fails = ['{look}']", "no sign of it")
            for look in ("", ".*", "Assertion", "expected .* got", "Error:")
        ),
        *((f"{TABLE}crashes = ['{look}']", "no sign of it") for look in ("[a-z]", "crashed", "NULL pointer", "panic")),
        ("[[issue", "cannot use the known issues"),
    ],
)
def test_a_table_that_is_wrong_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "known.toml").write_text(text)
    with pytest.raises(UsageError, match=r"see vm/run/known\.py") as caught:
        known.load(tmp_path / "known.toml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def project(project_with_issues: Project) -> Project:
    project_with_issues.tests(TESTS.replace("RELEASE", "6.1.9-"))
    return project_with_issues


def verdicts(project: Project, *arguments: str, release: str) -> tuple[dict[str, str], str, int]:
    run = project.run("t", *arguments, kernels=(release,))
    return (
        {name.split("::")[1].split("[")[0]: verdict for name, verdict in run.verdicts.items()},
        run.output,
        run.status,
    )


def test_a_kernel_with_the_issues_is_expected_to_have_them(project: Project) -> None:
    found, output, status = verdicts(project, release="6.1.9-fake")
    assert found == {
        "test_broken": "known",
        "test_passes": "failed",
        "test_fine": "passed",
        "test_falls": "known",
    }
    assert status == 1, "the test that passes all the same"
    assert "fixed earlier than the table says" in output
    assert "known issues of 6.1.9-fake" in output
    assert "Broken (CVE-2026-1): fixed in 6.1.10 by 0123456789ab: 1 test" in output
    assert "crypto: stand up: fixed in 6.1.10 by ba9876543210: 1 test" in output


def test_what_takes_a_kernel_down_is_run_last(project: Project) -> None:
    run = project.run("t", "-v", kernels=("6.1.9-fake",))
    record = json.loads((run.directory / "results.json").read_text())
    assert record["kernels"][0]["tests"][-1]["test"].endswith("test_falls")
    assert run.machines == ["6.1.9-fake-1", "6.1.9-fake-2"]


def test_the_same_failures_on_a_kernel_with_the_fix_are_failures(project: Project) -> None:
    project.tests(TESTS.replace("RELEASE", "6.1.10-"))
    found, output, status = verdicts(project, release="6.1.10-fake")
    assert found == {"test_broken": "failed", "test_passes": "passed", "test_fine": "passed", "test_falls": "crashed"}
    assert status == 1
    assert 'fixed by Linux kernel commit 0123456789ab ("crypto: mend"), CVE-2026-1' in output
    assert "known issues of" not in output


def test_nothing_is_expected_on_request(project: Project) -> None:
    found, _, status = verdicts(project, "--no-known-issues", release="6.1.9-fake")
    assert found == {"test_broken": "failed", "test_passes": "passed", "test_fine": "passed", "test_falls": "crashed"}
    assert status == 1


def test_a_failure_on_a_series_the_table_does_not_know_is_undecided(project: Project) -> None:
    project.tests(TESTS.replace("RELEASE", "6.2.5-"))
    found, output, status = verdicts(project, release="6.2.5-fake")
    assert found == {
        "test_broken": "undecided",
        "test_passes": "passed",
        "test_fine": "passed",
        "test_falls": "crashed",
    }
    assert status == 1
    assert re.search(r"^=+ UNDECIDED =+$", output, re.MULTILINE)
    assert "1 undecided" in output
    assert "nobody looked up whether this kernel should have Broken (CVE-2026-1)" in output


def test_nothing_is_excused_on_a_kernel_whose_version_tells_nothing(project: Project) -> None:
    """As Ubuntu's, whose 6.8.0-45 has the fixes of no stable release that it names."""
    project.tests(TESTS.replace("RELEASE", "6.8.0-45-"))
    found, _, status = verdicts(project, release="6.8.0-45-generic")
    assert found == {"test_broken": "failed", "test_passes": "passed", "test_fine": "passed", "test_falls": "crashed"}
    assert status == 1


@pytest.mark.parametrize("release", ["6.5.0-rc3-fake", "6.5.0-rc8-fake"])
def test_a_release_candidate_with_the_fix_is_no_failure(project: Project, release: str) -> None:
    """The table has 6.5 for the release of mainline that had the fix first."""
    project.tests(TESTS.replace("RELEASE", "9.9"))
    found, _, status = verdicts(project, release=release)
    assert set(found.values()) == {"passed"}
    assert status == 0


def test_a_crash_is_no_excuse_for_an_issue_that_does_not_crash(project: Project) -> None:
    project.tests("""
        @pytest.mark.fixed_by("0123456789ab")
        def test_broken():
            guest.panic()
    """)
    found, _, status = verdicts(project, release="6.1.9-fake")
    assert found == {"test_broken": "crashed"}
    assert status == 1


@pytest.mark.parametrize("release", ["6.1.9-fake", "6.2.5-fake"], ids=["expected", "undecided"])
def test_a_complaint_of_the_kernel_is_a_failure_whatever_was_expected(project: Project, release: str) -> None:
    project.tests("""
        @pytest.mark.fixed_by("0123456789ab")
        def test_broken():
            guest.console(guest.WARNING)
            assert False
    """)
    found, _, status = verdicts(project, release=release)
    assert found == {"test_broken": "failed"}
    assert status == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("undefined", "NameError: name 'undefined' is not defined"),
        ("assert b'x' == guest.machine()", "AssertionError: assert b'x' == '6.1.9-fake-1'"),
        ("raise OSError(22, 'it is broken')", "OSError: [Errno 22] it is broken"),
        ("time.sleep(60)", "deadline: not finished after 0.2 s"),
    ],
    ids=["name", "bytes", "error", "deadline"],
)
def test_what_goes_wrong_in_another_way_is_a_failure_on_a_kernel_with_the_issue(
    project: Project, fault: str, said: str
) -> None:
    project.tests(f"""
        import time

        @pytest.mark.deadline(0.2)
        @pytest.mark.fixed_by("0123456789ab")
        def test_broken():
            {fault}
    """)
    found, output, status = verdicts(project, release="6.1.9-fake")
    assert found == {"test_broken": "failed"}
    assert status == 1
    assert "this kernel should have Broken (CVE-2026-1): fixed in 6.1.10 by 0123456789ab, but the failure" in output
    assert "does not look like it: expected ^AssertionError: it is broken$, got: " in output
    assert said in output


def test_what_goes_wrong_in_another_way_is_no_undecided_case_either(project: Project) -> None:
    project.tests("""
        @pytest.mark.fixed_by("0123456789ab")
        def test_broken():
            assert False, "it is something else"
    """)
    found, output, _ = verdicts(project, release="6.2.5-fake")
    assert found == {"test_broken": "failed"}
    assert "nobody looked up" not in output


@pytest.mark.parametrize(
    "last_words", ["guest.PANIC", "guest.OOPS.replace('fake_oops', 'other')"], ids=["panic", "oops"]
)
def test_a_crash_of_another_kind_is_a_crash_on_a_kernel_with_the_issue(project: Project, last_words: str) -> None:
    project.tests(f"""
        @pytest.mark.fixed_by("ba9876543210")
        def test_falls():
            guest.panic({last_words})
    """)
    found, output, status = verdicts(project, release="6.1.9-fake")
    assert found == {"test_falls": "crashed"}
    assert status == 1
    assert "but the failure does not look like it: expected" in output


BOTH = """
    @pytest.mark.fixed_by("0123456789ab")
    @pytest.mark.fixed_by("ba9876543210")
    def test_both():
        HOW
"""


@pytest.mark.parametrize(
    ("how", "verdict", "shown"),
    [
        ('assert False, "it is broken"', "known", "Broken (CVE-2026-1): fixed in 6.1.10 by 0123456789ab: 1 test"),
        ('assert False, "it fell over"', "known", "crypto: stand up: fixed in 6.1.10 by ba9876543210: 1 test"),
        ("guest.panic(guest.OOPS)", "known", "crypto: stand up: fixed in 6.1.10 by ba9876543210: 1 test"),
        ("assert False", "failed", "by ba9876543210 and Broken (CVE-2026-1)"),
        ("pass", "failed", "by ba9876543210 and Broken (CVE-2026-1)"),
    ],
    ids=["first", "second", "crash", "other", "passes"],
)
def test_a_test_of_two_issues_looks_like_one_of_them(project: Project, how: str, verdict: str, shown: str) -> None:
    project.tests(BOTH.replace("HOW", how))
    found, output, _ = verdicts(project, release="6.1.9-fake")
    assert found == {"test_both": verdict}
    assert shown in output


def test_a_test_may_say_that_nobody_looked_it_up(project: Project) -> None:
    project.tests("""
        from vm.guest.expect import Undecided

        def test_asks():
            raise Undecided("nobody looked up what 6.1.9 should answer")

        def test_fails():
            assert False, "nobody looked up what 6.1.9 should answer"
    """)
    found, output, status = verdicts(project, release="6.1.9-fake")
    assert found == {"test_asks": "undecided", "test_fails": "failed"}
    assert status == 1
    assert "nobody looked up what 6.1.9 should answer" in output
