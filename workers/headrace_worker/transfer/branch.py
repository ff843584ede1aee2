"""The hand-off on rank 1 and up: its own transport and writes, told what to do by rank 0's courier.

A thread of its own, like rank 0's courier. Rank 0 says who the peers are, which attempts run, which blocks are granted
and when one is given up; the model's runner says which layers are computed. Each rank sends its own admission, and
tells rank 0 when it writes no more for an attempt: rank 0 answers an abort only when all ranks have said so.
"""

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from headrace_api import handoff
from headrace_api.frames import Token
from headrace_api.handoff import Hello, Layout, Rank
from headrace_worker.errors import RankError, TransferError
from headrace_worker.parallel.pipe import Pipe
from headrace_worker.transfer.bell import Bell
from headrace_worker.transfer.device import use_device
from headrace_worker.transfer.routes import places, routes
from headrace_worker.transfer.source import Action, SendAdmit, SendRefused, Settle, Source, Terms
from headrace_worker.transfer.transport import Transport
from headrace_worker.transfer.writing import Computed, Job, Ready, Writing, connect, disconnect

logger = logging.getLogger(__name__)
_BUSY_S, _ACTIVE_S, _IDLE_S = 0.001, 0.1, 1.0
_START_S = 60.0
_STOP_S = 10.0


class Places(msgspec.Struct, frozen=True, tag="places"):
    """Rank 0 to all, once: where the KV of each rank of this worker lies."""

    layouts: tuple[Layout, ...]


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Rank 0 to all: this decode worker is no peer any more."""

    incarnation: str


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Rank 0 to all: an attempt of this decode worker begins."""

    attempt: str
    incarnation: str
    queue_deadline_s: float


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Rank 0 to all: its first chunk is about to be computed."""

    attempt: str


class Hit(msgspec.Struct, frozen=True, tag="hit"):
    """Rank 0 to all: these blocks of it are computed already, in all layers."""

    attempt: str
    first: int
    blocks: tuple[int, ...]


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """Rank 0 to all: its compute is over."""

    attempt: str
    token: Token
    cached_tokens: int
    spent_s: float


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A rank to rank 0: it writes no more for the attempt."""

    attempt: str
    sent_bytes: int
    reason: str | None = None
    """Why it gave the attempt up by itself."""


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """A rank to rank 0: this decode worker cannot be written to."""

    incarnation: str
    reason: str


ToBranch = Places | Hello | Drop | Open | Start | Hit | handoff.Grant | handoff.Renew | handoff.Abort | Finish
FromBranch = Rank | Ended | Lost


