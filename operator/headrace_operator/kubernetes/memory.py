"""What the operator remembers of one resource between two turns: all of it can be lost without harm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace_api.resources import LLMDeployment, LLMRouter
from headrace_operator.desired import Pool
from headrace_operator.errors import OperatorError
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.apply import Wanted
from headrace_operator.objects import Site
from headrace_operator.observed import Pair


@dataclass(frozen=True, slots=True)
class Rendered:
    """One object of a resource, ready to be sent."""

    wanted: Wanted
    later: bool
    once: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that could not be made; it is tried again later, or at once when its content is another."""

    digest: bytes
    error: OperatorError
    until: float
    times: int


@dataclass(slots=True)
class Written:
    """A status as it was written last, and when."""

    status: Mapping[str, Any]
    at: float


@dataclass(slots=True)
class Memory:
    """Everything here is found out again by looking, trying or writing once more."""

    uid: str = ""
    generation: int | None = None
    resource: LLMDeployment | LLMRouter | None = None
    """Parsed once for each generation."""
    site: Site | None = None
    """For which the pools were stamped."""
    pools: tuple[Pool, ...] = ()
    fetch: str | None = None
    """Name of the Job that fetches the weights; None where nothing is fetched."""
    rendered_for: object = None
    rendered: tuple[Rendered, ...] = ()
    refused: dict[tuple[str, str, str], Refusal] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)
    probing: set[Pair] = field(default_factory=set)
    resting: dict[Pair, float] = field(default_factory=dict)
    """Until when a pair that failed is left alone."""
    failed: Counter[Pair] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why the last trial of an incarnation failed."""
    status: Written | None = None
    """None: nothing was written yet, and the resource itself says what its status is."""
    models: tuple[float, tuple[str, ...]] | None = None
    """When the ConfigMaps of its cascade were looked at, and what was wrong with them."""
    pool_status: dict[str, Written] = field(default_factory=dict)
    """By the name of the LLMPool."""
    ended: dict[str, set[str]] = field(default_factory=dict)
    """UIDs of prefill pods whose end is proved, and the decode workers that have not been told yet."""
    quiet_until: float = 0.0
    """Until when nothing is done: nothing can be made in its namespace."""
    noted: str = ""
    """The last event."""
    has_served: bool = False
    """Whether the resource was ever Ready."""

    def lane(self, lane: Lane) -> Lane:
        """Return the lane of a turn: until it has served once, what happens to its workers keeps nobody waiting."""
        return lane if self.has_served or lane is not Lane.URGENT else Lane.IDLE

    def rest(self, now: float) -> frozenset[Pair]:
        """Return the pairs that are left alone now, and forget those whose rest is over."""
        self.resting = {pair: until for pair, until in self.resting.items() if until > now}
        return frozenset(self.resting)
