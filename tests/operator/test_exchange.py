"""One HTTP exchange: what comes back, and every way in which it can fail."""

import asyncio
from collections.abc import Callable

import pytest

from headrace_operator.http.connection import Answer, Connection, ExchangeError
from headrace_operator.http.exchange import Conversation, exchange


def talk(reply: bytes | None, *, body: bytes | None = None, deadline_s: float = 5.0) -> tuple[Answer, bytes]:
    """Return the answer that a server's `reply` makes, and what the server was sent; None: it never replies."""

    async def scenario() -> tuple[Answer, bytes]:
        seen = bytearray()
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.extend(await reader.readuntil(b"\r\n\r\n"))
            if body is not None:
                seen.extend(await reader.readexactly(len(body)))
            if reply is None:
                await done.wait()
            writer.write(reply or b"")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            try:
                url = f"http://127.0.0.1:{port}/path"
                return await exchange(url, deadline_s=deadline_s, body=body, headers={"x-a": "b"}), bytes(seen)
            finally:
                done.set()

    return asyncio.run(scenario())


def test_a_question_is_a_get_and_a_body_makes_it_a_post() -> None:
    answer, seen = talk(b"HTTP/1.1 200 OK\r\nX-Who: me\r\ncontent-length: 2\r\n\r\nhi")
    assert answer == Answer(200, {"x-who": "me", "content-length": "2"}, b"hi")
    assert seen.startswith(b"GET /path HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"x-a: b\r\n" in seen
    _, seen = talk(b"HTTP/1.1 204 No Content\r\n\r\n", body=b"{}")
    assert seen.startswith(b"POST /path ")
    assert b"content-length: 2\r\n" in seen
    assert seen.endswith(b"x-a: b\r\n\r\n{}")


def test_chunks_are_joined() -> None:
    answer, _ = talk(b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n")
    assert (answer.status, answer.body) == (503, b"abcd")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_an_error(reply: bytes) -> None:
    with pytest.raises(ExchangeError):
        talk(reply)


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_operator.http.exchange.MAX_ANSWER_BYTES", 10)
    assert talk(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789")[0].body == b"0123456789"
    with pytest.raises(ExchangeError, match="larger than 10 bytes"):
        talk(b"HTTP/1.1 200 OK\r\n\r\n01234567890")


def test_a_conversation_keeps_its_connection_until_its_end() -> None:
    async def scenario() -> tuple[int, bytes]:
        ended: list[asyncio.Future[bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(asyncio.get_running_loop().create_future())
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
            ended[-1].set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(30):
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with Conversation() as conversation:
                for path in ("one", "other"):
                    answer = await conversation.exchange(f"{url}/{path}", deadline_s=30)
                    assert (answer.status, answer.body) == (200, b"hi")
            return len(ended), await ended[0]

    connections, rest = asyncio.run(scenario())
    assert connections == 1
    assert rest == b""


def test_silence_is_an_error_at_the_deadline() -> None:
    with pytest.raises(ExchangeError, match=r"no answer within 0\.05 s"):
        talk(None, deadline_s=0.05)


@pytest.mark.parametrize("url", [lambda port: f"http://127.0.0.1:{port}", lambda _: "http://"])
def test_nobody_listening_is_an_error(url: Callable[[int], str]) -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(ExchangeError):
            await exchange(url(port), deadline_s=5)

    asyncio.run(scenario())


def test_what_comes_soon_after_a_piece_comes_with_the_next_one() -> None:
    class Transport(asyncio.Transport):
        paused = 0

        def write(self, data: object) -> None:
            assert data == b"question"
            connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")

        def is_closing(self) -> bool:
            return False

        def pause_reading(self) -> None:
            self.paused += 1
            connection.data_received(b"3\r\ntwo\r\n")  # in place of what the kernel keeps meanwhile
            connection.data_received(b"5\r\nthree\r\n0\r\n\r\n")

        def resume_reading(self) -> None:
            self.paused -= 1

    async def scenario() -> list[bytes]:
        connection.connection_made(transport)
        async with asyncio.timeout(30):
            await connection.begin(b"question")
            return [piece async for piece in connection.pieces(30, gather_s=0.001)]

    connection, transport = Connection(), Transport()
    assert asyncio.run(scenario()) == [b"one", b"twothree"]
    assert transport.paused <= 0
