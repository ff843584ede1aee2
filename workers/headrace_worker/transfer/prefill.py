"""The prefill worker's half of the courier: decode workers that said hello, their attempts, the writes for them.

Runs on the courier's thread. The rules are in `source`; here they meet the control socket and the transport.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from headrace_api import handoff
from headrace_api.frames import Token
from headrace_api.handoff import Dead, Message
from headrace_worker.errors import RankError, TransferError
from headrace_worker.parallel.pipe import Pipe
from headrace_worker.transfer.branch import Drop, Ended, Finish, FromBranch, Hit, Lost, Open, Start
from headrace_worker.transfer.events import Asked, Event, Settled, Stopped
from headrace_worker.transfer.identity import Identity
from headrace_worker.transfer.routes import places, routes
from headrace_worker.transfer.source import (
    Action,
    SendAborted,
    SendAdmit,
    SendRefused,
    Settle,
    Source,
    Stop,
    Terms,
)
from headrace_worker.transfer.trace import describe
from headrace_worker.transfer.transport import Transport
from headrace_worker.transfer.writing import Computed, Job, Ready, Writing, connect, disconnect

logger = logging.getLogger(__name__)
_ALIVE_S = 0.5
_IDLE_ALIVE_S = 5.0
"""How often a decode worker without attempts is told that we live; also how a vanished one is noticed."""
_REMEMBERED = 4096


@dataclass(slots=True, eq=False)
class _Peer:
    worker: str
    incarnation: str
    terms: Terms
    route: bytes
    told_s: float
    lost: str | None = None
    """Why the peer is to be dropped: it cannot be reached, or the transport to it failed."""


_Job = Job[_Peer]


class PrefillSide:
    """Serves attempts.

    Args:
        router: the bound control socket.
        identity: ours.
        transport: for writes and admissions.
        emit: takes events for the core.
        clock: monotonic seconds.
        trace: takes a record for each settled attempt.
        branches: pipes to the couriers of this worker's other ranks, which write their part.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        identity: Identity,
        transport: Transport,
        *,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        trace: Callable[[dict[str, Any]], None] | None,
        branches: Sequence[Pipe[FromBranch]] = (),
    ) -> None:
        self._router = router
        self._identity = identity
        self._transport = transport
        self._emit = emit
        self._clock = clock
        self._trace = trace
        self._routes: dict[bytes, _Peer] = {}
        self._branches = branches
        self._writing: Writing[_Peer] = Writing(transport, clock, act=self._act, broken=self._broken)
        self._jobs = self._writing.jobs
        self._ended: dict[str, None] = {}
        """Attempts of the past, in order: a late message must not bring one back to life."""

    @property
    def busy(self) -> bool:
        """Whether writes or events must be watched closely."""
        return self._writing.busy

    @property
    def idle(self) -> bool:
        """Whether no attempt is known."""
        return not self._jobs

    # --- what the core says ------------------------------------------------------------------------------------------

    def open(self, attempt: str) -> None:
        """Give D a first sign of life."""
        if (job := self._jobs.get(attempt)) is not None:
            self._send(job.peer, handoff.Alive((attempt,)))

    def start(self, attempt: str) -> None:
        """Tell D that its attempt starts, so that it grants blocks."""
        if (job := self._jobs.get(attempt)) is not None:
            self._writing.perform(job, job.source.start(self._clock()))
            self._tell_ranks(Start(attempt))
            self._send(job.peer, handoff.Starting(attempt))

    def ready(self, computed: Computed, event: Ready | None = None) -> None:
        """Take blocks that are ready on this rank, or will be once `event` has come."""
        self._writing.ready(computed, event)

    def hit(self, computed: Computed) -> None:
        """Take blocks that every rank has in its cache."""
        self._tell_ranks(Hit(computed.attempt, computed.first, tuple(computed.blocks)))
        self._writing.ready(computed, None)

    def finish(self, attempt: str, token: Token, cached_tokens: int, spent_s: float) -> None:
        """Compute of the attempt is over."""
        if (job := self._jobs.get(attempt)) is not None:
            self._tell_ranks(Finish(attempt, token, cached_tokens, spent_s))
            self._writing.gate(job, None, lambda: job.source.finish(token, cached_tokens, self._clock(), spent_s))

    def refuse(self, attempt: str, reason: str) -> None:
        """The core cannot serve the attempt."""
        if (job := self._jobs.get(attempt)) is not None:
            self._perform(job, job.source.refuse(reason, self._clock()))

    def dead(self, dead: Dead) -> None:
        """A decode worker's processes have ended."""
        for peer in list(self._routes.values()):
            if dead.covers(peer.incarnation):
                peer.lost = "its processes have ended"

    # --- what peers say ----------------------------------------------------------------------------------------------

    def receive(self, route: bytes, data: bytes) -> None:
        """Take one message."""
        try:
            message = handoff.decode(data)
        except msgspec.MsgspecError as error:
            logger.warning("a hand-off message does not decode", extra={"error": str(error)})
            return
        if isinstance(message, handoff.Hello):
            self._hello(route, message)
            return
        peer = self._routes.get(route)
        if peer is None:
            self._reply(route, handoff.Refused("", f"prefill worker {self._identity.worker!r} wants a hello first"))
        elif isinstance(message, handoff.Attempt):
            self._ask(peer, message)
        else:
            self._steer(peer, message)

    def _hello(self, route: bytes, hello: handoff.Hello) -> None:
        known = next((peer for peer in self._routes.values() if peer.incarnation == hello.incarnation), None)
        if known is not None and known.lost is not None:
            self._drop(known, known.lost)
            known = None
        for peer in list(self._routes.values()):
            if peer.worker == hello.worker and peer is not known:
                self._drop(peer, "it has come back as a new process")
        try:
            self._identity.check(hello)
            terms = self._terms(hello)
            connect(self._transport, hello, terms)
        except TransferError as error:
            self._reply(route, handoff.Refused("", str(error)))
            return
        now = self._clock()
        if known is None:
            known = _Peer(hello.worker, hello.incarnation, terms, route, now)
            self._tell_ranks(hello)
        self._routes.pop(known.route, None)
        known.route = route
        self._routes[route] = known
        self._send(known, self._identity.welcome())

    def _terms(self, hello: handoff.Hello) -> Terms:
        layouts = self._identity.layouts
        return Terms(self._identity.layout, hello.layout, 0, len(layouts), routes(layouts, 0, places(hello)))

    def _ask(self, peer: _Peer, message: handoff.Attempt) -> None:
        if message.attempt in self._jobs or message.attempt in self._ended:
            return
        patience_s, branches = message.queue_deadline_s, len(self._branches)
        source = Source(message.attempt, peer.terms, queue_deadline_s=patience_s, now=self._clock(), branches=branches)
        self._jobs[message.attempt] = Job(source, peer, peer.incarnation)
        self._tell_ranks(Open(message.attempt, peer.incarnation, patience_s))
        self._emit(Asked(peer.incarnation, peer.worker, message))

    def _steer(self, peer: _Peer, message: Message) -> None:
        """Take a message about a running attempt; one about an unknown attempt is answered that nothing writes."""
        if not isinstance(message, handoff.Grant | handoff.Renew | handoff.Abort):
            return
        job = self._jobs.get(message.attempt)
        if job is None:
            if not isinstance(message, handoff.Renew):
                self._remember(message.attempt)
                self._send(peer, handoff.Aborted(message.attempt))
            return
        if job.peer.incarnation != peer.incarnation:
            return
        # The peer may have said hello again while a write of the attempt was still in flight.
        job.peer = peer
        now = self._clock()
        match message:
            case handoff.Grant():
                self._tell_ranks(message)
                self._perform(job, job.source.grant(message, now))
            case handoff.Renew(lease_s=lease_s):
                self._tell_ranks(message)
                self._perform(job, job.source.renew(lease_s, now))
            case handoff.Abort():
                self._perform(job, job.source.abort(now))

    # --- time --------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """See which events have come, which writes have ended, and what the other ranks say."""
        for pipe in self._branches:
            with suppress(RankError):  # whoever started the ranks notices the end of one
                for message in pipe.messages():
                    self._branch_said(message)
        self._writing.watch()

    def _branch_said(self, message: FromBranch) -> None:
        match message:
            case Ended(attempt, sent_bytes, reason) if (job := self._jobs.get(attempt)) is not None:
                self._perform(job, job.source.branch_ended(sent_bytes, reason, self._clock()))
            case Lost(incarnation, reason):
                for peer in self._routes.values():
                    if peer.incarnation == incarnation and peer.lost is None:
                        peer.lost = reason
            case _:
                pass  # the end of an attempt that has gone

    def tick(self) -> None:
        """Act on deadlines, give signs of life, drop peers that are lost."""
        self._writing.tick()
        now = self._clock()
        for peer in list(self._routes.values()):
            self._tell(peer, now)
            if peer.lost is not None:
                self._drop(peer, peer.lost)

    def _tell(self, peer: _Peer, now: float) -> None:
        attempts = tuple(name for name, job in self._jobs.items() if job.peer is peer and not job.source.ending)
        if now - peer.told_s >= (_ALIVE_S if attempts else _IDLE_ALIVE_S):
            peer.told_s = now
            self._send(peer, handoff.Alive(attempts))

    # --- how actions are performed -----------------------------------------------------------------------------------

    def _perform(self, job: _Job, actions: Sequence[Action]) -> None:
        self._writing.perform(job, actions)

    def _act(self, job: _Job, action: Action) -> None:
        match action:
            case SendAdmit(admit):
                self._admit(job, admit)
            case SendAborted():
                self._send(job.peer, handoff.Aborted(job.source.attempt))
            case SendRefused(reason):
                self._send(job.peer, handoff.Refused(job.source.attempt, reason))
            case Stop(reason):
                self._tell_ranks(handoff.Abort(job.source.attempt))
                self._emit(Stopped(job.source.attempt, reason))
            case Settle(outcome):
                self._settle(job, outcome)

    def _broken(self, job: _Job, error: TransferError) -> None:
        """Have the peer say hello again before the next attempt: a new connection may work."""
        job.peer.lost = str(error)

    def _admit(self, job: _Job, admit: handoff.Admit) -> None:
        try:
            self._transport.notify(job.peer.incarnation, handoff.encode(admit))
        except TransferError as error:
            job.peer.lost = str(error)
            return
        # A sign of life wakes the decode worker now, so it need not look for the notification all the time.
        self._send(job.peer, handoff.Alive((admit.attempt,)))

    def _settle(self, job: _Job, outcome: str) -> None:
        source = job.source
        del self._jobs[source.attempt]
        self._remember(source.attempt)
        if self._branches and outcome == "admitted":
            # The other ranks have sent their admissions by now: the decode worker looks for them once more.
            self._send(job.peer, handoff.Alive((source.attempt,)))
        self._emit(Settled(source.attempt, outcome, source.sent_bytes, source.transfer_s, source.exposed_s))
        if self._trace is not None:
            self._trace(describe(source, outcome, worker=self._identity.worker, peer=job.peer.worker))

    # --- peers -------------------------------------------------------------------------------------------------------

    def _drop(self, peer: _Peer, reason: str) -> None:
        """Forget a peer: its attempts end, and it must say hello before the next one."""
        logger.info("decode worker dropped", extra={"worker": peer.worker, "reason": reason})
        for job in list(self._jobs.values()):
            if job.peer is peer:
                self._perform(job, job.source.gone(self._clock()))
        self._reply(peer.route, handoff.Refused("", f"prefill worker {self._identity.worker!r} lost you: {reason}"))
        self._routes.pop(peer.route, None)
        self._tell_ranks(Drop(peer.incarnation))
        disconnect(self._transport, peer.incarnation, peer.terms)

    def _remember(self, attempt: str) -> None:
        self._ended[attempt] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _send(self, peer: _Peer, message: Message) -> None:
        if not self._reply(peer.route, message) and peer.lost is None:
            peer.lost = "it cannot be reached"

    def _tell_ranks(self, message: msgspec.Struct) -> None:
        for pipe in self._branches:
            with suppress(RankError):  # whoever started the ranks notices the end of one
                pipe.send(message)

    def _reply(self, route: bytes, message: Message) -> bool:
        try:
            self._router.send_multipart([route, handoff.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            # The route has gone, or the peer has not read for a thousand messages.
            return False
        return True
