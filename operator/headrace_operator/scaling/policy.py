"""The policy: how many workers each pool of a deployment should have now.

One `Policy` for each deployment keeps what it was told in the last minutes; everything it answers follows from that and
from its arguments. Numbers rise when more was needed for a short time, and sink when fewer did for a long one. A need
between nine and eleven tenths of a whole number of workers moves nothing. What is not known never lowers a number.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from headrace_operator.desired import Role
from headrace_operator.scaling.bound import Numbers, afforded, kept, paired
from headrace_operator.scaling.demand import demand
from headrace_operator.scaling.history import STEADY_S, History
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.terms import Terms

TOLERANCE: Final = 0.1
"""Of needs; what Kubernetes' own autoscaler takes for no difference."""
_DUST: Final = 1e-9
"""Sums of shares come out a hair above the whole number that they are."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a deployment now."""

    numbers: Mapping[Role, int]
    """Workers that each pool is to have as of now, whoever said so."""
    loads: Mapping[Role, PoolLoad]
    """Of the workers that serve."""
    held: int = 0
    """Requests that wait in routers because no worker serves."""
    is_watched: bool = True
    """All routers say how many wait, and there is one: what sleeps would be woken."""


class Policy:
    """What one deployment should have."""

    def __init__(self) -> None:
        self._histories: dict[Role, History] = {}
        self._numbers: deque[tuple[float, Numbers]] = deque()
        self._idle_since: float | None = None
        self._ended = 0.0

    def decide(self, seen: Seen, terms: Terms, now: float) -> Numbers:
        """Return how many workers each pool should have.

        Args:
            seen: what is known now; each call takes note of it.
            terms: what the user asks for; they may change from call to call.
            now: the time, never less than before.
        """
        self._note(seen, terms, now)
        current = {role: seen.numbers[role] for role in terms.pools}
        if terms.is_paused:
            return current
        floors = {role: self._floor(role, seen, terms, now) for role in terms.pools}
        inside = {role: _clamp(number, floors[role], terms.pools[role].most) for role, number in current.items()}
        wanted = {role: self._wanted(role, inside[role], terms, now) for role in terms.pools}
        wanted = {role: _clamp(number, floors[role], terms.pools[role].most) for role, number in wanted.items()}
        target = afforded(paired(wanted, terms), terms)
        return kept(self._paced(target, inside, terms, now), current, terms)

    def _note(self, seen: Seen, terms: Terms, now: float) -> None:
        keep_s = max(terms.up.window_s, terms.down.window_s, STEADY_S)
        for role in terms.pools:
            history = self._histories.setdefault(role, History(keep_s))
            history.keep_s = keep_s
            load = seen.loads.get(role, PoolLoad())
            # What routers hold comes to every pool: each request has a prompt and an answer.
            queued = replace(load, waiting=load.waiting + seen.held)
            needed = demand(role, queued, terms)
            history.add(now, needed, lasting_s=terms.up.window_s, is_known=load.is_known)
        self._numbers.append((now, {role: seen.numbers[role] for role in terms.pools}))
        while len(self._numbers) > 1 and self._numbers[1][0] <= now - max(terms.up.every_s, terms.down.every_s):
            self._numbers.popleft()
        ended = sum(load.ended for load in seen.loads.values())
        is_known = seen.is_watched and all(load.is_known for load in seen.loads.values())
        if not is_known or self._asks(seen) or ended != self._ended:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        self._ended = ended

    def _floor(self, role: Role, seen: Seen, terms: Terms, now: float) -> int:
        """Return the least number of a pool: its bound, or where that is 0, one as long as anybody asks for anything.

        A pool that sleeps is woken by a request only: that nothing is known is no reason.
        """
        least = terms.pools[role].least
        if least:
            return least
        if not seen.numbers[role]:
            return 1 if self._asks(seen) else 0
        return 0 if self._idle_since is not None and now - self._idle_since >= terms.idle_s else 1

    @staticmethod
    def _asks(seen: Seen) -> bool:
        return bool(seen.held) or any(load.asks for load in seen.loads.values())

    def _wanted(self, role: Role, number: int, terms: Terms, now: float) -> int:
        """Return what the load of a pool asks for, by the windows of both directions."""
        history = self._histories[role]
        least, most = history.least(now, terms.up.window_s), history.most(now, terms.down.window_s)
        up = 0 if least is None else _whole(least / (1 + TOLERANCE))
        down = number if most is None else _whole(most * (1 + TOLERANCE))
        return max(up, min(number, down))

    def _paced(self, target: Numbers, current: Numbers, terms: Terms, now: float) -> Numbers:
        """Return how far the numbers may move now, along the ratio where there is one."""
        reach = {role: self._reach(role, number, terms, now) for role, number in current.items()}
        moved = {role: _clamp(number, *reach[role]) for role, number in target.items()}
        ratio = terms.ratio
        if ratio is None or moved == target or not all(moved.values()):
            return moved
        pair = moved["prefill"], moved["decode"]
        if all(target[role] >= number for role, number in current.items()):
            prefill, decode = ratio.cut(*pair)
            return {"prefill": max(prefill, current["prefill"]), "decode": max(decode, current["decode"])}
        if all(target[role] <= number for role, number in current.items()):
            prefill, decode = ratio.lift(*pair)
            return {"prefill": min(prefill, current["prefill"]), "decode": min(decode, current["decode"])}
        return moved

    def _reach(self, role: Role, number: int, terms: Terms, now: float) -> tuple[int, int]:
        """Return the least and the most that a pool may have now, by what it had a moment ago."""
        lows = [number, *self._since(role, now - terms.up.every_s)]
        highs = [number, *self._since(role, now - terms.down.every_s)]
        low, high = min(lows), max(highs)
        return min(number, max(0, high - terms.down.most(high))), max(number, low + terms.up.most(low))

    def _since(self, role: Role, start: float) -> list[int]:
        """Return the numbers that a pool had since then."""
        found: list[int] = []
        for at, numbers in reversed(self._numbers):
            if at < start:
                break
            if role in numbers:
                found.append(numbers[role])
        return found


def _whole(need: float) -> int:
    return math.ceil(need - _DUST)


def _clamp(number: int, least: int, most: int) -> int:
    return max(least, min(number, most))
