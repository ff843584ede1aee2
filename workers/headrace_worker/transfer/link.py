"""A decode worker's connection to one prefill worker: its socket, how far the handshake is, what was sent over it."""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from headrace_api import handoff
from headrace_api.handoff import Admit, Attempt, Message
from headrace_worker.transfer import secrecy

_WATCHED = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Phase(Enum):
    """How far a link is."""

    GREETING = "greeting"
    """Our hello is on its way."""
    OPEN = "open"
    """We are welcome: attempts can be sent."""
    BROKEN = "broken"
    """No connection; it is made again when it is needed."""


class Link:
    """The link to one address; a broken one connects anew, with a new socket, so that nothing old is delivered late.

    Args:
        context: of the courier.
        worker: the prefill worker's name.
        address: of its control socket.
        secret: shared.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *, worker: str, address: str, secret: str) -> None:
        self.worker = worker
        self.address = address
        self.incarnation: str | None = None
        """Of the process that welcomed us last."""
        self.phase = Phase.BROKEN
        self.since_s = 0.0
        """When the phase began."""
        self.heard_s = 0.0
        self.retry_s = 0.0
        """When a broken link with open aborts connects again."""
        self.waiting: list[Attempt] = []
        """To be sent once we are welcome."""
        self.carried: dict[str, bool] = {}
        """Attempts that were sent and have not ended; True where we gave them up and want to hear that they ended."""
        self.granted: set[str] = set()
        self._admitted: dict[str, set[int]] = {}
        """By attempt: the ranks that have written everything."""
        self.aborted_s = 0.0
        """When aborts were sent last."""
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[Any] | None = None
        self._context = context
        self._secret = secret

    @property
    def aborting(self) -> list[str]:
        """Attempts whose end we still have to hear of."""
        return [attempt for attempt, given_up in self.carried.items() if given_up]

    def connect(self, hello: Message, now: float) -> None:
        """Open a new connection and say hello."""
        self.disconnect(now)
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.reconnect_ivl = -1
        socket.ipv6 = "[" in self.address
        secrecy.guard_client(socket, self._secret)
        self.monitor = socket.get_monitor_socket(_WATCHED)
        self.socket = socket
        self.phase, self.since_s, self.heard_s = Phase.GREETING, now, now
        try:
            socket.connect(self.address)
            # A connection that was refused within these microseconds takes no message; the monitor knows why.
            with suppress(zmq.Again):
                socket.send(handoff.encode(hello), zmq.NOBLOCK)
        except zmq.ZMQError:
            # An address that ZeroMQ does not take; the deadline of the greeting would only say it later.
            self.disconnect(now)

    def disconnect(self, now: float) -> None:
        """Close the connection."""
        if self.socket is not None:
            self.socket.disable_monitor()
            self.socket.close()
        if self.monitor is not None:
            self.monitor.close()
        self.socket = self.monitor = None
        self.granted.clear()
        self.phase, self.since_s = Phase.BROKEN, now

    def send(self, message: Message) -> bool:
        """Send over an open link; False where there is none."""
        if self.phase is not Phase.OPEN or self.socket is None:
            return False
        try:
            self.socket.send(handoff.encode(message), zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    def messages(self) -> list[bytes]:
        """Return what has arrived."""
        return _drain(self.socket, lambda socket: socket.recv(zmq.NOBLOCK))

    def failure(self) -> str | None:
        """Return why the connection has ended, if it has."""
        events = _drain(self.monitor, lambda monitor: recv_monitor_message(monitor, zmq.NOBLOCK))
        if not events:
            return None
        if any(event["event"] not in {zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED} for event in events) or (
            self.phase is Phase.GREETING and any(event["event"] == zmq.EVENT_DISCONNECTED for event in events)
        ):
            return "it ended the connection before the handshake; check that both workers have the same secret"
        if self.phase is Phase.GREETING:
            return "nobody listens there"
        return "the connection was closed"

    def admitted(self, admit: Admit) -> bool:
        """Note that a rank has written everything; True once all have.

        An attempt that was given up in the meantime does not end here: its blocks are in quarantine, and what frees
        them is the answer to our abort.
        """
        if self.carried.get(admit.attempt) is not False:
            return False
        ranks = self._admitted.setdefault(admit.attempt, set())
        ranks.add(admit.rank)
        return len(ranks) >= admit.ranks

    def end(self, attempt: str) -> bool:
        """Forget an attempt that has ended; False where it was not known."""
        self.granted.discard(attempt)
        self._admitted.pop(attempt, None)
        return self.carried.pop(attempt, None) is not None


def _drain(socket: Any, receive: Callable[[Any], Any]) -> list[Any]:
    received: list[Any] = []
    while socket is not None:
        try:
            received.append(receive(socket))
        except zmq.Again:
            break
    return received
