"""What vm/guest/internals.py relies upon is there in the installed pytest, xdist and execnet, and used nowhere else.

When one of these fails after an upgrade, its message names the interface; that function is what has to be mended.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import queue
import shlex
import struct
import subprocess
import sys
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import execnet
import pytest
import xdist.remote
from xdist.workermanage import WorkerController

from vm.base.files import ROOT
from vm.guest import internals
from vm.run.session import VmSession
from vm.tests.harness import poll

# Underscored names of the three packages that are, or were, used here; and their modules that promise nothing.
PRIVATE = {"_active_nodes", "_basetemp", "_cache_rinfo", "_clone_node", "_do_configure", "_error", "_handlefailures"}
PRIVATE |= {"_setupstate", "_io", "_rinfo", "_session", "_tmp_path_factory", "_tw"}
MODULES = ("_pytest", "xdist", "execnet")
# Events of a worker for which DSession has a method; one that is new may carry a verdict.
EVENTS = {"workerready", "workerfinished", "internal_error", "errordown", "collectionfinish", "logstart", "logfinish"}
EVENTS |= {"testreport", "runtest_protocol_complete", "unscheduled", "collectreport", "warning_recorded"}
# A guest's Python: what vm/machine/relay.py and vm/guest/serve.py do, in one process.
INTERPRETER = "from vm.guest import internals; assert internals.answer_bootstrap() == b''; "


# Three processes of Python start.
pytestmark = pytest.mark.deadline(60)


@contextlib.contextmanager
def relies_upon(interface: str) -> Generator[None, None, None]:
    """Have what goes wrong in the block name the interface that it is about."""
    try:
        yield
    except Exception as error:
        installed = ", ".join(f"{name} {version(name)}" for name in ("pytest", "pytest-xdist", "execnet"))
        raise AssertionError(f"{interface} is not what vm/guest/internals.py takes it for ({installed})") from error


def python(statement: str) -> str:
    """Return the command of a Python that answers execnet and then does ``statement``."""
    return shlex.join(["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", INTERPRETER + statement])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[pytest.Config, None, None]:
    """Return the configuration of a pytest without tests."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = ["-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    made = pytest.Config.fromdictargs({}, words)
    made._do_configure()
    yield made
    made._ensure_unconfigure()


@pytest.fixture
def report() -> pytest.TestReport:
    """Return a report of a test that failed."""
    return pytest.TestReport("t.py::t", ("t.py", 0, "t"), {}, "failed", "words", "call")


def test_nobody_else_uses_them() -> None:
    found = []
    for path in sorted((ROOT / "vm").rglob("*.py")):
        if path.name in ("internals.py", Path(__file__).name):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            private = isinstance(node, ast.Attribute) and node.attr in PRIVATE and not _is_own(node)
            if private or any(name.split(".")[0] in MODULES for name in names):
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
    assert not found, "private interfaces of pytest, xdist or execnet; use or extend vm/guest/internals.py"


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_each_has_a_test_here() -> None:
    functions = {name for name, _ in inspect.getmembers(internals, inspect.isfunction)}
    text = Path(__file__).read_text()
    assert functions == {name for name in functions if f"internals.{name}(" in text}


def test_worker_knows_what_it_was_told(pytestconfig: pytest.Config) -> None:
    with relies_upon("Config.workerinput, in xdist's workers"):
        told = internals.workerinput(pytestconfig)
        assert (told or {}).get("workerid") == os.environ.get("PYTEST_XDIST_WORKER")


def test_attributes_travel_with_a_report(config: pytest.Config, report: pytest.TestReport) -> None:
    with relies_upon("serializing of TestReport.__dict__"):
        internals.attach(report, splats=[["a", "b"]], wasxfail="why")
        report.outcome = "skipped"
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        arrived = config.hook.pytest_report_from_serializable(config=config, data=data)
        assert internals.detach(arrived, "splats") == [["a", "b"]]
        assert internals.detach(arrived, "splats") is None
    with relies_upon("TestReport.wasxfail"):
        assert config.hook.pytest_report_teststatus(report=arrived, config=config)[0] == "xfailed"


def test_terminal_knows_whether_it_is_within_a_line(config: pytest.Config) -> None:
    with relies_upon("TerminalReporter._tw.width_of_current_line"):
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        reporter.write("..F")
        assert internals.within_a_line(reporter)
        reporter.write_line("")
        assert not internals.within_a_line(reporter)


def test_session_expects_as_many_tests_as_it_is_told(config: pytest.Config) -> None:
    with relies_upon('the plugin "session", Session.testscollected'):
        internals.expect_one_more(config)
        session = pytest.Session.from_config(config)
        internals.expect_one_more(config)
        assert session.testscollected == 1


