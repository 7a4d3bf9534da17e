"""What is run: selection, matrices, odd test ids, broken and differing collections."""

from __future__ import annotations

import pytest

from vm.tests.harness import Project
from vm.tests.ktap_reader import read_ktap

THREE = "def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pass\n"
TWO_KERNELS = ("6.1.0-fake", "7.3.0-fake")


def test_each_test_runs_once_on_each_kernel(project: Project) -> None:
    project.tests("def test_a(): pass\n@pytest.mark.parametrize('n', range(30))\ndef test_n(n): pass\n")
    run = project.run("--vms=2", kernels=TWO_KERNELS)
    assert run.status == 0, run.output
    names = [f"test_{rest}" for k in TWO_KERNELS for rest in (f"a[{k}]", *(f"n[{k}-{n}]" for n in range(30)))]
    assert run.outcomes == dict.fromkeys(names, "passed")
    assert "62 passed" in run.output
    assert run.machines == ["6.1.0-fake-1", "6.1.0-fake-2", "7.3.0-fake-1", "7.3.0-fake-2"]


def test_kernel_whose_name_begins_another_keeps_its_own_tests(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run(kernels=("6.1.0", "6.1.0-fake"), fake="panics-in-boot@6.1.0-fake")
    cases = {name: word for name, word in run.outcomes.items() if name.startswith("test_")}
    assert cases == {"test_a[6.1.0]": "passed", "test_a[6.1.0-fake]": "failed"}


def test_running_kernel_needs_no_machine(project: Project) -> None:
    project.tests("def test_a(): assert 'VM_CONSOLE' in os.environ\n")
    run = project.run(kernels=["running"], fake=None)
    assert run.status == 0, run.output
    assert run.outcomes == {"test_a[running]": "passed"}


def test_without_kernel_tests_run_here_and_have_plain_ids(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run("-v", kernels=[], fake=None)
    assert run.status == 0, run.output
    assert "t/test_it.py::test_a PASSED" in run.output
    assert not run.machines


def test_k_selects(project: Project) -> None:
    project.tests(THREE)
    run = project.run("-k", "test_a or test_c")
    assert run.status == 0, run.output
    assert set(run.outcomes) == {"test_a[6.1.0-fake]", "test_c[6.1.0-fake]"}


def test_thorough_tests_are_left_out_unless_asked_for(project: Project) -> None:
    project.tests("def test_a(): pass\n@pytest.mark.thorough\ndef test_b(): assert 0\n")
    run = project.run()
    assert run.status == 0, run.output
    assert set(run.outcomes) == {"test_a[6.1.0-fake]"}
    assert "1 deselected" in run.output
    run = project.run("--thorough")
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "failed"}
    assert "6.1.0-fake --thorough 't/test_it.py::test_b[6.1.0-fake]'" in run.output


def test_k_selects_a_kernel_and_leaves_the_other_without_tests(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run("-k", "7.3.0", kernels=TWO_KERNELS)
    assert run.status == 0, run.output
    assert run.outcomes == {"test_a[7.3.0-fake]": "passed"}
    results = read_ktap((run.directory / "results.ktap").read_text())
    assert [(name, len(tests)) for name, tests in results.items()] == [("ok 6.1.0-fake", 0), ("ok 7.3.0-fake", 1)]


@pytest.mark.parametrize("kernels", [TWO_KERNELS[:1], TWO_KERNELS])
def test_single_id_runs_that_test(project: Project, kernels: tuple[str, ...]) -> None:
    project.tests(THREE)
    run = project.run("t/test_it.py::test_c[6.1.0-fake]", kernels=kernels)
    assert run.status == 0, run.output
    assert run.outcomes == {"test_c[6.1.0-fake]": "passed"}


def test_x_stops_after_the_first_failure(project: Project) -> None:
    project.tests("def test_a(): assert 0\n" + "".join(f"def test_{n}(): time.sleep(0.05)\n" for n in range(60)))
    run = project.run("-x")
    assert run.status == 1
    assert run.outcomes["test_a[6.1.0-fake]"] == "failed"
    assert sum(verdict != "not run" for verdict in run.verdicts.values()) < 10
    assert "stopping after 1 failures" in run.output
    assert "NOT RUN" not in run.output, "nobody wanted the rest"
    project.assert_nothing_left()


def test_x_stops_after_a_crash(project: Project) -> None:
    project.tests("def test_a(): guest.panic()\ndef test_b(): pass\ndef test_c(): pass\n")
    run = project.run("-x")
    assert run.status == 1
    assert run.outcomes["test_a[6.1.0-fake]"] == "failed"
    assert run.verdicts["t/test_it.py::test_c[6.1.0-fake]"] == "not run"
    assert run.machines == ["6.1.0-fake-1"]


def test_lf_runs_what_failed_and_nothing_of_a_kernel_without_failures(project: Project) -> None:
    project.tests("def test_a(): pass\ndef test_b(vm_kernel): assert vm_kernel != '7.3.0-fake'\n")
    first = project.run(kernels=TWO_KERNELS)
    assert first.status == 1
    assert len(first.outcomes) == 4
    again = project.run("--lf", kernels=TWO_KERNELS)
    assert again.status == 1
    assert again.outcomes == {"test_b[7.3.0-fake]": "failed"}


def test_lf_runs_a_test_that_crashed(project: Project) -> None:
    project.tests("def test_a(): pass\ndef test_b(): guest.panic()\n")
    project.run()
    again = project.run("--lf")
    assert again.status == 1
    assert again.outcomes == {"test_b[6.1.0-fake]": "failed"}


def test_collect_only_boots_nothing(project: Project) -> None:
    project.tests(THREE)
    run = project.run("--collect-only", "-q", fake="killed")
    assert run.status == 0, run.output
    shown = [line for line in run.output.splitlines() if "::" in line]
    assert shown == [f"t/test_it.py::test_{x}[6.1.0-fake]" for x in "abc"]
    assert not project.results.exists()


def test_selection_that_matches_nothing_is_status_five(project: Project) -> None:
    project.tests(THREE)
    run = project.run("-k", "nothing_is_called_that")
    assert run.status == 5, run.output
    project.assert_nothing_left()


def test_kernel_without_any_test_of_its_own_is_not_waited_for(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run("t/test_it.py::test_a[6.1.0-fake]", kernels=TWO_KERNELS, fake="slow@7.3")
    assert run.status == 0, run.output
    assert "7.3.0-fake-1: up" not in run.output
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed"}


@pytest.mark.parametrize("wrong", ["t/missing.py", "t/test_it.py::test_missing"])
def test_unknown_file_or_test_is_a_usage_error(project: Project, wrong: str) -> None:
    project.tests(THREE)
    run = project.run(wrong)
    assert run.status == 4, run.output
    assert wrong.split("::")[-1] in run.output
    assert "Traceback" not in run.output
    project.assert_nothing_left()


def test_syntax_error_ends_the_run_with_its_place(project: Project) -> None:
    project.tests(THREE)
    project.tests("def test_broken(:\n", name="test_broken.py")
    run = project.run()
    assert run.status == 2
    assert "test_broken.py" in run.output
    assert "SyntaxError" in run.output
    assert "INTERNALERROR" not in run.output
    project.assert_nothing_left()


def test_syntax_error_does_not_hide_the_rest_when_asked(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    project.tests("def test_broken(:\n", name="test_broken.py")
    run = project.run("--continue-on-collection-errors")
    assert run.status == 1
    assert run.outcomes["test_a[6.1.0-fake]"] == "passed"
    assert "SyntaxError" in run.output


IN_GUEST = "if 'VM_CONSOLE' in os.environ:\n"


def test_file_that_cannot_be_imported_in_the_guest_only(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    project.tests(IN_GUEST + "    raise ImportError('not in this guest')\ndef test_b(): pass\n", name="test_other.py")
    run = project.run()
    assert run.status != 0
    assert "not in this guest" in run.output
    assert run.outcomes["test_b[6.1.0-fake]"] == "failed", "it was not run, and that shows"
    project.assert_nothing_left()


def test_test_that_the_guest_does_not_collect_is_not_run(project: Project) -> None:
    project.tests("def test_a(): pass\nif 'VM_CONSOLE' not in os.environ:\n    def test_b(): pass\n")
    run = project.run()
    assert run.status == 1
    assert run.outcomes == {"test_a[6.1.0-fake]": "passed", "test_b[6.1.0-fake]": "failed"}
    assert "collected on the host, but not in the guest" in run.cases["test_b[6.1.0-fake]"].text


def test_guest_that_collects_nothing_is_no_success(project: Project) -> None:
    project.tests("if 'VM_CONSOLE' not in os.environ:\n    def test_a(): pass\n")
    run = project.run()
    assert run.status == 1
    assert run.outcomes == {"test_a[6.1.0-fake]": "failed"}


def test_machines_that_collect_differently_run_everything_all_the_same(project: Project) -> None:
    # The second machine lacks the first tests and has them in another order. It collects when the first is at work:
    # with all its tests done before the first has collected, nobody would wait for a machine that may never come.
    project.tests(
        "first = 'VM_CONSOLE' not in os.environ or guest.machine().endswith('-1')\n"
        "numbers = list(range(60)) if first else list(range(59, 9, -1))\n"
        "while not first and not os.path.exists('at-work'): time.sleep(0.01)\n"
        "@pytest.mark.parametrize('n', numbers)\n"
        "def test_n(n):\n    open('at-work', 'w').close()\n    time.sleep(0.02)\n"
    )
    run = project.run("--vms=2")
    assert run.status == 0, run.output
    assert set(run.outcomes) == {f"test_n[6.1.0-fake-{n}]" for n in range(60)}


def test_test_that_only_a_dead_machine_had_is_not_run(project: Project) -> None:
    project.tests(
        "def test_a(): guest.panic()\n"
        "if 'VM_CONSOLE' not in os.environ or guest.machine().endswith('-1'):\n    def test_b(): pass\n"
        "def test_c(): pass\n"
    )
    run = project.run("-v")
    assert run.status == 1
    assert run.outcomes["test_c[6.1.0-fake]"] == "passed"
    assert run.outcomes["test_b[6.1.0-fake]"] == "failed"
    assert "had it in its collection" in run.cases["test_b[6.1.0-fake]"].text
    assert run.machines == ["6.1.0-fake-1", "6.1.0-fake-2"]


ODD = """
class TestClass:
    class TestInner:
        def test_in_class(self): guest.panic()

@pytest.mark.parametrize("text", [
    "gcm(aes)-64K+1", "a]b[c", "a::b", "with space", "tab\\tnew\\nline", "ünïcode-☃", "", "-", "end]", "%s%n",
    "'quoted\\"", "$(echo)", "x" * 2000,
])
def test_id(text): guest.panic()

def test_ünïcode(): guest.panic()
"""


def test_odd_ids_are_blamed_exactly(project: Project) -> None:
    """Each of them kills its machine, so that each id goes over the console and is found there again."""
    project.tests(ODD, name="odd [dir]/test_odd.py")
    run = project.run("-v", "--vms=2")
    assert run.status == 1
    assert set(run.verdicts.values()) == {"crashed"}
    assert len(run.verdicts) == 15
    assert "between tests" not in run.output
    assert "INTERNALERROR" not in run.output


def test_test_without_the_kernel_in_its_id_is_refused(project: Project) -> None:
    """A unittest.TestCase cannot be parametrised: on two kernels its results would be one."""
    project.tests("import unittest\nclass TestOld(unittest.TestCase):\n    def test_a(self): pass\n")
    run = project.run(kernels=TWO_KERNELS)
    assert run.status == 4
    assert "t/test_it.py::TestOld::test_a cannot carry the kernel in its id" in run.output
    assert "Traceback" not in run.output
    project.assert_nothing_left()


@pytest.mark.parametrize("option", ["--fixtures", "--markers", "--cache-show", "--version", "--help"])
def test_what_only_asks_pytest_boots_nothing_and_leaves_no_results(project: Project, option: str) -> None:
    """Such a run was green, with every test not run."""
    project.tests("def test_a(): pass\n")
    run = project.run(option)
    assert run.status == 0
    assert "Traceback (most recent" not in run.output
    assert not project.results.exists()


def test_a_directory_in_place_of_the_link_to_the_latest_run(project: Project) -> None:
    """As an unpacked artefact has it."""
    project.tests("def test_a(): pass\n")
    (project.results / "latest").mkdir(parents=True)
    run = project.run()
    assert run.status == 0, run.output
    assert "no link" in run.output
    assert len(list(project.results.glob("*/results.json"))) == 1


@pytest.mark.parametrize("arguments", [(), ("--continue-on-collection-errors",)])
def test_file_that_cannot_be_imported_is_a_failure_in_every_view(project: Project, arguments: tuple[str, ...]) -> None:
    project.tests("def test_a(): pass\n")
    project.tests("import nothing_such\n", "test_broken.py")
    run = project.run(*arguments)
    assert run.status == (1 if arguments else 2)
    assert run.verdicts["t/test_broken.py"] == "failed"
    assert "nothing_such" in (run.directory / "junit.xml").read_text()
    assert "not ok 1 6.1.0-fake" in (run.directory / "results.ktap").read_text()
