"""The gate's curves: quality over calls to the strong tier, and expected beside observed gain."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headrace_cli.cascade.figures import Judged
from headrace_router.cascade.curve import curve

COLOURS = ("#2a6f97", "#61a5c2")
_BINS = 6


def draw(judged: Mapping[str, Judged], commit_tokens: int, tiers: tuple[str, str], out: Path) -> None:
    """Write both plots side by side.

    Args:
        judged: whole answers, then prefixes.
        commit_tokens: of the prefixes.
        tiers: names of the weak and the strong one.
        out: an SVG file; equal rows give an equal file.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ("gate on whole answers", f"gate on {commit_tokens} tokens")
    for colour, name, rows in zip(COLOURS, names, judged.values(), strict=True):
        _quality(left, rows, name, colour)
        _reliability(right, rows, name, colour)
    _always(left, next(iter(judged.values())), tiers)
    right.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="perfectly calibrated")
    right.set(xlabel="expected gain", ylabel="share where only the strong tier is right", xlim=(0, 1), ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right" if axes is left else "upper left")
    with mpl.rc_context({"svg.hashsalt": "headrace"}):
        figure.savefig(out, metadata={"Date": None})


def _quality(axes: Axes, rows: Judged, name: str, colour: str) -> None:
    found = curve(rows.predicted, rows.gains)
    quality = rows.weak.mean() + found.recovered * rows.gains.mean()
    axes.plot(100 * found.calls, 100 * quality, color=colour, linewidth=2, label=name)


def _always(axes: Axes, rows: Judged, tiers: tuple[str, str]) -> None:
    low, high = 100 * float(rows.weak.mean()), 100 * float((rows.weak + rows.gains).mean())
    axes.plot([0, 100], [low, high], "--", color="gray", linewidth=1, label="random")
    axes.plot([0], [low], "o", color="black", markersize=5)
    axes.plot([100], [high], "s", color="black", markersize=5)
    axes.annotate(f"always {tiers[0]}", (0, low), (6, -4), textcoords="offset points", fontsize=8, va="top")
    axes.annotate(f"always {tiers[1]}", (100, high), (-6, 8), textcoords="offset points", fontsize=8, ha="right")
    axes.set(xlabel=f"calls to {tiers[1]}, %", ylabel="right answers, %")


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