def test_temporary_directory_is_not_made(config: pytest.Config, tmp_path: Path) -> None:
    with relies_upon("Config._tmp_path_factory._basetemp"):
        internals.name_temporary_directory(config, tmp_path / "none")
        assert config._tmp_path_factory.getbasetemp() == tmp_path / "none"  # type: ignore[attr-defined]
        assert not (tmp_path / "none").exists()
        below = [config._tmp_path_factory.getbasetemp() / name for name in ("gw0", "gw1")]  # type: ignore[attr-defined]
        assert below[0] == below[1]


def test_controller_calls_what_we_override() -> None:
    base = internals.controller()
    with relies_upon("xdist.dsession.DSession: methods for events, and the loop"):
        assert {name.removeprefix("worker_") for name in vars(base) if name.startswith("worker_")} == EVENTS
        ours = {name for name in vars(VmSession) if name.startswith("worker_")} | {"loop_once", "triggershutdown"}
        ours.remove("worker_disbelieved")  # internals.check_what_it_says(
        for name in ours:
            assert inspect.signature(getattr(base, name)).parameters.keys() == (
                inspect.signature(getattr(VmSession, name)).parameters.keys()
            ), name


def test_controller_has_what_we_use(config: pytest.Config, report: pytest.TestReport) -> None:
    with relies_upon("attributes of DSession"):
        session = internals.controller()(config)
        for name in ("config", "queue", "sched", "shuttingdown", "countfailures", "maxfail", "terminal", "nodemanager"):
            assert hasattr(session, name), name
    with relies_upon("DSession._active_nodes"):
        session.shuttingdown = True
        internals.active_workers(session).add(session)
        assert not session.session_finished
        internals.active_workers(session).clear()
        assert session.session_finished
    with relies_upon("DSession._handlefailures"):
        session.maxfail, session.shouldstop = 1, False
        internals.count_failure(session, report)
        assert session.countfailures == 1
        assert session.shouldstop
    with relies_upon('the plugin "terminaldistreporter"'):
        assert config.pluginmanager.has_plugin("terminaldistreporter")
        internals.be_quiet(config)
        assert not config.pluginmanager.has_plugin("terminaldistreporter")


def test_worker_is_started_and_answers(config: pytest.Config) -> None:
    events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    with relies_upon("xdist.workermanage.NodeManager: group.allocate_id, setup_node"):
        manager = internals.new_manager(config)
        worker = internals.start_worker(manager, python("internals.serve()"), "6.1", events.put)
        assert worker.gateway.spec.kernel == "6.1"
    try:
        with relies_upon("execnet.gateway_base: get_execmodel, init_popen_io, serve"):
            assert events.get(timeout=60)[0] == "workerready"
        with relies_upon("Gateway._io.popen"):
            assert internals.process_of(worker).poll() is None
        with relies_upon("WorkerController"):
            assert not worker.shutting_down
            assert callable(worker.send_runtest_some)
            assert "workerid" in worker.workerinput
            worker.shutdown()
            assert worker.shutting_down
            poll(lambda: any(name == "workerfinished" for name, _ in events.queue), 60, "it goes on")
            worker.ensure_teardown()
    finally:
        manager.teardown_nodes()
    with relies_upon("Gateway._error"):
        poll(lambda: not worker.gateway.hasreceiver(), 60, "the receiver goes on")
        assert not internals.gave_up(worker)


@pytest.fixture
def speaker(config: pytest.Config) -> Any:
    """Return what speaks for a worker, with a test that it has not begun; ``sent`` has what went to the host."""
    sent: list[Any] = []
    config.workerinput = {"workerid": "gw0", "testrunuid": "x"}  # type: ignore[attr-defined]
    gateway = SimpleNamespace(execmodel=execnet.gateway_base.get_execmodel("thread"))
    worker: Any = xdist.remote.WorkerInteractor(config, SimpleNamespace(send=sent.append, gateway=gateway))
    with relies_upon("WorkerInteractor: a plugin, with sendevent and torun"):
        internals.say_together(config)
        worker.torun.put(1)
        worker.pytest_runtest_logstart("a", ("a", 1, "a"))
    worker.sent = sent
    return worker


BEGIN = ("logstart", {"nodeid": "a", "location": ("a", 1, "a")})
GOOD = ("testreport", {"data": {"outcome": "passed"}})
BAD = ("testreport", {"data": {"outcome": "failed"}})
END = ("logfinish", {"nodeid": "a"})
COMPLETE = ("runtest_protocol_complete", {"item_index": 0})


