"""Which pools idle, and what numbers of prefill and decode GPUs the measured load asks for.

The arithmetic is the operator's: a pool computes at most `BUSY` of the time, and numbers sink only to what holds a
tenth more than the busiest hour. The ledger knows seconds, not queues: peaks shorter than an hour are averaged out.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from headrace_cli.advice.piece import MIN_REQUESTS, MIN_SHARE, Advice, Money, Part, Row, Share
from headrace_operator.scaling.demand import BUSY
from headrace_operator.scaling.policy import TOLERANCE
from headrace_router.cost.facts import HOUR_S, Facts, Unused, Work

TITLE: Final = "Pools of GPUs"
MIN_HOURS: Final = 6
"""Whole ones, so that there is a busiest one among them."""


class Hours(NamedTuple):
    """Whole hours of a ledger, since the epoch, both ends in it."""

    first: int
    last: int

    @property
    def number(self) -> int:
        """How many."""
        return max(0, self.last - self.first + 1)

    @classmethod
    def within(cls, facts: Facts) -> "Hours":
        """Return the whole hours between the first line and the last."""
        return cls(math.ceil(facts.first / HOUR_S), math.floor(facts.last / HOUR_S) - 1)


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool over whole hours."""

    model: str
    role: str
    busy_s: Mapping[int, float]
    """GPU-seconds of computing by hour."""
    idle_s: float
    """GPU-seconds of idling and loading."""
    idle_cost: int
    hours: Hours

    @property
    def had(self) -> float:
        """GPUs on average."""
        return (sum(self.busy_s.values()) + self.idle_s) / (self.hours.number * HOUR_S)

    @property
    def busiest(self) -> tuple[int, float]:
        """The busiest hour, and the GPUs that it would have filled."""
        hour = max(self.busy_s, key=lambda hour: (self.busy_s[hour], -hour), default=self.hours.first)
        return hour, self.busy_s.get(hour, 0.0) / HOUR_S / BUSY

    @property
    def needed(self) -> int:
        """Whole GPUs that hold the busiest hour."""
        return max(1, math.ceil(self.busiest[1] * (1 + TOLERANCE) - 1e-9))

    @property
    def spare(self) -> int:
        """Whole GPUs that it had more than that."""
        return max(0, math.floor(self.had - self.needed + 1e-9))

    @property
    def is_short(self) -> bool:
        """Whether it had clearly less than its busiest hour asks for."""
        return self.needed > self.had + 0.5

    @property
    def kept(self) -> int:
        """Whole GPUs that it should have, where it should not have more."""
        return self.needed if self.spare else math.ceil(self.had - 1e-9)

    @property
    def saving(self) -> int:
        """What the spare ones cost while they idled."""
        rate = self.idle_cost / self.idle_s if self.idle_s else 0.0
        return min(self.idle_cost, round(self.spare * rate * self.hours.number * HOUR_S))


def pools(facts: Facts) -> Part:
    """Return what pools did, and the numbers that would have done."""
    hours = Hours.within(facts)
    if not facts.unused:
        return Part("pools", TITLE, notes=["The ledger has no unused time of workers, so nothing is known of pools."])
    if hours.number < MIN_HOURS:
        text = f"The ledger has {hours.number} whole hours in that time, and advice on pools needs {MIN_HOURS}."
        return Part("pools", TITLE, notes=[text])
    rows: list[Row] = []
    advice: list[Advice] = []
    notes: list[str] = []
    for model in dict.fromkeys(one.model for one in facts.unused):
        unused = [one for one in facts.unused if one.model == model and hours.first <= one.hour <= hours.last]
        work = [one for one in facts.work if one.model == model and hours.first <= one.hour <= hours.last]
        found = pools_of(model, work, unused, hours)
        rows += [_row(pool) for pool in found]
        judged = _judge(found, sum(one.requests for one in work), facts.spent)
        if isinstance(judged, Advice):
            advice.append(judged)
        else:
            notes.append(f"{model}: {judged}")
    return Part("pools", TITLE, rows, advice, notes)


