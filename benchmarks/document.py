"""Writes the tables and the plot of docs/benchmarks.md from the rows of a results file."""

import json
from pathlib import Path
from typing import Any

from benchmarks import plot

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
PLOT = DOCS / "benchmarks.svg"
_COLUMNS = "| figure | Headrace | peer | ratio | target |\n|---|---|---|---|---|\n"
_BEGIN, _END = "<!-- rows: begin -->", "<!-- rows: end -->"


def write(results: Path) -> None:
    """Replace what stands between the marks of the page, and draw the plot beside it."""
    found = json.loads(results.read_text())
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{_sections(found)}\n{_END}{after}")
    plot.draw(results, PLOT)


def _sections(found: list[dict[str, Any]]) -> str:
    parts = []
    for command in dict.fromkeys(row["command"] for row in found):
        rows = [row for row in found if row["command"] == command]
        head = f"`{command}` on {rows[0]['machine']}:\n\n"
        parts.append(head + _COLUMNS + "".join(map(_line, rows)))
    return "\n".join(parts)


def _line(row: dict[str, Any]) -> str:
    value = f"{row['value']:g} {row['unit']}"
    peer = "" if row["peer_value"] is None else f"{row['peer_value']:g} ({row['peer']})"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    target = "" if row["target"] is None else f"{row['target']}: {'met' if row['met'] else '**missed**'}"
    return f"| {row['name']} | {value} | {peer} | {ratio} | {target} |\n"
