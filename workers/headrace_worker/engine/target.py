"""The decode worker's side of hand-offs: which prompts go to prefill workers, and what becomes of their blocks."""

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from itertools import count

from typing_extensions import override

from headrace_api.frames import Token
from headrace_api.handoff import Admit, Attempt, Dead, Renew
from headrace_worker.engine.handoff import Admitted, Handoff
from headrace_worker.engine.report import Report
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.sequence import Phase, Sequence, blocks_for
from headrace_worker.errors import TransferError
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer import events
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.target import Deadlines, Expired, Quarantine, State, Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """When prompts are handed over."""

    local_prefill_tokens: int
    """With `auto`: so few tokens left after the prefix hit are computed here."""
    quarantine_blocks: int
    """With more blocks than this in quarantine for too long the worker ends, to be restarted."""
    quarantine_s: float
    """What is too long: a peer that lives answers an abort within milliseconds, one that was stopped may wake up."""


@dataclass(slots=True, eq=False)
class Flight:
    """A sequence on its way through prefill workers."""

    sequence: Sequence
    target: Target
    left: list[PrefillPeer]
    """Prefill workers that were not asked yet, best first."""
    hit: list[int] = field(default_factory=list)
    """Our own cached blocks at its front, acquired with the grant."""


class Asking(Handoff):
    """Asks prefill workers one after the other; computes the prompt here when none of them brings it.

    Args:
        courier: the thread that owns the transport.
        scheduler: of this worker.
        report: counters.
        kv_block_bytes: one block's bytes over all layers and ranks.
        deadlines: of attempts.
        policy: when to ask.
        incarnation: of this worker; makes attempt ids unique.
        prepare: called with fresh blocks before another process may write them.
        clock: monotonic seconds, the one that `poll` is told.
    """

    def __init__(
        self,
        courier: Courier,
        scheduler: Scheduler,
        report: Report,
        *,
        kv_block_bytes: int,
        deadlines: Deadlines,
        policy: Policy,
        incarnation: str,
        prepare: Callable[[Many[int]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prepare = prepare
        self._clock = clock
        self._courier = courier
        self._scheduler = scheduler
        self._pool = scheduler.pool
        self._report = report
        self._kv_block_bytes = kv_block_bytes
        self._deadlines = deadlines
        self._policy = policy
        self._names = (f"{incarnation}-{number}" for number in count(1))
        self._flights: dict[str, Flight] = {}
        self._quarantine = Quarantine()
        self._crowded_s: float | None = None
        """Since when more blocks are in quarantine than should be."""
        self._starved: list[Flight] = []
        self._arrived: list[Admitted] = []
        self._told: dict[str, str] = {}
        """Why each prefill worker did not bring a prompt, as far as the log has it."""

    @property
    @override
    def remote(self) -> int:
        return len(self._flights)

    # --- from the core -----------------------------------------------------------------------------------------------

    @override
    def take(self, sequence: Sequence, peers: Many[PrefillPeer], mode: str) -> bool:
        if mode == "never" or not peers:
            return False
        left = sequence.length - self._scheduler.known_prefix(sequence)
        if mode == "auto" and left <= self._policy.local_prefill_tokens:
            return False
        sequence.phase = Phase.REMOTE
        self._ask(sequence, list(peers))
        return True

    def _left_tokens(self, sequence: Sequence) -> int:
        return sequence.length - len(self._scheduler.prefix_hit(sequence)) * self._pool.block_size

    def _ask(self, sequence: Sequence, peers: list[PrefillPeer]) -> None:
        """Ask the best peer that is left; without one, prefill here."""
        if not peers:
            self._scheduler.add(sequence)
            return
        peer, name = peers[0], next(self._names)
        target = Target(
            name, worker=peer.worker, incarnation=peer.incarnation, deadlines=self._deadlines, now=self._clock()
        )
        self._flights[name] = Flight(sequence, target, peers[1:])
        self._courier.ask(
            peer,
            Attempt(
                attempt=name,
                prompt_ids=sequence.prompt_ids,
                output_ids=tuple(sequence.output_ids),
                choice=sequence.choice,
                sampling=sequence.sampling,
                hit_tokens=sequence.length - self._left_tokens(sequence),
                queue_deadline_s=self._deadlines.queue_s,
            ),
        )

    @override
    def cancel(self, sequence: Sequence) -> None:
        sequence.phase = Phase.FINISHED
        for flight in [flight for flight in self._flights.values() if flight.sequence is sequence]:
            self._report.add("handoff_aborted")
            self._abandon(flight)

    @override
    def peer_dead(self, dead: Dead) -> None:
        for flight in [flight for flight in self._flights.values() if dead.covers(flight.target.incarnation)]:
            self._give_up(flight, "handoff_aborted")
        self._courier.dead(dead)
        known = set(self._quarantine.attempts)
        self._quarantine.dead(dead)
        self._clear(known)

    @override
    def close(self) -> None:
        self._courier.close()

    # --- events and deadlines ----------------------------------------------------------------------------------------

    @override
    def poll(self, now: float) -> list[Admitted]:
        for event in self._courier.poll():
            self._report.changed = True
            self._handle(event)
        for flight in list(self._flights.values()):
            match flight.target.tick(now):
                case Expired(reason):
                    self._tell(flight.target.worker, reason)
                    self._give_up(flight, "handoff_timed_out")
                case Renew() as renew:
                    self._courier.renew(flight.target.incarnation, renew)
                case None:
                    pass
        self._watch_quarantine(now)
        starved, self._starved = self._starved, []
        for flight in starved:
            self._grant(flight)
        arrived, self._arrived = self._arrived, []
        return arrived

    @override
    def deadline(self) -> float | None:
        deadlines = [flight.target.deadline for flight in self._flights.values()]
        if self._crowded_s is not None:
            deadlines.append(self._crowded_s + self._policy.quarantine_s)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _handle(self, event: events.Event) -> None:  # noqa: C901 - one line or two for each kind of event
        match event:
            case events.Started(attempt, incarnation):
                flight = self._flights.get(attempt)
                if flight is not None and flight.target.starting(incarnation, self._clock()):
                    self._grant(flight)
            case events.Alive(_, attempts):
                for attempt in attempts:
                    if (flight := self._flights.get(attempt)) is not None:
                        flight.target.alive(self._clock())
            case events.Admitted(incarnation, admit):
                self._admitted(incarnation, admit)
            case events.Refused() | events.Aborted():
                self._ended(event)
            case events.Lost(worker, incarnation, reason):
                for flight in self._of(incarnation):
                    self._tell(worker, reason)
                    self._give_up(flight, "handoff_aborted")
            case events.Returned(worker, old, new):
                self._returned(worker, old, new)
            case events.Down(reason):
                raise TransferError(f"hand-offs have ended: {reason}")
            case _:
                pass  # the other events are for prefill workers

    def _of(self, incarnation: str) -> list[Flight]:
        return [flight for flight in self._flights.values() if flight.target.incarnation == incarnation]

    def _grant(self, flight: Flight) -> None:
        """Reserve fresh blocks for what our own cache lacks, now or as soon as there is memory."""
        if flight.target.state is not State.STARTED:
            return
        sequence, name = flight.sequence, flight.target.attempt
        hit = self._scheduler.prefix_hit(sequence)
        self._pool.acquire(hit)
        needed = blocks_for(sequence.length, self._pool.block_size) - len(hit)
        room = needed + len(self._scheduler.running) <= self._pool.available
        self._pool.release(hit)
        if not room:
            self._starved.append(flight)
            return
        flight.hit = hit = self._scheduler.load_hit(name, sequence)
        blocks = self._pool.grant(name, blocks_for(sequence.length, self._pool.block_size) - len(hit))
        assert blocks is not None, "there was room for all of them"
        self._prepare(blocks)
        self._courier.grant(flight.target.incarnation, flight.target.grant(len(hit), blocks, self._clock()))

    def _admitted(self, incarnation: str, admit: Admit) -> None:
        flight = self._flights.get(admit.attempt)
        if flight is None or not flight.target.admit(admit, incarnation):
            return
        del self._flights[admit.attempt]
        self._told.pop(flight.target.worker, None)
        sequence = flight.sequence
        written = self._pool.admit(admit.attempt)
        hit_tokens = len(flight.hit) * self._pool.block_size
        sequence.blocks = flight.hit + written
        sequence.registered = len(flight.hit)
        sequence.computed = sequence.length
        sequence.cached_tokens = min(max(hit_tokens, admit.cached_tokens), len(sequence.prompt_ids))
        sequence.prefill = flight.target.worker
        sequence.prefill_s += admit.spent_s
        self._scheduler.enter(sequence)
        self._report.add("handoff_admitted")
        self._report.add("prompt_cached", hit_tokens)
        self._report.add("prompt_received", sequence.length - hit_tokens)
        self._report.add("bytes_received", len(written) * self._kv_block_bytes)
        self._report.exposed_s.append(admit.exposed_s)
        token = Token(admit.first_token, admit.logprob, admit.margin, admit.top)
        self._arrived.append(Admitted(sequence, token))

    # --- ends --------------------------------------------------------------------------------------------------------

    def _ended(self, event: events.Refused | events.Aborted) -> None:
        """The prefill worker writes no more for this attempt: its blocks are free."""
        flight = self._flights.pop(event.attempt, None)
        if flight is not None:
            self._report.add("handoff_refused")
            if isinstance(event, events.Refused):
                self._tell(flight.target.worker, event.reason)
            flight.target.end()
            self._pool.clear(event.attempt)
            self._pool.release(flight.hit)
            self._ask(flight.sequence, flight.left)
        elif event.incarnation is not None and self._quarantine.ended(event.attempt, event.incarnation):
            self._pool.clear(event.attempt)

    def _tell(self, worker: str, reason: str) -> None:
        """Log a reason, but not again and again: a prefill worker that does not fit refuses every prompt."""
        if self._told.get(worker) != reason:
            self._told[worker] = reason
            logger.warning("prefill worker %s did not bring a prompt: %s", worker, reason)

    def _returned(self, worker: str, old: str, new: str) -> None:
        for flight in self._of(old):
            self._give_up(flight, "handoff_aborted")
        known = set(self._quarantine.attempts)
        self._quarantine.returned(worker, new)
        self._clear(known)

    def _clear(self, known: set[str]) -> None:
        for attempt in known - set(self._quarantine.attempts):
            self._pool.clear(attempt)
        self._report.changed = True

    def _give_up(self, flight: Flight, counter: str) -> None:
        """Abandon this attempt and go on with the next prefill worker, or here."""
        self._report.add(counter)
        self._abandon(flight)
        self._ask(flight.sequence, flight.left)

    def _abandon(self, flight: Flight) -> None:
        target = flight.target
        del self._flights[target.attempt]
        blocks = target.abandon()
        if blocks:
            self._pool.quarantine(target.attempt)
            self._quarantine.add(target.attempt, worker=target.worker, incarnation=target.incarnation, blocks=blocks)
        self._pool.release(flight.hit)
        self._courier.abort(target.incarnation, target.attempt)

    def _watch_quarantine(self, now: float) -> None:
        """End the worker when its memory has been lost for so long that fresh memory is worth its streams.

        Time frees no block here: the process that they belong to goes, and they go with it.
        """
        policy = self._policy
        if self._pool.quarantined <= policy.quarantine_blocks:
            self._crowded_s = None
        elif self._crowded_s is None:
            self._crowded_s = now
        elif now >= self._crowded_s + policy.quarantine_s:
            raise TransferError(
                f"{self._pool.quarantined} of {self._pool.capacity} KV blocks have been in quarantine for "
                f"{policy.quarantine_s:g} s, because prefill workers fell silent and nothing proved their end; this "
                "worker restarts with fresh memory"
            )
