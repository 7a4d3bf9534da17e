"""What poll, select, epoll and SIGIO tell of an op socket, and when they wake somebody up.

The kernel's two wake-ups have each other's events: af_alg_data_wakeup, when data came, announces EPOLLOUT with
EPOLLRDNORM and EPOLLRDBAND; af_alg_wmem_wakeup, when room came, announces EPOLLIN with the same two. Since Linux 4.14
a waiter is woken only for what it has asked for. So whoever waits for EPOLLIN alone is not told of data, and whoever
waits for EPOLLOUT alone is not told of room, though asking anew would show it. Every kernel known when this was written
does so; programs wait in recv or send instead, or for EPOLLRDNORM. One that announces what it means is as right here.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_DONTWAIT, MSG_MORE
from tests.errors.subjects import SKCIPHER, Subject, each_queued_type
from tests.requests.calls import Call
from tests.requests.model import DEFAULT_ROOM, READABLE, WRITABLE

F_SETSIG, F_SETOWN_EX, F_OWNER_TID = 10, 15, 0
SIGNAL = signal.SIGRTMIN + 13

WAITED_FOR = {
    "IN": select.EPOLLIN,
    "RDNORM": select.EPOLLRDNORM,
    "RDBAND": select.EPOLLRDBAND,
    "OUT": select.EPOLLOUT,
    "WRNORM": select.EPOLLWRNORM,
    "WRBAND": select.EPOLLWRBAND,
}
IN = select.EPOLLIN | select.EPOLLRDNORM | select.EPOLLRDBAND
OUT = select.EPOLLOUT | select.EPOLLWRNORM | select.EPOLLWRBAND
CROSSED_OUT = select.EPOLLOUT | select.EPOLLRDNORM | select.EPOLLRDBAND


@contextlib.contextmanager
def epoll_of(sock: Socket, events: int) -> Iterator[select.epoll]:
    with contextlib.closing(select.epoll()) as epoll:
        epoll.register(sock.fd, events)
        yield epoll


def told(op: Socket, waited: int, announced: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """Return what epoll may say to whoever waits for ``waited`` when either of ``announced`` is."""
    return [[(op.fd, waited)] if waited & events & (READABLE | WRITABLE) else [] for events in announced]


def untouched(op: Socket) -> None:
    """Nothing was sent."""


def without_data(op: Socket) -> None:
    """A message has begun and nothing of it is there: writable only."""
    op.sendmsg([], SKCIPHER.control, MSG_MORE)


def without_room(op: Socket) -> None:
    """As much of a message as the socket takes: readable only."""
    assert op.sendmsg([bytes(DEFAULT_ROOM)], SKCIPHER.control, MSG_MORE) == DEFAULT_ROOM


# Asking --------------------------------------------------------------------------------------------------------------

STATES: dict[str, tuple[Callable[[Socket], object], int]] = {
    "fresh": (untouched, READABLE | WRITABLE),
    "begun": (without_data, WRITABLE),
    "some": (lambda op: op.sendmsg([bytes(16)], SKCIPHER.control, MSG_MORE), READABLE | WRITABLE),
    "whole": (lambda op: op.sendmsg([bytes(16)], SKCIPHER.control), READABLE | WRITABLE),
    "full": (without_room, READABLE),
}


@pytest.mark.parametrize("state", STATES)
def test_every_way_to_ask_says_the_same(state: str) -> None:
    """poll(2), select(2) and epoll(7) show what af_alg_poll finds: data or no message begun, and room for a page."""
    prepare, mask = STATES[state]
    with SKCIPHER.open() as cipher:
        op = cipher.op
        prepare(op)
        assert op.poll() == mask
        readable, writable, other = select.select([op], [op], [op], 0)
        assert (bool(readable), bool(writable), other) == (bool(mask & READABLE), bool(mask & WRITABLE), [])
        with epoll_of(op, READABLE | WRITABLE | select.EPOLLPRI) as epoll:
            assert epoll.poll(0) == [(op.fd, mask)]
            assert epoll.poll(0) == [(op.fd, mask)], "asking again: a level stays"


@each_queued_type
def test_readable_does_not_mean_that_recv_returns(subject: Subject) -> None:
    """A fresh socket is readable as select(2) sees it, and a recv on it is EAGAIN or waits."""
    with subject.open() as transform:
        assert transform.op.poll() & READABLE == READABLE
        with pytest.raises(BlockingIOError):
            transform.op.recv(16, MSG_DONTWAIT)


def test_edge_is_told_once() -> None:
    """EPOLLET, epoll(7): what is ready at first is told once, then each arrival of data."""
    with SKCIPHER.open() as cipher, epoll_of(cipher.op, select.EPOLLRDNORM | select.EPOLLET) as epoll:
        op = cipher.op
        assert [epoll.poll(0) for _ in range(2)] == [[(op.fd, select.EPOLLRDNORM)], []]
        for _ in range(3):
            op.sendmsg([bytes(16)], SKCIPHER.control, MSG_MORE)
            assert [epoll.poll(0) for _ in range(2)] == [[(op.fd, select.EPOLLRDNORM)], []]
        op.recv(48)
        assert epoll.poll(0) == [], "nothing is left to read"


def test_one_shot_is_told_until_it_is_armed_again() -> None:
    """EPOLLONESHOT, epoll(7)."""
    with SKCIPHER.open() as cipher, epoll_of(cipher.op, select.EPOLLOUT | select.EPOLLONESHOT) as epoll:
        op = cipher.op
        assert [epoll.poll(0) for _ in range(2)] == [[(op.fd, select.EPOLLOUT)], []]
        SKCIPHER.begin(op)
        assert epoll.poll(0) == []
        epoll.modify(op.fd, select.EPOLLOUT | select.EPOLLONESHOT)
        assert epoll.poll(0) == [(op.fd, select.EPOLLOUT)]


# Being told ----------------------------------------------------------------------------------------------------------


COMES: dict[str, tuple[Callable[[Socket], object], Callable[[Socket], object], tuple[int, int]]] = {
    "data": (without_data, lambda op: op.send(bytes(16), MSG_MORE), (CROSSED_OUT, IN)),
    "room": (without_room, lambda op: op.recv(4096), (IN, OUT)),
}
"""A state that lacks it, what brings it, and what the kernel then announces: as it does, and as it is meant."""


@pytest.mark.parametrize("event", WAITED_FOR)
@pytest.mark.parametrize("what", COMES)
def test_epoll_wakeup_events(what: str, event: str) -> None:
    """Of those who wait for data or room: whoever waits for what is announced then (see above).

    Source: af_alg_data_wakeup, af_alg_wmem_wakeup.
    """
    waited = WAITED_FOR[event]
    lack, bring, announced = COMES[what]
    with SKCIPHER.open() as cipher:
        op = cipher.op
        lack(op)
        with epoll_of(op, waited | select.EPOLLET) as epoll:
            epoll.poll(0)
            bring(op)
            assert epoll.poll(0) in told(op, waited, announced)
            epoll.modify(op.fd, waited)
            assert epoll.poll(0) == ([(op.fd, waited)] if waited & (READABLE | WRITABLE) else [])


@pytest.mark.parametrize("ways", ["poll", "select", "epoll"])
def test_waiting_for_data_ends_when_it_comes(ways: str) -> None:
    """For RDNORM, which select(2) includes in what it calls readable."""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        without_data(op)
        with epoll_of(op, select.EPOLLRDNORM) as epoll:
            wait = {
                "poll": lambda: op.poll(20, select.POLLIN | select.POLLRDNORM),
                "select": lambda: select.select([op], [], [], 20)[0],
                "epoll": lambda: epoll.poll(20),
            }[ways]
            with Call(wait) as waiter:
                waiter.sleeps()
                op.send(bytes(16), MSG_MORE)
                assert waiter.result() in (READABLE, [op], [(op.fd, select.EPOLLRDNORM)])


def test_room_of_less_than_a_page_is_not_told() -> None:
    """A writer would still wait, so nobody is woken up (af_alg_wmem_wakeup)."""
    with SKCIPHER.open() as cipher:
        op = cipher.op
        without_room(op)
        either = select.EPOLLRDNORM | select.EPOLLOUT
        with epoll_of(op, either | select.EPOLLET) as epoll:
            epoll.poll(0)
            op.recv(4080)
            assert epoll.poll(0) == []
            op.recv(16)
            assert epoll.poll(0) == [(op.fd, either)]


# SIGIO ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def async_op() -> Iterator[Socket]:
    """Give an op socket that sends SIGNAL to this thread alone (fcntl(2): F_SETOWN_EX, F_SETSIG, O_ASYNC)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [SIGNAL])
    with SKCIPHER.open() as cipher:
        op = cipher.op
        fcntl.fcntl(op.fd, F_SETOWN_EX, array.array("i", [F_OWNER_TID, threading.get_native_id()]).tobytes())
        fcntl.fcntl(op.fd, F_SETSIG, int(SIGNAL))
        fcntl.fcntl(op.fd, fcntl.F_SETFL, fcntl.fcntl(op.fd, fcntl.F_GETFL) | os.O_ASYNC)
        yield op
    while signals():
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


