"""Guests that lie: what they send is looked at, and costs them their machine and nobody else anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vm.run import said
from vm.tests.harness import Project

LOCATION = ("t.py", 1, "test_a")
REPORT = {
    "$report_type": "TestReport", "nodeid": "t.py::test_a[k]", "location": LOCATION, "keywords": {"test_a": 1},
    "outcome": "passed", "longrepr": None, "when": "call", "user_properties": [("n", 1)], "sections": [("a", "b")],
    "duration": 0.1, "start": 1.0, "stop": 1.1, "item_index": 0, "worker_id": "gw0", "testrun_uid": "x",
}  # fmt: skip
PLACE = {"path": "t.py", "lineno": 3, "message": "no"}
TRACEBACK = {
    "reprentries": [
        {"type": "ReprEntryNative", "data": {"lines": ["a"], "style": "native"}},
        {
            "type": "ReprEntry",
            "data": {
                "lines": ["a"], "reprfuncargs": {"args": [("n", "1")]}, "reprlocals": None, "reprfileloc": PLACE,
                "style": "long",
            },
        },
    ],
    "extraline": None, "style": "long",
}  # fmt: skip
FAILURE = {"reprcrash": PLACE, "reprtraceback": TRACEBACK, "sections": [], "chain": [(TRACEBACK, None, None)]}
WARNING = {
    "message_str": "sh", "message_module": "subprocess", "message_class_name": "Popen", "message_args": ["sh"],
    "category_module": "os", "category_class_name": "system", "filename": "t.py", "lineno": 1, "file": None,
    "line": None, "source": None, "_category_name": "x",
}  # fmt: skip


def report(**changes: Any) -> tuple[str, dict[str, Any]]:
    return "testreport", {"data": {**REPORT, **changes}}


@pytest.mark.parametrize(
    "longrepr", [None, "text", ("t.py", 3, "Skipped: why"), FAILURE], ids=["none", "text", "skip", "failure"]
)
def test_reports_of_pytest_come_through(longrepr: object) -> None:
    """As they are."""
    assert said.event(report(longrepr=longrepr)) == report(longrepr=longrepr)


def test_members_that_no_report_has_are_taken_off() -> None:
    """With ``vm_kernel`` one would be for another kernel; a method's name would be in the method's place."""
    assert said.event(report(vm_kernel="other", node="n", toterminal=1)) == report()


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("noise", "'noise' in the place of an event"),
        (("logstart",), "in the place of an event"),
        (("errordown", {"error": "x"}), "an event 'errordown'"),
        (("logstart", {"nodeid": 7, "location": LOCATION}), "logstart with 7 for nodeid"),
        (("logstart", {"nodeid": "t", "location": LOCATION, "node": 1}), "logstart with 'node'"),
        (("logstart", {"nodeid": "t" * (1 << 24), "location": "t"}), "logstart with"),
        (("collectionfinish", {"topdir": "/", "ids": ["t", None]}), "for ids"),
        (("runtest_protocol_complete", {"item_index": -1, "duration": 0}), "-1 for item_index"),
        (("runtest_protocol_complete", {"item_index": True, "duration": 0}), "True for item_index"),
        (("workerfinished", {"workeroutput": {"exitstatus": "0"}}), "for workeroutput"),
        (report(outcome="perfect"), "a report with 'perfect' for outcome"),
        (report(longrepr={**FAILURE, "chain": [(TRACEBACK, PLACE)]}), "for longrepr"),
        (report(longrepr=b"bytes"), "for longrepr"),
        (report(splats=[["kind", "title"]]), "for splats"),
        (report(when=["call"]), "for when"),
        (report(user_properties=[("n", object())]), "for user_properties"),
        (("testreport", {"data": {"outcome": "passed"}}), "a report with None for"),
        (("collectreport", {"data": REPORT}), "a report with 'TestReport' for $report_type"),
    ],
)  # fmt: skip
def test_what_no_pytest_says_is_not_believed(event: object, why: str) -> None:
    with pytest.raises(said.NotBelieved) as error:
        said.event(event)
    assert why in str(error.value)
    assert len(str(error.value)) < 200


def test_of_events_sent_together_each_is_looked_at() -> None:
    one = ("logfinish", {"nodeid": "t", "location": LOCATION})
    assert said.events(one) == [one]
    assert said.events(("together", {"events": [one, one]})) == [one, one]
    for wrong in ([one, "noise"], [("together", {"events": [one]})], "noise", None):
        with pytest.raises(said.NotBelieved):
            said.events(("together", {"events": wrong}))


def test_no_class_is_made_because_a_guest_names_it() -> None:
    """xdist would import the module of a warning and call the class with the guest's arguments."""
    values = {"warning_message_data": WARNING, "when": "runtest", "nodeid": "t", "location": None}
    _, found = said.event(("warning_recorded", values))
    data = found["warning_message_data"]
    assert (data["message_module"], data["message_class_name"], data["message_args"]) == (None, None, None)
    assert (data["category_module"], data["category_class_name"]) == ("builtins", "Warning")
    assert data["message_str"] == "system: sh"
    known = {**WARNING, "category_module": "builtins", "category_class_name": "DeprecationWarning"}
    _, found = said.event(("warning_recorded", {**values, "warning_message_data": known}))
    assert found["warning_message_data"]["category_class_name"] == "DeprecationWarning"


