"""Whatever bytes arrive in whatever pieces: same requests, same answers; nonsense never hangs or kills the router."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.router.rig import chat, get, post, rig, run

FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

BODY = b'{"model":"chat","messages":[{"role":"user","content":"hi"}],"stream":true,"seed":1}'
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    post(chat(seed=1)),
    post(chat(stream=True, seed=1)),
    post(b"{", headers="X-Request-Id: q\r\n"),
    CHUNKED + b"a\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:10], len(BODY) - 10, BODY[10:]),
    get("/v1/models"),
    get("/nothing"),
    get("/v1/completions", "OPTIONS"),
]


@st.composite
def pieces(draw: st.DrawFn) -> tuple[list[int], list[bytes]]:
    """Return requests by number, and the bytes of all of them cut anywhere."""
    numbers = draw(st.lists(st.integers(0, len(REQUESTS) - 1), min_size=1, max_size=5))
    data = b"".join(REQUESTS[number] for number in numbers)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return numbers, [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@FUZZ
@given(st.lists(pieces(), min_size=1, max_size=4))
def test_requests_cut_anywhere_get_the_same_answers(clients: list[tuple[list[int], list[bytes]]]) -> None:
    async def main(folder: Path) -> None:
        async with rig(folder) as it:
            await it.worker("d0")
            expected = [await it.ask(request) for request in REQUESTS]

            async def client(numbers: list[int], parts: list[bytes]) -> None:
                connection = await it.connect()
                for part in parts:
                    await connection.send(part)
                    await asyncio.sleep(0)
                for number in numbers:
                    reply = await connection.reply()
                    assert (reply.status, reply.body) == (expected[number].status, expected[number].body)
                connection.leave()

            await asyncio.gather(*(client(*one) for one in clients))

    with tempfile.TemporaryDirectory() as folder:
        run(main(Path(folder)))


FRAGMENTS = [
    b"POST /v1/chat/completions HTTP/1.1\r\n",
    b"GET /health HTTP/1.1\r\n",
    b"Host: t\r\n",
    b"Content-Length: 10\r\n",
    b"Content-Length: 99999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n",
    b"\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"{}",
    b"\x00\xff",
    post(chat()),
]


@FUZZ
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=40)), max_size=12))
def test_nonsense_is_answered_or_closed_and_hurts_nobody_else(parts: list[bytes]) -> None:
    async def main(folder: Path) -> None:
        async with rig(folder, read_deadline_s=0.05, idle_deadline_s=0.05) as it:
            await it.worker("d0")
            connection = await it.connect()
            try:
                for part in parts:
                    await connection.send(part)
                await connection.reader.read()
            except ConnectionError:
                pass  # closed with our bytes unread
            assert (await it.ask(chat())).status == 200
            assert it.router.metrics.of("chat").inflight == 0
            assert not it.router.hold.counts()

    with tempfile.TemporaryDirectory() as folder:
        run(main(Path(folder)))


ANSWER_FRAGMENTS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 503 No\r\n",
    b"content-type: application/vnd.headrace.frames\r\n",
    b"content-type: text/event-stream\r\n",
    b"content-length: 8\r\n",
    b"transfer-encoding: chunked\r\n",
    b"\r\n",
    b"8\r\n\x01\x00\x00\x00\x00\x00\x00\x00\r\n",
    b"0\r\n\r\n",
    b"data: x\n\n",
]


@FUZZ
@given(
    st.lists(st.one_of(st.sampled_from(ANSWER_FRAGMENTS), st.binary(max_size=40)), max_size=10),
    st.booleans(),
    st.booleans(),
)
def test_nonsense_from_a_worker_ends_in_an_answer_or_a_close(parts: list[bytes], dies: bool, stream: bool) -> None:  # noqa: FBT001 - drawn
    async def main(folder: Path) -> None:
        deadlines = {
            "silence_deadline_s": 0.1,
            "hold_deadline_s": 0.2,
            "replay_deadline_s": 0.2,
            "max_attempts": 2,
            "read_deadline_s": 5,
        }
        async with rig(folder, **deadlines) as it:
            worker = await it.worker("d0")
            worker.plain, worker.plain_then_die = b"".join(parts), dies
            connection = await it.connect()
            await connection.send(post(chat(stream=stream), headers="Connection: close\r\n"))
            assert await connection.reader.read()
            assert it.router.metrics.of("chat").inflight == 0
            worker.plain, worker.plain_then_die = None, False
            good = await it.worker("d1")
            await it.publish(good)
            assert (await it.ask(chat())).status == 200

    with tempfile.TemporaryDirectory() as folder:
        run(main(Path(folder)))
