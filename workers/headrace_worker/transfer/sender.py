"""The sending end of the sockets transport: one thread and one stream for each peer."""

import logging
import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

from headrace_worker.transfer import framing
from headrace_worker.transfer.linger import end_at_once
from headrace_worker.transfer.transport import Span

logger = logging.getLogger(__name__)
_RETRY_S = 0.2
_JOIN_S = 5.0


@dataclass(slots=True, eq=False)
class Frame:
    """A write or a notification; `ended` is set last, and only when its bytes can no longer arrive."""

    spans: tuple[Span, ...]
    notification: bytes = b""
    error: str | None = None
    ended: bool = False

    def end(self, error: str | None = None) -> None:
        """Record the outcome."""
        self.error = error
        self.ended = True


class Sender:
    """Sends frames to one peer, each after the one before was acknowledged.

    Args:
        address: of the peer's receiver.
        sender: our incarnation.
        receiver: the peer's.
        secret: shared.
        memory: our KV memory.
        deadline_s: bound on each send and receive.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        sender: str,
        receiver: str,
        secret: bytes,
        memory: memoryview,
        deadline_s: float,
    ) -> None:
        self._address = address
        self._names = (sender, receiver)
        self._secret = secret
        self._memory = memory
        self._deadline_s = deadline_s
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._connection: socket.socket | None = None
        self._unfenced = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kv-sender", daemon=True)
        self._thread.start()

    def send(self, frame: Frame) -> Frame:
        """Queue a frame."""
        self._frames.put(frame)
        return frame

    def close(self) -> None:
        """End the thread; frames that were not acknowledged have failed."""
        self._closing.set()
        self._frames.put(None)
        connection = self._connection
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None and not self._closing.is_set():
            self._deliver(frame)
        self._hang_up()
        reason = f"peer {self._names[1]!r} was disconnected"
        while frame is not None or not self._frames.empty():
            if frame is not None:
                frame.end(reason)
            frame = self._frames.get() if not self._frames.empty() else None

    def _deliver(self, frame: Frame) -> None:
        try:
            connection = self._connection or self._connect()
            self._put(connection, frame)
        except OSError as error:
            reason = f"sending to peer {self._names[1]!r} failed: {error}"
            self._hang_up()
            if self._unfenced:
                self._fence()
            frame.end(reason)
        else:
            frame.end()

    def _put(self, connection: socket.socket, frame: Frame) -> None:
        self._unfenced = True
        places = [(span.remote, span.size) for span in frame.spans]
        connection.sendall(framing.head(places, frame.notification))
        for span in frame.spans:
            connection.sendall(self._memory[span.local : span.local + span.size])
        connection.sendall(frame.notification)
        framing.receive(connection, len(framing.ACCEPTED))
        self._unfenced = False

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=self._deadline_s)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end_at_once(connection)
            framing.introduce(connection, *self._names, self._secret)
        except OSError:
            connection.close()
            raise
        self._connection = connection
        self._unfenced = False
        return connection

    def _fence(self) -> None:
        """Wait until the receiver has ended our broken stream, which its answer to a new one proves, or has gone."""
        while not self._closing.is_set():
            try:
                self._connect()
            except ConnectionRefusedError:
                return
            except OSError as error:
                logger.debug("peer not reachable", extra={"peer": self._names[1], "error": str(error)})
                self._closing.wait(_RETRY_S)
            else:
                return

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
