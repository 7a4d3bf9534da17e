"""Long random sequences: a state machine of hypothesis that takes steps on the kernel and in the model at once.

Importing this takes hypothesis, and with it a second or two in an emulated guest: the test does it, not its module.
"""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.requests import model
from tests.requests.steps import Clone, Close, Control, Endpoint, Recv, Rekey, Send, Step, Traits
from tests.requests.subjects import STREAM, Subject
from tests.requests.walk import Sequence

SIZES = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 1000, 4080, 4095, 4096, 4097, 8192, 12000]


def run(
    subject: Subject, traits: Traits, endpoint: Callable[[], Endpoint], *, examples: int, steps: int, seed: int | None
) -> None:
    """Run sequences of up to ``steps`` steps until one parts from the model, ``examples`` of them at most.

    Args:
        endpoint: makes one whose key is the subject's.
        seed: None takes the same sequences every time, and does not look for a shorter one than that which failed.

    Raises:
        AssertionError: a sequence parts from the model.
    """
    machine = _machine(subject, traits, endpoint)
    if seed is not None:
        machine = hypothesis.seed(seed)(machine)
    settings = hypothesis.settings(
        derandomize=seed is None,
        database=None,
        deadline=None,
        max_examples=examples,
        phases=[Phase.generate] if seed is None else [Phase.generate, Phase.shrink],
        stateful_step_count=steps,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    run_state_machine_as_test(machine, settings=settings)


def _machine(subject: Subject, traits: Traits, endpoint: Callable[[], Endpoint]) -> type[RuleBasedStateMachine]:
    is_hash = isinstance(_model(subject, traits), model.Hash)

    class Machine(RuleBasedStateMachine):
        """Each rule is a kind of step; what the subject's own walk does is one of them."""

        def __init__(self) -> None:
            super().__init__()
            self.sockets = endpoint()
            self.both = Sequence(self.sockets, _model(subject, traits))

        def take(self, step: Step) -> None:
            self.both.take(step)

        @rule(name=st.sampled_from(list(subject.verbs)))
        def step_of_the_walk(self, name: str) -> None:
            self.take(subject.verbs[name](self.both.model))

        @rule(
            size=st.sampled_from(SIZES),
            at=st.integers(0, 7000),
            more=st.booleans(),
            spliced=st.booleans(),
            control=st.none() | _controls(subject, traits),
        )
        def send(self, size: int, at: int, more: bool, spliced: bool, control: Control | None) -> None:
            data = STREAM[at : at + size]
            # A splice of nothing is no call of the socket's, and one with control data there is not.
            spliced = spliced and bool(data)
            self.take(Send(data, None if spliced else control, more, spliced))

        @rule(size=st.sampled_from(SIZES))
        def recv(self, size: int) -> None:
            self.take(Recv(size))

        @rule(more=st.sampled_from([-16, -1, 0, 0, 0, 1, 100]))
        def recv_about_what_there_is(self, more: int) -> None:
            self.take(Recv(max(self.both.model.ready() + more, 0)))

        @precondition(lambda _: is_hash)
        @rule()
        def clone(self) -> None:
            self.take(Clone())

        @rule()
        def close(self) -> None:
            self.take(Close())

        @rule()
        def rekey(self) -> None:
            key = self.both.model.key
            self.take(Rekey((subject.other if key == subject.key else subject.key) or bytes(16)))

        @invariant()
        def readiness(self) -> None:
            self.both.poll()

        def teardown(self) -> None:
            self.sockets.close()
            if self.both.model.key != subject.key:
                self.sockets.set_key(subject.key)

    return Machine


def _model(subject: Subject, traits: Traits) -> model.OpSocket:
    return subject.make(subject.key, traits, model.DEFAULT_ROOM)


def _controls(subject: Subject, traits: Traits) -> st.SearchStrategy[Control]:
    made = _model(subject, traits)
    ivsize = made.ivsize if isinstance(made, model.Queue) else 16
    # The IV of the walk comes often enough for its messages to be opened.
    ivs = st.none() | st.sampled_from([STREAM[9 : 9 + ivsize], bytes(ivsize), b"\xff" * ivsize])
    return st.builds(
        Control,
        operation=st.sampled_from([None, ALG_OP_ENCRYPT, ALG_OP_DECRYPT]),
        iv=ivs,
        assoclen=st.sampled_from([None, 0, 1, 8, 16, 4096]),
    )
