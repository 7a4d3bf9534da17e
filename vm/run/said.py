"""What a guest says, looked at before anything acts on it: its kernel is what is tested, and may write anything.

A guest's pytest speaks xdist's language: events, each a name and values. Of those only what is listed here comes
through, and only values of the kinds that are listed; whatever else arrives was not said by our pytest, and its machine
is lost. What a guest may not do: name a class for this process to make (xdist does that for warnings, and any class of
any module can be named), give reports attributes with which they speak for another kernel, or values that a later
reader stumbles over. Whether an event fits what the machine was told to do, vm/run/session.py looks at.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vm.guest import internals
from vm.klog.splats import Splat

MOST_REPORTS = 1000
"""Of one test: a phase each, and subtests."""

Check = Callable[[Any], bool]
_LONGEST = 1 << 24


class NotBelieved(Exception):
    """A guest's pytest cannot have said this; says why, in a line."""


def events(said: object) -> list[tuple[str, dict[str, Any]]]:
    """Return the event that a guest sends, or those that it sends together.

    Raises:
        NotBelieved: it may not send one of them.
    """
    match said:
        case (internals.TOGETHER, dict(values)) if list(values) == ["events"] and type(values["events"]) is list:
            return [event(each) for each in values["events"]]
    return [event(said)]


def event(said: object) -> tuple[str, dict[str, Any]]:
    """Return an event that a guest may send.

    Raises:
        NotBelieved: it may not.
    """
    match said:
        case (str(name), dict(values)) if name in _EVENTS:
            pass
        case (str(name), _):
            raise NotBelieved(f"an event {_short(name)}")
        case _:
            raise NotBelieved(f"{_short(said)} in the place of an event")
    _members(values, _EVENTS[name], name)
    if name == "testreport":
        values = {"data": _report(values["data"], _REPORT)}
    elif name == "collectreport":
        values = {"data": _report(values["data"], _COLLECT)}
    elif name == "warning_recorded":
        values = {**values, "warning_message_data": _warning(values["warning_message_data"])}
    return name, values


def facts(value: object) -> dict[str, Any]:
    """Return what a guest told of itself (vm/guest/worker.py), without what is not of the kind that it should be."""
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name, check in _FACTS.items() if name in value and check(value[name])}


