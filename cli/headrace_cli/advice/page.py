"""Advice as a picture and a page: what thresholds cost over the quality that they lose, and what each piece saves."""

import base64
import html
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from headrace_cli.advice.piece import Money, Row, Share
from headrace_cli.advice.report import Report, amount, to_plain
from headrace_router.cost.money import NANO

_STYLE = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
_CELLS = "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ccc}img{max-width:100%}pre{overflow:auto}"


def write_page(folder: Path, report: Report) -> list[Path]:
    """Write `advice.png` and `advice.html`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, page = folder / "advice.png", folder / "advice.html"
    _figure(report).savefig(picture, dpi=110)
    page.write_text(_page(report, picture.read_bytes()), encoding="utf-8")
    return [picture, page]


def _figure(report: Report) -> Figure:
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curves(left, report)
    _bars(right, report)
    return figure


def _curves(axes: Any, report: Report) -> None:
    rows = [row for part in report.parts if part.topic == "threshold" for row in part.rows]
    for tiers in dict.fromkeys(str(row["tiers"]) for row in rows):
        points = sorted(_point(report, row) for row in rows if row["tiers"] == tiers and row["escalate"] != "now")
        now = next(row for row in rows if row["tiers"] == tiers and row["escalate"] == "now")
        xs, ys, below, above = zip(*points, strict=True)
        axes.errorbar(xs, ys, yerr=[below, above], fmt="o-", capsize=3, label=tiers)
        axes.plot([0], [_per_day(report, now["cost"])], "k*", markersize=12)
    axes.set(
        title="Thresholds (star: now; bars: 95 %)",
        xlabel="answers wrong more than now, in 100, by the gate's belief",
        ylabel=f"cost, {report.currency} a day",
    )
    axes.grid(alpha=0.3)
    if rows:
        axes.legend()


def _point(report: Report, row: Row) -> tuple[float, float, float, float]:
    """Return what a setting loses, what it costs, and how far the interval reaches down and up."""
    lost = row["answers wrong more"]
    assert isinstance(lost, Share)
    cost, saving = _per_day(report, row["cost"]), _per_day(report, row["saving"])
    least, most = _per_day(report, row["low"]), _per_day(report, row["high"])
    return 100 * lost.value, cost, max(0.0, most - saving), max(0.0, saving - least)


def _per_day(report: Report, cell: object) -> float:
    assert isinstance(cell, Money)
    return report.per_day(cell.nano) / NANO


def _bars(axes: Any, report: Report) -> None:
    advice = report.advice[::-1]
    values = [report.per_day(one.saving) / NANO for one in advice]
    axes.barh([f"{one.topic}\n{one.subject}" for one in advice], values, color="tab:green")
    if not advice:
        axes.text(0.5, 0.5, "No change is advised.", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set(title="What advice would save", xlabel=f"{report.currency} a day")
    axes.grid(axis="x", alpha=0.3)


def _page(report: Report, picture: bytes) -> str:
    image = base64.b64encode(picture).decode()
    rows = "".join(
        f"<tr><td>{html.escape(one.topic)}<td>{html.escape(one.subject)}<td>{amount(report.per_day(one.saving))}"
        f"<td>{one.requests}"
        for one in report.advice
    )
    heads = "".join(f"<th>{name}" for name in ("advice", "subject", f"saves, {report.currency} a day", "requests"))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Cost advice</title><style>{_STYLE}{_CELLS}</style>"
        f'<h1>Cost advice</h1><p><img alt="costs and savings" src="data:image/png;base64,{image}"></p>'
        f"<table><tr>{heads}{rows}</table><pre>{html.escape(to_plain(report))}</pre></html>\n"
    )
