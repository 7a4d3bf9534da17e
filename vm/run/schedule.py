"""The xdist scheduler: each test once a kernel, shared among the virtual machines of that kernel.

What may take its machine down has one for itself: nothing ran there before it, and nothing runs after it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol


class Node(Protocol):
    """What is needed of xdist's WorkerController."""

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to finish what it has."""

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Append tests, by index into the collection of that worker, to its queue."""

    def shutdown(self) -> None:
        """Tell it to finish after what it has."""


@dataclass
class Share:
    """The tests of one kernel.

    Attributes:
        collected: ids in the order of the first machine's collection, None before there is one.
        alone: ids that need a machine each.
        first: ids to give out before all others, with the place of each among them.
        pending: ids not given to any machine yet, in the order in which they will be.
        waiting: those of ``alone`` not given to any machine yet.
        fresh: machines that were given nothing yet.
        assigned: for each machine, the ids it was given and has not finished, in its order.
        index: for each machine, id to index in that machine's own collection.
        closed: why no further machine of this kernel will run tests, or empty.
    """

    collected: list[str] | None = None
    alone: frozenset[str] = frozenset()
    first: Mapping[str, int] = field(default_factory=dict)
    pending: deque[str] = field(default_factory=deque)
    waiting: deque[str] = field(default_factory=deque)
    fresh: set[Node] = field(default_factory=set)
    assigned: dict[Node, list[str]] = field(default_factory=dict)
    index: dict[Node, dict[str, int]] = field(default_factory=dict)
    closed: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing of this kernel is left to give to anybody."""
        return bool(self.closed) or (
            self.collected is not None and not self.left and all(n.shutting_down for n in self.assigned)
        )

    @property
    def left(self) -> bool:
        """Whether there are tests that no machine was given."""
        return bool(self.pending or self.waiting)

    def put_back(self, tests: Sequence[str]) -> None:
        """Have ``tests`` given out before all others, in their order."""
        self.pending.extendleft(test for test in reversed(tests) if test not in self.alone)
        self.waiting.extendleft(test for test in reversed(tests) if test in self.alone)


class KernelScheduling:
    """Hand out tests as machines become free; implements xdist's Scheduling protocol.

    A machine is told of several tests ahead, since it starts one only when it knows the next, and an answer
    takes milliseconds to travel. Near the end it is told of two, so that no machine sits on work another
    could do. When a machine dies, what it had not begun goes back to the front.

    Args:
        kernel_of: label of a node's kernel.
        kernels: every label of the run.
        ahead: how many tests a machine is told of at most, at least 2.
    """

    def __init__(self, kernel_of: dict[Node, str], kernels: Iterable[str], ahead: int = 8) -> None:
        self.kernel_of = kernel_of
        self.shares = {kernel: Share() for kernel in kernels}
        self.ahead = ahead

    # ---- xdist's protocol

    @property
    def nodes(self) -> list[Node]:
        """All machines that are alive and known."""
        return [node for share in self.shares.values() for node in share.assigned]

    @property
    def collection_is_completed(self) -> bool:
        """True: a machine gets work as soon as it has collected, without waiting for others."""
        return True

    @property
    def tests_finished(self) -> bool:
        """Whether every kernel is finished or given up."""
        return all(share.done for share in self.shares.values())

    @property
    def has_pending(self) -> bool:
        """Whether any test is not finished."""
        return any(share.left or any(share.assigned.values()) for share in self.shares.values() if not share.closed)

    def add_node(self, node: Node) -> None:
        """Take a machine that is up but has not collected yet."""
        share = self._share(node)
        share.assigned[node] = []
        share.fresh.add(node)

    def add_node_collection(self, node: Node, collection: Sequence[str], only: str = "") -> None:
        """Take a machine's collection; the first of a kernel is the one that counts.

        Args:
            node: the machine.
            collection: ids in the order of its collection.
            only: the one test that it is there for, whatever else it knows; empty when it takes what comes.
        """
        share = self._share(node)
        share.index[node] = {test: number for number, test in enumerate(collection) if only in ("", test)}
        if share.collected is None:
            share.collected = list(collection)
            share.put_back(sorted(collection, key=lambda test: share.first.get(test, len(collection))))

    def schedule(self) -> None:
        """Give every machine that has collected something to do."""
        for share in self.shares.values():
            self._feed(share)

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:
        """Note that a machine finished a test and give it more."""
        share = self._share(node)
        for test in share.assigned[node]:
            if share.index[node][test] == item_index:
                share.assigned[node].remove(test)
                break
        self._feed(share)

    def mark_test_pending(self, item: str) -> None:
        """Have a test run again."""
        for share in self.shares.values():
            if share.collected is not None and item in share.collected:
                share.put_back([item])
                self._feed(share)

    def remove_pending_tests_from_node(self, node: Node, indices: Sequence[int]) -> None:
        """Not used: nothing is stolen."""
        raise NotImplementedError

    def remove_node(self, node: Node) -> str | None:
        """Forget a machine that ended; return the test it was on, as far as known here."""
        left = self.drop(node, finished=())
        return left[0] if left else None

    # ---- ours

    def drop(self, node: Node, finished: Iterable[str]) -> list[str]:
        """Forget a machine; return what it had been given and not finished, in order.

        ``finished`` are tests not to hand out again (the one that brought it down); the rest goes back.

        Raises:
            KeyError: the machine is not known.
        """
        share = self._share(node)
        left = share.assigned.pop(node)
        share.index.pop(node, None)
        share.fresh.discard(node)
        taken = set(finished)
        share.put_back([test for test in left if test not in taken])
        self._feed(share)
        return left

    def on(self, node: Node) -> list[str]:
        """Return what a machine has been given and not finished, in order; empty for an unknown one."""
        return list(self._share(node).assigned.get(node, ()))

    def is_on(self, node: Node, item_index: int) -> bool:
        """Whether a machine has been given a test, by its place in that machine's collection, and not finished it."""
        index = self._share(node).index.get(node, {})
        return any(index[test] == item_index for test in self.on(node))

    def wants_machine(self, kernel: str) -> bool:
        """Whether ``kernel`` has tests that no living machine will take."""
        share = self.shares[kernel]
        if share.closed:
            return False
        return share.collected is None or share.left

    def give_up(self, kernel: str, test: str) -> None:
        """Have nobody wait for a test that the machine meant for it does not know."""
        with contextlib.suppress(ValueError):
            self.shares[kernel].waiting.remove(test)

    def close(self, kernel: str, reason: str) -> None:
        """Give up on what is left of ``kernel``."""
        self.shares[kernel].closed = reason

    def _share(self, node: Node) -> Share:
        return self.shares[self.kernel_of[node]]

    def _feed(self, share: Share) -> None:
        ready = [node for node in share.assigned if node in share.index and not node.shutting_down]
        for node in ready:
            fair = len(share.pending) // (2 * len(ready)) + 1
            room = min(self.ahead, max(2, fair)) - len(share.assigned[node])
            known = list(islice((test for test in share.pending if test in share.index[node]), max(room, 0)))
            if known:
                for test in known:
                    share.pending.remove(test)
                self._give(share, node, known)
        for node in ready:
            if node in share.fresh and (own := [test for test in share.waiting if test in share.index[node]][:1]):
                share.waiting.remove(own[0])
                self._give(share, node, own)
            # The last test of a queue starts only when it is known to be the last. A machine may lack tests
            # that another has collected: those are not for it to wait for.
            if not any(test in share.index[node] for test in share.pending):
                node.shutdown()

    @staticmethod
    def _give(share: Share, node: Node, tests: Sequence[str]) -> None:
        share.fresh.discard(node)
        share.assigned[node] += tests
        node.send_runtest_some([share.index[node][test] for test in tests])