def _report(data: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return a report with the members that ours have, and no others."""
    known = {name: value for name, value in data.items() if name in checks}
    _members(known, checks, "a report")
    return known


def _warning(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a warning as text: of classes only the built-in categories are named."""
    category = data.get("category_class_name")
    known = isinstance(getattr(builtins, str(category), None), type) and str(category).endswith("Warning")
    text = str(data.get("message_str"))
    return {
        **dict.fromkeys(("message_module", "message_class_name", "message_args", "file", "source")),
        "message_str": text if known or not category else f"{category}: {text}",
        "category_module": "builtins",
        "category_class_name": category if known else "Warning",
        "filename": str(data.get("filename")),
        "lineno": data["lineno"] if type(data.get("lineno")) is int else 1,
        "line": None,
        "_category_name": category if known else "Warning",
    }


def _members(values: Mapping[str, Any], checks: Mapping[str, Check], what: str) -> None:
    if unknown := [name for name in values if name not in checks]:
        raise NotBelieved(f"{what} with {_short(unknown[0])}")
    for name, check in checks.items():
        if not check(values.get(name)):
            raise NotBelieved(f"{what} with {_short(values.get(name))} for {name}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


# ---- kinds


def _text(value: object) -> bool:
    return type(value) is str and len(value) <= _LONGEST


def _number(value: object) -> bool:
    return type(value) in (int, float)


def _whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check) -> Check:
    return lambda value: type(value) in (list, tuple) and all(map(check, value))


def _row(*checks: Check) -> Check:
    return lambda value: (
        type(value) in (list, tuple)
        and len(value) == len(checks)
        and all(check(each) for check, each in zip(checks, value, strict=True))
    )


def _dict(check: Check) -> Check:
    return lambda value: type(value) is dict and all(_text(name) and check(each) for name, each in value.items())


def _like(**checks: Check) -> Check:
    return lambda value: type(value) is dict and set(value) == set(checks) and all(
        check(value[name]) for name, check in checks.items()
    )  # fmt: skip


def _one_of(*values: object) -> Check:
    return lambda value: type(value) in (str, bool, int, type(None)) and value in values


def _plain(value: object) -> bool:
    """Whether it is of JSON's types, however deep."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_text(name) and _plain(each) for name, each in value.items())
    return value is None or type(value) is bool or _number(value) or _text(value)


def _output(value: Mapping[str, object]) -> bool:
    words = [value.get(name) for name in ("shouldfail", "shouldstop")]
    return type(value.get("exitstatus")) is int and all(type(word) in (str, bool) for word in words)


def _longrepr(value: object) -> bool:
    """What a failure looks like (pytest 9.2): text, a skip's place and reason, or entries of a traceback."""
    return value is None or _text(value) or _SKIP(value) or _FAILURE(value)


_PLACE = _like(path=_text, lineno=_number, message=_text)
_NATIVE = _like(lines=_list(_text), style=_text)
_SOURCE = _like(
    lines=_list(_text),
    reprfuncargs=_maybe(_like(args=_list(_row(_text, _text)))),
    reprlocals=_maybe(_like(lines=_list(_text))),
    reprfileloc=_maybe(_PLACE),
    style=_text,
)
_ENTRY = _like(
    type=_one_of("ReprEntry", "ReprEntryNative"),
    data=lambda value: _NATIVE(value) or _SOURCE(value),
)
_TRACEBACK = _like(reprentries=_list(_ENTRY), extraline=_maybe(_text), style=_text)
_SKIP = _row(_text, _number, _text)
_FAILURE = _like(
    reprcrash=_maybe(_PLACE),
    reprtraceback=_TRACEBACK,
    sections=_list(_row(_text, _text, _text)),
    chain=_maybe(_list(_row(_TRACEBACK, _maybe(_PLACE), _maybe(_text)))),
)
_LOCATION = _row(_text, _maybe(_number), _text)
_SPLAT = _row(*[_text] * len(dataclasses.fields(Splat)))
_REPORT: dict[str, Check] = {
    "$report_type": _one_of("TestReport", None),
    "_report_type": _one_of("SubTestReport", None),
    "_subtest.context": _maybe(_like(msg=_maybe(_text), kwargs=_dict(_plain))),
    "nodeid": _text,
    "location": _LOCATION,
    "keywords": _dict(_plain),
    "outcome": _one_of("passed", "failed", "skipped"),
    "longrepr": _longrepr,
    "when": _one_of("setup", "call", "teardown"),
    "user_properties": _maybe(_list(_row(_text, _plain))),
    "sections": _maybe(_list(_row(_text, _text))),
    **dict.fromkeys(("duration", "start", "stop"), _maybe(_number)),
    "item_index": _maybe(_whole),
    **dict.fromkeys(("worker_id", "testrun_uid"), _maybe(_text)),
    # What our own half gives them (vm/guest/internals.py): who reads it knows what to expect.
    "splats": _maybe(_list(_SPLAT)),
    "log_lost": _one_of(True, None),
    "verdict": _maybe(_text),
    "wasxfail": _maybe(_text),
    "gcov_counters": _maybe(_dict(lambda value: type(value) is bytes and len(value) <= _LONGEST)),
}
assert set(_REPORT) >= internals.ATTACHED
_COLLECT: dict[str, Check] = {
    "$report_type": _one_of("CollectReport"),
    "nodeid": _text,
    "outcome": _one_of("passed", "failed", "skipped"),
    "longrepr": _longrepr,
    "result": _one_of(None),
    "sections": _maybe(_list(_row(_text, _text))),
}
_EVENTS: dict[str, dict[str, Check]] = {
    "collectionstart": {},
    "workerready": {"workerinfo": _dict(_plain)},
    "internal_error": {"formatted_error": _text},
    "workerfinished": {"workeroutput": lambda value: type(value) is dict and _output(value)},
    "logstart": {"nodeid": _text, "location": _LOCATION},
    "logfinish": {"nodeid": _text, "location": _LOCATION},
    "testreport": {"data": lambda value: type(value) is dict},
    "collectreport": {"data": lambda value: type(value) is dict},
    "collectionfinish": {"topdir": _text, "ids": _list(_text)},
    "runtest_protocol_complete": {"item_index": _whole, "duration": _number},
    "warning_recorded": {
        "warning_message_data": lambda value: type(value) is dict,
        "when": _one_of("config", "collect", "runtest"),
        "nodeid": _text,
        "location": _maybe(_row(_text, _number, _text)),
    },
}


_FACTS: dict[str, Check] = {
    **dict.fromkeys(("release", "version", "machine", "banner", "cmdline", "proc_crypto", "lsm"), _text),
    **dict.fromkeys(("processor", "processor_flags", "unfit"), _text),
    **dict.fromkeys(("modules", "blacklist"), _list(_text)),
    "taint": _whole,
    "cpus": _maybe(_whole),
    "sysctls": _dict(_text),
    "judges": _list(_text),
}
