"""What a decode worker's courier makes of a prefill worker's words in every order; the test speaks for that worker."""

import ctypes
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import zmq

from headrace_api.handoff import Abort, Aborted, Admit, Attempt, Grant, Hello, Layout, Message, decode, encode
from headrace_api.sampling import Sampling
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer import events
from headrace_worker.transfer.decode import DecodeSide
from headrace_worker.transfer.identity import Identity
from headrace_worker.transfer.transport import Notification

DEADLINE_S = 30.0
SILENCE_S = 60.0
"""Passes only where a test lets it."""
M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=events.Event)
MEMORY = ctypes.create_string_buffer(4096)
LAYOUT = Layout(ctypes.addressof(MEMORY), 1, 1, 4096)


def identity(worker: str, incarnation: str) -> Identity:
    return Identity(worker, incarnation, "hash", "sockets", LAYOUT, b"", ())


class Pair:
    """The decode worker's half of a courier, turned by hand, and a bare socket in the prefill worker's place."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.events: list[events.Event] = []
        self.later_s = 0.0
        """By how much the side's clock is ahead."""
        self.side = DecodeSide(
            context,
            identity("d", "d1"),
            secret="",
            silence_s=SILENCE_S,
            emit=self.events.append,
            clock=lambda: time.monotonic() + self.later_s,
        )
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.peer = PrefillPeer("p", f"tcp://127.0.0.1:{port}", "p1")
        self.route = b""

    def hear(self, kind: type[M]) -> M:
        """Return the next message of this kind that arrives at the prefill worker."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            self.side.watch()
            if self.socket.poll(10):
                self.route, data = self.socket.recv_multipart()
                if isinstance(message := decode(data), kind):
                    return message
        raise AssertionError(f"no {kind.__name__} came")

    def say(self, message: Message) -> None:
        self.socket.send_multipart([self.route, encode(message)])

    def expect(self, kind: type[E]) -> E:
        """Return the next event of this kind."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            self.side.watch()
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
        raise AssertionError(f"no {kind.__name__} came, but {self.events}")

    def grant(self, attempt: str) -> None:
        """Run an attempt up to its grant."""
        self.side.ask(self.peer, Attempt(attempt, (1,), (), 0, Sampling(max_tokens=1), 0, 10.0))
        self.hear(Hello)
        self.welcome()
        self.hear(Attempt)
        self.side.grant("p1", Grant(attempt, 0, (0,), 20.0))
        self.hear(Grant)

    def welcome(self) -> None:
        self.say(identity("p", "p1").welcome())

    def wait(self, seconds: float) -> None:
        """Let time pass on the decode worker's side."""
        self.later_s += seconds
        self.side.tick()

    def admit(self, attempt: str) -> None:
        """Bring the notification that everything has been written."""
        admit = Admit(attempt, 0, 1, 7, -0.5, 0.25, (), 0, 0.0)
        self.side.notified(Notification("p1", encode(admit)))


@pytest.fixture
def pair() -> Iterator[Pair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pair = Pair(context)
    yield pair
    pair.side.close()
    context.destroy(linger=0)


def test_an_admission_ends_an_attempt(pair: Pair) -> None:
    pair.grant("a")
    pair.admit("a")
    assert pair.expect(events.Admitted).admit.attempt == "a"
    assert pair.side.idle


@pytest.mark.parametrize("first", ["admission", "answer"])
def test_an_abort_that_crosses_the_admission_is_heard_of_to_its_end(pair: Pair, first: str) -> None:
    pair.grant("a")
    pair.side.abort("p1", "a")
    pair.hear(Abort)
    answers: list[Callable[[], None]] = [lambda: pair.admit("a"), lambda: pair.say(Aborted("a"))]
    for answer in answers if first == "admission" else reversed(answers):
        answer()
    assert pair.expect(events.Aborted) == events.Aborted("a", "p1")
    assert pair.side.idle


def test_an_abort_after_the_admission_is_answered_without_the_prefill_worker(pair: Pair) -> None:
    pair.grant("a")
    pair.admit("a")
    pair.side.abort("p1", "a")
    assert pair.expect(events.Aborted) == events.Aborted("a", "p1")


def test_a_handshake_for_an_abort_may_take_several_times_as_long(pair: Pair) -> None:
    pair.grant("a")
    pair.side.abort("p1", "a")
    pair.hear(Abort)
    pair.wait(SILENCE_S + 1)
    pair.expect(events.Lost)
    pair.wait(2)
    pair.hear(Hello)
    pair.wait(3 * SILENCE_S)
    pair.welcome()
    pair.hear(Abort)
    pair.say(Aborted("a"))
    assert pair.expect(events.Aborted) == events.Aborted("a", "p1")
