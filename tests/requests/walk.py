"""Taking steps on an endpoint and in the model at once, and saying where the two part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Sequence_
from typing import TypeAlias

from tests.afalg import DeadlineExpired
from tests.requests.model import OpSocket
from tests.requests.steps import (
    Clone,
    Close,
    Control,
    Endpoint,
    Failure,
    Recv,
    Rekey,
    Send,
    Step,
    Unknown,
    Value,
)

Verb: TypeAlias = Callable[[OpSocket], Step]
"""A step that may depend on the state, like a recv of exactly what there is."""


class Sequence:
    """Steps taken so far on an endpoint, each compared with the model.

    Raises:
        AssertionError: a step gave something else than predicted; the message has the whole sequence.
    """

    def __init__(self, endpoint: Endpoint, model: OpSocket) -> None:
        self.endpoint = endpoint
        self.model = model
        self.taken: list[tuple[Step, Value]] = []

    def take(self, step: Step) -> Value:
        """Take one step on both and compare."""
        prediction = self.model.step(step)
        try:
            value = perform(self.endpoint, step, wait=not prediction.waits)
        except DeadlineExpired as error:
            what = f"  {shown(step)} gives nothing ({error}), not {_text(prediction.value)}"
            raise AssertionError(f"{self}\n{what}") from None
        self.taken.append((step, value))
        if not matches(value, prediction.value):
            raise AssertionError(f"{self}, not {_text(prediction.value)}")
        return value

    def poll(self) -> None:
        """Compare what poll says now; without an op socket there is nobody to ask."""
        if self.model.open and (mask := self.endpoint.poll()) != self.model.poll():
            raise AssertionError(f"{self}\n  after which poll gives {mask:#x}, not {self.model.poll():#x}")

    def __str__(self) -> str:
        lines = [f"  {shown(step)} gives {_text(value)}" for step, value in self.taken]
        return "\n".join(["the kernel and the model part here:", *lines])


def perform(endpoint: Endpoint, step: Step, *, wait: bool) -> Value:
    """Take the step on the endpoint; a Failure for an error.

    Raises:
        DeadlineExpired: it still waited at its deadline.
    """
    try:
        if isinstance(step, Send):
            if step.spliced:
                return endpoint.splice(step.data, step.more)
            return endpoint.send(step.data, step.control, step.more, wait)
        if isinstance(step, Recv):
            return endpoint.recv(step.size, wait)
        if isinstance(step, Clone):
            endpoint.clone()
        elif isinstance(step, Close):
            endpoint.close()
        elif isinstance(step, Rekey):
            endpoint.set_key(step.key)
        else:
            return endpoint.poll()
    except DeadlineExpired:
        raise
    except OSError as error:
        return Failure(error.errno or -1)
    return 0


def matches(value: Value, expected: Value) -> bool:
    """Whether the result is the predicted one."""
    if isinstance(expected, Unknown):
        return isinstance(value, bytes) and len(value) == expected.size
    return type(value) is type(expected) and value == expected


def walk(endpoint: Endpoint, model: OpSocket, sequence: Iterable[Verb], last: Iterable[Verb] = ()) -> None:
    """Take a sequence from a fresh op socket and poll, then the steps of ``last``, and close the op socket.

    Args:
        model: of the endpoint as it is without an op socket.
    """
    run = Sequence(endpoint, model)
    for part in (sequence, last):
        for verb in part:
            run.take(verb(model))
        run.poll()
    endpoint.close()


def shown(step: Step) -> str:
    """Return the step in words."""
    if isinstance(step, Send):
        verb = "splice" if step.spliced else "send"
        control = f" with {_control(step.control)}" if step.control else ""
        return f"{verb} {len(step.data)} bytes{control}{', more to come' if step.more else ''}"
    if isinstance(step, Recv):
        return f"recv {step.size}"
    return type(step).__name__.lower()


def sequences(
    verbs: Mapping[str, Verb], first: str, length: int, make: Callable[[], OpSocket] | None = None
) -> Iterable[list[Verb]]:
    """Give every sequence of up to so many steps that begins with the step ``first``, shorter ones first.

    Args:
        make: a model of a fresh socket. With it, nothing follows a step that changes nothing after the first: that it
            has changed nothing is what the steps show with which every sequence ends.
    """
    yield [verbs[first]]
    for following in range(1, length):
        for rest in itertools.product(verbs.values(), repeat=following - 1):
            before = [verbs[first], *rest]
            if make is None or not rest or not ends_in_vain(make(), before):
                yield from ([*before, verb] for verb in verbs.values())


def ends_in_vain(model: OpSocket, sequence: Sequence_[Verb]) -> bool:
    """Whether the last step of the sequence leaves a fresh model as those before it made it."""
    *before, last = sequence
    for verb in before:
        model.step(verb(model))
    return changes_nothing(model, last)


def changes_nothing(model: OpSocket, verb: Verb) -> bool:
    """Whether the model is after the step what it was before, but for there being an op socket."""
    before = {**vars(model), "open": None}
    model.step(verb(model))
    return before == {**vars(model), "open": None}


def _control(control: Control) -> str:
    parts = [
        None if control.operation is None else ("decrypt", "encrypt")[control.operation],
        None if control.iv is None else f"IV {control.iv[:2].hex()}…",
        None if control.assoclen is None else f"{control.assoclen} bytes of AAD",
    ]
    return ", ".join(part for part in parts if part)


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes {value[:20].hex()}{'…' if len(value) > 20 else ''}"
    if isinstance(value, Unknown):
        return f"any {value.size} bytes"
    return repr(value) if isinstance(value, Failure) else f"{value:#x}" if value > 255 else str(value)
