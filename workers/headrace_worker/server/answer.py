"""The HTTP side of one request: its whole body in, its answer out portion by portion."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from starlette.types import Receive, Send

from headrace_api import names
from headrace_api.frames import encode_frame
from headrace_worker.errors import RequestError
from headrace_worker.server.formatter import Frame
from headrace_worker.server.problems import error_body, error_headers
from headrace_worker.server.streams import ClientGoneError
from headrace_worker.server.terms import Terms

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
BODY_S: Final = 60.0
"""A client that sends its body more slowly is refused."""


async def read_body(receive: Receive) -> bytes:
    """Return the whole body; raise RequestError when it is too large or too slow, ClientGoneError when it is cut."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                parts.append(cast("bytes", message.get("body", b"")))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    raise RequestError(f"The body has more than {MAX_BODY_BYTES} bytes; send less.", status=413)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(f"The body did not arrive within {BODY_S:.0f} s.", status=408) from None


class Answer:
    """The HTTP side of one answer: nothing is sent before the first portion, so an early failure has its own status."""

    def __init__(self, send: Send) -> None:
        self.stream = False
        self._send = send
        self._terms: Terms | None = None
        self._decode = ""
        self._prefill: str | None = None
        self._started = False

    def begin_as(self, terms: Terms, decode: str) -> None:
        """Set what the headers will state."""
        self._terms = terms
        self._decode = decode

    async def write(self, frames: Sequence[Frame], *, done: bool) -> None:
        """Send portions of the answer."""
        assert self._terms is not None
        self._prefill = self._prefill or next((frame.head.prefill for frame in frames if frame.head.prefill), None)
        if self._terms.frames:
            data = b"".join(encode_frame(frame.head, frame.payload) for frame in frames)
        else:
            data = b"".join(frame.payload for frame in frames)
        if not self._started and (self.stream or self._terms.frames or done):
            await self._start(len(data) if done else None)
        if self._started and (data or done):
            await self._send({"type": "http.response.body", "body": data, "more_body": not done})

    async def break_off(self, error: RequestError) -> None:
        """End the answer with an error; in frames the missing final frame says so, and the router replays."""
        if not self._started:
            body = error_body(error)
            headers = [*error_headers(error), (b"content-length", str(len(body)).encode())]
            if self._terms is not None:
                headers.append((names.HEADER_REQUEST_ID.encode(), self._terms.request_id.encode()))
            await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        elif self._terms is not None and not self._terms.frames:
            event = b"data: " + error_body(error) + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": True})
        # A return without the last part makes the server close the connection: nobody takes this for a whole answer.

    async def abandon(self, error: RequestError) -> None:
        """End the answer of a core that has gone: in frames, begun or not, without a final one, so that it is replayed.

        An error of its own would reach the client, where no other worker is there yet to go to.
        """
        if self._terms is None or not self._terms.frames:
            await self.break_off(error)
        elif not self._started:
            await self._start(None)

    async def _start(self, length: int | None) -> None:
        assert self._terms is not None
        plain = b"text/event-stream; charset=utf-8" if self.stream else b"application/json"
        headers = [
            (b"content-type", names.MEDIA_FRAMES.encode() if self._terms.frames else plain),
            (names.HEADER_REQUEST_ID.encode(), self._terms.request_id.encode()),
            (names.HEADER_PREFILL.encode(), (self._prefill or names.PREFILL_LOCAL).encode()),
            (names.HEADER_DECODE.encode(), self._decode.encode()),
        ]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if self.stream:
            headers.append((b"cache-control", b"no-cache"))
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
