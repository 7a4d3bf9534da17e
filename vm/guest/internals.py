"""All that this project uses of pytest, xdist and execnet without their promise to keep it.

Each function says what it relies upon, and in which versions that was read; vm/tests/guest/test_internals.py says which
of it an upgrade took away. What only the host needs is imported where it is used: guests import this module too.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import subprocess

    import pytest
    import xdist.workermanage
    from xdist.dsession import DSession

WorkerController: TypeAlias = "xdist.workermanage.WorkerController"
"""xdist's handle of a worker, as :func:`start_worker` returns it."""

# ---- both sides


def workerinput(config: pytest.Config) -> dict[str, Any] | None:
    """Return what xdist's controller told this process; None when it is no worker.

    ``Config.workerinput``, set by xdist.remote (3.8).
    """
    told: dict[str, Any] | None = getattr(config, "workerinput", None)
    return told


_HEADER = struct.Struct("!bii")
ATTACHED = frozenset(("splats", "log_lost", "verdict", "wasxfail", "gcov_counters"))
"""What a guest's reports have besides pytest's own; nothing else is believed (vm/run/said.py)."""


def attach(report: pytest.TestReport, **values: object) -> None:
    """Give a report attributes; those that travel with it are some of ``ATTACHED``, of JSON's types, or bytes.

    The whole ``__dict__`` of a report is serialized (pytest 9.2). ``wasxfail`` with the outcome "skipped" means an
    expected failure; the controller of xdist (3.8) sets ``node``.
    """
    report.__dict__.update(values)


def detach(report: pytest.TestReport, name: str) -> Any:
    """Take an attribute off a report, as :func:`attach` gave it, and return its value; None where it has none."""
    return report.__dict__.pop(name, None)


def tear_down(session: pytest.Session) -> None:
    """Tear down all fixtures that are set up: when tests end before the last.

    ``Session._setupstate.teardown_exact`` (pytest 9.2).
    """
    session._setupstate.teardown_exact(None)


TOGETHER = "together"
"""The name of an event that stands for several: its one value, ``events``, lists them, each a name and values."""
_CAN_WAIT = ("testreport", "logfinish", "runtest_protocol_complete")
_LONGEST_WAIT = 1.0
_MOST_WAITING = 64


def say_together(config: pytest.Config) -> None:
    """Have a worker send what it says of a test in one message, with the beginning of the next.

    Of six messages a test they are one: each is a write to a port that a guest waits for. Nothing waits that says more
    than that all is well, nor after a second: what is not sent is lost with the machine, and silence is judged.

    ``WorkerInteractor`` (xdist 3.8), a plugin, says everything by its ``sendevent``; tests that it has not begun are in
    its ``torun``, and with none there it waits for the host before it begins the next. Does nothing without it.
    """
    plugins: list[Any] = [p for p in config.pluginmanager.get_plugins() if type(p).__name__ == "WorkerInteractor"]
    for worker in plugins:
        worker.sendevent = _Together(worker.sendevent, worker.torun).say


class _Together:
    """Keeps events, to send several as one.

    Args:
        send: sends one.
        torun: of xdist's worker, its queue of tests.
    """

    def __init__(self, send: Callable[..., None], torun: Any) -> None:
        self._send = send
        self._torun = torun
        self._kept: list[tuple[str, dict[str, Any]]] = []
        self._sent = time.monotonic()

    def say(self, name: str, **values: Any) -> None:
        """Send an event, or keep it for a moment."""
        self._kept.append((name, values))
        if not self._can_wait(name, values):
            kept, self._kept = self._kept, []
            if len(kept) == 1:
                self._send(name, **values)
            else:
                self._send(TOGETHER, events=kept)
            self._sent = time.monotonic()

    def _can_wait(self, name: str, values: Mapping[str, Any]) -> bool:
        if name not in _CAN_WAIT or len(self._kept) >= _MOST_WAITING:
            return False
        if time.monotonic() - self._sent > _LONGEST_WAIT:
            return False
        if name == "testreport":
            return bool(values["data"]["outcome"] != "failed")
        if name == "logfinish":
            return True
        with self._torun.lock() as tests:
            return bool(tests)


# ---- pytest, on the host


def within_a_line(reporter: pytest.TerminalReporter) -> bool:
    """Whether the last line of the terminal is not complete, as with letters of tests.

    ``TerminalReporter._tw.width_of_current_line`` (pytest 9.2).
    """
    return bool(reporter._tw.width_of_current_line)