def test_facts_of_the_wrong_kind_are_none() -> None:
    """The others stay."""
    told = {"release": "6.1", "taint": "none", "proc_crypto": ["x"], "modules": ["a"], "sysctls": {"a": 1}, "x": 1}
    assert said.facts(told) == {"release": "6.1", "modules": ["a"]}
    assert said.facts(["release"]) == {}


SEND = """
import json
from vm.guest import serve

@pytest.fixture
def send(request):
    worker = next(p for p in request.config.pluginmanager.get_plugins() if type(p).__name__ == "WorkerInteractor")
    return lambda name, **values: type(worker).sendevent(worker, name, **values)

def report(request, **changes):
    rep = pytest.TestReport.from_item_and_call(
        request.node, pytest.CallInfo.from_call(lambda: None, "call")
    )
    return {**request.config.hook.pytest_report_to_serializable(config=request.config, report=rep), **changes}

def test_before(): assert 0, "it fails"
"""
LIES = {
    "another kernels test": 'send("testreport", data=report(request, nodeid="t/test_it.py::test_before[6.2.0-fake]"))',
    "a test that was run": 'send("testreport", data=report(request, nodeid="t/test_it.py::test_before[6.1.0-fake]"))',
    "a test that is not begun": (
        'send("logstart", nodeid="t/test_it.py::test_after[6.1.0-fake]", location=("t", 1, "t"))'
    ),
    "no test": 'send("runtest_protocol_complete", item_index=99, duration=0.0)',
    "another collection": 'send("collectionfinish", topdir="/", ids=["t/test_it.py::test_after[6.2.0-fake]"])',
    "no event": 'send("errordown", error="it is over")',
    "many reports": '[send("testreport", data=report(request)) for _ in range(1100)]',
}


@pytest.mark.deadline(60)
@pytest.mark.parametrize("lie", LIES.values(), ids=[name.replace(" ", "-") for name in LIES])
def test_a_guest_that_lies_loses_its_machine_only(project: Project, lie: str) -> None:
    """Its test is "vm lost"; no verdict is another one for it, and the run is complete."""
    project.tests(f"{SEND}\ndef test_lies(request, send):\n    {lie}\n    guest.deaf()\n\ndef test_after(): pass\n")
    run = project.run("-v", "--test-deadline=4", "--vm-deadline=20", kernels=("6.1.0-fake", "6.2.0-fake"))
    assert run.status == 1
    both = {
        f"t/test_it.py::test_{name}[{kernel}-fake]"
        for name in ("before", "lies", "after")
        for kernel in ("6.1.0", "6.2.0")
    }
    assert set(run.verdicts) == both
    for kernel in ("6.1.0", "6.2.0"):
        found = [run.verdicts[f"t/test_it.py::test_{name}[{kernel}-fake]"] for name in ("before", "lies", "after")]
        assert found == ["failed", "vm lost", "passed"], kernel
    assert "was not said by its pytest" in run.cases["test_lies[6.1.0-fake]"].text
    assert "INTERNALERROR" not in run.output
    project.assert_nothing_left()


@pytest.mark.deadline(60)
def test_facts_that_are_made_up_do_no_harm(project: Project) -> None:
    """Of another type, and later than the true ones."""
    project.tests(
        SEND
        + "\n@pytest.fixture(scope='session', autouse=True)\ndef lies():\n    yield\n"
        + "    serve.say('facts ' + json.dumps({'taint': [], 'proc_crypto': 7, 'modules': {}, 'release': None}))\n"
    )
    run = project.run("-v")
    assert run.verdicts == {"t/test_it.py::test_before[6.1.0-fake]": "failed"}
    assert "INTERNALERROR" not in run.output


@pytest.mark.deadline(60)
def test_a_warning_of_a_guest_is_text(project: Project, tmp_path: Path) -> None:
    """Whatever class it names: nothing of it is imported or called here."""
    project.tests(
        SEND
        + f"""
def test_warns(send):
    send("warning_recorded", when="runtest", nodeid="t", location=None, warning_message_data=dict(
        message_str="hm", message_module="pathlib", message_class_name="Path", message_args=["x"],
        category_module="os", category_class_name="system", filename="t.py", lineno=1, file=None, line=None,
        source=None, _category_name="x"))
    send("warning_recorded", when="runtest", nodeid="t", location=None, warning_message_data=dict(
        message_str="touch", message_module="os", message_class_name="mkdir", message_args=[{str(tmp_path / "made")!r}],
        category_module=None, category_class_name=None, filename="t.py", lineno=1, file=None, line=None,
        source=None, _category_name=None))
"""
    )
    run = project.run("-v")
    assert run.verdicts["t/test_it.py::test_warns[6.1.0-fake]"] == "passed"
    assert "system: hm" in run.output
    assert not (tmp_path / "made").exists()
