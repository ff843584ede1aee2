"""Terms and snapshots as tests of the policy write them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headrace_operator.desired import Role
from headrace_operator.scaling.bound import Numbers
from headrace_operator.scaling.load import PoolLoad
from headrace_operator.scaling.policy import Policy, Seen
from headrace_operator.scaling.ratio import Ratio
from headrace_operator.scaling.terms import Bounds, Pace, Terms

EVERY_S = 5.0


def terms(*, least: int = 1, most: int = 8, ratio: str | None = None, gpus: int | None = None, **changed: Any) -> Terms:
    """Return terms with round numbers: 10 running, 4 waiting or 1000 tokens fill a worker."""
    bounds = Bounds(least, most, gpus=1)
    made = Terms(
        {"prefill": bounds, "decode": bounds},
        waiting=4,
        tokens=1000,
        running=10,
        used=0.8,
        up=Pace(10, "100%", 30),
        down=Pace(300, "25%", 60),
        idle_s=600,
        ratio=None if ratio is None else Ratio.parse(ratio),
        gpus=gpus,
    )
    return replace(made, **changed)


def unified(**options: Any) -> Terms:
    """Return terms of one pool that does all."""
    made = terms(**options)
    return replace(made, pools={"unified": made.pools["decode"]})


class Play:
    """A deployment whose numbers follow the policy at once, one round after the other."""

    def __init__(self, terms: Terms, start: int | Mapping[Role, int] = 1, **seen: Any) -> None:
        self.terms = terms
        self.policy = Policy()
        self.now = 1000.0
        self.numbers: Numbers = dict.fromkeys(terms.pools, start) if isinstance(start, int) else {**start}
        self.seen = seen

    def round(self, **loads: PoolLoad) -> Numbers:
        """Let one round pass with these loads, by role, and return the numbers after it."""
        told: dict[Role, PoolLoad] = {role: loads.get(role, PoolLoad()) for role in self.terms.pools}
        self.numbers = self.policy.decide(Seen(dict(self.numbers), told, **self.seen), self.terms, self.now)
        self.now += EVERY_S
        return self.numbers

    def rounds(self, seconds: float, **loads: PoolLoad) -> Numbers:
        """Let time pass under a constant load."""
        for _ in range(int(seconds / EVERY_S)):
            self.round(**loads)
        return self.numbers

    def play(self, role: Role, loads: Iterable[PoolLoad]) -> list[int]:
        """Let one round pass for each load of a pool and return its numbers."""
        return [self.round(**{role: load})[role] for load in loads]


def decoding(workers: float, **more: Any) -> PoolLoad:
    """Return a load of decode workers that fills so many of them."""
    return PoolLoad(running=10 * workers, **more)
