"""The scheduler with stub machines: every test of every kernel finished exactly once, or reported as left."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from vm.run.schedule import KernelScheduling

TESTS = [f"t.py::test[{number}]" for number in range(40)]


class StubNode:
    """A machine that records what it is told; like xdist's worker it starts a test only when it knows the next
    or that there is none.
    """

    def __init__(self, collection: Sequence[str]) -> None:
        self.collection = list(collection)
        self.queue: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert not self.shutting_down, "a machine told to finish takes no more"
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        return len(self.queue) > 1 or (self.shutting_down and bool(self.queue))


def scheduling(kernels: Sequence[str] = ("A",), ahead: int = 8) -> tuple[KernelScheduling, dict[object, str]]:
    labels: dict[object, str] = {}
    return KernelScheduling(labels, kernels, ahead), labels  # type: ignore[arg-type]


def join(sched: KernelScheduling, labels: dict[object, str], kernel: str, tests: Sequence[str] = TESTS) -> StubNode:
    """Have a new machine of ``kernel`` come up and collect."""
    node = StubNode(tests)
    labels[node] = kernel
    sched.add_node(node)
    sched.add_node_collection(node, tests)
    sched.schedule()
    return node


def run_one(sched: KernelScheduling, node: StubNode) -> str:
    """Have ``node`` finish the first test of its queue and return that test."""
    index = node.queue.pop(0)
    sched.mark_test_complete(node, index)
    return node.collection[index]


def run_all(sched: KernelScheduling, nodes: Sequence[StubNode]) -> list[str]:
    """Have machines take turns until none can go on."""
    finished = []
    while ready := [node for node in nodes if node.can_run]:
        finished += [run_one(sched, node) for node in ready]
    return finished


def test_one_machine_runs_everything_in_order() -> None:
    sched, labels = scheduling()
    node = join(sched, labels, "A")
    assert run_all(sched, [node]) == TESTS
    assert node.shutting_down
    assert sched.tests_finished
    assert not sched.has_pending


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_tests_are_finished_too(count: int) -> None:
    sched, labels = scheduling()
    node = join(sched, labels, "A", TESTS[:count])
    assert run_all(sched, [node]) == TESTS[:count]
    assert node.shutting_down
    assert sched.tests_finished


def test_two_machines_share() -> None:
    sched, labels = scheduling()
    nodes = [join(sched, labels, "A"), join(sched, labels, "A")]
    finished = run_all(sched, nodes)
    assert sorted(finished) == sorted(TESTS)
    assert sched.tests_finished


def test_no_machine_hoards_what_another_could_do() -> None:
    sched, labels = scheduling()
    first = join(sched, labels, "A", TESTS[:4])
    second = join(sched, labels, "A", TESTS[:4])
    assert len(first.queue) <= 3
    assert len(second.queue) >= 1


def test_kernels_do_not_share() -> None:
    sched, labels = scheduling(["A", "B"])
    a, b = join(sched, labels, "A"), join(sched, labels, "B")
    assert run_all(sched, [a]) == TESTS
    assert not sched.tests_finished
    assert run_all(sched, [b]) == TESTS
    assert sched.tests_finished


def test_what_a_dead_machine_had_not_begun_goes_first_to_the_next() -> None:
    sched, labels = scheduling()
    dead = join(sched, labels, "A")
    assert run_one(sched, dead) == TESTS[0]
    sched.drop(dead, finished=[TESTS[1]])
    assert sched.wants_machine("A")
    heir = join(sched, labels, "A")
    assert run_all(sched, [heir]) == TESTS[2:]


def test_death_on_the_last_test_leaves_nothing_to_do() -> None:
    sched, labels = scheduling()
    node = join(sched, labels, "A", TESTS[:2])
    run_one(sched, node)
    assert sched.drop(node, finished=[TESTS[1]]) == [TESTS[1]]
    assert sched.tests_finished
    assert not sched.wants_machine("A")


def test_machine_lost_while_others_shut_down_leaves_its_work_wanted() -> None:
    sched, labels = scheduling()
    one = join(sched, labels, "A", TESTS[:4])
    two = join(sched, labels, "A", TESTS[:4])
    run_one(sched, one)
    assert one.shutting_down
    assert two.shutting_down
    left = sched.drop(two, finished=[])
    assert left
    assert sched.wants_machine("A"), "the other was told to finish and takes nothing more"
    assert not sched.tests_finished


def test_closed_kernel_wants_nothing_and_is_finished() -> None:
    sched, labels = scheduling(["A", "B"])
    b = join(sched, labels, "B")
    sched.close("A", "it did not boot")
    assert not sched.wants_machine("A")
    run_all(sched, [b])
    assert sched.tests_finished
    assert sched.shares["A"].closed == "it did not boot"


def test_kernel_without_any_machine_is_not_finished() -> None:
    sched, _ = scheduling()
    assert not sched.tests_finished
    assert sched.wants_machine("A")


def test_machine_that_collected_otherwise_gets_only_what_it_has() -> None:
    sched, labels = scheduling()
    first = join(sched, labels, "A", TESTS[:6])
    other = join(sched, labels, "A", ["t.py::stray", *TESTS[3:6]])
    finished = run_all(sched, [first, other])
    assert sorted(finished) == TESTS[:6]
    assert sched.tests_finished


def test_machine_that_has_none_of_the_tests_is_sent_home() -> None:
    sched, labels = scheduling()
    first = join(sched, labels, "A", TESTS[:6])
    sched.drop(first, finished=[])
    other = join(sched, labels, "A", ["t.py::stray"])
    assert other.shutting_down, "it would wait for work that never comes"
    assert sched.shares["A"].pending, "what nobody ran is still known"


def test_what_needs_a_machine_for_itself_gets_a_fresh_one() -> None:
    sched, labels = scheduling()
    sched.shares["A"].alone = frozenset([TESTS[0], TESTS[4]])
    first = join(sched, labels, "A", TESTS[:6])
    assert run_all(sched, [first]) == [TESTS[1], TESTS[2], TESTS[3], TESTS[5]]
    assert first.shutting_down
    assert not sched.tests_finished
    for test in (TESTS[0], TESTS[4]):
        assert sched.wants_machine("A")
        assert run_all(sched, [join(sched, labels, "A", TESTS[:6])]) == [test]
    assert sched.tests_finished


def test_one_of_them_goes_back_when_its_machine_dies_before_it_began() -> None:
    sched, labels = scheduling()
    sched.shares["A"].alone = frozenset(TESTS[:2])
    sched.drop(join(sched, labels, "A", TESTS[:2]), finished=[])
    assert run_all(sched, [join(sched, labels, "A", TESTS[:2])]) == [TESTS[0]]
    sched.give_up("A", TESTS[1])
    assert sched.tests_finished


@pytest.mark.parametrize("seed", range(200))
def test_each_test_is_finished_once_whatever_dies(seed: int) -> None:
    chance = random.Random(seed)
    kernels = ["A", "B", "C"][: chance.randint(1, 3)]
    ahead = chance.choice([2, 3, 8])
    sched, labels = scheduling(kernels, ahead)
    tests = TESTS[: chance.randint(0, len(TESTS))]
    for kernel in kernels:
        sched.shares[kernel].alone = frozenset(chance.sample(TESTS, chance.choice([0, 0, 1, 5])))
    alive = {kernel: [join(sched, labels, kernel, tests) for _ in range(chance.randint(1, 3))] for kernel in kernels}
    outcome: dict[str, Counter[str]] = {kernel: Counter() for kernel in kernels}
    for _ in range(2000):
        kernel = chance.choice(kernels)
        _step(sched, labels, kernel, alive[kernel], outcome[kernel], chance, tests)
        if sched.tests_finished and not any(node.queue for nodes in alive.values() for node in nodes):
            break
    assert sched.tests_finished, "the run goes on for ever"
    for kernel in kernels:
        assert outcome[kernel] == Counter(tests), kernel


def _step(
    sched: KernelScheduling,
    labels: dict[object, str],
    kernel: str,
    alive: list[StubNode],
    outcome: Counter[str],
    chance: random.Random,
    tests: Sequence[str],
) -> None:
    """Let one thing happen to a kernel: a test ends, a machine dies in or between tests, ends, or is replaced."""
    ready = [node for node in alive if node.can_run]
    if ready and chance.random() < 0.85:
        outcome[run_one(sched, chance.choice(ready))] += 1
    elif alive and chance.random() < 0.3:
        node = alive.pop(chance.randrange(len(alive)))
        culprit = [node.collection[node.queue[0]]] if node.can_run and chance.random() < 0.7 else []
        outcome.update(culprit)
        sched.drop(node, finished=culprit)
    for node in [node for node in alive if node.shutting_down and not node.queue]:
        alive.remove(node)
        assert sched.drop(node, finished=[]) == []
    if not any(not node.shutting_down for node in alive) and sched.wants_machine(kernel):
        alive.append(join(sched, labels, kernel, tests))


def test_what_was_bad_before_is_given_out_first_and_all_the_rest_in_order() -> None:
    sched, labels = scheduling()
    sched.shares["A"].first = {TESTS[30]: 1, TESTS[7]: 0, "t.py::test[gone]": 0}
    node = join(sched, labels, "A")
    assert run_all(sched, [node]) == [TESTS[7], TESTS[30], *(t for t in TESTS if t not in (TESTS[7], TESTS[30]))]


def test_a_machine_for_one_test_knows_all_and_is_given_that() -> None:
    """As one that goes on where another had collected."""
    sched, labels = scheduling()
    sched.shares["A"].alone = frozenset({TESTS[3], TESTS[5]})
    everything, single = StubNode(TESTS[:8]), StubNode(TESTS[:8])
    for node in (everything, single):
        labels[node] = "A"
        sched.add_node(node)
    sched.add_node_collection(everything, TESTS[:8])
    sched.shares["A"].fresh.discard(everything)
    sched.add_node_collection(single, TESTS[:8], only=TESTS[5])
    sched.schedule()
    assert sched.on(single) == [TESTS[5]]
    assert single.queue == [5]
    assert single.shutting_down
    assert TESTS[3] in sched.shares["A"].waiting
