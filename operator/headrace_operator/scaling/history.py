"""What a pool was asked for in the last minutes."""

from collections import deque
from typing import Final

from headrace_operator.scaling.demand import Demand

STEADY_S: Final = 60.0
"""What runs is averaged over this time: a worker is found with or without a prompt by chance."""


class History:
    """The needs of one pool over time, in workers.

    Args:
        keep_s: for how long they are of interest.
    """

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._steady: deque[tuple[float, float]] = deque()
        self._needs: deque[tuple[float, float, bool]] = deque()

    def add(self, now: float, demand: Demand, *, is_known: bool) -> None:
        """Take what the pool is asked for now; `is_known`: all of it."""
        self._steady.append((now, demand.steady))
        while self._steady[0][0] < now - STEADY_S:
            self._steady.popleft()
        steady = sum(value for _, value in self._steady) / len(self._steady)
        self._needs.append((now, max(steady + demand.queued, demand.stored), is_known))
        while len(self._needs) > 1 and self._needs[1][0] <= now - self.keep_s:
            self._needs.popleft()

    def least(self, now: float, window_s: float) -> float | None:
        """Return what was needed all through the window; None where it reaches back beyond what is known."""
        needs = self._within(now, window_s)
        return None if needs is None else min(need for _, need, _ in needs)

    def most(self, now: float, window_s: float) -> float | None:
        """Return what was needed at most in the window; None where that is not known of all of it."""
        needs = self._within(now, window_s)
        if needs is None or not all(is_known for _, _, is_known in needs):
            return None
        return max(need for _, need, _ in needs)

    def _within(self, now: float, window_s: float) -> list[tuple[float, float, bool]] | None:
        """Return the needs since the window's start, the last one before it with them."""
        start = now - window_s
        if not self._needs or self._needs[0][0] > start:
            return None
        first = max(at for at, _, _ in self._needs if at <= start)
        return [one for one in self._needs if one[0] >= first]
