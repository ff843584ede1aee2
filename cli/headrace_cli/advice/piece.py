"""What advice is made of, and when there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

MIN_REQUESTS: Final = 200
"""Fewer say nothing: with 200 a share of escalations is known to about 7 points."""
MIN_OF_EITHER: Final = 20
"""Requests that another tier answered, and that none did: of either a mean cost is taken."""
MIN_SHARE: Final = 0.01
"""Of what was spent on its subject; smaller savings are not worth a change."""
MIN_SPAN_S: Final = 900.0
"""A shorter ledger says nothing about a day."""

Topic = Literal["threshold", "tier order", "cache", "pools"]


@dataclass(frozen=True, slots=True)
class Money:
    """Billionths of the currency, in a table."""

    nano: int


@dataclass(frozen=True, slots=True)
class Share:
    """Of one, in a table."""

    value: float


Cell = str | int | float | Money | Share | None
Row = Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Advice:
    """One change that would have saved money."""

    topic: Topic
    subject: str
    """The tiers or the model."""
    now: str
    instead: str
    saving: int
    """Over the span of the ledger, in billionths; never more than was spent."""
    interval: tuple[int, int] | None
    """95 %, of `saving`; None where it follows from sums that are no sample."""
    risk: str
    requests: int
    """That it rests on."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one analysis found."""

    topic: Topic | None
    """None where it is about the ledger itself."""
    title: str
    rows: Sequence[Row] = ()
    advice: Sequence[Advice] = ()
    notes: Sequence[str] = ()
    """Why nothing is said of something, and what to know of the rows."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user asks of advice."""

    may_lose: float = 0.01
    """Answers that may be wrong more than now, as a share of the judged ones."""
    seed: int = 0
    settings: Sequence["Setting"] = field(default=())
    """Thresholds of the gate's file; without them those that the ledger's own gains suggest."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a gate lets answers pass; above these gains the next tier is asked."""

    name: str
    prefix: float
    whole: float
    is_own: bool = True
    """Whether the gate's file names it; others lie between, and are shown only where they are chosen."""
