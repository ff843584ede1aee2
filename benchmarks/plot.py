"""Draws the rows of a results file: ours against the peer's, as ratios with their targets."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

OURS, MISSED, GOAL = "#2a6f97", "#c1121f", "#555555"


def draw(path: Path, out: Path) -> None:
    """Write a bar for each row with a peer and a target: how many times better than the peer it is."""
    found = [row for row in json.loads(path.read_text()) if row["ratio"] and row["target"]]
    figure = Figure(figsize=(9, 0.55 * len(found) + 1.4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(found)):
        better, goal = _better(row)
        axes.barh(place, better, color=MISSED if row["met"] is False else OURS, height=0.6)
        axes.text(better, place, f" {better:.2f}x", va="center", fontsize=9)
        if goal is not None:
            axes.plot([goal, goal], [place - 0.38, place + 0.38], color=GOAL, linewidth=2)
    axes.set_yticks(range(len(found)), [_label(row) for row in reversed(found)], fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlabel("times as good as the peer in the same run (grey mark: target)")
    axes.set_title("Headrace beside its peers", loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "headrace"}):  # equal rows give an equal file
        figure.savefig(out, metadata={"Date": None})


def _better(row: dict[str, Any]) -> tuple[float, float | None]:
    """Return (how many times better, the target on the same scale); less is better where the target says so."""
    target = row["target"]
    bound = float(target.split()[-1]) if target else None
    if target and "<=" in target:
        return 1 / row["ratio"], 1 / bound if bound else None
    return row["ratio"], bound


def _label(row: dict[str, Any]) -> str:
    return f"{row['name']}\n{row['value']:g} {row['unit']} vs {row['peer_value']:g} ({row['peer'].split(' (')[0]})"
