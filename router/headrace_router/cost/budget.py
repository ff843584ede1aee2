"""Budgets: what may be spent, what is spent, and what running requests may still spend (pure).

A request reserves what it may cost at most before it runs, and more while it runs where that was too little; what it
really cost takes the reservation's place at its end. Spent and reserved together never pass a hard limit, whatever
runs at the same time, since nothing happens between the look and the reservation.
"""

import dataclasses
from collections.abc import Callable, Iterable

from headrace_router.cost.period import Period, period_start
from headrace_router.cost.tenants import Tenant


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """One budget; amounts in billionths."""

    name: str
    scope: str
    """`key`, `team`, `organisation`, or `request` of one that bounds its own cost."""
    of: str
    period: Period
    soft: int | None
    hard: int | None

    def covers(self, tenant: Tenant) -> bool:
        """Whether a tenant's requests count in it."""
        name: str = getattr(tenant, self.scope)
        return name == self.of


@dataclasses.dataclass(slots=True)
class Purse:
    """One budget in one period."""

    limit: Limit
    start_s: float
    """Unix seconds."""
    spent: int
    held: int = 0
    """Reserved by requests that run."""
    warned: bool = False

    def has(self, amount: int) -> bool:
        """Whether so much may be reserved."""
        hard = self.limit.hard
        return hard is None or self.spent + self.held + amount <= hard


def purse_of_one(request: str, most: int) -> Purse:
    """Return the budget that a request sets for itself, over all tiers it goes to; in billionths."""
    return Purse(Limit("max_cost", "request", request, "total", None, most), 0.0, 0)


@dataclasses.dataclass(slots=True)
class Hold:
    """One request's reservation, in every budget that it counts in."""

    purses: tuple[Purse, ...]
    amount: int = 0

    @property
    def limited(self) -> bool:
        """Whether a hard limit is among them."""
        return any(purse.limit.hard is not None for purse in self.purses)


Spent = Callable[[Limit, float], int]
"""Returns what the ledger says was spent in a budget since a moment."""


class Budgets:
    """All budgets of one router.

    Args:
        limits: the budgets.
        spent: asked once for each budget and period.
        warn: called when a budget passes its soft limit, once in a period.
    """

    def __init__(self, limits: Iterable[Limit], spent: Spent, warn: Callable[[Purse], None]) -> None:
        self._limits = tuple(limits)
        self._spent = spent
        self._warn = warn
        self._purses: dict[str, Purse] = {}

    def open(self, tenant: Tenant, unix_s: float, own: Purse | None = None) -> Hold:
        """Return an empty reservation in every budget that the tenant's requests count in, and in the request's own."""
        purses = [self._purse(limit, unix_s) for limit in self._limits if limit.covers(tenant)]
        return Hold((*purses, own) if own is not None else tuple(purses))

    def reserve(self, hold: Hold, amount: int) -> Purse | None:
        """Add to a reservation, in all of its budgets or in none; return the budget that has not enough left."""
        for purse in hold.purses:
            if not purse.has(amount):
                return purse
        for purse in hold.purses:
            purse.held += amount
        hold.amount += amount
        return None

    def settle(self, hold: Hold, billed: int) -> None:
        """Put what was billed in the place of a reservation; at most what was reserved where a hard limit holds."""
        assert billed <= hold.amount or not hold.limited, f"billed {billed} beyond the {hold.amount} reserved"
        for purse in hold.purses:
            purse.held -= hold.amount
            purse.spent += billed
            soft = purse.limit.soft
            if soft is not None and purse.spent > soft and not purse.warned:
                purse.warned = True
                self._warn(purse)
        hold.amount = 0

    def purses(self, unix_s: float) -> list[Purse]:
        """Return all budgets as they stand in the period around a moment."""
        return [self._purse(limit, unix_s) for limit in self._limits]

    def _purse(self, limit: Limit, unix_s: float) -> Purse:
        start_s = period_start(limit.period, unix_s)
        purse = self._purses.get(limit.name)
        if purse is None or start_s > purse.start_s:
            # Requests that still run in the old period settle in its purse, which they keep.
            purse = self._purses[limit.name] = Purse(limit, start_s, self._spent(limit, start_s))
        return purse
