"""How many workers a load would fill: a number that need not be whole."""

from dataclasses import dataclass
from typing import Final

from headrace_operator.desired import Role
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.terms import Terms

BUSY: Final = 0.8
"""Share of the time that a prefill worker computes at most: at 1 its queue would grow without bound."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool is asked for, in workers that would be filled by it."""

    steady: float = 0.0
    """To go on with what runs; it moves with each step."""
    queued: float = 0.0
    """To work off what waits, on top of that."""
    stored: float = 0.0
    """To hold the KV that is in use, whatever runs."""
    by_chance: bool = False
    """Whether one look at `steady` says nothing, and only its mean does."""


def demand(role: Role, load: PoolLoad, terms: Terms) -> Demand:
    """Return what the load of a pool asks for.

    A prefill worker's steps are full with one long prompt as with many short ones, so that what counts is whether it
    has any. A decode worker takes many requests into one step, until its blocks or its places are full.
    """
    requests = load.waiting / terms.waiting
    prompts = load.waiting_tokens / terms.tokens
    if role == "prefill":
        return Demand(load.busy / BUSY, max(requests, prompts), by_chance=True)
    queued = max(requests, prompts) if role == "unified" else requests
    return Demand(load.running / terms.running, queued, load.used / terms.used)
