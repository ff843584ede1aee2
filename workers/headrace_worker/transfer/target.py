"""One attempt at its decode worker, and the ledger of blocks that a silent prefill worker may still write.

Pure: times come in as arguments, decisions go out as values. Who reserves and frees blocks is the block pool; here is
only which of them may be freed when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from headrace_api.handoff import Admit, Dead, Grant, Renew


class State(Enum):
    """How far an attempt has come."""

    ASKED = "asked"
    """In the prefill worker's queue; no block is reserved for it."""
    STARTED = "started"
    """The prefill worker computes; blocks may be granted now."""
    GRANTED = "granted"
    """Its blocks are pinned: the prefill worker may write them at any moment."""
    ADMITTED = "admitted"
    """All ranks have said that everything is there; the blocks belong to the sequence."""
    ENDED = "ended"
    """Refused, aborted or given up."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step of an attempt may take, in seconds."""

    queue_s: float
    """From asking to the start."""
    silence_s: float
    """Without any sign of life of the prefill worker."""
    attempt_s: float
    """From the start to the admission, whatever signs of life arrive."""

    @property
    def lease_s(self) -> float:
        """Length of a lease; several renewals fit into it, so that one late message does not end an attempt."""
        return 2 * self.silence_s


@dataclass(frozen=True, slots=True)
class Expired:
    """A deadline has passed: give the attempt up."""

    reason: str


class Target:
    """The state of one attempt.

    Args:
        attempt: its id; never used for another one.
        worker: the prefill worker's name.
        incarnation: of the prefill worker, as far as known when it is asked.
        deadlines: of each step.
        now: when it is asked.
    """

    def __init__(self, attempt: str, *, worker: str, incarnation: str, deadlines: Deadlines, now: float) -> None:
        self.attempt = attempt
        self.worker = worker
        self.incarnation = incarnation
        self.state = State.ASKED
        self.first_block = 0
        self.blocks: tuple[int, ...] = ()
        self._deadlines = deadlines
        self._asked_s = now
        self._started_s = now
        self._heard_s = now
        self._renewed_s = now
        self._ranks: set[int] = set()

    @property
    def running(self) -> bool:
        """Whether the attempt may still bring something."""
        return self.state in {State.ASKED, State.STARTED, State.GRANTED}

    def starting(self, incarnation: str, now: float) -> bool:
        """The prefill worker starts; True when blocks should be reserved and granted. A repetition is False."""
        self.alive(now)
        if self.state is not State.ASKED:
            return False
        self.state = State.STARTED
        self.incarnation = incarnation
        self._started_s = now
        return True

    def grant(self, first_block: int, blocks: Sequence[int], now: float) -> Grant:
        """Pin fresh blocks for the attempt and return what to send."""
        assert self.state is State.STARTED, f"a grant in state {self.state.value}"
        self.state = State.GRANTED
        self.first_block = first_block
        self.blocks = tuple(blocks)
        self._renewed_s = now
        return Grant(self.attempt, first_block, self.blocks, self._deadlines.lease_s)

    def alive(self, now: float) -> None:
        """The prefill worker gave a sign of life for this attempt."""
        self._heard_s = now

    def admit(self, admit: Admit, incarnation: str) -> bool:
        """A source rank has written everything; True once all ranks have. The blocks are the sequence's then."""
        if self.state is not State.GRANTED or incarnation != self.incarnation or not 0 <= admit.rank < admit.ranks:
            return False
        self._ranks.add(admit.rank)
        if len(self._ranks) < admit.ranks:
            return False
        self.state = State.ADMITTED
        return True

    def end(self) -> tuple[int, ...]:
        """The prefill worker said that it writes no more (`Refused`, `Aborted`); return blocks that are free now."""
        return self._leave()

    def abandon(self) -> tuple[int, ...]:
        """Give up without the prefill worker's word; return blocks that belong into quarantine."""
        return self._leave()

    def tick(self, now: float) -> Expired | Renew | None:
        """Act on deadlines; call it at `deadline` or earlier."""
        if not self.running:
            return None
        if now >= self._heard_s + self._deadlines.silence_s:
            return Expired(f"prefill worker {self.worker!r} was silent for {self._deadlines.silence_s:g} s")
        if self.state is State.ASKED and now >= self._asked_s + self._deadlines.queue_s:
            return Expired(f"prefill worker {self.worker!r} did not start within {self._deadlines.queue_s:g} s")
        if self.state is not State.ASKED and now >= self._started_s + self._deadlines.attempt_s:
            return Expired(f"prefill worker {self.worker!r} did not finish within {self._deadlines.attempt_s:g} s")
        if self.state is State.GRANTED and now >= self._renewal_s:
            self._renewed_s = now
            return Renew(self.attempt, self._deadlines.lease_s)
        return None

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do at the latest."""
        if not self.running:
            return None
        silence = self._heard_s + self._deadlines.silence_s
        if self.state is State.ASKED:
            return min(silence, self._asked_s + self._deadlines.queue_s)
        attempt = min(silence, self._started_s + self._deadlines.attempt_s)
        return min(attempt, self._renewal_s) if self.state is State.GRANTED else attempt

    @property
    def _renewal_s(self) -> float:
        return self._renewed_s + self._deadlines.lease_s / 4

    def _leave(self) -> tuple[int, ...]:
        if not self.running:
            return ()
        self.state = State.ENDED
        blocks, self.blocks = self.blocks, ()
        return blocks


@dataclass(frozen=True, slots=True)
class _Entry:
    worker: str
    incarnation: str
    blocks: tuple[int, ...]


class Quarantine:
    """Blocks of abandoned attempts that the prefill worker may still write; no time alone sets them free.

    They come back when that incarnation says that the attempt is over, when its processes are proved to have ended, or
    when the worker has come back as another incarnation.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return sum(len(entry.blocks) for entry in self._entries.values())

    @property
    def attempts(self) -> dict[str, str]:
        """Incarnation by attempt, for all that is still unproved."""
        return {attempt: entry.incarnation for attempt, entry in self._entries.items()}

    def add(self, attempt: str, *, worker: str, incarnation: str, blocks: Sequence[int]) -> None:
        """Take in the blocks of an abandoned attempt."""
        assert attempt not in self._entries, f"attempt {attempt!r} is in quarantine already"
        if blocks:
            self._entries[attempt] = _Entry(worker, incarnation, tuple(blocks))

    def ended(self, attempt: str, incarnation: str) -> tuple[int, ...]:
        """That incarnation says that it writes no more for the attempt; return blocks that are free now."""
        entry = self._entries.get(attempt)
        return () if entry is None or entry.incarnation != incarnation else self._release([attempt])

    def dead(self, dead: Dead) -> tuple[int, ...]:
        """These processes have ended; return blocks that are free now."""
        return self._release([name for name, entry in self._entries.items() if dead.covers(entry.incarnation)])

    def returned(self, worker: str, incarnation: str) -> tuple[int, ...]:
        """The worker runs as `incarnation` now, so all its earlier ones are gone; return blocks that are free now."""
        return self._release(
            [
                name
                for name, entry in self._entries.items()
                if entry.worker == worker and entry.incarnation != incarnation
            ]
        )

    def _release(self, attempts: list[str]) -> tuple[int, ...]:
        return tuple(block for attempt in attempts for block in self._entries.pop(attempt).blocks)