SAYS_IN, SAYS_OUT = (1, READABLE), (2, WRITABLE)
"""si_code (POLL_IN and POLL_OUT) and si_band of a signal sent for a descriptor (sigaction(2))."""


def signals() -> list[tuple[int, int]]:
    """Return si_code and si_band of each signal that is pending, and take them."""
    found = []
    while info := signal.sigtimedwait([SIGNAL], 0):
        found.append((info.si_code, info.si_band & 0xFFFF))
    return found


def test_signal_tells_of_room(async_op: Socket) -> None:
    """Each recv that leaves room for a page sends one, saying POLL_IN or what is meant; sends and short recvs none."""
    op = async_op
    SKCIPHER.begin(op)
    assert signals() == []
    op.recv(32)
    of_room = signals()
    assert of_room in ([SAYS_IN], [SAYS_OUT])
    without_room(op)
    assert signals() == []
    op.recv(16)
    assert signals() == []
    op.recv(4096)
    assert signals() == of_room


def test_signal_tells_of_data_when_a_writer_has_waited(async_op: Socket) -> None:
    """The other one of the two, once, at the end of the send that had to wait for room (SOCKWQ_ASYNC_NOSPACE)."""
    op = async_op
    without_room(op)
    with Call(op.send, bytes(8192), MSG_MORE) as writer:
        writer.waits(op)
        assert signals() == []
        op.recv(16384)
        assert writer.result() == 8192
    both = signals()
    assert both in ([SAYS_IN, SAYS_OUT], [SAYS_OUT, SAYS_IN])
    op.recv(16)
    op.send(bytes(16), MSG_MORE)
    assert both[1] not in signals()


def test_no_signal_without_o_async(async_op: Socket) -> None:
    """fcntl(2): SIGIO is for descriptors with O_ASYNC; without, sk_wake_async of af_alg_data_wakeup does nothing."""
    op = async_op
    fcntl.fcntl(op.fd, fcntl.F_SETFL, fcntl.fcntl(op.fd, fcntl.F_GETFL) & ~os.O_ASYNC)
    SKCIPHER.begin(op)
    SKCIPHER.finish(op)
    assert signals() == []
