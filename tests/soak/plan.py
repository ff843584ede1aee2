"""What is done to whom and when: one seed gives one list of blows (pure)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Kind = Literal["cancel", "kill", "stop"]
Role = Literal["prefill", "decode", "router"]

BLOWS_PER_S = 1000 / 600
"""A soak of ten minutes deals out a thousand."""
SHARE_OF_KILLS = 0.04
"""A killed worker needs some ten seconds to be back: with more of them nobody would serve."""
SHARE_OF_STOPS = 0.04
LEAST_STOP_S, MOST_STOP_S = 11.0, 16.0
"""Silence is noticed after 5 s and a lease lasts 10 s: each stop outlasts both."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blow:
    """One disturbance.

    `at_s` counts from the beginning; `chance`, in [0, 1), picks the victim among those that are there at that moment:
    requests that run for a cancel, processes of `role` for the others.
    """

    at_s: float
    kind: Kind
    chance: float
    role: Role = "decode"
    part: Literal["leader", "engine"] = "leader"
    """Which process of a worker is killed; its other one has to end by itself."""
    length_s: float = 0.0
    """Of a stop."""


def plan(seed: int, seconds: float) -> list[Blow]:
    """Return the blows of a soak in order of time; even the shortest one kills both roles and stops both."""
    dice = random.Random(seed)
    total = round(seconds * BLOWS_PER_S)
    kills, stops = (max(2, round(total * share)) for share in (SHARE_OF_KILLS, SHARE_OF_STOPS))
    killed: Sequence[Role] = _shuffled(dice, ("prefill", "decode", "prefill", "decode", "router"), kills)
    stopped: Sequence[Role] = _shuffled(dice, ("prefill", "decode"), stops)
    blows = [Blow(_when(dice, seconds), "kill", dice.random(), role, _part(dice, role)) for role in killed]
    blows += [
        Blow(_when(dice, seconds), "stop", dice.random(), role, length_s=dice.uniform(LEAST_STOP_S, MOST_STOP_S))
        for role in stopped
    ]
    cancels = max(0, total - kills - stops)
    blows += [Blow(_when(dice, seconds), "cancel", dice.random()) for _ in range(cancels)]
    return sorted(blows, key=lambda blow: blow.at_s)


def pick(chance: float, candidates: Sequence[T]) -> T | None:
    """Return the candidate that a number in [0, 1) stands for; None where there is none."""
    return candidates[int(chance * len(candidates))] if candidates else None


def _when(dice: random.Random, seconds: float) -> float:
    return dice.uniform(0.0, seconds)


def _part(dice: random.Random, role: Role) -> Literal["leader", "engine"]:
    return "leader" if role == "router" or dice.random() < 0.5 else "engine"


def _shuffled(dice: random.Random, kinds: Sequence[Role], count: int) -> list[Role]:
    """Return so many roles in equal shares, the first of them once each as far as they go."""
    whole = [kinds[number % len(kinds)] for number in range(count)]
    dice.shuffle(whole)
    return whole
