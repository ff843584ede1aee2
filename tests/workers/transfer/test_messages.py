"""What a prefill worker makes of messages that are repeated, late, lost or nonsense; spoken to over a bare socket."""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING

import pytest
import zmq

from headrace_api.handoff import (
    PROTOCOL_VERSION,
    Abort,
    Aborted,
    Admit,
    Alive,
    Attempt,
    Grant,
    Hello,
    Layout,
    Message,
    Refused,
    Renew,
    Starting,
    Welcome,
    decode,
    encode,
)
from headrace_api.sampling import Sampling
from headrace_worker.transfer import secrecy
from headrace_worker.transfer.sockets import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.workers.transfer.conftest import Prefill

pytestmark = pytest.mark.processes
SIZE = 4 * 64 * 4096


@pytest.fixture
def transport_name() -> str:
    return "sockets"


class Wire:
    """A decode worker that says exactly what a test wants it to say."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], prefill: Prefill) -> None:
        self.memory = bytearray(SIZE)
        address = ctypes.addressof((ctypes.c_char * SIZE).from_buffer(self.memory))
        self.layout = Layout(address, 4, 64, 4096)
        self.transport = SocketTransport(incarnation="d1", host="127.0.0.1", secret="a secret")
        self.transport.register(address, SIZE, None)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.linger = 0
        secrecy.guard_client(self.socket, "a secret")
        self.socket.connect(prefill.address)

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.socket.send(encode(message))

    def hear(self) -> Message:
        """Return the next message that is no sign of life."""
        while self.socket.poll(10_000):
            message = decode(self.socket.recv())
            if not isinstance(message, Alive):
                return message
        raise AssertionError("no answer within 10 s")

    def hello(self, **changes: object) -> Hello:
        fields = {
            "worker": "decode-0",
            "incarnation": "d1",
            "protocol": PROTOCOL_VERSION,
            "kv_hash": "hash-a",
            "transport": "sockets",
            "layout": self.layout,
            "metadata": self.transport.metadata(),
            **changes,
        }
        return Hello(**fields)  # type: ignore[arg-type]  # a table of fields with one changed

    def greet(self) -> None:
        self.say(self.hello())
        assert isinstance(self.hear(), Welcome)


@pytest.fixture
def wire(prefill: Callable[..., Prefill]) -> Iterator[Callable[..., Wire]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[Wire] = []

    def make(**options: object) -> Wire:
        made.append(Wire(context, prefill(**options)))
        return made[-1]

    yield make
    for each in made:
        each.transport.close()
    context.destroy(linger=0)


def asked(name: str, num_blocks: int = 2) -> Attempt:
    return Attempt(name, (5,) * num_blocks, (), 0, Sampling(max_tokens=1), 0, 10.0)


def test_the_abort_of_an_unknown_attempt_is_answered(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(Abort("never"), Abort("never"))
    assert [w.hear(), w.hear()] == [Aborted("never"), Aborted("never")]


def test_an_attempt_that_comes_after_its_abort_is_not_started(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(Abort("a"), asked("a"), asked("b"))
    assert [w.hear(), w.hear()] == [Aborted("a"), Starting("b")]


def test_a_repeated_attempt_is_started_once(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(asked("a"), asked("a"), asked("b"))
    assert [w.hear(), w.hear()] == [Starting("a"), Starting("b")]


def test_a_grant_for_an_unknown_attempt_is_answered_that_nothing_writes(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(Grant("never", 0, (1, 2), 5.0), Renew("never", 5.0), Abort("b"))
    assert [w.hear(), w.hear()] == [Aborted("never"), Aborted("b")]


def test_a_second_grant_changes_nothing(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(asked("a"))
    assert w.hear() == Starting("a")
    w.say(Grant("a", 0, (10, 11), 5.0), Grant("a", 0, (20, 21), 5.0), asked("b"))
    assert w.hear() in {Starting("b"), Aborted("a")}
    touched = {at // 4096 % 64 for at in range(0, SIZE, 4096) if any(w.memory[at : at + 4096])}
    assert touched <= {10, 11}


def test_the_admission_is_a_notification_of_the_transport(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.say(asked("a"))
    assert w.hear() == Starting("a")
    w.say(Grant("a", 0, (10, 11), 5.0))
    until = time.monotonic() + 10.0
    while not (notifications := w.transport.notifications()):
        assert time.monotonic() < until, "no admission"
        w.socket.poll(5)
    message = decode(notifications[0].payload)
    assert isinstance(message, Admit)
    assert (message.attempt, message.first_token) == ("a", 6)
    assert all(w.memory[block * 4096] for block in (10, 11))


def test_who_has_not_said_hello_is_told_to(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.say(asked("a"))
    answer = w.hear()
    assert isinstance(answer, Refused)
    assert (answer.attempt, "hello first" in answer.reason) == ("", True)


def test_nonsense_is_ignored(wire: Callable[..., Wire]) -> None:
    w = wire()
    w.greet()
    w.socket.send(b"\xff\x00 no message")
    w.socket.send_multipart([b"", b"two", b"parts"])
    w.say(w.hello(), Starting("a"))
    assert isinstance(w.hear(), Welcome)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": 99}, "protocol 99"),
        ({"kv_hash": "hash-b"}, "'hash-b'"),
        ({"transport": "nixl"}, "'nixl'"),
        ({"layout": Layout(0, 4, 64, 8192)}, "8192 bytes a block"),
        ({"layout": Layout(0, 5, 64, 4096)}, "5 layers"),
        ({"metadata": b"\xc1"}, "metadata"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_in_a_sentence(
    wire: Callable[..., Wire], changes: dict[str, object], sentence: str
) -> None:
    w = wire()
    w.say(w.hello(**changes))
    answer = w.hear()
    assert isinstance(answer, Refused)
    assert answer.attempt == ""
    assert sentence in answer.reason


def test_a_hello_again_keeps_the_running_attempts(wire: Callable[..., Wire]) -> None:
    w = wire(layer_s=0.2)
    w.greet()
    w.say(asked("a"))
    assert w.hear() == Starting("a")
    w.say(w.hello(), Grant("a", 0, (10, 11), 5.0))
    assert isinstance(w.hear(), Welcome)
    w.say(Abort("a"))
    assert w.hear() == Aborted("a")


def test_a_stranger_without_the_secret_gets_no_answer(
    wire: Callable[..., Wire], prefill: Callable[..., Prefill]
) -> None:
    w = wire()
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        secrecy.guard_client(stranger, "guessed")
        stranger.connect(prefill().address)
        stranger.send(encode(w.hello()))
        assert not stranger.poll(500)
