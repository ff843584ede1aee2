"""The sockets transport by itself: bounds, order, proof of the secret, and broken connections."""

import ctypes
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from headrace_api.handoff import Layout
from headrace_worker.errors import TransferError
from headrace_worker.transfer import framing
from headrace_worker.transfer.receiver import Receiver
from headrace_worker.transfer.sender import Frame, Sender
from headrace_worker.transfer.sockets import SocketTransport
from headrace_worker.transfer.transport import Notification, Span, Write

SIZE = 1 << 20
DEADLINE_S = 40.0


class End:
    """A transport with memory of its own."""

    def __init__(self, name: str, secret: str = "a secret", deadline_s: float = 5.0) -> None:
        self.name = name
        self.memory = bytearray(SIZE)
        self.address = ctypes.addressof((ctypes.c_char * SIZE).from_buffer(self.memory))
        self.transport = SocketTransport(incarnation=name, host="127.0.0.1", secret=secret, deadline_s=deadline_s)
        self.transport.register(self.address, SIZE, None)

    def reach(self, other: "End", name: str | None = None) -> None:
        layout = Layout(other.address, 1, 1, SIZE)
        self.transport.connect(name or other.name, other.transport.metadata(), layout)

    def finish(self, write: Write) -> None:
        wait(lambda: self.transport.done(write))


def wait(condition: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        pause.wait(0.002)


@pytest.fixture
def end() -> Iterator[Callable[..., End]]:
    made: list[End] = []

    def make(name: str, **options: object) -> End:
        made.append(End(name, **options))  # type: ignore[arg-type]  # options of the constructor
        return made[-1]

    yield make
    for each in made:
        each.transport.close()


def test_spans_land_where_they_should_and_nowhere_else(end: Callable[..., End]) -> None:
    p, d = end("p"), end("d")
    p.reach(d)
    p.memory[:] = bytes(range(256)) * (SIZE // 256)
    p.finish(p.transport.write("d", [Span(3, 1000, 50), Span(5000, 77, 1), Span(0, SIZE - 10, 10)]))
    expected = bytearray(SIZE)
    expected[1000:1050], expected[77:78], expected[-10:] = p.memory[3:53], p.memory[5000:5001], p.memory[:10]
    assert d.memory == expected


def test_a_notification_comes_after_the_writes_before_it(end: Callable[..., End]) -> None:
    p, d = end("p"), end("d")
    p.reach(d)
    p.memory[:] = b"\x07" * SIZE
    p.transport.write("d", [Span(0, 0, SIZE)])
    p.transport.notify("d", b"done")
    arrived: list[Notification] = []

    def look() -> bool:
        arrived.extend(d.transport.notifications())
        return bool(arrived)

    wait(look)
    assert d.memory == p.memory
    assert [(each.sender, each.payload) for each in arrived] == [("p", b"done")]


@pytest.mark.parametrize("span", [Span(0, SIZE - 10, 11), Span(0, 1 << 63, 8), Span(0, SIZE, 1)])
def test_a_write_outside_the_memory_is_refused_and_changes_nothing(end: Callable[..., End], span: Span) -> None:
    p, d = end("p"), end("d")
    p.reach(d)
    p.memory[:] = b"\x07" * SIZE
    with pytest.raises(TransferError, match="sending to peer 'd' failed"):
        p.finish(p.transport.write("d", [Span(0, 0, 100), span]))
    assert d.memory == bytes(SIZE)
    p.finish(p.transport.write("d", [Span(0, 0, 100)]))
    assert d.memory[:100] == p.memory[:100]


def test_a_sender_with_another_secret_is_turned_away(end: Callable[..., End]) -> None:
    p, d = end("p", secret="guessed"), end("d")
    p.reach(d)
    with pytest.raises(TransferError):
        p.finish(p.transport.write("d", [Span(0, 0, 100)]))


def test_a_receiver_that_does_not_know_the_secret_gets_no_data() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        failure: list[Exception] = []

        def answer() -> None:
            theirs.sendall(b"n" * 32)
            framing.receive(theirs, 2 + 1 + 1 + 32 + 32)
            theirs.sendall(b"x" * 32)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            framing.introduce(ours, "p", "d", b"a secret")
        except framing.StreamError as error:
            failure.append(error)
        thread.join(DEADLINE_S)
        assert "does not know this deployment's secret" in str(failure[0])


def test_a_stream_meant_for_another_incarnation_is_refused(end: Callable[..., End]) -> None:
    p, d = end("p"), end("d")
    p.reach(d, "an older d")
    with pytest.raises(TransferError):
        p.finish(p.transport.write("an older d", [Span(0, 0, 100)]))
    assert d.memory == bytes(SIZE)


def test_an_unknown_peer_is_an_error(end: Callable[..., End]) -> None:
    with pytest.raises(TransferError, match="'x' is not connected"):
        end("p").transport.write("x", [Span(0, 0, 1)])


def test_disconnecting_fails_what_was_not_acknowledged(end: Callable[..., End]) -> None:
    p = end("p", deadline_s=60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = Sender(
            silent.getsockname(),
            sender="p",
            receiver="d",
            secret=b"",
            memory=memoryview(p.memory),
            deadline_s=60.0,
        )
        frames = [sender.send(Frame((Span(0, 0, 1),))) for _ in range(2)]
        sender.close()
        wait(lambda: all(frame.ended for frame in frames))
    assert all(frame.error for frame in frames)


def test_a_new_stream_is_accepted_only_when_the_old_one_has_ended() -> None:
    memory = bytearray(SIZE)
    receiver = Receiver("d", "127.0.0.1", b"", memoryview(memory))
    first = socket.create_connection(("127.0.0.1", receiver.port))
    second = socket.create_connection(("127.0.0.1", receiver.port))
    with first, second:
        framing.introduce(first, "p", "d", b"")
        first.sendall(framing.head([(0, 1000)], b"") + b"a" * 10)
        wait(lambda: memory[9])
        framing.introduce(second, "p", "d", b"")
        # The old stream's rest can no longer land: the introduction above was answered after its end.
        memory[:] = bytes(SIZE)
        with suppress(OSError):
            first.sendall(b"a" * 990)
        second.sendall(framing.head([(5000, 3)], b"") + b"bbb")
        assert framing.receive(second, 1) == framing.ACCEPTED
        assert memory[:1000] == bytes(1000)
        assert memory[5000:5003] == b"bbb"
    receiver.close()


def test_a_failed_write_waits_until_the_receiver_has_ended_the_broken_stream(end: Callable[..., End]) -> None:
    p, d = end("p", deadline_s=0.3), end("d")
    p.reach(d)
    p.finish(p.transport.write("d", [Span(0, 0, 1)]))
    assert d.transport._receiver is not None
    (stream,) = d.transport._receiver._all.values()
    stream.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(TransferError):
        p.finish(p.transport.write("d", [Span(0, 0, SIZE)]))
    assert not stream.thread.is_alive()
    p.finish(p.transport.write("d", [Span(0, 0, 1)]))


def test_nothing_is_left_after_close(end: Callable[..., End]) -> None:
    before = threading.active_count()
    p, d = end("p"), end("d")
    p.reach(d)
    p.finish(p.transport.write("d", [Span(0, 0, SIZE)]))
    p.transport.close()
    d.transport.close()
    d.transport.close()
    assert threading.active_count() == before
