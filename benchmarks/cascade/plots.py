"""The gate's curves: quality over cost, and expected beside observed gain."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cascade.costs import Costs
from headrace_cli.cascade.figures import WHOLE, Judged
from headrace_router.cascade.curve import Curve, curve

COLOURS = ("#2a6f97", "#61a5c2")
_BINS = 6
_POINTS = 120


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
    _line(axes, rows, found, costs.of_gate, label=name, color=colour, linewidth=2)


def _length(axes: Axes, rows: Judged, costs: Costs) -> None:
    found = curve(rows.lengths, rows.gains)
    _line(axes, rows, found, costs.of_choice, label="prompt length", color="#b5838d", linewidth=1)


def _line(axes: Axes, rows: Judged, found: Curve, cost: Callable[[float], float], **style: Any) -> None:
    """Draw a curve by some of its points: an eye sees no more, and the file stays small."""
    some = np.linspace(0, len(found.calls) - 1, _POINTS).astype(int)
    quality = rows.weak.mean() + found.recovered[some] * rows.gains.mean()
    axes.plot([100 * cost(calls) for calls in found.calls[some].tolist()], 100 * quality, **style)


def _always(axes: Axes, rows: Judged, costs: Costs, tiers: tuple[str, str]) -> None:
    low, high = 100 * float(rows.weak.mean()), 100 * float((rows.weak + rows.gains).mean())
    cheap = 100 * costs.weak
    axes.plot([cheap, 100], [low, high], "--", color="gray", linewidth=1, label="random")
    axes.plot([cheap], [low], "o", color="black", markersize=5, label=f"always {tiers[0]}")
    axes.plot([100], [high], "s", color="black", markersize=5, label=f"always {tiers[1]}")
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
