"""Clients that leave, clients that are slow, and deadlines."""

import asyncio
from pathlib import Path

import pytest
from tests.router.rig import FakeWorker, chat, get, post, rig, run, stream_bytes, until


def test_a_client_that_leaves_in_mid_stream_closes_the_workers_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.hold_after = 2
            worker.hold.clear()
            connection = await it.connect()
            await connection.send(post(chat(stream=True)))
            await connection.head()
            connection.leave()
            await until(lambda: worker.seen[0].gone, "the worker's connection was closed")
            assert await it.metric('headrace_router_requests_total{model="chat",code="499"}') == 1
            assert await it.metric('headrace_router_inflight{model="chat"}') == 0
            assert it.router.registry.deployments["chat"].decoders[0].load.requests == 0

    run(main())


def test_a_client_that_leaves_before_the_answer_cancels_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.hold.clear()
            connection = await it.connect()
            await connection.send(post(chat()))
            await until(lambda: worker.seen, "the worker was asked")
            connection.leave()
            await until(lambda: worker.seen[0].gone, "the worker's connection was closed")

    run(main())


def test_a_client_that_leaves_while_it_waits_for_a_worker_is_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            await it.publish()
            connection = await it.connect()
            await connection.send(post(chat()))
            await until(it.router.hold.counts, "the request waits")
            connection.leave()
            await until(lambda: not it.router.hold.counts(), "the request was dropped")

    run(main())


def test_a_client_that_leaves_in_mid_body_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            connection = await it.connect()
            await connection.send(post(chat())[:-5])
            await until(lambda: it.router.clients, "the client is connected")
            connection.leave()
            await until(lambda: not it.router.clients, "the client is gone")
            assert worker.seen == []

    run(main())


def test_a_pipelined_request_behind_one_that_is_cancelled_is_not_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.hold.clear()
            connection = await it.connect()
            await connection.send(post(chat()) + post(chat()))
            await until(lambda: worker.seen, "the worker was asked")
            connection.leave()
            await until(lambda: not it.router.clients, "the client is gone")
            worker.hold.set()
            assert (await it.ask(get("/health"))).status == 200
            assert len(worker.seen) == 1

    run(main())


@pytest.mark.parametrize("framed", [True, False])
def test_a_slow_client_holds_the_worker_back_and_not_the_routers_memory(tmp_path: Path, *, framed: bool) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.count, worker.padding = 400, 100_000  # 40 MB in all
            if not framed:
                worker.plain = b"HTTP/1.1 200 OK\r\ncontent-length: 40000000\r\n\r\n" + b"x" * 40_000_000
            connection = await it.connect()
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport in fact
            await connection.send(post(chat(stream=True)))
            client = next(iter(it.router.clients))
            await until(lambda: client._write_paused_s is not None, "the router stopped reading")
            size = client._transport.get_write_buffer_size()
            assert size < 4_000_000
            assert worker.sent_bytes < 30_000_000
            connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
            reply = await connection.reply()
            assert reply.whole
            assert reply.body == (stream_bytes(400, 100_000) if framed else b"x" * 40_000_000)

    run(main())


def test_a_client_that_never_reads_is_disconnected(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, stall_deadline_s=0.3) as it:
            worker = await it.worker("d0")
            worker.count, worker.padding = 400, 100_000
            connection = await it.connect()
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(post(chat(stream=True)))
            await until(lambda: worker.seen and worker.seen[0].gone, "the answer was cancelled")
            await until(lambda: not it.router.clients, "the client was disconnected")

    run(main())


@pytest.mark.parametrize("part", [b"GET /hea", post(chat())[:30], post(chat())[:-5]])
def test_a_request_that_stops_in_the_middle_gets_408(tmp_path: Path, part: bytes) -> None:
    async def main() -> None:
        async with rig(tmp_path, read_deadline_s=0.3) as it:
            connection = await it.connect()
            await connection.send(part)
            reply = await connection.reply()
            assert (reply.status, reply.json["error"]["code"]) == (408, "read_timeout")
            assert await connection.closed()

    run(main())


def test_idle_connections_are_closed_on_both_sides(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, idle_deadline_s=0.3) as it:
            await it.worker("d0")
            connection = await it.connect()
            await connection.send(post(chat()))
            assert (await connection.reply()).status == 200
            assert await connection.closed()
            await until(lambda: not it.router.pool._open, "the worker's connection was closed")

    run(main())


def test_a_running_answer_outlives_the_idle_and_read_deadlines(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, idle_deadline_s=0.2, read_deadline_s=0.2) as it:
            worker = await it.worker("d0")
            worker.hold.clear()
            asking = asyncio.create_task(it.ask(chat()))
            await until(lambda: worker.seen, "the worker was asked")
            started_s = asyncio.get_running_loop().time()
            await until(lambda: asyncio.get_running_loop().time() > started_s + 0.8, "several deadlines have passed")
            worker.hold.set()
            assert (await asking).status == 200

    run(main())


def test_a_worker_that_takes_too_long_to_connect_is_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, connect_deadline_s=0.2) as it:
            good = await it.worker("d1")
            far = FakeWorker("d0")
            far.url = "http://192.0.2.1:9"  # TEST-NET-1: routed nowhere
            await it.publish(far, good)
            for _ in range(3):
                assert (await it.ask(chat())).status == 200
            assert len(good.seen) == 3

    run(main())


def test_many_streams_at_once_do_not_mix(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            await it.worker("d1")
            replies = await asyncio.gather(*(it.ask(chat(stream=True)) for _ in range(60)))
            assert all(reply.body == stream_bytes(8) for reply in replies)
            loads = [member.load for member in it.router.registry.deployments["chat"].decoders]
            assert [(load.requests, load.waiting_bytes, load.held_bytes) for load in loads] == [(0, 0, 0), (0, 0, 0)]

    run(main())


def test_the_router_works_on_the_standard_loop_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            workers = [await it.worker("d0"), await it.worker("d1")]
            workers[0].die_after = workers[1].die_after = 3
            workers[0].padding = workers[1].padding = 200_000
            assert (await it.ask(chat(stream=True))).body == stream_bytes(8, 200_000)
            connection = await it.connect()
            await connection.send(post(b"x", headers="Transfer-Encoding: chunked\r\n"))
            assert (await connection.reply()).status == 400
            assert await connection.closed()

    run(main(), asyncio.new_event_loop)


def test_a_fault_of_our_own_is_a_500_and_hurts_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            for name in ("place", "learn"):
                with monkeypatch.context() as patch:
                    patch.setattr(it.router.placer, name, broken)
                    reply = await it.ask(chat())
                    assert (reply.status, reply.json["error"]["code"]) == (500, "internal_error")
            assert (await it.ask(chat())).status == 200
            assert await it.metric('headrace_router_inflight{model="chat"}') == 0

    run(main())
