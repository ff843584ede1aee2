"""A router with prices, keys, budgets and a ledger, on the fake workers of the rig."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.router.rig import FakeWorker, Rig, chat, post, rig

from headrace_router.cost.entry import COLUMNS
from headrace_router.cost.sqlite import SqliteStore

HOURLY = {"gpuHour": 3.6}
"""A thousandth for each GPU-second."""
BY_TOKEN = {"inputTokens": 1.0, "cachedInputTokens": 0.5, "outputTokens": 2.0}
"""A millionth for each token of a prompt, two for each generated one."""
TENANTS = {"anne": ("search", "acme"), "bert": ("ads", "acme"), "root": ("ops", "acme")}


def key_file(folder: Path) -> Path:
    """Write the keys `key-NAME` of all tenants; `root` may read everybody's costs."""
    lines = ["keys:"]
    for name, (team, organisation) in TENANTS.items():
        digest = hashlib.sha256(f"key-{name}".encode()).hexdigest()
        admin = str(name == "root").lower()
        lines.append(
            f"- {{name: {name}, sha256: {digest}, team: {team}, organisation: {organisation}, admin: {admin}}}"
        )
    path = folder / "keys.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def spec_file(folder: Path, price: Mapping[str, float], budgets: Sequence[Mapping[str, Any]] = (), **more: Any) -> Path:
    """Write the spec of an LLMRouter with one tier `small` on the deployment `chat`."""
    tiers = [{"name": "small", "deployment": "chat", "price": price}]
    path = folder / "spec.json"
    path.write_text(json.dumps({"tiers": tiers, "budgets": list(budgets), **more}))
    return path


@contextlib.asynccontextmanager
async def shop(
    folder: Path,
    price: Mapping[str, float],
    budgets: Sequence[Mapping[str, Any]] = (),
    *,
    keys: bool = True,
    **settings: Any,
) -> AsyncIterator[tuple[Rig, FakeWorker]]:
    """Run a router with a worker that tells what it used: 2 s for a prompt, 0.5 s for each of 8 tokens."""
    given: dict[str, Any] = {"spec": str(spec_file(folder, price, budgets)), "ledger": f"sqlite:{folder / 'ledger.db'}"}
    if keys:
        given["keys"] = str(key_file(folder))
    async with rig(folder, **(given | settings)) as it:
        worker = await it.worker("d0")
        worker.metered = (2.0, 0.5)
        yield it, worker


def ask(name: str | None = "anne", headers: str = "", **fields: Any) -> bytes:
    """Return a chat request of a tenant."""
    who = "" if name is None else f"Authorization: Bearer key-{name}\r\n"
    return post(chat(**fields), headers=who + headers)


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return what the ledger holds, beside a running router too."""
    store = SqliteStore(folder / "ledger.db", read_only=True)
    try:
        rows = store.query("SELECT * FROM entries ORDER BY at, entry", ())
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    finally:
        store.close()
