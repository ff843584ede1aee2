"""Connections that end with their process, and take their unsent bytes with them."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from headrace_worker.transfer.linger import Watcher, end_at_once

Pair = tuple[socket.socket, socket.socket]
DEADLINE_S = 30.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a TCP connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sender = stack.enter_context(socket.create_connection(listener.getsockname()))
        receiver = stack.enter_context(listener.accept()[0])
        receiver.settimeout(DEADLINE_S)
        yield sender, receiver


def fill(sender: socket.socket) -> int:
    """Send until nothing fits any more; return how many bytes wait somewhere."""
    sender.setblocking(False)
    size = 0
    while True:
        try:
            size += sender.send(bytes(1 << 16))
        except BlockingIOError:
            return size


def drain(receiver: socket.socket) -> tuple[int, bool]:
    """Return how many bytes come, and whether the connection ended in order."""
    size = 0
    try:
        while data := receiver.recv(1 << 16):
            size += len(data)
    except ConnectionResetError:
        return size, False
    return size, True


def test_what_waits_in_the_kernel_is_sent_after_the_end_unless_it_is_told_not_to(pair: Pair) -> None:
    sender, receiver = pair
    size = fill(sender)
    sender.close()
    assert drain(receiver) == (size, True)


def test_a_connection_that_ends_at_once_sends_nothing_more(pair: Pair) -> None:
    sender, receiver = pair
    end_at_once(sender)
    size = fill(sender)
    sender.close()
    came, in_order = drain(receiver)
    assert came < size
    assert not in_order


def test_connections_of_a_library_are_found_once_each(pair: Pair) -> None:
    watcher = Watcher()
    assert watcher.look() >= 2
    assert watcher.look() == 0
    sender, receiver = pair
    size = fill(sender)
    sender.close()
    assert drain(receiver)[0] < size
    with socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket():
        assert watcher.look() == 1
