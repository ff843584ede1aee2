"""What the engine calls around its steps: copies before each, disk jobs after them, owners whose reads have ended."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from typing_extensions import override

from headrace_worker.offload.arena import Arena
from headrace_worker.offload.clerk import Clerk, Found, WasRead, Written
from headrace_worker.offload.cold import Cold, Owner
from headrace_worker.offload.files import file_bytes
from headrace_worker.offload.rates import Rates
from headrace_worker.offload.tiers import Load, Tiers

logger = logging.getLogger(__name__)
_FETCH_S = 10.0
"""Longest wait of a prompt for a disk; after it the prompt is computed from where memory ends."""
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_FLUSH_S = 6.0
"""How long an ending worker goes on writing what it has in memory to disk."""


class Offload:
    """No tiers below the device. What keeps something there overrides all of it."""

    def __init__(self) -> None:
        self.cold = Cold()

    def flush(self) -> None:
        """Do the copies that the books ask for; call before anything writes to blocks that were allocated since."""

    def poll(self, now: float) -> list[Owner]:  # noqa: ARG002
        """Take in what the disk has done; return owners that need not wait any longer."""
        return []

    def computed(self, seconds: float, blocks: float) -> None:
        """Note how long it took to compute so many blocks."""

    def deadline(self) -> float | None:
        """Return when `poll` must be called again even if nothing arrives."""
        return None

    def stats(self) -> dict[str, int]:
        """Return counts for /metrics by TIER_NAME; none where there are no tiers."""
        return {}

    def close(self) -> None:
        """Write what is worth it, and end the thread."""


class TieredOffload(Offload):
    """Host memory, and a disk where there is a clerk.

    Args:
        tiers: the books.
        arena: the memory.
        rates: what copies, reads and compute take; the books ask them.
        clerk: of the disk.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        tiers: Tiers,
        arena: Arena,
        rates: Rates,
        clerk: Clerk | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.cold: Tiers = tiers
        self._arena = arena
        self._rates = rates
        self._clerk = clerk
        self._clock = clock
        self._file_bytes = file_bytes(arena.block_bytes)
        self._until: dict[Owner, float] = {}
        """When an owner has waited for long enough."""
        self._spills_at = 0.0
        self._pause_s = _PAUSE_S

    @override
    def flush(self) -> None:
        tiers = self.cold
        if tiers.copies:
            self._copy()
        if self._clerk is None:
            return
        writes = [] if self._clock() < self._spills_at else tiers.spills()
        self._clerk.post(tiers.reads, tiers.deletes, writes)
        tiers.reads.clear()
        tiers.deletes.clear()
        now = self._clock()
        self._until = {owner: self._until.get(owner, now + _FETCH_S) for owner in tiers.waiting()}

    def _copy(self) -> None:
        copies = self.cold.copies
        began_s = self._clock()
        self._arena.copy(copies)
        loads = sum(isinstance(copy, Load) for copy in copies)
        if loads:
            self._rates.copied((self._clock() - began_s) * loads / len(copies), loads)
        copies.clear()

    @override
    def poll(self, now: float) -> list[Owner]:
        if self._clerk is None:
            return []
        for result in self._clerk.results():
            match result:
                case Found(keys):
                    self.cold.found(keys)
                case WasRead(key, good, seconds):
                    self._rates.read(seconds, 1)
                    self.cold.was_read(key, good=good)
                case Written(key, good, problem):
                    self.cold.written(key, good=good)
                    self._rest(problem)
        for owner in self.cold.waiting():
            if now >= self._until.get(owner, now + 1):
                logger.warning("the disk did not bring a prompt's blocks within %.0f s; they are computed", _FETCH_S)
                self.cold.give_up(owner)
        return self.cold.ready()

    def _rest(self, problem: str | None) -> None:
        """Write nothing for a while after a write that failed; longer each time, since a full disk stays full."""
        now = self._clock()
        if problem is None:
            self._pause_s = _PAUSE_S
        elif now >= self._spills_at:
            logger.warning("KV blocks cannot be written to disk: %s; the next try is in %.0f s", problem, self._pause_s)
            self._spills_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    @override
    def computed(self, seconds: float, blocks: float) -> None:
        self._rates.computed(seconds, blocks)

    @override
    def deadline(self) -> float | None:
        return min(self._until.values(), default=None)

    @override
    def stats(self) -> dict[str, int]:
        tiers, size = self.cold, self._arena.block_bytes
        counts = {f"memory_{name}": count for name, count in asdict(tiers.in_memory).items()}
        counts |= {"memory_bytes": len(tiers.memory) * size, "memory_capacity": tiers.memory.capacity * size}
        if self._clerk is not None:
            counts |= {f"disk_{name}": count for name, count in asdict(tiers.on_disk).items()}
            counts["disk_bytes"] = len(tiers.disk) * self._file_bytes
            counts["disk_capacity"] = tiers.disk.budget * self._file_bytes
        return counts

    @override
    def close(self) -> None:
        if self._clerk is None:
            return
        end = self._clock() + _FLUSH_S
        failed = self.cold.on_disk.failed
        self.flush()
        while self._clerk.settle(end - self._clock()):
            self.poll(self._clock())
            writes = self.cold.spills(everything=True)
            if not writes or self.cold.on_disk.failed > failed:
                break
            self._clerk.post((), self.cold.deletes, writes)
            self.cold.deletes.clear()
        self._clerk.close(max(0.0, end - self._clock()))
