"""The ledger's thread: lines are written together, and a store that goes away is waited for or not, as asked."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.router.cost.lines import line
from tests.router.cost.shop import HOURLY, ask, shop
from tests.router.rig import chat, run, until

from headrace_router.cost import ledger as module
from headrace_router.cost.entry import Entry
from headrace_router.cost.ledger import Ledger
from headrace_router.cost.store import StoreError


class Shelf:
    """A store that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.batches: list[list[str]] = []
        self.closed = False

    def append(self, entries: Sequence[Entry]) -> list[bool]:
        if self.away:
            raise StoreError("the shelf is away")
        self.batches.append([entry.entry for entry in entries])
        return [True] * len(entries)

    def query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        del statement, values
        return []

    def columns(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)


def test_lines_are_written_in_order_and_their_fate_comes_back_to_the_loop() -> None:
    async def main() -> None:
        shelf = Shelf()
        fates: list[bool | None] = []
        ledger = Ledger(shelf, asyncio.get_running_loop())
        for number in range(2000):
            ledger.append(line(f"e{number}"), fates.append)
        ledger.start()
        await until(lambda: len(fates) == 2000, "all fates")
        ledger.close()
        assert fates == [True] * 2000
        assert [name for batch in shelf.batches for name in batch] == [f"e{number}" for number in range(2000)]
        assert len(shelf.batches) <= 5
        assert shelf.closed

    run(main())


def test_lines_wait_for_a_store_that_is_away_and_nobody_waits_with_them() -> None:
    async def main() -> None:
        shelf = Shelf()
        fates: list[bool | None] = []
        ledger = Ledger(shelf, asyncio.get_running_loop())
        ledger.start()
        shelf.away = True
        for number in range(3):
            ledger.append(line(f"e{number}"), fates.append)
            await until(lambda number=number: len(fates) == number + 1, "its fate")  # type: ignore[misc]  # a default
        assert fates == [None, None, None]
        assert ledger.away
        shelf.away = False
        await until(lambda: not ledger.away, "the store is back")
        ledger.append(line("e3"), fates.append)
        await until(lambda: len(fates) == 4, "the next fate")
        ledger.close()
        assert fates[3] is True
        assert [name for batch in shelf.batches for name in batch] == ["e0", "e1", "e2", "e3"]

    run(main())


def test_a_store_that_stays_away_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        shelf = Shelf()
        ledger = Ledger(shelf, asyncio.get_running_loop())
        ledger.start()
        shelf.away = True
        ledger.append(line("e0"), lambda _: None)
        await until(lambda: ledger.away, "the store is away")
        ledger.close()
        assert "1 lines of the ledger are lost" in caplog.text

    run(main())


@pytest.mark.parametrize(("policy", "status"), [("accept", 200), ("refuse", 503)])
def test_requests_go_on_or_are_refused_while_the_ledger_is_away(tmp_path: Path, policy: str, status: int) -> None:
    async def main() -> None:
        tiers = [{"name": "small", "deployment": "chat", "price": HOURLY}]
        spec = json.dumps({"tiers": tiers, "ledger": {"file": "x", "whenAway": policy}})
        async with shop(tmp_path, HOURLY, spec=spec) as (it, _):
            book = it.router.book
            assert book is not None
            assert book._ledger is not None
            shelf = Shelf()
            book._ledger._store.close()
            book._ledger._store = shelf
            shelf.away = True
            assert (await it.ask(ask(**chat()))).status == 200, "nobody knows yet"
            assert await it.metric("headrace_cost_ledger_away") == 1
            reply = await it.ask(ask())
            assert reply.status == status
            if status == 503:
                assert reply.json["error"]["code"] == "ledger_away"
            shelf.away = False
            await until(lambda: not book.away, "it is back")
            assert (await it.ask(ask())).status == 200
            assert sum(map(len, shelf.batches)) == (3 if status == 200 else 2), "what waited was written"

    run(main())