class Branch:
    """One rank's share of all hand-offs.

    Args:
        rank: ours.
        name: of our transport.
        pipe: to rank 0's courier.
        transport: not yet registered.
        layout: of this rank's KV memory.
        device: CUDA ordinal of it, None for host memory.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        rank: int,
        name: str,
        pipe: Pipe[ToBranch],
        transport: Transport,
        layout: Layout,
        device: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rank = rank
        self._name = name
        self._pipe = pipe
        self._transport = transport
        self._layout = layout
        self._device = device
        self._clock = clock
        self._layouts: tuple[Layout, ...] = ()
        self._peers: dict[str, Terms] = {}
        self._reasons: dict[str, str] = {}
        self._notes: deque[tuple[Computed, Ready | None]] = deque()
        self._writing: Writing[str] = Writing(transport, clock, act=self._act, broken=self._broken)
        self._bell = Bell()
        self._closing = False
        self._error: list[Exception] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kv-branch", daemon=True)
        self._thread.start()
        in_time = self._started.wait(_START_S)
        if not in_time or self._error:
            reason = self._error[0] if in_time else f"its transport did not start within {_START_S:g} s"
            raise TransferError(f"rank {rank} cannot take part in hand-offs: {reason}")

    # --- the runner's thread -----------------------------------------------------------------------------------------

    def layers_done(
        self, attempt: str, layers: range, first: int, blocks: Sequence[int], event: Ready | None = None
    ) -> None:
        """These layers of these blocks are computed, or will be once `event` has come."""
        self._notes.append((Computed(attempt, layers, first, blocks, self._clock()), event))
        self._bell.ring()

    def close(self) -> None:
        """End the thread and the transport."""
        self._closing = True
        self._bell.ring()
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self._bell.close()

    # --- its own thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            use_device(self._device)
            self._transport.register(self._layout.base, self._size(), self._device)
            self._pipe.send(Rank(self._name, self._layout, self._transport.metadata()))
            self._started.set()
            while not self._closing:
                self._turn()
        except RankError:
            logger.debug("rank 0 has gone")
        except Exception as error:
            logger.exception("the hand-off of rank %d has ended", self._rank)
            self._error.append(error)
            self._pipe.close()
        finally:
            with suppress(TransferError):
                self._transport.close()
            self._started.set()

    def _size(self) -> int:
        return self._layout.num_layers * self._layout.num_blocks * self._layout.block_bytes

    def _turn(self) -> None:
        pause_s = _BUSY_S if self._writing.busy else _ACTIVE_S if self._writing.jobs else _IDLE_S
        select.select([self._pipe.fileno(), self._bell.fileno()], [], [], 0 if self._notes else pause_s)
        self._bell.hush()
        # An attempt was opened before its layers were computed, so what rank 0 said comes first.
        notes = len(self._notes)
        for message in self._pipe.messages():
            self._take(message)
        self._take_notes(notes)
        self._writing.watch()
        self._writing.tick()

    def _take_notes(self, count: int) -> None:
        for _ in range(min(count, len(self._notes))):
            self._writing.ready(*self._notes.popleft())

    def _take_notes_of(self, attempt: str) -> None:
        """Take what was computed before rank 0 said that all of the attempt is."""
        notes, self._notes = list(self._notes), deque()
        for note in notes:
            if note[0].attempt == attempt:
                self._writing.ready(*note)
        self._notes.extendleft(reversed([note for note in notes if note[0].attempt != attempt]))

    def _take(self, message: ToBranch) -> None:
        now = self._clock()
        match message:
            case Places(layouts):
                self._layouts = layouts
            case Hello():
                self._meet(message)
            case Drop(incarnation):
                self._drop(incarnation)
            case Open(attempt, incarnation, deadline_s) if (terms := self._peers.get(incarnation)) is not None:
                source = Source(attempt, terms, queue_deadline_s=deadline_s, now=now)
                self._writing.jobs[attempt] = Job(source, incarnation, incarnation)
            case Open(attempt):
                self._pipe.send(Ended(attempt, 0, f"rank {self._rank} does not know that decode worker"))
            case _ if (job := self._writing.jobs.get(message.attempt)) is not None:
                self._writing.perform(job, self._said(job, message, now))

    def _said(self, job: Job[str], message: Any, now: float) -> list[Action]:
        match message:
            case Start():
                return job.source.start(now)
            case Hit(_, first, blocks):
                return job.source.ready(range(self._layout.num_layers), first, blocks, now, now)
            case handoff.Grant():
                return job.source.grant(message, now)
            case handoff.Renew(lease_s=lease_s):
                return job.source.renew(lease_s, now)
            case handoff.Abort():
                return job.source.abort(now)
            case Finish(attempt, token, cached_tokens, spent_s):
                self._take_notes_of(attempt)
                clock = self._clock
                self._writing.gate(job, None, lambda: job.source.finish(token, cached_tokens, clock(), spent_s))
        return []

    def _meet(self, hello: Hello) -> None:
        found = routes(self._layouts, self._rank, places(hello))
        terms = Terms(self._layout, hello.layout, self._rank, len(self._layouts), found)
        try:
            connect(self._transport, hello, terms)
        except TransferError as error:
            self._pipe.send(Lost(hello.incarnation, str(error)))
            return
        self._peers[hello.incarnation] = terms

    def _drop(self, incarnation: str) -> None:
        for job in list(self._writing.jobs.values()):
            if job.peer == incarnation:
                self._writing.perform(job, job.source.gone(self._clock()))
        terms = self._peers.pop(incarnation, None)
        if terms is not None:
            disconnect(self._transport, incarnation, terms)

    def _act(self, job: Job[str], action: Action) -> None:
        attempt = job.source.attempt
        match action:
            case SendAdmit(admit):
                try:
                    self._transport.notify(job.incarnation, handoff.encode(admit))
                except TransferError as error:
                    self._pipe.send(Lost(job.incarnation, str(error)))
            case SendRefused(reason):
                self._reasons[attempt] = reason
            case Settle():
                del self._writing.jobs[attempt]
                self._pipe.send(Ended(attempt, job.source.sent_bytes, self._reasons.pop(attempt, None)))
            case _:
                pass  # rank 0 tells the decode worker and the core

    def _broken(self, job: Job[str], error: TransferError) -> None:
        self._pipe.send(Lost(job.incarnation, str(error)))
