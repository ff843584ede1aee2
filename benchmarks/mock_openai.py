"""A plain OpenAI backend that costs next to nothing: what routers are measured in front of.

It answers `/v1/chat/completions` and `/v1/completions` with fixed bytes, as one JSON body or as server-sent events,
and the probes that routers send to workers. `python benchmarks/mock_openai.py --help`.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import cast

import httptools
import uvloop

MODEL = "mock"
TEXT = "The water comes down the headrace and turns the wheel at a steady pace . "


def json_body(chunks: int) -> bytes:
    """Return the answer that is not streamed."""
    words = (TEXT.split(" ") * (chunks // 10 + 1))[:chunks]
    choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 16, "completion_tokens": chunks, "total_tokens": 16 + chunks}
    fields = {"id": "chatcmpl-mock", "object": "chat.completion", "created": 1700000000, "model": MODEL}
    return json.dumps(fields | {"choices": [choice], "usage": usage}).encode()


def events(chunks: int) -> list[bytes]:
    """Return the events of a streamed answer."""
    fields = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL}
    words = (TEXT.split(" ") * (chunks // 10 + 1))[:chunks]
    made = []
    for index, word in enumerate(words):
        finish = "stop" if index == chunks - 1 else None
        delta = {"role": "assistant", "content": word} if index == 0 else {"content": f" {word}"}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        made.append(b"data: " + json.dumps(fields | {"choices": [choice]}).encode() + b"\n\n")
    return [*made, b"data: [DONE]\n\n"]


def whole(body: bytes, kind: bytes = b"application/json") -> bytes:
    """Return a complete answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)


class Answers:
    """The bytes of all answers, made once."""

    def __init__(self, chunks: int, interval_s: float) -> None:
        self.json = whole(json_body(chunks))
        self.head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.events = [b"%x\r\n%b\r\n" % (len(event), event) for event in events(chunks)]
        self.models = whole(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        self.empty = whole(b'{"status":"ok"}')
        self.interval_s = interval_s


class Mock(asyncio.Protocol):
    """One connection."""

    def __init__(self, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._answers = answers
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's, they only behave so.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; a client that sends nonsense is cut off."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        """Start a request."""
        self._path = url
        self._streams = False

    def on_body(self, body: bytes) -> None:
        """Look for the one field that matters."""
        if b'"stream":true' in body or b'"stream": true' in body:
            self._streams = True

    def on_message_complete(self) -> None:
        """Answer."""
        answers = self._answers
        if not self._path.endswith(b"/completions"):
            self._transport.write(answers.models if self._path == b"/v1/models" else answers.empty)
        elif self._streams:
            self._stream(0)
        else:
            self._transport.write(answers.json)

    def _stream(self, index: int) -> None:
        """Write one event now and the next one in the next turn of the loop: one read each for who listens."""
        if self._transport.is_closing():
            return
        answers = self._answers
        last = index == len(answers.events) - 1
        piece = (answers.head if index == 0 else b"") + answers.events[index] + (b"0\r\n\r\n" if last else b"")
        self._transport.write(piece)
        if not last:
            self._loop.call_later(answers.interval_s, self._stream, index + 1)


async def serve(host: str, port: int, chunks: int, interval_s: float) -> None:
    """Serve until killed; the first line of stdout is the URL."""
    loop = asyncio.get_running_loop()
    answers = Answers(chunks, interval_s)
    server = await loop.create_server(lambda: Mock(answers, loop), host, port, backlog=1024)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mock."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--chunks", type=int, default=16, help="tokens of an answer, one event each")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between two events")
    given = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.host, given.port, given.chunks, given.interval))
    return 0


if __name__ == "__main__":
    sys.exit(main())
