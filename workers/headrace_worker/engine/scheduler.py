"""The scheduler: which tokens run in the next step.

Decoding sequences go first, one token each; what is left of the step's budget goes to prompts, in chunks that end on
block ends. When memory runs out the newest sequence of the lowest priority gives its blocks back and waits (its full
blocks stay cached as long as nobody needs them).
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.sequence import Phase, Sequence, blocks_for


@dataclass(frozen=True, slots=True)
class Item:
    """Positions start to start + count - 1 of a sequence; the last one samples when it ends the context."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether this item reaches the end of the context, so that a token follows."""
        return self.start + self.count == self.sequence.length


@dataclass(slots=True)
class Plan:
    """One step."""

    items: list[Item] = field(default_factory=list)
    started: list[Sequence] = field(default_factory=list)
    """Sequences that left the queue in this step."""
    preempted: list[Sequence] = field(default_factory=list)


class Scheduler:
    """Waiting and running sequences over one block pool."""

    def __init__(self, pool: BlockPool, *, max_running: int, chunk_tokens: int) -> None:
        self.pool = pool
        self.running: list[Sequence] = []
        self._max_running = max_running
        self._chunk_tokens = max(chunk_tokens, pool.block_size)
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._arrivals = 0

    # --- what waits --------------------------------------------------------------------------------------------------

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence, behind those of its priority."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._queue(sequence)

    def _queue(self, sequence: Sequence) -> None:
        sequence.phase = Phase.WAITING
        heapq.heappush(self._waiting, (sequence.priority, sequence.arrival, sequence))

    @property
    def waiting(self) -> list[Sequence]:
        """Queued sequences, in no particular order."""
        return [sequence for _, _, sequence in self._waiting if sequence.phase is Phase.WAITING]

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self.running and not self._waiting

    def enter(self, sequence: Sequence) -> None:
        """Let a sequence run whose context was computed elsewhere and whose blocks it holds already."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        sequence.phase = Phase.RUNNING
        self.running.append(sequence)
        self._register(sequence)

    def remove(self, sequence: Sequence) -> None:
        """End a sequence now, wherever it stands, and give its blocks back."""
        if sequence.phase is Phase.RUNNING:
            self.running.remove(sequence)
        sequence.phase = Phase.FINISHED
        self._release(sequence)
        self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
        heapq.heapify(self._waiting)

    def hold(self, sequence: Sequence) -> None:
        """Stop running a sequence but keep its blocks: transfers still read them."""
        if sequence.phase is Phase.RUNNING:
            self.running.remove(sequence)
        sequence.phase = Phase.HELD

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
        sequence.registered = 0

    # --- one step ----------------------------------------------------------------------------------------------------

    def schedule(self) -> Plan:
        """Choose the next step and reserve the blocks it needs."""
        plan = Plan()
        for sequence in [s for s in self.running if s.decoding]:
            if sequence.phase is Phase.RUNNING and self._grow(sequence, plan):
                plan.items.append(Item(sequence, sequence.computed, 1))
        plan.items = [item for item in plan.items if item.sequence.phase is Phase.RUNNING]
        budget = self._chunk_tokens
        for sequence in self.running:
            if not sequence.decoding and budget > 0:
                budget -= self._chunk(sequence, budget, plan)
        while budget >= self.pool.block_size and not plan.preempted and len(self.running) < self._max_running:
            admitted = self._admit()
            if admitted is None:
                break
            plan.started.append(admitted)
            budget -= self._chunk(admitted, budget, plan)
        return plan

    def _grow(self, sequence: Sequence, plan: Plan) -> bool:
        """Give a decoding sequence room for its next token, at the cost of the least important one."""
        while blocks_for(sequence.length, self.pool.block_size) > len(sequence.blocks):
            fresh = self.pool.allocate(1)
            if fresh is not None:
                sequence.blocks += fresh
                continue
            victims = [s for s in self.running if s.attempt is None]
            victim = max(victims, key=lambda s: (s.priority, s.arrival))
            self._preempt(victim)
            plan.preempted.append(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self._queue(sequence)

    def _chunk(self, sequence: Sequence, budget: int, plan: Plan) -> int:
        """Plan the next chunk of a prompt; return its tokens."""
        end = min(sequence.length, sequence.computed + budget)
        if end < sequence.length:
            end -= end % self.pool.block_size
        count = end - sequence.computed
        if count <= 0:
            return 0
        plan.items.append(Item(sequence, sequence.computed, count))
        return count

    def _admit(self) -> Sequence | None:
        """Move the first waiting sequence to the running ones, when its whole context fits beside their growth."""
        if not self._waiting:
            return None
        sequence = self._waiting[0][2]
        hit = self.prefix_hit(sequence)
        needed = blocks_for(sequence.length, self.pool.block_size) - len(hit)
        self.pool.acquire(hit)
        reserve = len(self.running)
        fresh = self.pool.allocate(needed) if needed + reserve <= self.pool.available else None
        if fresh is None:
            self.pool.release(hit)
            return None
        heapq.heappop(self._waiting)
        sequence.blocks = hit + fresh
        sequence.computed = len(hit) * self.pool.block_size
        sequence.registered = len(hit)
        sequence.cached_tokens = max(sequence.cached_tokens, min(sequence.computed, len(sequence.prompt_ids)))
        sequence.phase = Phase.RUNNING
        self.running.append(sequence)
        return sequence

    def prefix_hit(self, sequence: Sequence) -> list[int]:
        """Return the cached blocks at the front of the context; at least its last token is left to compute."""
        full = (sequence.length - 1) // self.pool.block_size
        return self.pool.match(sequence.block_hashes(full, self.pool.block_size))

    def complete(self, plan: Plan) -> None:
        """Note that the planned KV has been computed; call before sampled tokens are appended."""
        for item in plan.items:
            if item.sequence.phase is Phase.RUNNING:
                item.sequence.computed = item.start + item.count
                self._register(item.sequence)

    def _register(self, sequence: Sequence) -> None:
        full = sequence.computed // self.pool.block_size
        if full > sequence.registered:
            hashes = sequence.block_hashes(full, self.pool.block_size)
            for number in range(sequence.registered, full):
                self.pool.register(sequence.blocks[number], hashes[number])
            sequence.registered = full

    def fits(self, num_tokens: int) -> bool:
        """Whether a context of so many tokens can ever run here."""
        return blocks_for(num_tokens, self.pool.block_size) <= self.pool.capacity


def waiting_tokens(sequences: Iterable[Sequence]) -> int:
    """Return the prompt tokens that queued sequences still need, prefix hits not counted."""
    return sum(sequence.length for sequence in sequences)
