"""The score: one number in milliseconds for each way to serve a prompt (pure).

    decode:  requests * stream + (prompt - hit_D) * transfer + held * pressure
    prefill: (waiting + prompt - hit_P) * prefill + requests * stream
    unified: requests * stream + (waiting + prompt - hit) * prefill + held * pressure

What prefill workers and decode workers add is independent (a hit on D saves the transfer, not P's compute), so the
best pair is the best of each and the choice is linear in the number of workers.
"""

import dataclasses
import heapq
from collections.abc import Sequence

from headrace_router.choose.load import Load

Candidate = tuple[Load, float]
"""A worker's load and the bytes of prefix hit expected there."""

MAX_RANKED = 8
"""Prefill workers named to a decode worker; after as many failures prefilling locally is the better answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Costs:
    """What a byte of prompt text and a running request cost; the defaults' reasons stand with `RouterSettings`."""

    prefill_ms_per_byte: float
    transfer_ms_per_byte: float
    stream_ms: float
    pressure_ms_per_byte: float


def decode_ms(load: Load, prompt_bytes: int, hit_bytes: float, costs: Costs) -> float:
    """Return what decoding on this worker costs, its own prefill included where it is unified."""
    left = prompt_bytes - hit_bytes
    fixed = load.requests * costs.stream_ms + load.held_bytes * costs.pressure_ms_per_byte
    if load.unified:
        return fixed + (load.waiting_bytes + left) * costs.prefill_ms_per_byte
    return fixed + left * costs.transfer_ms_per_byte


def prefill_ms(load: Load, prompt_bytes: int, hit_bytes: float, costs: Costs) -> float:
    """Return what prefilling on this worker costs, its queue included."""
    left = load.waiting_bytes + prompt_bytes - hit_bytes
    return left * costs.prefill_ms_per_byte + load.requests * costs.stream_ms


def rank_prefill(
    candidates: Sequence[Candidate], prompt_bytes: int, costs: Costs, turn: int
) -> list[tuple[float, int]]:
    """Return (ms, index) of the best prefill workers, best first; equal ones take turns.

    Args:
        candidates: all that may be used.
        prompt_bytes: size of the prompt's text.
        costs: constants of the score.
        turn: any counter that grows from one decision to the next.
    """
    count = len(candidates)
    scored = [
        (prefill_ms(load, prompt_bytes, hit_bytes, costs), (index + turn) % count, index)
        for index, (load, hit_bytes) in enumerate(candidates)
    ]
    return [(cost, index) for cost, _, index in heapq.nsmallest(MAX_RANKED, scored)]


def best_decode(
    candidates: Sequence[Candidate],
    prompt_bytes: int,
    costs: Costs,
    *,
    turn: int,
    prefill_ms: Sequence[float | None],
) -> int:
    """Return the index of the decode worker to use; equal ones take turns.

    Args:
        candidates: all that may be used, at least one.
        prompt_bytes: size of the prompt's text.
        costs: constants of the score.
        turn: any counter that grows from one decision to the next.
        prefill_ms: for each candidate the cost of the best prefill worker that pairs with it, None without any: it
            prefills by itself then.
    """
    count = len(candidates)
    best: tuple[float, int, int] | None = None
    for index, ((load, hit_bytes), partner_ms) in enumerate(zip(candidates, prefill_ms, strict=True)):
        cost = decode_ms(load, prompt_bytes, hit_bytes, costs)
        if not load.unified:
            own = (prompt_bytes - hit_bytes) * costs.prefill_ms_per_byte
            cost += own if partner_ms is None else min(own, partner_ms)
        scored = (cost, (index + turn) % count, index)
        if best is None or scored < best:
            best = scored
    if best is None:
        raise ValueError("best_decode needs at least one worker to choose from")
    return best[2]
