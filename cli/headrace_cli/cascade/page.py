"""The report: the cost-quality curve and the reliability plot, as PNG files and in one HTML page."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from headrace_cli.cascade.figures import Judged
from headrace_router.cascade.curve import curve
from headrace_router.cascade.file import DifficultyFile, GateFile

_BINS = 10
_STYLE = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
_CELLS = "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}img{max-width:100%}"


def write_report(
    folder: Path, model: DifficultyFile | GateFile, judged: Mapping[str, Judged], found: dict[str, Any]
) -> list[Path]:
    """Write `curve.png`, `reliability.png` and `report.html`; return their paths.

    Args:
        folder: where to.
        model: what was judged.
        judged: rows by what judged them; the figures are the first one's.
        found: the figures.
    """
    plots = {"curve": _curve(judged), "reliability": _reliability(next(iter(judged.values())))}
    paths = []
    for name, figure in plots.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    page = folder / "report.html"
    page.write_text(_page(model, found, paths), encoding="utf-8")
    return [*paths, page]


def _curve(judged: Mapping[str, Judged]) -> Figure:
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for name, rows in judged.items():
        ours = curve(rows.predicted, rows.gains)
        axes.plot(100 * ours.calls, 100 * ours.recovered, label=f"{name}, APGR {ours.apgr:.3f}", linewidth=2)
    rows = next(iter(judged.values()))
    length = curve(rows.lengths, rows.gains)
    axes.plot(100 * length.calls, 100 * length.recovered, label=f"prompt length, APGR {length.apgr:.3f}")
    axes.plot([0, 100], [0, 100], "--", color="gray", label="random, APGR 0.500")
    axes.set(xlabel="calls to the strong model, %", ylabel="quality gap recovered, %", xlim=(0, 100))
    axes.set_title(f"Quality over cost, {len(rows.gains)} prompts")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def _reliability(rows: Judged) -> Figure:
    """Return predicted against observed gain in bins of equal size, bars of two standard errors."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(rows.predicted, kind="stable")
    for part in np.array_split(order, min(_BINS, len(order))):
        observed = rows.gains[part]
        error = 2 * observed.std() / np.sqrt(len(part))
        axes.errorbar(rows.predicted[part].mean(), observed.mean(), yerr=error, fmt="o", color="tab:blue", capsize=3)
    ends = [float(rows.predicted.min()), float(rows.predicted.max())]
    axes.plot(ends, ends, "--", color="gray", label="perfectly calibrated")
    axes.set(xlabel="expected gain of the strong answer", ylabel="observed gain")
    axes.set_title(f"Reliability in {_BINS} bins of equal size, bars are two standard errors")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return figure


def _page(model: DifficultyFile | GateFile, found: dict[str, Any], images: list[Path]) -> str:
    pictures = "".join(
        f'<p><img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>'
        for path in images
    )
    parts = {"all files": found, **found["files"], **({"prefixes": found["prefix"]} if "prefix" in found else {})}
    tables = "".join(_table(html.escape(name), part) for name, part in parts.items())
    weak, strong = html.escape(model.weak), html.escape(model.strong)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Cascade report</title><style>{_STYLE}{_CELLS}</style>"
        f"<h1>Cascade report</h1><p>Weak: {weak}. Strong: {strong}. Trained on {model.training.rows} prompts, seed "
        f"{model.training.seed}. Intervals: 95 %, bootstrap over prompts.</p>{pictures}{tables}</html>\n"
    )


def _table(name: str, part: dict[str, Any]) -> str:
    low, high = part["intervals"]["apgr"]
    head = (
        f"<h2>{name}</h2><p>{part['rows']} prompts. APGR {part['apgr']:.3f} ({low:.3f} to {high:.3f}); prompt length "
        f"{part['length_apgr']:.3f}; AUC {part['auc']:.3f}.</p>"
    )
    rows = "".join(
        f"<tr><td>{float(level):.0%}<td>{calls:.1%}<td>{part['intervals']['calls_at'][level][0]:.1%} to "
        f"{part['intervals']['calls_at'][level][1]:.1%}<td>{part['length_calls_at'][level]:.1%}<td>{float(level):.0%}"
        f"<td>{part['saving_at'][level]:.2f}x"
        for level, calls in part["calls_at"].items()
    )
    titles = ("gap recovered", "strong calls", "interval", "prompt length", "random", "saving")
    return f"{head}<table><tr>{''.join(f'<th>{title}' for title in titles)}{rows}</table>"
