"""HTTP towards clients: what is refused, what is limited, and in which order answers come."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.router.rig import Connection, Reply, chat, get, post, rig, run

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n"
BODY = json.dumps(chat()).encode()
SIZE = b"Content-Length: %d\r\n" % len(BODY)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (POST + b"Transfer-Encoding: chunked\r\n" + SIZE + b"\r\n0\r\n\r\n", 400),
        (POST + SIZE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + SIZE + SIZE + b"\r\n" + BODY, 400),
        (POST + b"Content-Length: 5, 5\r\n\r\nabcde", 400),
        (POST + b"Content-Length: -5\r\n\r\nabcde", 400),
        (POST + b"Content-Length: +5\r\n\r\nabcde", 400),
        (POST + b"Content-Length: 0x5\r\n\r\nabcde", 400),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (POST + b"Content-Length: \r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip\r\n\r\nabc", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n" + SIZE + b"\r\n" + BODY, 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400),
        (POST + b"X-A: b\r\n c\r\n" + SIZE + b"\r\n" + BODY, 400),
        (POST + b"X-A : b\r\n" + SIZE + b"\r\n" + BODY, 400),
        (POST + b"X-A: b\x00c\r\n" + SIZE + b"\r\n" + BODY, 400),
        (POST + b"Host: u\r\n" + SIZE + b"\r\n" + BODY, 400),
        (b"POST /v1/completions HTTP/1.1\r\n" + SIZE + b"\r\n" + BODY, 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: t\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: t\r\n\r\n", 505),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + SIZE + b"\r\n" + BODY, 400),
        (POST + b"Expect: magic\r\n" + SIZE + b"\r\n" + BODY, 417),
        (POST + b"X-A: " + b"a" * 3000 + b"\r\n" + SIZE + b"\r\n" + BODY, 431),
        (POST + b"X-A: " + b"a" * 300_000, 431),
        (POST + b"A: b\r\n" * 1000 + b"\r\n", 431),
        (b"GET /" + b"a" * 300_000, 431),
        (POST + b"Content-Length: 5000\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5000 + b"\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: " + b"t" * 3000 + b"\r\n\r\n", 431),
    ],
)
def test_what_can_be_read_in_two_ways_or_is_too_large_is_refused_and_closes(
    tmp_path: Path, data: bytes, status: int
) -> None:
    async def main() -> None:
        async with rig(tmp_path, max_header_bytes=2048, max_body_bytes=4096) as it:
            worker = await it.worker("d0")
            connection = await it.connect()
            # In two writes: the limit on a head that never ends is checked from read to read.
            await connection.send(data[: len(data) // 2])
            await connection.send(data[len(data) // 2 :])
            reply = await connection.reply()
            assert reply.status == status
            assert reply.json["error"]["message"]
            assert reply.headers["connection"] == "close"
            assert await connection.closed()
            assert worker.seen == []

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        POST
        + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nX-T: 1\r\n\r\n"
        % (BODY[:3], len(BODY) - 3, BODY[3:]),
        b"POST http://t/v1/chat/completions?a=b HTTP/1.1\r\nHost: t\r\n" + SIZE + b"\r\n" + BODY,
        b"\r\n" + POST + SIZE + b"\r\n" + BODY,
        POST + b"X-Empty:\r\n" + SIZE + b"\r\n" + BODY,
    ],
)
def test_every_correct_framing_is_understood(tmp_path: Path, data: bytes) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            assert (await it.ask(data)).status == 200
            assert worker.seen[0].body.startswith(BODY[:-1])

    run(main())


def test_continue_is_said_before_the_body_and_only_when_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, max_body_bytes=4096) as it:
            await it.worker("d0")
            connection = await it.connect()
            await connection.send(POST + b"Expect: 100-continue\r\n" + SIZE + b"\r\n")
            assert (await connection.head()).status == 100
            await connection.send(BODY)
            assert (await connection.reply()).status == 200
            await connection.send(POST + b"Expect: 100-continue\r\n" + SIZE + b"\r\n" + BODY)
            assert (await connection.reply()).status == 200
            await connection.send(POST + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
            assert (await connection.reply()).status == 413

    run(main())


def test_continue_waits_for_the_answers_before_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            worker.hold.clear()
            connection = await it.connect()
            await connection.send(post(chat()) + POST + b"Expect: 100-continue\r\n" + SIZE + b"\r\n")
            worker.hold.set()
            assert (await connection.reply()).status == 200
            assert (await connection.head()).status == 100
            await connection.send(BODY)
            assert (await connection.reply()).status == 200

    run(main())


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            connection = await it.connect()
            one, other = post(chat(), headers="X-Request-Id: a\r\n"), post(chat(stream=True))
            await connection.send(one + get("/health") + other + get("/nothing") + one)
            replies = [await connection.reply() for _ in range(5)]
            assert [reply.status for reply in replies] == [200, 200, 200, 404, 200]
            assert replies[0].headers["x-request-id"] == replies[4].headers["x-request-id"] == "a"
            assert replies[2].headers["transfer-encoding"] == "chunked"
            assert worker.connections == 1

    run(main())


def test_a_long_pipeline_is_served_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            connection = await it.connect()
            sending = asyncio.create_task(connection.send((get("/health") + post(chat())) * 200))
            for number in range(400):
                reply = await connection.reply()
                assert reply.status == 200
                assert ("status" in reply.json) == (number % 2 == 0)
            await sending

    run(main())


def test_a_bad_request_behind_good_ones_is_refused_in_its_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            connection = await it.connect()
            await connection.send(post(chat()) + b"BAD\r\n\r\n" + post(chat()))
            assert [(await connection.reply()).status for _ in range(2)] == [200, 400]
            assert await connection.closed()

    run(main())


async def _ask(connection: Connection, head: bytes) -> Reply:
    await connection.send(head + SIZE + b"\r\n" + BODY)
    return await connection.reply()


def test_connections_stay_open_or_close_as_the_client_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            line = b"POST /v1/chat/completions HTTP/1."
            for head, stays in (
                (line + b"1\r\nHost: t\r\n", True),
                (line + b"1\r\nHost: t\r\nConnection: close\r\n", False),
                (line + b"0\r\n", False),
                (line + b"0\r\nConnection: keep-alive\r\n", True),
            ):
                connection = await it.connect()
                first = await _ask(connection, head)
                assert first.status == 200
                assert (first.headers.get("connection") == "close") != stays
                if stays:
                    assert (await _ask(connection, head)).status == 200
                else:
                    assert await connection.closed()

    run(main())


def test_bytes_behind_a_closing_request_are_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            worker = await it.worker("d0")
            connection = await it.connect()
            await connection.send(post(chat(), headers="Connection: close\r\n") + post(chat()))
            assert (await connection.reply()).status == 200
            assert await connection.closed()
            assert len(worker.seen) == 1

    run(main())


def test_an_old_client_gets_a_stream_that_ends_with_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            await it.worker("d0")
            body = json.dumps(chat(stream=True)).encode()
            connection = await it.connect()
            await connection.send(
                b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            reply = await connection.reply()
            assert "transfer-encoding" not in reply.headers
            assert reply.body.endswith(b"data: [DONE]\n\n")

    run(main())


def test_the_refusal_of_a_large_body_is_not_lost_while_it_is_still_being_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path, max_body_bytes=4096) as it:
            connection = await it.connect()
            size = 3_000_000
            await connection.send(POST + b"Content-Length: %d\r\n\r\n" % size)
            sending = asyncio.create_task(connection.send(b"x" * size))
            assert (await connection.reply()).status == 413
            await asyncio.gather(sending, return_exceptions=True)

    run(main())
