"""What dividing the heads costs: two ranks with a core each beside one rank with both cores, prompts of 1,000 tokens.

The model is a random Llama of 30 layers, hidden size 576, 8 query and 2 key/value heads; ranks add up over gloo.
Prompts are random, sent in turns. `python -m benchmarks.ranks`.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.workers.parallel.rig import VOCABULARY, write_llama

from benchmarks import fleet, rows

TOKENS = 1000
TYPES = ("float32", "bfloat16")


def measure(rounds: int, dtype: str, model: Path) -> list[rows.Row]:
    """Return the row of one type: medians over the rounds."""
    common: dict[str, Any] = {
        "model": f"file://{model}",
        "dtype": dtype,
        "threads": 2,
        "device": "cpu",
        "kv_memory_bytes": 1 << 28,
    }
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        one = stack.enter_context(fleet.worker(Path(name), "one", **common))
        two = stack.enter_context(fleet.worker(Path(name), "two", tensor_parallel=2, **common))
        rates: dict[str, list[float]] = {"one": [], "two": []}
        for turn in range(rounds + 1):
            for worker in (one, two):
                spent_s = fleet.ttft_s(worker.url, prompt(turn))
                if turn:  # the first round warms up
                    rates[worker.name].append(TOKENS / spent_s)
    return [
        rows.Row(
            *(f"prefill over two ranks, {TOKENS} tokens, {dtype}", statistics.median(rates["two"]), "tokens/s"),
            *("one rank on both cores", statistics.median(rates["one"]), (">=", 0.8)),
        )
    ]


def prompt(seed: int) -> list[int]:
    """Return random token ids, so that no two prompts share a prefix."""
    source = random.Random(seed)
    return [source.randrange(VOCABULARY - 4) for _ in range(TOKENS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store where asked; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="list of rows to add to (created when missing)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count; one more warms up")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        model = write_llama(Path(name) / "model")
        made = [row for dtype in TYPES for row in measure(given.rounds, dtype, model)]
    return rows.finish(made, given.out, "ranks")


if __name__ == "__main__":
    sys.exit(main())
