"""The gate's curves: quality over cost, and expected beside observed gain."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cascade.costs import Costs
from headrace_cli.cascade.figures import WHOLE, Judged
from headrace_router.cascade.curve import Curve, curve

COLOURS = ("#2a6f97", "#61a5c2")
_BINS = 6


def draw(judged: Mapping[str, Judged], costs: Costs, commit_tokens: int, tiers: tuple[str, str], out: Path) -> None:
    """Write both plots side by side.

    Args:
        judged: whole answers, then prefixes.
        costs: of both tiers.
        commit_tokens: of the prefixes.
        tiers: names of the weak and the strong one.
        out: an SVG file; equal rows give an equal file.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ("gate on whole answers", f"gate on {commit_tokens} tokens")
    for colour, name, rows in zip(COLOURS, names, judged.values(), strict=True):
        _quality(left, rows, costs, name, colour)
        _reliability(right, rows, name, colour)
    _length(left, judged[WHOLE], costs)
    _always(left, judged[WHOLE], costs, tiers)
    right.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="perfectly calibrated")
    right.set(xlabel="expected gain", ylabel="share where only the strong tier is right", xlim=(0, 1), ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right" if axes is left else "upper left")
    with mpl.rc_context({"svg.hashsalt": "headrace"}):
        figure.savefig(out, metadata={"Date": None})


def _quality(axes: Axes, rows: Judged, costs: Costs, name: str, colour: str) -> None:
    found = curve(rows.predicted, rows.gains)
    cost = [costs.of_gate(calls) for calls in found.calls.tolist()]
    axes.plot(_percent(cost), _percent(_right(rows, found)), color=colour, linewidth=2, label=name)


def _length(axes: Axes, rows: Judged, costs: Costs) -> None:
    found = curve(rows.lengths, rows.gains)
    cost = [costs.of_choice(calls) for calls in found.calls.tolist()]
    axes.plot(_percent(cost), _percent(_right(rows, found)), color="#b5838d", linewidth=1, label="prompt length")


def _right(rows: Judged, found: Curve) -> list[float]:
    quality = rows.weak.mean() + found.recovered * rows.gains.mean()
    return [float(value) for value in quality]


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _always(axes: Axes, rows: Judged, costs: Costs, tiers: tuple[str, str]) -> None:
    low, high = 100 * float(rows.weak.mean()), 100 * float((rows.weak + rows.gains).mean())
    cheap = 100 * costs.weak
    axes.plot([cheap, 100], [low, high], "--", color="gray", linewidth=1, label="random")
    axes.plot([cheap], [low], "o", color="black", markersize=5)
    axes.plot([100], [high], "s", color="black", markersize=5)
    axes.annotate(f"always {tiers[0]}", (cheap, low), (6, -4), textcoords="offset points", fontsize=8, va="top")
    axes.annotate(
        f"always {tiers[1]}", (100, high), (-6, -8), textcoords="offset points", fontsize=8, ha="right", va="top"
    )
    axes.set(xlabel=f"cost, % of always {tiers[1]}", ylabel="right answers, %")


def _reliability(axes: Axes, rows: Judged, name: str, colour: str) -> None:
    """Draw bins of equal size with bars of two standard errors."""
    order = np.argsort(rows.predicted, kind="stable")
    for place, part in enumerate(np.array_split(order, _BINS)):
        observed = (rows.gains[part] > 0).astype(np.float64)
        axes.errorbar(
            *(rows.predicted[part].mean(), observed.mean()),
            yerr=2 * observed.std() / np.sqrt(len(part)),
            fmt="o",
            color=colour,
            capsize=3,
            label=name if place == 0 else None,
        )
