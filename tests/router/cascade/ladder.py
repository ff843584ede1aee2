"""A router with two tiers and a gate, on the fake workers of the rig."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.router.cost.shop import BY_TOKEN, TENANTS, key_file
from tests.router.rig import FakeWorker, Rig, chat, post, rig, stream_bytes

SURE, DOUBTFUL = -0.01, -3.0
"""Log-probabilities of all tokens of an answer that the gate lets pass, and of one that it does not."""
COMMIT_TOKENS = 4
LARGE_PADDING = 1
"""Tells the large tier's text from the small one's."""
CHEAP, DEAR = BY_TOKEN, {name: 10 * amount for name, amount in BY_TOKEN.items()}


def gate_file(folder: Path, name: str = "gate.json") -> Path:
    """Write a gate that doubts answers whose tokens are unlikely: a gain of 0.1 for sure ones, of 0.9 for others."""
    judge = {
        "features": ["mean_logprob"],
        "scale": {"centre": [0.0], "spread": [1.0]},
        "logistic": {"weights": [-1.0], "bias": 0.0},
        "curve": {"scores": [0.0, 1.0], "values": [0.1, 0.9]},
    }
    blind = judge | {"features": ["tokens"], "logistic": {"weights": [0.0], "bias": 0.0}}
    gains = ((0.5, 0.7), (1, 0.3))
    thresholds = [{"target": target, "gain": gain, "calls": 0.5, "rows": 100} for target, gain in gains]
    stage = {"sighted": judge, "blind": blind, "thresholds": thresholds}
    path = folder / name
    path.write_text(
        json.dumps(
            {
                "kind": "gate",
                "format": "headrace-cascade",
                "version": 1,
                "weak": "small",
                "strong": "large",
                "commit_tokens": COMMIT_TOKENS,
                "training": {"rows": 100, "files": ["answers.jsonl"], "seed": 0},
                "prefix": stage,
                "whole": stage,
            }
        )
    )
    return path


def spec(cascade: Mapping[str, Any] | None = None, *, priced: bool = False, **more: Any) -> str:
    """Return the spec of an LLMRouter with the tiers `small` on `chat` and `large` on `llama`."""
    tiers: list[dict[str, Any]] = [{"name": "small", "deployment": "chat"}, {"name": "large", "deployment": "llama"}]
    if priced:
        tiers = [tier | {"price": price} for tier, price in zip(tiers, (CHEAP, DEAR), strict=True)]
    given = {"gate": {"file": "gate.json"}, **(cascade or {})}
    return json.dumps({"tiers": tiers, "cascade": given, **more})


@contextlib.asynccontextmanager
async def ladder(
    folder: Path,
    cascade: Mapping[str, Any] | None = None,
    *,
    priced: bool = False,
    budgets: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> AsyncIterator[tuple[Rig, FakeWorker, FakeWorker]]:
    """Run a router with a small and a large worker; the small one is sure of what it says."""
    given: dict[str, Any] = {"gate": str(folder / "gate.json")}
    if "gate" not in settings:
        gate_file(folder)
    if priced:
        given |= {"ledger": f"sqlite:{folder / 'ledger.db'}", "keys": str(key_file(folder))}
    given["spec"] = spec(cascade, priced=priced, **({"budgets": list(budgets)} if budgets else {}))
    async with rig(folder, **(given | settings)) as it:
        small = await it.worker("s0")
        large = FakeWorker("l0", deployment="llama")
        await large.start()
        it.workers.append(large)
        await it.publish(*it.workers)
        small.logprob = SURE
        large.padding = LARGE_PADDING
        small.metered = large.metered = (2.0, 0.5)
        yield it, small, large


def auto(name: str | None = None, headers: str = "", **fields: Any) -> bytes:
    """Return a request that leaves the choice to the router."""
    assert name is None or name in TENANTS
    who = "" if name is None else f"Authorization: Bearer key-{name}\r\n"
    return post(chat(**fields) | {"model": "auto"}, headers=who + headers)


def text_of(worker: FakeWorker) -> str:
    """Return the whole answer that a worker gives."""
    return "".join(f"w{index} " for index in range(worker.count))


def stream_of(worker: FakeWorker) -> bytes:
    """Return the whole stream that a client must get of a worker's answer."""
    return stream_bytes(worker.count, worker.padding)
