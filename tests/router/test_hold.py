"""Requests for a model without workers wait for them, in order and bounded, and the wait can be watched."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.router.rig import Connection, FakeWorker, Rig, chat, get, post, rig, run, stream_bytes, until

from headrace_router.server.hold import Hold

HELD = 'headrace_router_held_requests{model="chat"}'


@contextlib.asynccontextmanager
async def empty(folder: Path, **settings: Any) -> AsyncIterator[tuple[Rig, FakeWorker]]:
    """A router that knows a model and no worker of it, and a worker that could be listed."""
    async with rig(folder, **settings) as it:
        worker = await it.worker("d0")
        await it.publish()
        yield it, worker


async def send(it: Rig, name: str, **fields: Any) -> Connection:
    """Send a request that is known by its content, and wait until it is held."""
    before = it.router.hold.counts().get("chat", 0)
    connection = await it.connect()
    await connection.send(post(chat(name, **fields)))
    await until(lambda: it.router.hold.counts().get("chat", 0) == before + 1, "one more waits")
    return connection


@dataclasses.dataclass(eq=False)
class Waiter:
    """Writes down when it is woken, and takes others with it."""

    name: str
    woken: list[str]
    hold: Hold
    leaves: tuple["Waiter", ...] = ()

    def wake(self, now_s: float) -> None:
        del now_s
        self.woken.append(self.name)
        for one in (self, *self.leaves):
            self.hold.discard("chat", one)


def test_the_oldest_request_is_woken_first_and_none_twice() -> None:
    woken: list[str] = []
    arrivals: list[str] = []
    hold = Hold(4, lambda: arrivals.append("first"))
    last = Waiter("d", woken, hold)
    for waiter in (Waiter("a", woken, hold), Waiter("b", woken, hold, (last,)), Waiter("c", woken, hold), last):
        assert hold.add("chat", waiter, bounded=True)
    assert not hold.add("chat", Waiter("e", woken, hold), bounded=True)
    assert hold.counts() == {"chat": 4}
    hold.wake_all(0.0)
    assert woken == ["a", "b", "c"]
    assert hold.counts() == {}
    assert arrivals == ["first"]


def test_held_requests_are_answered_as_soon_as_a_worker_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, worker):
            names = [f"request {number}" for number in range(8)]
            connections = [await send(it, name) for name in names]
            assert await it.metric(HELD) == 8
            began_s = time.monotonic()
            await it.publish(worker)
            replies = [await connection.reply() for connection in connections]
            assert time.monotonic() - began_s < 1.0
            assert [reply.status for reply in replies] == [200] * 8
            assert sorted(one.fields["messages"][0]["content"] for one in worker.seen) == names
            assert await it.metric(HELD) == 0

    run(main())


def test_a_held_stream_begins_with_its_head_when_a_worker_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, worker):
            connection = await send(it, "a", stream=True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await connection.head()
            await it.publish(worker)
            assert (await connection.reply()).body == stream_bytes(8)

    run(main())


def test_more_than_the_limit_is_told_to_come_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path, hold_requests=2) as (it, worker):
            held = [await send(it, "a"), await send(it, "b")]
            refused = await it.ask(chat("c"))
            assert (refused.status, refused.json["error"]["code"]) == (503, "queue_full")
            assert refused.headers["retry-after"] == "5"
            assert "2 requests wait" in refused.json["error"]["message"]
            held[0].leave()
            await until(lambda: it.router.hold.counts() == {"chat": 1}, "its place is free")
            third = await send(it, "d")
            await it.publish(worker)
            assert [(await one.reply()).status for one in (held[1], third)] == [200, 200]
            assert sorted(one.fields["messages"][0]["content"] for one in worker.seen) == ["b", "d"]

    run(main())


def test_answers_that_were_cut_off_wait_beyond_the_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, hold_requests=0) as it:
            first = await it.worker("d0")
            first.hold_after = 4
            first.hold.clear()
            asking = [asyncio.create_task(it.ask(chat(str(number), stream=True))) for number in range(2)]
            await until(lambda: first.sent_bytes >= 8 * 40 and len(first.seen) == 2, "both streams have begun")
            await first.stop()
            await it.publish()
            await until(lambda: it.router.hold.counts() == {"chat": 2}, "both wait")
            assert (await it.ask(chat())).status == 503
            second = await it.worker("d1", listed=False)
            await it.publish(second)
            assert [(await one).body for one in asking] == [stream_bytes(8)] * 2

    run(main())


def test_each_model_has_a_queue_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path, hold_requests=1) as (it, worker):
            other = FakeWorker("o0", deployment="other")
            await other.start()
            it.workers.append(other)
            await it.publish(other)
            held = await send(it, "a")
            assert (await it.ask(chat() | {"model": "other"})).status == 200
            assert (await it.ask(get("/waiting"))).json == {"waiting": {"chat": 1, "other": 0}}
            await it.publish(worker, other)
            assert (await held.reply()).status == 200

    run(main())


def test_a_poll_is_answered_at_once_while_a_request_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, _):
            await send(it, "a")
            began_s = time.monotonic()
            assert (await it.ask(get("/waiting?seconds=30"))).json == {"waiting": {"chat": 1}}
            assert time.monotonic() - began_s < 1.0

    run(main())


def test_a_poll_is_answered_when_the_first_request_begins_to_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, _):
            polls = [asyncio.create_task(it.ask(get("/waiting?seconds=30"))) for _ in range(2)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.shield(polls[0])
            await send(it, "a")
            async with asyncio.timeout(1.0):
                assert [(await poll).json for poll in polls] == [{"waiting": {"chat": 1}}] * 2

    run(main())


def test_a_poll_is_answered_when_its_time_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, _):
            for query, least_s in (("", 0.0), ("?seconds=0", 0.0), ("?seconds=0.4", 0.4)):
                began_s = time.monotonic()
                assert (await it.ask(get(f"/waiting{query}"))).json == {"waiting": {"chat": 0}}
                assert least_s <= time.monotonic() - began_s < least_s + 1.0

    run(main())


def test_a_poll_whose_client_left_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, _):
            connection = await it.connect()
            await connection.send(get("/waiting?seconds=30"))
            await until(lambda: it.router._polls._open, "the poll is open")
            connection.leave()
            await until(lambda: not it.router._polls._open, "the poll is forgotten")

    run(main())


@pytest.mark.parametrize("query", ["seconds=soon", "seconds=-1", "seconds=", "seconds=1e9"])
def test_a_poll_for_a_time_that_is_none_is_refused(tmp_path: Path, query: str) -> None:
    async def main() -> None:
        async with empty(tmp_path) as (it, _):
            reply = await it.ask(get(f"/waiting?{query}"))
            assert (reply.status, reply.json["error"]["param"]) == (400, "seconds")

    run(main())


def test_open_polls_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with empty(tmp_path, drain_deadline_s=20.0) as (it, _):
            poll = asyncio.create_task(it.ask(get("/waiting?seconds=30")))
            await until(lambda: it.router._polls._open, "the poll is open")
            it.process.stop()
            async with asyncio.timeout(2.0):
                assert (await poll).json == {"waiting": {"chat": 0}}
            await until(lambda: not it.router.clients, "no connection is left")

    run(main())