def test_worker_says_of_a_good_test_all_at_once(speaker: Any) -> None:
    """With the beginning of the next, which is known before the machine may die of it."""
    for name, values in (GOOD, GOOD, GOOD, END, COMPLETE):
        speaker.sendevent(name, **values)
    assert speaker.sent == [BEGIN]
    speaker.pytest_runtest_logstart("a", ("a", 1, "a"))
    assert speaker.sent[1:] == [("together", {"events": [GOOD, GOOD, GOOD, END, COMPLETE, BEGIN]})]


def test_worker_does_not_wait_with_what_is_bad(speaker: Any) -> None:
    for name, values in (GOOD, BAD, END):
        speaker.sendevent(name, **values)
    assert speaker.sent == [BEGIN, ("together", {"events": [GOOD, BAD]})]


def test_worker_without_another_test_does_not_wait(speaker: Any) -> None:
    """The host sends it one when it knows that this one is over."""
    speaker.torun.get()
    for name, values in (END, COMPLETE):
        speaker.sendevent(name, **values)
    assert speaker.sent == [BEGIN, ("together", {"events": [END, COMPLETE]})]


def test_worker_that_said_nothing_for_long_does_not_wait(speaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence is judged (vm/run/deadlines.py)."""
    monkeypatch.setattr(internals, "_LONGEST_WAIT", -1.0)
    speaker.sendevent(GOOD[0], **GOOD[1])
    assert speaker.sent == [BEGIN, GOOD]


def test_worker_is_listened_to_by_what_it_was_given(config: pytest.Config) -> None:
    told: list[Any] = []
    given: list[Any] = []
    channel = SimpleNamespace(send=lambda _: None, setcallback=lambda function, **_named: given.append(function))
    gateway = SimpleNamespace(
        id="gw0", spec=execnet.XSpec("popen//id=gw0"), _rinfo=lambda: None, remote_exec=lambda _module: channel
    )

    def check(said: object) -> list[tuple[str, dict[str, Any]]]:
        if said != "two events":
            raise LookupError(f"what is {said!r}?")
        return [("logstart", {"nodeid": "looked at"}), ("logfinish", {"nodeid": "looked at"})]

    with relies_upon("WorkerController.process_from_remote, after pytest_configure_node"):
        manager = SimpleNamespace(config=config, roots=[], testrunuid="x", specs=[gateway.spec])
        worker: Any = WorkerController(manager, gateway, config, told.append)
        hook = SimpleNamespace(
            pytest_configure_node=lambda node: internals.check_what_it_says(node, check, LookupError),
            pytest_xdist_getremotemodule=lambda: None,
        )
        worker.config = SimpleNamespace(hook=hook, invocation_params=SimpleNamespace(args=()))
        worker.setup()
        for said in ("two events", "noise"):
            given[0](said)
        assert [(name, values.get("nodeid"), values.get("reason")) for name, values in told] == [
            ("logstart", "looked at", None),
            ("logfinish", "looked at", None),
            ("disbelieved", None, "what is 'noise'?"),
        ]


@pytest.mark.parametrize("kept", [False, True])
def test_worker_keeps_its_own_path(config: pytest.Config, kept: bool) -> None:
    sent: list[Any] = []
    channel = SimpleNamespace(send=sent.append, setcallback=lambda *_args, **_named: None)
    gateway = SimpleNamespace(
        id="gw0", spec=execnet.XSpec("popen//id=gw0"), _rinfo=lambda: None, remote_exec=lambda _module: channel
    )
    with relies_upon("WorkerController.setup: sys.path by gateway.spec.popen, after pytest_configure_node"):
        manager = SimpleNamespace(config=config, roots=[], testrunuid="x", specs=[gateway.spec])
        worker: Any = WorkerController(manager, gateway, config, lambda _event: None)
        hook = SimpleNamespace(
            pytest_configure_node=lambda node: internals.keep_its_path(node) if kept else None,
            pytest_xdist_getremotemodule=lambda: None,
        )
        worker.config = SimpleNamespace(hook=hook, invocation_params=SimpleNamespace(args=()))
        worker.setup()
        assert (sent[0][3] is None) == kept


# Sends back what it is sent until that has two messages, as one line of a file.
LISTENS = """
import os
said = b""
while internals.length_of_messages(said, 2) is None: said += os.read(0, 1 << 16)
open({file!r}, "ab").write(said[:internals.length_of_messages(said, 2)].hex().encode() + b"\\n")
"""


def test_all_workers_are_told_alike(config: pytest.Config, tmp_path: Path) -> None:
    """One goes on where another has collected, if what it is told first is what that one was told."""
    heard = tmp_path / "heard"
    program = tmp_path / "listens.py"
    program.write_text(LISTENS.format(file=str(heard)))

    class Hook:
        def pytest_xdist_newgateway(self, gateway: Any) -> None:
            internals.tell_interpreter(gateway)

        def pytest_configure_node(self, node: WorkerController) -> None:
            internals.keep_its_path(node)
            internals.tell_all_alike(node)

    def start(in_all: int) -> None:
        internals.name_temporary_directory(config, tmp_path / "none")
        manager = internals.new_manager(config)
        told: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        for _ in range(2):
            internals.start_worker(manager, python(f"exec(open({str(program)!r}).read())"), "6.1", told.put)
        poll(lambda: heard.exists() and len(heard.read_text().splitlines()) == in_all, 50, "they were told nothing")
        manager.teardown_nodes()

    with relies_upon("WorkerController.setup: workerinput, and two messages before any other"):
        config.pluginmanager.register(Hook())
        start(2)
        start(4)
        lines = heard.read_text().split()
        assert len(lines) == 4
        assert len(set(lines)) == 1
        assert b"WorkerInteractor" in bytes.fromhex(lines[0])


def test_messages_are_counted() -> None:
    data = struct.pack("!bii", 4, 1, 3) + b"abc" + struct.pack("!bii", 4, 1, 0) + struct.pack("!bii", 4, 1, 9)
    assert internals.length_of_messages(data, 1) == 12
    assert internals.length_of_messages(data, 2) == 21
    assert internals.length_of_messages(data, 3) is None
    assert internals.length_of_messages(data[:11], 1) is None
    assert internals.length_of_messages(b"", 1) is None


def test_what_is_imported_ahead_is_imported_by_any_pytest_and_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    program = """
import sys
from vm.guest import internals
internals.import_ahead()
before = set(sys.modules)
import pytest
status = pytest.main(["-q", "-W", "error", "-p", "no:cacheprovider", sys.argv[1]])
print(len(before & set(sys.modules)), "late:", *sorted(n for n in set(sys.modules) - before if n.startswith("_pytest")))
sys.exit(status)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with relies_upon("_pytest.config.default_plugins"):
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        late = run.stdout.splitlines()[-1].partition("late:")[2].split()
        assert len(late) < 5, late


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_messages_are_found_in_a_stream(step: int) -> None:
    def stream(*messages: tuple[int, bytes]) -> bytes:
        return b"".join(struct.pack("!bii", 4, 1, length) + data for length, data in messages)

    good = stream((0, b""), (3, b"abc"), (100, bytes(100)))
    with relies_upon("execnet.gateway_base.Message: nine bytes before each"):
        written: list[bytes] = []
        execnet.gateway_base.Message(4, 1, b"abc").to_io(SimpleNamespace(write=written.append))
        assert written == [stream((3, b"abc"))]
        frames = internals.Frames(most=100)
        found = [frames.too_long(good[place : place + step]) for place in range(0, len(good), step)]
        assert set(found) == {None}
        for length in (101, -1):
            assert internals.Frames(most=100).too_long(good + stream((length, b""))) == length


def test_gateway_is_given_up_for_garbage() -> None:
    # Nine bytes that end in the length, and that many: a message of no known type.
    said = r"import os; os.write(1, b'Segme\0\0\0\1n'); os.read(0, 1)"
    gateway = execnet.makegateway(f"popen//python={python(said)}")
    with relies_upon("Gateway._cache_rinfo"):
        internals.tell_interpreter(gateway)
        assert gateway._rinfo().executable == sys.executable
    with relies_upon("Gateway._error"):
        poll(lambda: not gateway.hasreceiver(), 60, "the receiver goes on")
        assert internals.gave_up(SimpleNamespace(gateway=gateway))
    gateway.exit()


def test_fixtures_are_torn_down_before_the_last_test(tmp_path: Path) -> None:
    """A session that is left early has let go of what its tests set up."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "from vm.guest import internals\n"
        "@pytest.fixture(scope='session')\n"
        "def held():\n    yield\n    print('let go')\n"
        "def test_one(held):\n    pass\n"
        "def test_two(request, held):\n    pass\n"
    )
    (tmp_path / "conftest.py").write_text(
        "from vm.guest import internals\n"
        "def pytest_runtest_logfinish(nodeid):\n    pass\n"
        "def pytest_runtestloop(session):\n"
        "    first, second = session.items\n"
        "    first.config.hook.pytest_runtest_protocol(item=first, nextitem=second)\n"
        "    internals.tear_down(session)\n    print('after')\n    return True\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.index("let go") < ran.stdout.index("after"), ran.stdout