def expect_one_more(config: pytest.Config) -> None:
    """Have progress count a report of no collected test, without which it would end above 100 %.

    The session is a plugin named "session", and shows shares of ``testscollected`` (pytest 9.2).
    """
    session: Any = config.pluginmanager.get_plugin("session")
    if session is not None:
        session.testscollected += 1


class _ForAll(type(Path())):  # type: ignore[misc]
    """A path below which all is one and the same."""

    def __truediv__(self, _name: object) -> _ForAll:
        return self


def name_temporary_directory(config: pytest.Config, path: Path) -> None:
    """Name, and do not make, the temporary directory of pytest: xdist only derives names of it for its workers.

    ``Config._tmp_path_factory._basetemp`` (pytest 9.2), which ``WorkerController.setup`` asks for (xdist 3.8). Each
    gets the same name: they have machines of their own, and are to be told alike.
    """
    config._tmp_path_factory._basetemp = _ForAll(path)  # type: ignore[attr-defined]


# ---- xdist's controller


def controller() -> type[DSession]:
    """Return the class of xdist's controller, to be derived from.

    Overridden are hooks, ``loop_once``, ``triggershutdown``, and of the methods ``worker_EVENT``, which take the values
    of an event by name, those with verdicts. Used are ``config``, ``queue``, ``sched``, ``shouldstop``,
    ``shuttingdown``, ``countfailures``, ``maxfail``, ``terminal`` and ``nodemanager`` (xdist 3.8).
    """
    from xdist.dsession import DSession

    own: type[DSession] = DSession
    return own


def active_workers(session: DSession) -> set[WorkerController]:
    """Return the workers of a controller that have not ended, to be kept by us: its loop ends when there are none.

    ``DSession._active_nodes`` (xdist 3.8), one set from begin to end.
    """
    workers: set[WorkerController] = session._active_nodes
    return workers


def count_failure(session: DSession, report: pytest.TestReport) -> None:
    """Have ``-x`` and ``--maxfail`` count a report that no worker sent.

    ``DSession._handlefailures`` (xdist 3.8).
    """
    session._handlefailures(report)


def be_quiet(config: pytest.Config) -> None:
    """Keep xdist from its own words on workers that come and go.

    The plugin "terminaldistreporter", registered by ``DSession`` (xdist 3.8).
    """
    config.pluginmanager.unregister(name="terminaldistreporter")


def new_manager(config: pytest.Config) -> Any:
    """Return what starts workers, with none yet; ``teardown_nodes`` of it ends them all.

    ``xdist.workermanage.NodeManager`` (xdist 3.8).
    """
    from xdist.workermanage import NodeManager

    return NodeManager(config, specs=[])


def start_worker(
    manager: Any, python: str, label: str, put: Callable[[tuple[str, dict[str, Any]]], None]
) -> WorkerController:
    """Start a worker and return its handle.

    ``group.allocate_id`` and ``setup_node`` of the manager (xdist 3.8). The handle has ``gateway``, ``workerinfo``,
    ``workerinput`` to be sent, ``workeroutput`` once it came, ``shutting_down``, ``shutdown``, ``ensure_teardown`` and
    ``send_runtest_some``. A "//" in a value would end it (execnet 2.1).

    Args:
        manager: what starts it.
        python: command, as in a shell, that takes the place of a Python interpreter.
        label: is ``gateway.spec.kernel`` of the handle.
        put: takes the events of the worker, each a name and values.
    """
    import execnet

    spec = execnet.XSpec(f"popen//python={python}//kernel={label}")
    manager.group.allocate_id(spec)
    worker: WorkerController = manager.setup_node(spec, put)
    return worker


# ---- execnet


def tell_interpreter(gateway: Any) -> None:
    """Spare the question what the Python of a gateway is, which is answered only when it is up: it is this one.

    ``Gateway._cache_rinfo``, an ``RInfo`` (execnet 2.1).
    """
    from execnet.gateway import RInfo

    facts = {"executable": sys.executable, "version_info": tuple(sys.version_info[:5]), "platform": sys.platform}
    gateway._cache_rinfo = RInfo({**facts, "cwd": str(Path.cwd()), "pid": 0})


def keep_its_path(worker: WorkerController) -> None:
    """Keep a worker from getting our sys.path: its Python is another one, with modules of its own.

    ``WorkerController.setup`` (xdist 3.8) sends it where ``gateway.spec.popen`` is set, and asks for that after the
    hook pytest_configure_node, from which this is called.
    """
    worker.gateway.spec.popen = None


