"""What other thresholds of the gate would have cost.

A request that was escalated and would not be saves what the later tiers cost, and costs the rest of the cheap answer,
which was cut short where the gate saw its first tokens only. One that was kept and would not be costs what later tiers
cost on average. Quality is the gate's own belief: the calibrated gains of the answers that it lets pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace_cli.advice.pairs import Bools, Floats, Pair, between, drawn, pairs
from headrace_cli.advice.piece import (
    MIN_OF_EITHER,
    MIN_REQUESTS,
    MIN_SHARE,
    Advice,
    Money,
    Part,
    Row,
    Setting,
    Share,
    Wishes,
)
from headrace_router.cost.facts import Facts

TITLE: Final = "Threshold of the gate"
LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
"""Shares of the expected gain that the suggested thresholds keep."""


@dataclass(frozen=True, slots=True)
class Other:
    """What a setting would have done to a pair's requests."""

    name: str
    escalated: float
    """Share of the requests."""
    kept_gain: float
    """Share of the expected gain that escalation would have brought."""
    saving: int
    """Below 0 where it costs more."""
    interval: tuple[int, int]
    lost: float
    """Answers wrong more than now, as a share, by the gate's belief; below 0 where fewer are."""
    is_own: bool
    """See `Setting`."""


def thresholds(facts: Facts, wishes: Wishes, hourly: frozenset[str]) -> Part:
    """Return what other thresholds would have cost.

    Args:
        facts: of the ledger.
        wishes: the user's.
        hourly: tiers that are priced by the hour.
    """
    rows: list[Row] = []
    advice: list[Advice] = []
    found = pairs(facts.legs)
    notes = [] if found else ["No request went on from one tier to another, so there is no threshold to judge."]
    for pair in found:
        judged = pair.judged
        if (doubt := _doubt(judged)) is not None:
            notes.append(doubt)
            continue
        others = outcomes(judged, wishes.settings or suggested(judged.gain), wishes.seed)
        best = chosen(others, judged.spent, wishes.may_lose)
        rows += [_now(judged), *(_row(judged, one) for one in others if one.is_own or one is best)]
        if best is None:
            notes.append(_nothing(judged, wishes.may_lose))
        else:
            advice.append(_advice(judged, best, hourly))
    return Part("threshold", TITLE, rows, advice, notes)


def suggested(gains: Floats) -> list[Setting]:
    """Return the highest thresholds that keep the levels of the expected gain, and the one that nothing passes up."""
    values, counts = np.unique(gains, return_counts=True)
    total = float(gains.sum())
    above = total - np.cumsum(values * counts)
    settings = []
    for level in LEVELS if total > 0 else ():
        enough = values[above >= level * total * (1 - 1e-9)]
        highest = float(enough[-1]) if len(enough) else 0.0
        settings.append(Setting(f"gain above {highest:.3f}", highest, highest))
    settings.append(Setting("never", 1.0, 1.0))
    return list(dict.fromkeys(settings))


def outcomes(pair: Pair, settings: Sequence[Setting], seed: int) -> list[Other]:
    """Return what each setting would have done; every request of the pair was judged."""
    would = [pair.gain > np.where(pair.prefix, one.prefix, one.whole) for one in settings]
    columns = [column for one in would for column in _changes(pair, one)]
    base = [pair.after, pair.escalated.astype(np.float64)]
    table = np.column_stack([*columns, *base])
    sums, samples = table.sum(axis=0)[None], drawn(table, seed)
    others = []
    for place, (setting, one) in enumerate(zip(settings, would, strict=True)):
        saving = round(float(_saving(sums, place)[0]))
        interval = between(_saving(samples, place))
        lost = float((pair.gain * (pair.escalated.astype(np.float64) - one)).mean())
        share, kept = float(one.mean()), _kept(pair, one)
        others.append(Other(setting.name, share, kept, saving, interval, lost, setting.is_own))
    return others


def _changes(pair: Pair, would: Bools) -> tuple[Floats, Floats]:
    """Return for each request what a setting saves of what was paid, and whether it asks later tiers anew."""
    taken_back, anew = pair.escalated & ~would, would & ~pair.escalated
    whole, cut = _mean_cost(pair, escalated=False), _mean_cost(pair, escalated=True)
    completed = np.maximum(0.0, whole - pair.cost)
    shortened = np.maximum(0.0, pair.cost - cut)
    saved = np.where(taken_back, pair.after - np.where(pair.prefix, completed, 0.0), 0.0)
    return saved + np.where(anew & pair.prefix, shortened, 0.0), anew.astype(np.float64)


