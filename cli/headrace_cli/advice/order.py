"""What it would have cost to leave a tier out."""

from typing import Final

import numpy as np

from headrace_cli.advice.pairs import Floats, Pair, between, drawn, pairs
from headrace_cli.advice.piece import MIN_OF_EITHER, MIN_REQUESTS, MIN_SHARE, Advice, Money, Part, Row, Share
from headrace_router.cost.facts import Facts

TITLE: Final = "Order of the tiers"


def order(facts: Facts, seed: int, hourly: frozenset[str]) -> Part:
    """Return what leaving out each tier that requests went on from would have cost.

    Args:
        facts: of the ledger.
        seed: of the bootstrap.
        hourly: tiers that are priced by the hour.
    """
    rows: list[Row] = []
    advice: list[Advice] = []
    notes: list[str] = []
    for pair in pairs(facts.legs):
        requests, escalated = len(pair.cost), int(pair.escalated.sum())
        if requests < MIN_REQUESTS or escalated < MIN_OF_EITHER:
            notes.append(
                f"{pair.name}: {requests} requests, {escalated} of which went on; advice on leaving {pair.cheap} out "
                f"needs {MIN_REQUESTS} and {MIN_OF_EITHER}."
            )
            continue
        saving, interval = without(pair, seed)
        rows.append(_row(pair, saving, interval))
        if interval[0] > 0 and saving >= MIN_SHARE * pair.spent:
            advice.append(_advice(pair, saving, interval, hourly))
        else:
            notes.append(_nothing(pair, saving))
    return Part("tier order", TITLE, rows, advice, notes)


def without(pair: Pair, seed: int) -> tuple[int, tuple[int, int]]:
    """Return what it saves not to ask the cheap tier, below 0 where it costs more, and the interval.

    Saved is all that the cheap tier cost. Each answer that it showed would cost what later tiers cost on average.
    """
    escalated = pair.escalated.astype(np.float64)
    table = np.column_stack([pair.cost, pair.after, escalated, 1.0 - escalated])
    now, samples = table.sum(axis=0)[None], drawn(table, seed)
    return round(float(_saving(now)[0])), between(_saving(samples))


def _saving(sums: Floats) -> Floats:
    """Return what it saves, from (samples, columns) sums."""
    saving: Floats = sums[:, 0] - sums[:, 3] * sums[:, 1] / np.maximum(1.0, sums[:, 2])
    return saving


def _row(pair: Pair, saving: int, interval: tuple[int, int]) -> Row:
    return {
        "left out": pair.cheap,
        "requests": len(pair.cost),
        "went on": Share(float(pair.escalated.mean())),
        "cost": Money(pair.spent),
        "asked in vain": Money(_vain(pair)),
        "cost without": Money(pair.spent - saving),
        "saving": Money(saving),
        "low": Money(interval[0]),
        "high": Money(interval[1]),
    }


def _vain(pair: Pair) -> int:
    return round(float(pair.cost[pair.escalated].sum()))


def _nothing(pair: Pair, saving: int) -> str:
    does = "costs more" if saving < 0 else "saves too little to be sure of"
    return f"{pair.name}: leaving {pair.cheap} out {does} ({len(pair.cost)} requests)."


def _advice(pair: Pair, saving: int, interval: tuple[int, int], hourly: frozenset[str]) -> Advice:
    kept = pair.judged
    better = float(np.where(kept.escalated, 0.0, kept.gain).mean()) if len(kept.gain) else 0.0
    capacity = (
        f" {pair.strong} is priced by the hour and would answer {len(pair.cost)} requests in place of "
        f"{int(pair.escalated.sum())}: if its pool must grow for that, the saving is less."
        if pair.strong in hourly
        else ""
    )
    return Advice(
        topic="tier order",
        subject=pair.name,
        now=(
            f"{pair.cheap} is asked first, and {pair.escalated.mean():.1%} of its {len(pair.cost)} requests go on to "
            f"{pair.strong}."
        ),
        instead=f"Leave {pair.cheap} out and ask {pair.strong} at once.",
        saving=saving,
        interval=(interval[0], min(pair.spent, interval[1])),
        risk=(
            f"None for quality by the gate's belief, by which {100 * better:.2f} in 100 answers fewer would be wrong. "
            f"Where {pair.strong} is down no other tier stands before it.{capacity}"
        ),
        requests=len(pair.cost),
    )
