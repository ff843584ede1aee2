"""The decode worker's half of the courier: links to prefill workers, what is asked of them, what they answer.

Runs on the courier's thread. An attempt that was given up is aborted again and again, over new connections too, until
the prefill worker has said that it writes no more: only that gives its blocks back.
"""

import logging
from collections.abc import Callable, Iterator

import msgspec
import zmq

from headrace_api import handoff
from headrace_api.handoff import Attempt, Dead, Grant, Message
from headrace_worker.errors import IncompatiblePeerError
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.events import Aborted, Admitted, Alive, Event, Lost, Refused, Returned, Started
from headrace_worker.transfer.identity import Identity
from headrace_worker.transfer.link import Link, Phase
from headrace_worker.transfer.transport import Notification

logger = logging.getLogger(__name__)
_REPEAT_S = 1.0
"""How often an unanswered abort is sent again, and a broken link with such aborts connects again."""
_PATIENCE = 5
"""So many times as long as usual may a handshake take that no request waits for."""
_QUIET_S = 15.0
"""A link that brought nothing for this long (prefill workers speak every 5 s) is taken for broken."""


class DecodeSide:
    """Asks prefill workers.

    Args:
        context: ZeroMQ's.
        identity: ours.
        secret: shared by the deployment.
        silence_s: how long a handshake may take.
        emit: takes events for the core.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        *,
        secret: str,
        silence_s: float,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._context = context
        self._identity = identity
        self._secret = secret
        self._silence_s = silence_s
        self._emit = emit
        self._clock = clock
        self._links: dict[str, Link] = {}

    @property
    def busy(self) -> bool:
        """Whether an admission may arrive at any moment."""
        return any(link.granted for link in self._links.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is asked of anybody."""
        return not any(link.carried or link.waiting for link in self._links.values())

    def sockets(self) -> Iterator[zmq.Socket[bytes]]:
        """Yield what to poll."""
        for link in self._links.values():
            if link.socket is not None and link.monitor is not None:
                yield link.socket
                yield link.monitor

    # --- what the core says ------------------------------------------------------------------------------------------

    def ask(self, peer: PrefillPeer, attempt: Attempt) -> None:
        """Ask, after a handshake where one is needed."""
        link = self._links.get(peer.address)
        if link is None:
            link = Link(self._context, worker=peer.worker, address=peer.address, secret=self._secret)
            self._links[peer.address] = link
        if link.phase is Phase.OPEN and link.incarnation != peer.incarnation:
            self._break(link, "another process is expected there")
        if link.phase is Phase.OPEN:
            self._carry(link, attempt)
            return
        link.waiting.append(attempt)
        if link.phase is Phase.BROKEN:
            self._connect(link)

    def grant(self, incarnation: str, grant: Grant) -> None:
        """Name blocks. A grant that cannot be sent is answered with Refused: it has never left."""
        link = self._find(incarnation)
        if link is not None and grant.attempt in link.carried and link.send(grant):
            link.granted.add(grant.attempt)
            return
        if link is not None:
            link.end(grant.attempt)
        self._emit(Refused(grant.attempt, incarnation, "the connection was lost before blocks could be granted"))

    def renew(self, incarnation: str, renew: handoff.Renew) -> None:
        """Extend a lease; over a broken link it runs out."""
        if (link := self._find(incarnation)) is not None:
            link.send(renew)

    def abort(self, incarnation: str, attempt: str) -> None:
        """Give an attempt up and go on until its end is known."""
        link = next((link for link in self._links.values() if attempt in link.carried), None)
        if link is not None:
            link.carried[attempt] = True
            if not link.send(handoff.Abort(attempt)) and link.phase is Phase.BROKEN:
                self._connect(link)
            return
        for other in self._links.values():
            other.waiting = [asked for asked in other.waiting if asked.attempt != attempt]
        self._emit(Aborted(attempt, incarnation))

    def dead(self, dead: Dead) -> None:
        """A prefill worker's processes have ended: nothing of it is waited for any more."""
        for link in list(self._links.values()):
            if link.incarnation is not None and dead.covers(link.incarnation):
                self._retire(link)

    # --- what peers say ----------------------------------------------------------------------------------------------

    def watch(self) -> bool:
        """Take all messages, and notice broken connections; True when a message came."""
        heard = False
        for link in list(self._links.values()):
            for data in link.messages():
                heard = True
                self._receive(link, data)
            failure = link.failure()
            if failure is not None:
                self._break(link, failure)
        return heard

    def notified(self, notification: Notification) -> None:
        """Take a notification of the transport."""
        try:
            message = handoff.decode(notification.payload)
        except msgspec.MsgspecError as error:
            logger.warning("a KV notification does not decode", extra={"error": str(error)})
            return
        if not isinstance(message, handoff.Admit):
            return
        incarnation = handoff.leader_of(notification.sender)
        link = self._find(incarnation)
        if link is not None and link.admitted(message):
            link.end(message.attempt)
        self._emit(Admitted(incarnation, message))

    def _receive(self, link: Link, data: bytes) -> None:
        try:
            message = handoff.decode(data)
        except msgspec.MsgspecError as error:
            self._break(link, f"it sent what is no hand-off message: {error}")
            return
        link.heard_s = self._clock()
        match message:
            case handoff.Welcome():
                self._welcomed(link, message)
            case handoff.Refused(attempt="", reason=reason):
                self._break(link, reason)
            case _ if link.incarnation is not None:
                self._answered(link, link.incarnation, message)

    def _welcomed(self, link: Link, welcome: handoff.Welcome) -> None:
        if link.phase is not Phase.GREETING:
            return
        if welcome.kv_hash != self._identity.kv_hash:
            self._break(link, str(IncompatiblePeerError(self._identity.kv_hash, welcome.kv_hash)))
            return
        self._supersede(link, welcome)
        link.worker, link.incarnation = welcome.worker, welcome.incarnation
        link.phase, link.since_s = Phase.OPEN, self._clock()
        self._repeat_aborts(link)
        waiting, link.waiting = link.waiting, []
        for attempt in waiting:
            self._carry(link, attempt)

    def _supersede(self, link: Link, welcome: handoff.Welcome) -> None:
        """Where the worker was another process before, say so: that one has gone, and its writes with it."""
        for other in list(self._links.values()):
            old = other.incarnation
            same_worker = other is link or other.worker == welcome.worker
            if old is not None and old != welcome.incarnation and same_worker:
                self._emit(Returned(other.worker, old, welcome.incarnation))
                other.carried.clear()
                if other is not link:
                    self._retire(other)

    def _answered(self, link: Link, incarnation: str, message: Message) -> None:
        match message:
            case handoff.Starting(attempt=attempt):
                if link.carried.get(attempt) is False:
                    self._emit(Started(attempt, incarnation))
            case handoff.Alive(attempts=attempts):
                if attempts:
                    self._emit(Alive(incarnation, attempts))
            case handoff.Refused(attempt=attempt, reason=reason):
                if link.end(attempt):
                    self._emit(Refused(attempt, incarnation, reason))
            case handoff.Aborted(attempt=attempt):
                if link.end(attempt):
                    self._emit(Aborted(attempt, incarnation))
            case _:
                logger.debug("a prefill worker sent an unexpected message", extra={"worker": link.worker})

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Act on deadlines; connect again where ends of attempts are still to be heard."""
        now = self._clock()
        for link in list(self._links.values()):
            match link.phase:
                case Phase.GREETING if now > link.since_s + self._greeting_s(link):
                    self._break(link, f"it did not answer a hello within {self._greeting_s(link):g} s")
                case Phase.OPEN if now > link.heard_s + self._quiet_s(link):
                    self._break(link, "it has been silent")
                case Phase.OPEN if link.aborting and now > link.aborted_s + _REPEAT_S:
                    self._repeat_aborts(link)
                case Phase.BROKEN if link.aborting and now > link.retry_s:
                    self._connect(link)
                case _:
                    pass

    def close(self) -> None:
        """Close all links."""
        for link in self._links.values():
            link.disconnect(self._clock())
        self._links.clear()

    def _greeting_s(self, link: Link) -> float:
        """Return how long a handshake may take: more where it is for aborts, which nothing but an answer ends.

        A handshake is several round trips; on a bad day each try may be just too short, and so may the next.
        """
        return _PATIENCE * self._silence_s if link.aborting else self._silence_s

    def _quiet_s(self, link: Link) -> float:
        """Return how long the link may bring nothing: less when the answer to an abort is overdue."""
        return self._silence_s if link.aborting else max(_QUIET_S, self._silence_s)

    def _find(self, incarnation: str) -> Link | None:
        return next((link for link in self._links.values() if link.incarnation == incarnation), None)

    def _connect(self, link: Link) -> None:
        now = self._clock()
        link.retry_s = now + _REPEAT_S
        link.connect(self._identity.hello(), now)
        if link.phase is Phase.BROKEN:
            self._break(link, f"{link.address!r} is no address that can be connected to")

    def _carry(self, link: Link, attempt: Attempt) -> None:
        if link.send(attempt):
            link.carried[attempt.attempt] = False
        else:
            self._emit(Refused(attempt.attempt, None, f"prefill worker {link.worker!r} does not take messages"))

    def _repeat_aborts(self, link: Link) -> None:
        link.aborted_s = self._clock()
        for attempt in link.aborting:
            link.send(handoff.Abort(attempt))

    def _break(self, link: Link, reason: str) -> None:
        """The connection is over: what waited is refused, what was sent is lost."""
        was_open = link.phase is Phase.OPEN
        now = self._clock()
        link.disconnect(now)
        link.retry_s = now + _REPEAT_S
        waiting, link.waiting = link.waiting, []
        sentence = f"prefill worker {link.worker!r} at {link.address}: {reason}"
        for attempt in waiting:
            self._emit(Refused(attempt.attempt, None, sentence))
        if was_open and link.incarnation is not None:
            self._emit(Lost(link.worker, link.incarnation, sentence))
        if not link.carried:
            self._retire(link)

    def _retire(self, link: Link) -> None:
        link.carried.clear()
        link.disconnect(self._clock())
        self._links = {address: other for address, other in self._links.items() if other is not link}
        waiting, link.waiting = link.waiting, []
        for attempt in waiting:
            self._emit(Refused(attempt.attempt, None, f"prefill worker {link.worker!r} has gone"))
