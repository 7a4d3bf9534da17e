"""A test whose kernel log was overwritten before the guest read it: the console tells, or the check was not made."""

from __future__ import annotations

import pytest

from vm.machine.log_file import HEAD, READ
from vm.tests.harness import Project, Run

TESTS = f"""
def test_warns(): guest.log_overwritten(guest.WARNING)
def test_chatters(): guest.log_overwritten("all is well")
@pytest.mark.xfail(reason="known issue")
def test_known(): guest.log_overwritten(guest.WARNING); assert False
def test_skips(): guest.log_overwritten(guest.WARNING); pytest.skip("the kernel lacks it")
@pytest.fixture
def after(): yield; guest.log_overwritten()
def test_warns_once(after): guest.console(guest.WARNING)
def test_floods(): guest.log_overwritten(("." * 999 + chr(10)) * {(HEAD + READ) // 1000 + 99})
def test_passes(): pass
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    project = Project(tmp_path_factory.mktemp("lost"))
    project.tests(TESTS)
    return project.run("-v", "--vm-deadline=60", kernels=["6.1.0-fake"])


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("warns", "failed", "af_alg_fake_warning+0x1c2/0x210 [af_alg] (its log was overwritten, the console tells)"),
        ("chatters", "passed", ""),
        ("known", "skipped", "known issue"),
        ("skips", "failed", "(its log was overwritten, the console tells)"),
        ("warns_once", "failed", "the kernel complained: WARNING: CPU: 0 PID: 79"),
        ("floods", "failed", "what it said in this test is not known"),
        ("passes", "passed", ""),
    ],
)
def test_the_console_tells_what_the_log_has_lost(run: Run, name: str, outcome: str, words: str) -> None:
    case = run.cases[f"test_{name}[6.1.0-fake]"]
    assert case.outcome == outcome
    assert words in case.text
    assert case.text.count("the kernel complained:") <= 2, "in the message, and in the text: not once a phase"
