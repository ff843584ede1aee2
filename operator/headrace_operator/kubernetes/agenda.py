"""What to work on next, as a pure data structure: keys with due times and lanes, no clock and no task.

One piece of work per key at a time; news that come while it runs are kept for one more run; any number of news become
one. A key that failed waits, longer each time, and only real news (`fresh`) shorten that.
"""

import heapq
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

from headrace_operator.kubernetes.retry import backoff_s

K = TypeVar("K", bound=Hashable)

_FIRST_S: Final = 0.25
_MOST_S: Final = 120.0


class Lane(IntEnum):
    """How urgent a piece of work is; each lane has room of its own, so that none waits for ever."""

    URGENT = 0
    """Small, and traffic waits for it: a worker became ready or goes away."""
    NORMAL = 1
    """A resource is new or has changed."""
    LOW = 2
    """Children that no pod needs."""
    IDLE = 3
    """What nobody waits for: a status whose numbers moved, trials of a deployment that has never served, a look whether
    all is still well. It gives way to all other lanes, for `PATIENCE_S`."""


PATIENCE_S: Final = 30.0
"""When many resources are made at once, this is how long their objects go before all that follows."""
CALM_S: Final = 0.5
"""Idle work waits for a pause as long as this in all other: who makes several resources makes one after another, and
what follows the first one (pods opened to traffic, statuses) makes the API server late for the objects of the next."""


@dataclass(frozen=True, slots=True, order=True)
class _Wait(Generic[K]):
    """When a key is due; the newest one of a key counts."""

    due: float
    number: int
    key: K
    lane: Lane


class Agenda(Generic[K]):
    """The keys that wait and those that run.

    Args:
        room: How many may run at once in each lane.
    """

    def __init__(self, room: Mapping[Lane, int]) -> None:
        self._room = dict(room)
        self._heaps: dict[Lane, list[tuple[float, int, _Wait[K]]]] = {lane: [] for lane in Lane}
        self._waiting: dict[K, _Wait[K]] = {}
        self._later: dict[K, _Wait[K]] = {}
        self._running: dict[K, Lane] = {}
        self._failures: Counter[K] = Counter()
        self._number = 0
        self._pressed_until = -CALM_S
        """When anything more pressing than idle work ended last."""

    @property
    def depth(self) -> int:
        """Keys that wait, those whose time has not come too."""
        return len(self._waiting) + len(self._later)

    @property
    def running(self) -> Mapping[K, Lane]:
        """Keys that run now, by the lane in which they were taken."""
        return self._running

    def failures(self, key: K) -> int:
        """Return how often in a row the work on a key has failed."""
        return self._failures[key]

    def add(self, key: K, now: float, lane: Lane = Lane.NORMAL, *, after_s: float = 0.0, fresh: bool = False) -> None:
        """Ask for work on a key; with what is asked already the earlier time and the more urgent lane count.

        Args:
            key: what to work on.
            now: the time.
            lane: how urgent it is.
            after_s: not before this has passed.
            fresh: the key has changed in a way that makes earlier failures meaningless.
        """
        if fresh:
            self._failures.pop(key, None)
        self._put(key, now + after_s, lane, held=self._failures[key] > 0)

    def take(self, now: float) -> tuple[K, Lane] | None:
        """Return the next key to work on and mark it as running; None where nothing is due or no room is left."""
        for lane, heap in self._heaps.items():
            if sum(held is lane for held in self._running.values()) >= self._room[lane]:
                continue
            wait = self._first(heap)
            if wait is not None and self._ripe_at(wait, now) <= now:
                heapq.heappop(heap)
                del self._waiting[wait.key]
                self._running[wait.key] = lane
                return wait.key, lane
        return None

    def finish(self, key: K, now: float, again: tuple[float, Lane] | None = None) -> None:
        """Note that the work on a key is done; `again`: after this time, in this lane, there is more of it."""
        self._failures.pop(key, None)
        self._end(key, now)
        if again is not None:
            self._put(key, now + again[0], again[1])

    def fail(self, key: K, now: float, jitter: float, *, at_least_s: float = 0.0, at_most_s: float = _MOST_S) -> float:
        """Note that the work on a key has failed and return after how long it is tried again.

        Args:
            key: what was worked on.
            now: the time.
            jitter: from [0, 1).
            at_least_s: a pause that somebody else asks for.
            at_most_s: a bound on the pause, for what will pass soon.
        """
        self._failures[key] += 1
        pause = max(at_least_s, backoff_s(self._failures[key], _FIRST_S, at_most_s, jitter))
        lane = self._running.get(key, Lane.NORMAL)
        self._end(key, now, pause)
        self._put(key, now + pause, lane)
        return pause

    def forget(self, key: K) -> None:
        """Drop whatever waits for a key; what runs goes on."""
        self._failures.pop(key, None)
        self._waiting.pop(key, None)
        self._later.pop(key, None)

    def due_in(self, now: float) -> float | None:
        """Return after how long the next key in a lane with room is due; None where only an end or news can help."""
        free = [lane for lane in Lane if sum(held is lane for held in self._running.values()) < self._room[lane]]
        firsts = [self._ripe_at(wait, now) for lane in free if (wait := self._first(self._heaps[lane])) is not None]
        return max(0.0, min(firsts) - now) if firsts else None

    def _put(self, key: K, due: float, lane: Lane, *, held: bool = False) -> None:
        shelf = self._later if key in self._running else self._waiting
        if (known := shelf.get(key)) is not None:
            due = known.due if held else min(due, known.due)
            lane = min(lane, known.lane)
        self._number += 1
        wait = _Wait(due, self._number, key, lane)
        shelf[key] = wait
        if shelf is self._waiting:
            heapq.heappush(self._heaps[lane], (wait.due, wait.number, wait))

    def _end(self, key: K, now: float, pause: float = 0.0) -> None:
        """Put what came while the key ran where it can be taken."""
        if self._running.pop(key) is not Lane.IDLE:
            self._pressed_until = now
        if (later := self._later.pop(key, None)) is not None:
            self._put(key, max(later.due, now + pause), later.lane)

    def _ripe_at(self, wait: _Wait[K], now: float) -> float:
        """Return from when on a key may be taken: an idle one after all others and a calm, or after its patience."""
        if wait.lane is not Lane.IDLE:
            return wait.due
        if self._is_busy(now):
            return wait.due + PATIENCE_S
        return max(wait.due, min(self._pressed_until + CALM_S, wait.due + PATIENCE_S))

    def _is_busy(self, now: float) -> bool:
        """Return whether anything more pressing than idle work runs or is due."""
        if any(lane is not Lane.IDLE for lane in self._running.values()):
            return True
        firsts = (self._first(self._heaps[lane]) for lane in Lane if lane is not Lane.IDLE)
        return any(wait is not None and wait.due <= now for wait in firsts)

    def _first(self, heap: list[tuple[float, int, _Wait[K]]]) -> _Wait[K] | None:
        """Return the entry that is due first, without those that a newer one has replaced."""
        while heap and self._waiting.get(heap[0][2].key) is not heap[0][2]:
            heapq.heappop(heap)
        return heap[0][2] if heap else None