def _mean_cost(pair: Pair, *, escalated: bool) -> float:
    """Return what the cheap tier's part costs on average where it was judged by first tokens, and kept or not."""
    alike = pair.cost[(pair.escalated == escalated) & pair.prefix]
    return float(alike.mean() if len(alike) else pair.cost[pair.escalated == escalated].mean())


def _saving(sums: Floats, place: int) -> Floats:
    """Return what a setting saves, from (samples, columns) sums."""
    later = sums[:, -2] / np.maximum(1.0, sums[:, -1])
    saving: Floats = sums[:, 2 * place] - sums[:, 2 * place + 1] * later
    return saving


def _kept(pair: Pair, would: Bools) -> float:
    total = float(pair.gain.sum())
    return float(pair.gain[would].sum()) / total if total > 0 else 1.0


def chosen(others: Sequence[Other], spent: int, may_lose: float) -> Other | None:
    """Return the setting that surely saves most without losing more than allowed; None where no saving is worth it."""
    worth = [one for one in others if one.interval[0] > 0 and one.saving >= MIN_SHARE * spent and one.lost <= may_lose]
    return max(worth, key=lambda one: one.saving, default=None)


def _doubt(pair: Pair) -> str | None:
    """Return why nothing can be said of a pair."""
    judged, escalated = len(pair.gain), int(pair.escalated.sum())
    if judged < MIN_REQUESTS:
        return (
            f"{pair.name}: the ledger has {judged} judged requests in that time, and advice on a threshold needs "
            f"{MIN_REQUESTS}; ask for a longer one."
        )
    if min(escalated, judged - escalated) < MIN_OF_EITHER:
        return (
            f"{pair.name}: {escalated} of {judged} judged requests were escalated; of either kind {MIN_OF_EITHER} are "
            "needed to know what the other would cost."
        )
    return None


def _nothing(pair: Pair, may_lose: float) -> str:
    return (
        f"{pair.name}: no other threshold surely saves {MIN_SHARE:.0%} or more while at most {100 * may_lose:g} in 100 "
        f"answers more would be wrong by the gate's belief ({len(pair.gain)} judged requests)."
    )


def _now(pair: Pair) -> Row:
    return _cells(pair, "now", float(pair.escalated.mean()), _kept(pair, pair.escalated)) | {
        "cost": Money(pair.spent),
        "saving": None,
        "low": None,
        "high": None,
        "answers wrong more": None,
    }


def _row(pair: Pair, one: Other) -> Row:
    return _cells(pair, one.name, one.escalated, one.kept_gain) | {
        "cost": Money(pair.spent - one.saving),
        "saving": Money(one.saving),
        "low": Money(one.interval[0]),
        "high": Money(one.interval[1]),
        "answers wrong more": Share(one.lost),
    }


def _cells(pair: Pair, name: str, escalated: float, kept: float) -> dict[str, str | Share | Money | None]:
    return {"tiers": pair.name, "escalate": name, "escalated": Share(escalated), "gain kept": Share(kept)}


def _advice(pair: Pair, best: Other, hourly: frozenset[str]) -> Advice:
    shrink = (
        f" {pair.strong} is priced by the hour: the money is saved only where its pool shrinks."
        if pair.strong in hourly
        else ""
    )
    return Advice(
        topic="threshold",
        subject=pair.name,
        now=f"{pair.escalated.mean():.1%} of the answers of {pair.cheap} were left to {pair.strong}.",
        instead=f"{_instead(best.name)}: {best.escalated:.1%} would be.",
        saving=best.saving,
        interval=(best.interval[0], min(pair.spent, best.interval[1])),
        risk=(
            f"The gate itself expects {100 * best.lost:.2f} in 100 answers more to be wrong than now. That is its "
            f"belief, not a measurement: try it on labelled answers (`headrace cascade evaluate`).{shrink}"
        ),
        requests=len(pair.gain),
    )


def _instead(name: str) -> str:
    if name.startswith("target "):
        return f"Set `cascade.target` to {name.removeprefix('target ')}"
    if name == "never":
        return "Escalate none, by `policy: pinned`"
    return f"Escalate at a {name} (which `cascade.target` that is, `--gate GATE.json` tells)"
