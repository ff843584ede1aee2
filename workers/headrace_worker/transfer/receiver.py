"""The receiving end of the sockets transport: whose bytes land in our memory, and that they land where they may."""

import logging
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

from headrace_worker.errors import TransferError
from headrace_worker.transfer import framing
from headrace_worker.transfer.framing import StreamError
from headrace_worker.transfer.transport import Notification

logger = logging.getLogger(__name__)
_HANDSHAKE_S = 5.0
_JOIN_S = 5.0


@dataclass(slots=True)
class _Stream:
    connection: socket.socket
    thread: threading.Thread

    def end(self) -> bool:
        """Cut the connection; True once no byte of it can reach memory any more."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        if self.thread is not threading.current_thread():
            self.thread.join(_JOIN_S)
        return not self.thread.is_alive()


class Receiver:
    """Listens; each sender has one stream at a time, and a new one is accepted only when its old one has ended."""

    def __init__(self, incarnation: str, host: str, secret: bytes, memory: memoryview) -> None:
        self._incarnation = incarnation
        self._secret = secret
        self._memory = memory
        self._notifications: list[Notification] = []
        self._lock = threading.Lock()
        self._all: dict[int, _Stream] = {}
        self._senders: dict[str, _Stream] = {}
        self._closing = False
        try:
            self._listener = socket.create_server((host, 0), family=_family(host), backlog=64)
        except OSError as error:
            raise TransferError(f"the sockets transport cannot listen on {host!r}: {error}") from error
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="kv-listener", daemon=True)
        self._thread.start()

    def take(self) -> list[Notification]:
        """Return the notifications that arrived since the last call."""
        with self._lock:
            taken, self._notifications = self._notifications, []
        return taken

    def close(self) -> None:
        """End every stream, then stop listening: a sender takes a refused connection as proof that we have ended."""
        self._closing = True
        self._end_streams()
        _wake(self._listener)
        self._thread.join(_JOIN_S)
        self._end_streams()
        self._listener.close()

    def _end_streams(self) -> None:
        with self._lock:
            streams = list(self._all.values())
        for stream in streams:
            stream.end()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), name="kv-receiver", daemon=True)
            stream = _Stream(connection, thread)
            with self._lock:
                self._all[id(connection)] = stream
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        stream = self._all[id(connection)]
        try:
            connection.settimeout(_HANDSHAKE_S)
            sender, proof = framing.challenge(connection, self._incarnation, self._secret)
            self._fence(sender, stream)
            connection.settimeout(None)
            connection.sendall(proof)
            while not self._closing:
                self._frame(connection, sender)
        except (OSError, UnicodeDecodeError) as error:
            logger.debug("KV stream ended", extra={"error": str(error)})
        finally:
            with self._lock:
                del self._all[id(connection)]
                self._senders = {name: other for name, other in self._senders.items() if other is not stream}
            connection.close()

    def _fence(self, sender: str, stream: _Stream) -> None:
        """End the sender's earlier stream before the new one may write."""
        with self._lock:
            earlier = self._senders.get(sender)
            self._senders[sender] = stream
        if earlier is not None and not earlier.end():
            raise StreamError(f"the earlier stream of {sender!r} did not end within {_JOIN_S} s")

    def _frame(self, connection: socket.socket, sender: str) -> None:
        count, size, notification_size = framing.HEAD.unpack(framing.receive(connection, framing.HEAD.size))
        if count > framing.MAX_SPANS or notification_size > framing.MAX_NOTIFICATION_BYTES:
            raise StreamError(f"a frame of {count} spans and {notification_size} bytes of notification is too large")
        table = framing.receive(connection, count * framing.PLACE.size)
        places = list(framing.PLACE.iter_unpack(table))
        if sum(length for _, length in places) != size:
            raise StreamError("the sizes of a frame's spans do not add up")
        for offset, length in places:
            if offset + length > len(self._memory):
                raise StreamError(f"a span of {length} bytes at {offset} lies outside {len(self._memory)} bytes of KV")
        for offset, length in places:
            framing.receive_into(connection, self._memory[offset : offset + length])
        if notification_size:
            payload = framing.receive(connection, notification_size)
            with self._lock:
                self._notifications.append(Notification(sender, payload))
        connection.sendall(framing.ACCEPTED)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _wake(listener: socket.socket) -> None:
    """Let a thread that waits in accept go on: shutdown does it on Linux, a connection elsewhere."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        try:
            socket.create_connection(listener.getsockname()[:2], timeout=1.0).close()
        except OSError:
            listener.close()
