"""A real ledger to show advice on: a router with two tiers and a gate, and workers that answer without a model.

The small tier is more or less sure of each answer, drawn from a seed; every other request is a stream, judged by its
first tokens. `python -m benchmarks.advice --out FOLDER --minutes 20`, then `headrace cost advise --ledger
sqlite:FOLDER/ledger.db --gate FOLDER/gate.json`.
"""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any, Final

from tests.router.cascade.ladder import COMMIT_TOKENS, auto, ladder

EVERY_S: Final = 1.0
"""Between two requests."""
THRESHOLDS: Final = ((0.5, 0.4), (0.8, 0.15), (0.9, 0.06), (0.95, 0.02), (1.0, 0.001))
"""Targets and gains, as a gate would have them that was trained on other traffic."""


def gate_file(folder: Path) -> Path:
    """Write a gate whose expected gain rises with how unlikely an answer's tokens are."""
    judge = {
        "features": ["mean_logprob"],
        "scale": {"centre": [0.0], "spread": [1.0]},
        "logistic": {"weights": [-1.0], "bias": 0.0},
        "curve": {"scores": [0.0, 0.1, 0.5, 1.0], "values": [0.0, 0.015, 0.12, 0.7]},
    }
    thresholds = [{"target": target, "gain": gain, "calls": 0.5, "rows": 1000} for target, gain in THRESHOLDS]
    blind = judge | {"features": ["tokens"], "logistic": {"weights": [0.0], "bias": 0.0}}
    stage = {"sighted": judge, "blind": blind, "thresholds": thresholds}
    told = {
        "kind": "gate",
        "format": "headrace-cascade",
        "version": 1,
        "weak": "small",
        "strong": "large",
        "commit_tokens": COMMIT_TOKENS,
        "training": {"rows": 1000, "files": ["none"], "seed": 0},
        "prefix": stage,
        "whole": stage,
    }
    path = folder / "gate.json"
    path.write_text(json.dumps(told))
    return path


async def run(folder: Path, minutes: float, seed: int) -> int:
    """Send requests until the time is over; return how many."""
    chance = random.Random(seed)
    count, until_s = 0, time.monotonic() + 60 * minutes
    # These workers have no page of metrics to ask for idle time.
    given: dict[str, Any] = {"priced": True, "gate": str(gate_file(folder)), "unused_portion_s": 1e6}
    async with ladder(folder, {"target": 0.95}, **given) as (it, small, large):
        while time.monotonic() < until_s:
            small.logprob = -min(2.0, chance.expovariate(5.0))
            small.count, large.count = chance.randint(8, 40), chance.randint(8, 40)
            small.cached_tokens = large.cached_tokens = chance.choice((0, 0, 64))
            reply = await it.ask(auto("anne" if count % 3 else "bert", stream=count % 2 == 0))
            assert reply.status == 200, reply.body
            count += 1
            await asyncio.sleep(EVERY_S)
    return count


def main() -> None:
    """Make the ledger."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    count = asyncio.run(run(options.out, options.minutes, options.seed))
    print(f"{count} requests are in {options.out / 'ledger.db'}")


if __name__ == "__main__":
    main()
