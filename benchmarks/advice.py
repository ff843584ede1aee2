"""A real ledger to show advice on: a router with two tiers and a gate, and workers that answer without a model.

The small tier is more or less sure of each answer, drawn from a seed; every other request is a stream, judged by its
first tokens. `python -m benchmarks.advice --out FOLDER`, then `headrace cost advise --ledger sqlite:FOLDER/ledger.db
--gate FOLDER/gate.json`. With `--target` as advised and `--every-s 0` the same requests show whether that was true.
"""

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

from tests.router.cascade.ladder import COMMIT_TOKENS, auto, ladder

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


async def run(folder: Path, options: argparse.Namespace) -> None:
    """Send the requests; they are the same for the same seed, whatever the target."""
    chance = random.Random(options.seed)
    # These workers have no page of metrics to ask for idle time.
    given: dict[str, Any] = {"priced": True, "gate": str(gate_file(folder)), "unused_portion_s": 1e6}
    async with ladder(folder, {"target": options.target}, **given) as (it, small, large):
        for number in range(options.requests):
            small.logprob = -min(2.0, chance.expovariate(5.0))
            small.count, large.count = chance.randint(8, 40), chance.randint(8, 40)
            small.cached_tokens = large.cached_tokens = chance.choice((0, 0, 64))
            reply = await it.ask(auto("anne" if number % 3 else "bert", stream=number % 2 == 0))
            assert reply.status == 200, reply.body
            await asyncio.sleep(options.every_s)


def main() -> None:
    """Make the ledger."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.advice", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--requests", type=int, default=1447)
    parser.add_argument("--every-s", type=float, default=1.0, help="between two requests")
    parser.add_argument("--target", type=float, default=0.95, help="of the cascade")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(options.out, options))
    print(f"{options.requests} requests are in {options.out / 'ledger.db'}")


if __name__ == "__main__":
    main()
