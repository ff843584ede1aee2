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
from headrace_worker.offload.cold import Cold


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
    """Waiting and running sequences over one block pool.

    Args:
        pool: what it allocates from.
        max_running: most sequences in one step.
        chunk_tokens: most prompt tokens in one step.
        cold: the tiers below the pool, which are told what it evicts.
    """

    def __init__(self, pool: BlockPool, *, max_running: int, chunk_tokens: int, cold: Cold | None = None) -> None:
        self.pool = pool
        self._cold = Cold() if cold is None else cold
        self._fetching: dict[int, Sequence] = {}
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
        """Sequences that hold nothing yet, those included that wait for a disk; in no particular order."""
        queued = [sequence for _, _, sequence in self._waiting if sequence.phase is Phase.WAITING]
        return [*queued, *self._fetching.values()]

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self.running and not self._waiting and not self._fetching

    def enter(self, sequence: Sequence) -> None:
        """Let a sequence run whose context was computed elsewhere and whose blocks it holds already."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        sequence.phase = Phase.RUNNING
        self.running.append(sequence)
        self._register(sequence)

    def fetched(self, arrival: int) -> None:
        """Queue a sequence again, at its old place: what a disk had of its beginning is in memory now."""
        self._queue(self._fetching.pop(arrival))

    def remove(self, sequence: Sequence) -> None:
        """End a sequence now, wherever it stands, and give its blocks back."""
        self._cold.drop(sequence.arrival)
        self._fetching.pop(sequence.arrival, None)
        if sequence.phase is Phase.RUNNING:
            self.running.remove(sequence)
        sequence.phase = Phase.FINISHED
        self._release(sequence)
        self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
        heapq.heapify(self._waiting)

    def distrust(self, sequence: Sequence) -> bool:
        """Have nobody use the blocks of a context that led to no number; True where it is tried once more.

        Attention carries what is no number to the tokens before it too, so that blocks in front of its cause hold it,
        and other prompts begin with them. One that did is not to blame: it computes all of its context itself.
        """
        self.pool.forget(sequence.blocks)
        if sequence.phase is not Phase.RUNNING or sequence.attempt is not None:
            return False
        if sequence.doubted or not sequence.borrowed:
            return False
        sequence.doubted = True
        self._preempt(sequence)
        return True

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
        found = self._first()
        if found is None:
            return None
        sequence, hit, wanted, loadable = found
        needed = blocks_for(sequence.length, self.pool.block_size) - len(hit)
        self.pool.acquire(hit)
        reserve = len(self.running)
        fresh = self.pool.allocate(needed) if needed + reserve <= self.pool.available else None
        if fresh is None:
            self.pool.release(hit)
            return None
        heapq.heappop(self._waiting)
        self._cold.load(sequence.arrival, wanted, fresh[:loadable])
        sequence.blocks = hit + fresh
        sequence.registered = len(hit)
        sequence.loaded = loadable * self.pool.block_size
        sequence.computed = len(hit) * self.pool.block_size + sequence.loaded
        self._register(sequence)
        sequence.cached_tokens = max(sequence.cached_tokens, min(sequence.computed, len(sequence.prompt_ids)))
        sequence.phase = Phase.RUNNING
        self.running.append(sequence)
        return sequence

    def _first(self) -> tuple[Sequence, list[int], list[bytes], int] | None:
        """Return the first waiting sequence that need not wait for a disk.

        Beside it: its cached blocks, the hashes of the full blocks that follow, how many of those can be loaded.
        """
        while self._waiting:
            sequence = self._waiting[0][2]
            hit = self.prefix_hit(sequence)
            wanted = self._hashes(sequence)[len(hit) :]
            loadable = self._cold.look(sequence.arrival, wanted)
            if loadable is not None:
                return sequence, hit, wanted, loadable
            heapq.heappop(self._waiting)
            sequence.phase = Phase.FETCHING
            self._fetching[sequence.arrival] = sequence
        return None

    def load_hit(self, owner: str, sequence: Sequence) -> list[int]:
        """Return the cached blocks at the front of the context, acquired, and behind them what memory could add.

        Takes no more blocks than are there.
        """
        hit = self.prefix_hit(sequence)
        self.pool.acquire(hit)
        wanted = self._hashes(sequence)[len(hit) :]
        fresh = self.pool.allocate(self._cold.look_at_memory(owner, wanted)) or []
        self._cold.load(owner, wanted, fresh)
        for block, key in zip(fresh, wanted, strict=False):
            self.pool.register(block, key)
        return hit + fresh

    def known_prefix(self, sequence: Sequence) -> int:
        """Return the tokens at the front of the context that need not be computed, wherever their KV is."""
        hit = len(self.prefix_hit(sequence))
        return (hit + self._cold.known(self._hashes(sequence)[hit:])) * self.pool.block_size

    def prefix_hit(self, sequence: Sequence) -> list[int]:
        """Return the cached blocks at the front of the context; at least its last token is left to compute."""
        return self.pool.match(self._hashes(sequence))

    def _hashes(self, sequence: Sequence) -> list[bytes]:
        full = 0 if sequence.doubted else (sequence.length - 1) // self.pool.block_size
        return sequence.block_hashes(full, self.pool.block_size)

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