def pools_of(model: str, work: Sequence[Work], unused: Sequence[Unused], hours: Hours) -> list[Pool]:
    """Return a model's pools; none where lines do not say whose time it was that nobody used."""
    roles = {one.role for one in unused}
    if not roles or None in roles:
        return []
    parts = ("prefill", "decode") if "prefill" in roles else ("decode" if "decode" in roles else "unified",)
    return [_pool(model, role, work, unused, hours, alone=len(parts) == 1) for role in parts]


def _pool(model: str, role: str, work: Sequence[Work], unused: Sequence[Unused], hours: Hours, *, alone: bool) -> Pool:
    busy_s: defaultdict[int, float] = defaultdict(float)
    for each in work:
        busy_s[each.hour] += each.prefill_s if alone or role == "prefill" else 0.0
        busy_s[each.hour] += each.decode_s if alone or role != "prefill" else 0.0
    ours = [one for one in unused if alone or one.role == role]
    for one in ours:
        # What nobody got was computed all the same.
        busy_s[one.hour] += one.seconds if one.kind == "lost" else 0.0
    own = [one for one in ours if one.kind != "lost"]
    return Pool(model, role, busy_s, sum(one.seconds for one in own), sum(one.cost for one in own), hours)


def _row(pool: Pool) -> Row:
    busy_s = sum(pool.busy_s.values())
    total_s = busy_s + pool.idle_s
    return {
        "model": pool.model,
        "pool": pool.role,
        "GPUs": round(pool.had, 2),
        "busy": Share(busy_s / total_s if total_s else 0.0),
        "unused cost": Money(pool.idle_cost),
        "filled in the busiest hour": round(pool.busiest[1], 2),
        "would do": pool.needed,
    }


def _judge(found: Sequence[Pool], requests: int, spent: int) -> Advice | str:
    if not found:
        return "lines of unused time do not say of which pool (they are older than that column), so nothing is advised."
    if requests < MIN_REQUESTS:
        return f"{requests} requests in whole hours; advice on pools needs {MIN_REQUESTS}."
    saving = sum(pool.saving for pool in found)
    if not any(pool.spare for pool in found):
        lack = "".join(f" {_short(pool)}" for pool in found if pool.is_short)
        return f"no pool had a whole GPU more than its busiest hour asks for ({requests} requests).{lack}"
    if saving < MIN_SHARE * max(1, spent):
        return f"GPUs that were not needed cost less than {MIN_SHARE:.0%} of all ({requests} requests)."
    return _advice(found, saving, requests)


def _advice(found: Sequence[Pool], saving: int, requests: int) -> Advice:
    had = " and ".join(f"{pool.had:.1f} {pool.role}" for pool in found)
    keep = {pool.role: pool.kept for pool in found}
    wanted = " and ".join(f"{number} {role}" for role, number in keep.items())
    ratio = ""
    if len(found) == 2:
        part = math.gcd(keep["prefill"], keep["decode"])
        ratio = f", a ratio of {keep['prefill'] // part}:{keep['decode'] // part} (`scaling.ratio`)"
    lack = "".join(f" {_short(pool)}" for pool in found if pool.is_short)
    idle = ", ".join(f"{pool.role} {_idle(pool):.0%}" for pool in found)
    return Advice(
        topic="pools",
        subject=found[0].model,
        now=f"{had} GPUs on average, of whose time nobody used: {idle}.",
        instead=(f"{wanted} GPUs{ratio}: in the busiest whole hour they would compute at most {BUSY:.0%} of the time."),
        saving=saving,
        interval=None,
        risk=(
            "Requests may wait longer: the ledger knows neither queues nor peaks shorter than an hour, nor how the "
            f"load grows. Let `spec.scaling` follow the load, or look at TTFT and TPOT first.{lack}"
        ),
        requests=requests,
    )


def _short(pool: Pool) -> str:
    return f"The {pool.role} pool was short: its busiest hour asks for {pool.needed} GPUs, and it had {pool.had:.1f}."


def _idle(pool: Pool) -> float:
    total_s = sum(pool.busy_s.values()) + pool.idle_s
    return pool.idle_s / total_s if total_s else 0.0
