"""Workers that die, refuse or come back: the client gets every byte once."""

import asyncio
from pathlib import Path

import pytest
from tests.router.rig import FakeWorker, chat, post, rig, run, stream_bytes, until

from headrace_api.frames import decode_head

WHOLE = {"text": "w0 w1 w2 w3 w4 w5 w6 w7 "}


@pytest.mark.parametrize("after", [0, 1, 5, 7])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_cut_off_in_mid_frame_goes_on_at_another_worker(tmp_path: Path, after: int, *, stream: bool) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            workers = [await it.worker("d0"), await it.worker("d1")]
            for worker in workers:
                worker.die_after = after
            # The second one, asked to resume where the first one died, dies there too.
            reply = await it.ask(post(chat(stream=stream), headers="X-Request-Id: r1\r\n"))
            assert reply.status == 200
            assert reply.whole
            if stream:
                assert reply.body == stream_bytes(8)
            else:
                assert reply.json == WHOLE
            seen = [one for worker in workers for one in worker.seen]
            assert len({one.headers["x-headrace-created"] for one in seen}) == 1
            assert {one.headers["x-request-id"] for one in seen} == {"r1"}
            assert len({one.fields["seed"] for one in seen}) == 1
            resumed = [one.resume for one in seen if one.resume is not None]
            assert all(len(one.heads) == after for one in resumed)
            assert bool(resumed) == (after > 0)
            assert await it.metric('headrace_router_replays_total{model="chat"}') == len(seen) - 1

    run(main())


