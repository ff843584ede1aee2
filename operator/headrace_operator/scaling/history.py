"""What a pool was asked for in the last minutes."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from headrace_operator.scaling.demand import Demand

STEADY_S: Final = 60.0
"""What runs is averaged over this time: a worker is found with or without a prompt by chance."""


@dataclass(frozen=True, slots=True)
class _Look:
    """The need of a pool at one time, in workers."""

    at: float
    averaged: float
    """With the mean of what ran in the last minute."""
    found: float
    """With what runs now, where that can be counted."""
    is_known: bool
    lasting: float = 0.0
    """What was needed all through the window that ends here."""


class History:
    """The needs of one pool over time, in workers.

    Args:
        keep_s: for how long they are of interest.
    """

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._steady: deque[tuple[float, float]] = deque()
        self._looks: deque[_Look] = deque()

    def add(self, now: float, demand: Demand, *, lasting_s: float, is_known: bool) -> None:
        """Take what the pool is asked for now.

        Args:
            now: the time.
            demand: what it is asked for.
            lasting_s: for so long a need must be there to add workers.
            is_known: whether this is all of it.
        """
        self._steady.append((now, demand.steady))
        while self._steady[0][0] < now - STEADY_S:
            self._steady.popleft()
        averaged = _need(demand, sum(value for _, value in self._steady) / len(self._steady))
        found = averaged if demand.by_chance else _need(demand, demand.steady)
        look = _Look(now, averaged, found, is_known)
        self._looks.append(look)
        self._looks[-1] = replace(look, lasting=self.least(now, lasting_s) or 0.0)
        while len(self._looks) > 1 and self._looks[1].at <= now - self.keep_s:
            self._looks.popleft()

    def least(self, now: float, window_s: float) -> float | None:
        """Return what was needed all through the window; None where it reaches back beyond what is known.

        Either by every look or by every average: a load that has risen is not held against what was before it, and one
        that moves up and down counts by its mean.
        """
        looks = self._within(now, window_s)
        return None if looks is None else max(min(one.found for one in looks), min(one.averaged for one in looks))

    def most(self, now: float, window_s: float) -> float | None:
        """Return what was needed at most in the window; None where that is not known of all of it.

        A peak counts as far as it lasted: what added workers keeps them for the window.
        """
        looks = self._within(now, window_s)
        if looks is None or not all(one.is_known for one in looks):
            return None
        return max(max(one.averaged, one.lasting) for one in looks)

    def _within(self, now: float, window_s: float) -> list[_Look] | None:
        """Return the needs since the window's start, the last one before it with them."""
        start = now - window_s
        if not self._looks or self._looks[0].at > start:
            return None
        first = max(one.at for one in self._looks if one.at <= start)
        return [one for one in self._looks if one.at >= first]


def _need(demand: Demand, steady: float) -> float:
    return max(steady + demand.queued, demand.stored)
