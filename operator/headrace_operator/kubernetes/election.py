"""Who leads: the rules of a Lease as pure decisions.

No clock of another machine is trusted: a lease is free once it has not changed for its whole duration by the clock of
whoever looks at it. A holder stops well before that, `renew_s` after it last renewed.
"""

from dataclasses import dataclass
from enum import Enum

import msgspec


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a Lease says; times are in RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """How leadership changes hands."""

    duration_s: float = 15.0
    """A lease that has not changed for this long is free."""
    renew_s: float = 10.0
    """A holder that could not renew for this long leads no more; the rest of the duration is its safety margin."""
    retry_s: float = 2.0
    """How often the lease is looked at and renewed."""


class Step(Enum):
    """What to do with the lease now."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


class Election:
    """What one candidate knows.

    Args:
        identity: of this candidate.
        terms: the same for all candidates.
    """

    def __init__(self, identity: str, terms: Terms) -> None:
        self.identity = identity
        self.terms = terms
        self._seen: LeaseSpec | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def step(self, spec: LeaseSpec | None, now: float) -> Step:
        """Return what to do about a lease that was just read; None: there is none.

        Args:
            spec: what it says.
            now: the time at which it was asked for.
        """
        if spec is None:
            return Step.CREATE
        if spec != self._seen:
            self._seen, self._seen_at = spec, now
        if spec.holder_identity == self.identity:
            return Step.RENEW
        lasting_s = spec.lease_duration_seconds or self.terms.duration_s
        if not spec.holder_identity or now - self._seen_at >= lasting_s:
            return Step.TAKE
        return Step.WAIT

    def held(self, spec: LeaseSpec, asked_at: float) -> None:
        """Note that the lease was written by us; it runs from when we asked, not from when the answer came."""
        self._seen, self._seen_at = spec, asked_at
        self._renewed_at = asked_at

    def lost(self) -> None:
        """Note that somebody else holds the lease, or that it was given back."""
        self._renewed_at = None

    def left_s(self, now: float) -> float:
        """Return for how long this candidate leads from now; 0 or less: it does not."""
        return 0.0 if self._renewed_at is None else self._renewed_at + self.terms.renew_s - now

    @property
    def holder(self) -> str | None:
        """Who held the lease when it was last read."""
        return None if self._seen is None else self._seen.holder_identity


def next_spec(previous: LeaseSpec | None, identity: str, terms: Terms, now: str) -> LeaseSpec:
    """Return what the lease shall say once this candidate holds it at the time `now`."""
    mine = previous is not None and previous.holder_identity == identity
    transitions = (previous.lease_transitions or 0) if previous is not None else 0
    return LeaseSpec(
        holder_identity=identity,
        lease_duration_seconds=round(terms.duration_s),
        acquire_time=previous.acquire_time if previous is not None and mine else now,
        renew_time=now,
        lease_transitions=transitions if mine or previous is None else transitions + 1,
    )