def tell_all_alike(worker: WorkerController) -> None:
    """Have a worker be told what any other is: what differs between them is of use where they share a machine.

    ``WorkerController.workerinput`` (xdist 3.8): the id names a temporary directory, the run's id and the command are
    for those who look for them. It is sent after the hook pytest_configure_node, from which this is called.
    """
    worker.workerinput |= {"workerid": "gw0", "testrunuid": "0" * 32, "mainargv": ["pytest"]}


def check_what_it_says(
    worker: WorkerController, check: Callable[[object], list[tuple[str, dict[str, Any]]]], doubt: type[Exception]
) -> None:
    """Have each event of a worker looked at before xdist makes anything of it.

    ``WorkerController.process_from_remote`` (xdist 3.8) is what a worker's channel calls, in execnet's thread; the
    channel is told after the hook pytest_configure_node, from which this is called. What the worker cannot have said
    is an event ``disbelieved`` of the controller.

    Args:
        worker: the worker.
        check: returns the event, or those that it stands for, or raises ``doubt`` with the reason.
        doubt: what it raises.
    """
    from xdist.workermanage import Marker

    process = worker.process_from_remote

    def checked(said: Any) -> None:
        if said is Marker.END:
            process(said)
            return
        try:
            events = check(said)
        except doubt as error:
            worker.notify_inproc("disbelieved", node=worker, reason=str(error))
            return
        for event in events:
            process(event)

    worker.process_from_remote = checked


def process_of(worker: WorkerController) -> subprocess.Popen[bytes]:
    """Return the process that was started for a worker.

    ``Gateway._io.popen`` (execnet 2.1).
    """
    process: subprocess.Popen[bytes] = worker.gateway._io.popen
    return process


def gave_up(worker: WorkerController) -> bool:
    """Whether execnet stopped to listen to a worker because of what came, and not since nothing more did.

    ``Gateway._error``, once its receiver has ended: an ``EOFError``, or none (execnet 2.1).
    """
    return not isinstance(getattr(worker.gateway, "_error", None), EOFError)


def answer_bootstrap() -> bytes:
    """Take the line of source that execnet sends to a new interpreter, acknowledge it, and return what came behind it.

    ``gateway_bootstrap`` (execnet 2.1): one line on standard input, then "1" on standard output.

    Raises:
        SystemExit: nothing came.
    """
    said = b""
    while b"\n" not in said:
        data = os.read(0, 1 << 16)
        if not data:
            raise SystemExit(0)
        said += data
    os.write(1, b"1")
    return said.partition(b"\n")[2]


class Frames:
    """Where the messages of a stream begin and end, to see that none is longer than what anybody says.

    Nine bytes before each: its kind, a channel, and the length (execnet 2.1: ``Message.from_io``), which reads that
    many whatever they are: two gigabytes, for four bytes of noise.

    Args:
        most: bytes of the longest message.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._header = bytearray()
        self._left = 0

    def too_long(self, data: bytes) -> int | None:
        """Take what comes next; return the length of a message that cannot be one, None when there is none."""
        place = 0
        while place < len(data):
            if self._left:
                taken = min(self._left, len(data) - place)
                self._left -= taken
            else:
                taken = min(_HEADER.size - len(self._header), len(data) - place)
                self._header += data[place : place + taken]
                if len(self._header) == _HEADER.size:
                    length: int = _HEADER.unpack(self._header)[2]
                    if not 0 <= length <= self.most:
                        return length
                    self._left = length
                    self._header.clear()
            place += taken
        return None


def length_of_messages(data: bytes | bytearray, count: int) -> int | None:
    """Return how many bytes the first messages of a stream take (see :class:`Frames`); None when there are fewer."""
    place = 0
    for _ in range(count):
        if len(data) < place + _HEADER.size:
            return None
        length: int = _HEADER.unpack_from(data, place)[2]
        place += _HEADER.size + max(length, 0)
    return place if len(data) >= place else None


def import_ahead() -> None:
    """Import what every worker does, as far as it may be had before pytest knows what it is asked for.

    The plugins that pytest always has, ``_pytest.config.default_plugins`` (pytest 9.2), which it imports as they are.
    Others it compiles in its own way, unless they are there already, which it warns of.
    """
    import importlib

    import execnet.gateway_base  # noqa: F401
    from _pytest.config import default_plugins

    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")


def serve() -> None:
    """Be the interpreter at the other end, from after the bootstrap until the controller is done.

    ``get_execmodel``, ``init_popen_io`` and ``serve`` of ``gateway_base`` (execnet 2.1).
    """
    from execnet.gateway_base import get_execmodel, init_popen_io, serve

    serve(init_popen_io(get_execmodel("main_thread_only")), id="vm-worker")  # type: ignore[arg-type]
