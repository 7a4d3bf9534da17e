"""Values of JSON or TOML, as the dataclasses that say how they must look."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from enum import Enum
from typing import Any

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


class Mismatch(Exception):
    """A value that is not of its type; its text names the place, the expectation and what came."""


def decode(kind: Any, value: Any, where: str, *, strict: bool = False) -> Any:
    """Return ``value`` as the type ``kind``, a dataclass or what it consists of.

    Args:
        kind: the type.
        value: as a parser returns it.
        where: names it in errors.
        strict: whether a member that the dataclass does not have is an error, and not passed over.

    Raises:
        Mismatch: it is of another type, or lacks a member.
    """
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, where, strict)
    if (origin := typing.get_origin(kind)) is tuple:
        if not isinstance(value, list):
            raise _mismatch(where, "an array", value)
        (item, _) = typing.get_args(kind)
        return tuple(decode(item, each, f"{where}[{index}]", strict=strict) for index, each in enumerate(value))
    if isinstance(kind, types.UnionType):
        (some,) = (each for each in typing.get_args(kind) if each is not type(None))
        return None if value is None else decode(some, value, where, strict=strict)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise _mismatch(where, "one of " + ", ".join(str(member.value) for member in kind), value) from None
    if origin is re.Pattern:
        try:
            return re.compile(decode(str, value, where))
        except re.error as error:
            raise _mismatch(where, f"a regular expression ({error})", value) from None
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _mismatch(where, _WORDS[kind], value)
    return value


def _object(kind: Any, value: Any, where: str, strict: bool) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(where, "an object", value)
    members, required = _members(kind)
    if missing := [name for name in required if name not in value]:
        raise Mismatch(f"{where} lacks {missing[0]!r}")
    if strict and (unknown := [name for name in value if name not in members]):
        raise Mismatch(f"{where} has an unknown key {unknown[0]!r}")
    known = {name: each for name, each in value.items() if name in members}
    return kind(**{name: decode(members[name], each, f"{where}.{name}", strict=strict) for name, each in known.items()})


@functools.cache
def _members(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the types of a dataclass's members, and which ones a value must have; to find out takes its time."""
    hints, unset = typing.get_type_hints(kind), dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = [each.name for each in fields if each.default is unset and each.default_factory is unset]
    return {each.name: hints[each.name] for each in fields}, required


def _mismatch(where: str, expected: str, value: Any) -> Mismatch:
    found = json.dumps(value, default=str)
    return Mismatch(f"{where}: expected {expected}, found {found if len(found) <= 40 else found[:39] + '…'}")