def test_a_replay_hands_over_the_request_and_what_was_forwarded(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            first = await it.worker("d0")
            first.die_after = 3
            asking = asyncio.create_task(it.ask(chat(stream=True)))
            await until(lambda: first.seen, "the first worker was asked")
            assert (await asking).body == stream_bytes(8)
            # The only worker is asked again as soon as its breaker lets it.
            original, replay = first.seen
            assert replay.headers["content-type"] == "application/vnd.headrace.resume+msgpack"
            assert replay.resume is not None
            assert replay.resume.body == original.body
            assert [decode_head(head).tokens[0].id for head in replay.resume.heads] == [0, 1, 2]

    run(main())


def test_a_stream_waits_for_a_worker_that_discovery_brings_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            first = await it.worker("d0")
            first.hold_after = 4
            first.hold.clear()
            connection = await it.connect()
            await connection.send(post(chat(stream=True)))
            reply = await connection.head()
            got = b""
            while len(got) < len(stream_bytes(4)) - len(b"data: [DONE]\n\n"):
                got += await connection.chunk()
            await first.stop()
            await it.publish()
            await until(it.router.hold.counts, "the request waits")
            second = await it.worker("d1", listed=False)
            await it.publish(second)
            while piece := await connection.chunk():
                got += piece
            assert reply.headers["x-headrace-decode"] == "d0"
            assert got == stream_bytes(8)

    run(main())


def test_a_worker_that_cannot_be_reached_is_passed_over_and_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            dead, alive = await it.worker("d0"), await it.worker("d1")
            await dead.stop()
            for _ in range(6):
                assert (await it.ask(chat())).status == 200
            assert len(alive.seen) == 6
            assert await it.metric('headrace_router_workers{model="chat",role="decode"}') == 1

    run(main())


def test_no_worker_within_the_deadline_is_503_with_retry_after(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, hold_deadline_s=0.3) as it:
            await it.worker("d0")
            await it.publish()
            reply = await it.ask(chat())
            assert reply.status == 503
            assert reply.headers["retry-after"] == "5"
            assert "0.3 s" in reply.json["error"]["message"]

    run(main())


def test_a_stream_that_finds_no_worker_ends_with_an_error_event_and_a_cut(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, replay_deadline_s=0.3) as it:
            worker = await it.worker("d0")
            worker.hold_after = 2
            worker.hold.clear()
            asking = asyncio.create_task(it.ask(chat(stream=True)))
            await until(lambda: worker.sent_bytes, "the stream has begun")
            await worker.stop()
            reply = await asking
            assert reply.status == 200
            assert not reply.whole
            assert reply.body.startswith(b"data: w0 \n\ndata: w1 \n\ndata: {")
            assert b'"code":"no_worker"' in reply.body

    run(main())


def test_attempts_are_bounded(tmp_path: Path) -> None:
    class Mortal(FakeWorker):
        """Dies in every first frame."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, 0 if name == "die_after" else value)

    async def main() -> None:
        async with rig(tmp_path, max_attempts=3, replay_deadline_s=30) as it:
            worker = Mortal("d0")
            await worker.start()
            it.workers.append(worker)
            await it.publish(worker)
            reply = await it.ask(chat())
            assert (reply.status, reply.json["error"]["code"]) == (502, "worker_lost")
            assert len(worker.seen) == 3

    run(main())


def test_a_worker_that_drains_hands_its_request_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            draining, ready = await it.worker("d0"), await it.worker("d1")
            draining.refuse = (503, b'{"error":{}}')
            for _ in range(4):
                assert (await it.ask(chat())).json == WHOLE
            assert draining.seen
            assert len(ready.seen) == 4

    run(main())


@pytest.mark.parametrize("reason", ["draining", "not_ready"])
def test_a_request_that_only_a_leaving_worker_could_take_waits_for_another(tmp_path: Path, reason: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            leaving = await it.worker("d0")
            leaving.refuse, leaving.refused = (503, b'{"error":{}}'), reason
            asking = asyncio.create_task(it.ask(chat()))
            await until(lambda: leaving.seen and it.router.hold.counts(), "the request waits")
            await it.worker("d1")
            reply = await asking
            assert (reply.json, reply.headers["x-headrace-decode"]) == (WHOLE, "d1")
            assert "x-headrace-refused" not in reply.headers

    run(main())


def test_a_leaving_worker_is_asked_again_now_and_then_until_the_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, hold_deadline_s=1.0) as it:
            leaving = await it.worker("d0")
            leaving.refuse, leaving.refused = (503, b'{"error":{}}'), "not_ready"
            reply = await it.ask(chat())
            assert (reply.status, reply.json["error"]["code"]) == (503, "no_worker")
            assert 2 <= len(leaving.seen) <= 5
            assert await it.metric('headrace_router_replays_total{model="chat"}') == 0

    run(main())


def test_other_requests_do_not_ask_a_worker_that_said_it_is_leaving(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            leaving, staying = await it.worker("d0"), await it.worker("d1")
            leaving.refuse, leaving.refused = (503, b'{"error":{}}'), "draining"
            while not leaving.seen:
                assert (await it.ask(chat())).json == WHOLE
            asked = len(staying.seen)
            replies = await asyncio.gather(*(it.ask(chat()) for _ in range(6)))
            assert [reply.json for reply in replies] == [WHOLE] * 6
            assert (len(leaving.seen), len(staying.seen)) == (1, asked + 6)

    run(main())


def test_that_all_workers_are_overloaded_is_for_the_client_to_know(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            workers = [await it.worker(name) for name in ("d0", "d1")]
            for worker in workers:
                worker.refuse, worker.refused = (503, b'{"error":{"code":"overloaded"}}'), "overloaded"
            reply = await it.ask(chat())
            assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded")
            assert [len(worker.seen) for worker in workers] == [1, 1]

    run(main())


def test_a_replay_that_meets_a_draining_worker_tries_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.die_after = 2
            asking = asyncio.create_task(it.ask(chat(stream=True)))
            await until(lambda: worker.seen and worker.die_after is None, "it died")
            worker.refuse = (503, b"{}")
            await until(lambda: len(worker.seen) >= 2, "the replay was refused")
            worker.refuse = None
            assert (await asking).body == stream_bytes(8)

    run(main())


def test_a_plain_answer_that_has_not_begun_is_asked_for_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            broken, good = await it.worker("d0"), await it.worker("d1")
            broken.plain = b"HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\n"
            broken.plain_then_die = True
            for _ in range(4):
                assert (await it.ask(chat())).json == WHOLE
            assert broken.seen
            assert len(good.seen) == 4

    run(main())


def test_a_plain_stream_that_has_begun_ends_with_an_error_event_and_a_cut(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            worker.plain = head + b"9\r\ndata: 1\n\n\r\n"
            worker.plain_then_die = True
            reply = await it.ask(chat(stream=True))
            assert not reply.whole
            assert reply.body.startswith(b'data: 1\n\ndata: {"error":')
            assert len(worker.seen) == 1

    run(main())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.headrace.frames\r\ncontent-length: 12\r\n\r\n"
        + b"\xff" * 12,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.headrace.frames\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
def test_nonsense_from_a_worker_is_a_failed_attempt(tmp_path: Path, nonsense: bytes) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            broken, good = await it.worker("d0"), await it.worker("d1")
            broken.plain = nonsense
            for _ in range(2):
                assert (await it.ask(chat())).json == WHOLE
            assert len(broken.seen) == 1
            assert len(good.seen) == 2

    run(main())


def test_an_idle_connection_that_the_worker_closed_costs_no_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, max_attempts=1) as it:
            worker = await it.worker("d0")
            assert (await it.ask(chat())).status == 200
            port = int(worker.url.rpartition(":")[2])
            await worker.stop()
            await worker.start(port)
            assert (await it.ask(chat())).status == 200
            assert await it.metric('headrace_router_requests_total{model="chat",code="200"}') == 2

    run(main())


def test_a_worker_that_falls_silent_loses_its_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, silence_deadline_s=0.3) as it:
            workers = [await it.worker("d0"), await it.worker("d1")]
            for worker in workers:
                worker.hold_after = 3
            workers[0].hold.clear()
            workers[1].hold.clear()
            asking = asyncio.create_task(it.ask(chat(stream=True)))
            await until(lambda: len(workers[0].seen) + len(workers[1].seen) == 2, "the other one was asked")
            for worker in workers:
                worker.hold.set()
            assert (await asking).body == stream_bytes(8)

    run(main())
