"""A pipe between rank 0 and another rank: whole messages both ways, and its end is noticed at once."""

import socket
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import msgspec

from headrace_worker.errors import RankError

Incoming = TypeVar("Incoming")
_encode = msgspec.msgpack.Encoder().encode


class Pipe(Generic[Incoming]):
    """One end.

    Args:
        connection: of the standard library, which keeps messages apart.
        decoder: of what comes in.
        who: the other end, for error messages.
    """

    def __init__(
        self, connection: "Connection[bytes, bytes]", decoder: msgspec.msgpack.Decoder[Incoming], who: str
    ) -> None:
        self._connection = connection
        self._decoder = decoder
        self._who = who

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._connection.fileno()

    def send(self, message: msgspec.Struct) -> None:
        """Send; raise RankError where nobody is there any more."""
        self.send_encoded(_encode(message))

    def send_encoded(self, data: bytes) -> None:
        """Send a message that was encoded once for several pipes."""
        try:
            self._connection.send_bytes(data)
        except OSError as error:
            raise RankError(f"{self._who} has gone") from error

    def receive(self, timeout_s: float | None) -> Incoming:
        """Return the next message; raise RankError when the other end has gone or says nothing in time."""
        try:
            if timeout_s is not None and not self._connection.poll(timeout_s):
                raise RankError(f"{self._who} said nothing for {timeout_s:g} s")
            return self._decoder.decode(self._connection.recv_bytes())
        except (OSError, EOFError) as error:
            raise RankError(f"{self._who} has gone") from error

    def messages(self) -> list[Incoming]:
        """Return what has arrived; raise RankError when the other end has gone."""
        found: list[Incoming] = []
        try:
            while self._connection.poll(0):
                found.append(self._decoder.decode(self._connection.recv_bytes()))
        except (OSError, EOFError) as error:
            if not found:
                raise RankError(f"{self._who} has gone") from error
        return found

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


def encode(message: msgspec.Struct) -> bytes:
    """Return the message as it travels."""
    return _encode(message)


def make_pipe(rank: int, incoming: Any) -> tuple[Pipe[Any], socket.socket]:
    """Return rank 0's end of a new pipe, on which messages of type `incoming` arrive, and the rank's end."""
    ours, theirs = socket.socketpair()
    return take_pipe(rank, ours, incoming), theirs


def take_pipe(rank: int, ours: socket.socket, incoming: Any) -> Pipe[Any]:
    """Return rank 0's end of a pipe to a rank, over a socket that is connected to it."""
    connection: Connection[bytes, bytes] = Connection(ours.detach())
    return Pipe(connection, msgspec.msgpack.Decoder(incoming), f"rank {rank}")


def open_pipe(descriptor: int, incoming: Any) -> Pipe[Any]:
    """Return a rank's end of a pipe to rank 0, on which messages of type `incoming` arrive."""
    return Pipe(Connection(descriptor), msgspec.msgpack.Decoder(incoming), "rank 0")
