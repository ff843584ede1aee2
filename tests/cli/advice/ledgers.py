"""Facts whose right advice is known."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace_router.cost.facts import Facts, Leg, Unused, Used, Work

DAY_S = 86_400.0
HOUR_S = 3600


def facts(**fields: Any) -> Facts:
    """Return facts of one day that begins with an hour, with some fields changed."""
    given: dict[str, Any] = {"currency": "USD", "first": 0.0, "last": DAY_S, "spent": 10**9, "requests": 1000}
    return Facts(**(given | fields))


def kept(count: int, gain: float, *, cost: int = 10, prefix: bool = False) -> list[Leg]:
    """Return answers of the small tier that the gate let pass."""
    return [Leg("small", cost, gain, "prefix" if prefix else "whole", None, 0)] * count


def escalated(count: int, gain: float | None, *, cost: int = 10, after: int = 100, prefix: bool = False) -> list[Leg]:
    """Return requests that went on to the large tier."""
    leg = Leg("small", cost, gain, "prefix" if prefix else "whole", "large", after)
    return [leg if gain is not None else msgspec.structs.replace(leg, stage=None)] * count


def used(requests: int, prompt: int, cached: int, *, cost: int, saving: int = 0, **fields: Any) -> Used:
    """Return what requests to the small tier used; half of the GPU time is prefill."""
    given: dict[str, Any] = {"model": "chat", "tier": "small", "organisation": "acme", "team": "search", "key": "anne"}
    given |= {"prefill_s": cost / 2, "decode_s": cost / 2}
    sizes = {"requests": requests, "prompt_tokens": prompt, "cached_tokens": cached, "cost": cost, "saving": saving}
    return Used(**(given | sizes | fields))


def work(prefill_s: Sequence[float], decode_s: Sequence[float], requests: int = 100) -> tuple[Work, ...]:
    """Return the GPU-seconds of one model's requests, hour by hour."""
    return tuple(Work("chat", hour, requests, *pair) for hour, pair in enumerate(zip(prefill_s, decode_s, strict=True)))


def idle(role: str | None, seconds: Sequence[float], *, rate: int = 1, model: str = "chat") -> tuple[Unused, ...]:
    """Return the GPU-seconds of one pool that nobody used, hour by hour."""
    return tuple(
        Unused(model, "small", role, "idle", hour, each, round(each * rate)) for hour, each in enumerate(seconds)
    )
