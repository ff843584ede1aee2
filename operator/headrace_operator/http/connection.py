"""One HTTP/1.1 connection of ours: a question at a time, its answer whole or piece by piece.

httptools parses, as in the router. aiohttp's client was here before: it took nearly twice the processor time for a call
to the API server, and more than half of the operator's own time was such calls.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools

_HELD_BYTES: Final = 1024 * 1024
"""Pieces that nobody has taken yet; beyond it the server has to wait."""
_INFORMATIONAL: Final = range(100, 200)


class ExchangeError(Exception):
    """No answer came in time, or it is no HTTP; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Connection(asyncio.Protocol):
    """A connection to one server; made by `connect`.

    Args:
        most_bytes: of a whole answer; None: as many as come.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._size = 0
        self._taken = 0
        self._answered: asyncio.Future[Answer] | None = None
        self._news: asyncio.Future[None] | None = None
        self._streams = self._began = self._complete = self._rests = False
        self._error: ExchangeError | None = None

    @property
    def is_open(self) -> bool:
        """Whether another question may be asked."""
        return self._transport is not None and not self._transport.is_closing() and self._error is None

    async def ask(self, question: bytes) -> Answer:
        """Send a whole request and return the whole answer.

        Raises:
            ExchangeError: the connection broke, or the answer is malformed or too large.
        """
        return await self._send(question, streams=False)

    async def begin(self, question: bytes) -> Answer:
        """Send a whole request and return the head of the answer; `pieces` has the rest.

        Raises:
            ExchangeError: as for `ask`.
        """
        return await self._send(question, streams=True)

    async def pieces(self, silence_s: float, *, gather_s: float = 0.0) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Args:
            silence_s: nothing for this long is an error.
            gather_s: what comes sooner than this after a piece comes with the next one. Each time that the reader is
                woken costs more than a line of a watch does.

        Raises:
            ExchangeError: the connection broke, or was silent.
        """
        while True:
            while self._pieces:
                yield self._take()
                if gather_s and not self._complete:
                    self._rest(gather_s)
            if self._complete:
                return
            if self._error is not None:
                raise self._error
            self._news = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(silence_s):
                    await self._news
            except TimeoutError as error:
                raise ExchangeError(f"nothing came for {silence_s:g} s") from error

    def close(self) -> None:
        """End the connection at once, in the middle of whatever is on it."""
        if self._transport is not None:
            # An encrypted transport that is only aborted takes itself for open.
            self._transport.close()
            self._transport.abort()

    # --- called by the transport -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; uvloop's encrypted one is none by its class."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ExchangeError(f"the answer is no HTTP: {error}"))
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End the question that is open: a body without a length ends with its connection."""
        if self._began and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self.on_message_complete()
        self._fail(ExchangeError(str(error) if error else f"the answer was cut off after {self._size} bytes"))

    # --- called by the parser --------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Tell of the head where the body is taken in pieces."""
        if self._parser.get_status_code() in _INFORMATIONAL:
            return
        self._began = True
        if self._streams:
            self._answer(b"")

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._streams:
            self._tell()
            if self._size - self._taken > _HELD_BYTES and self._transport is not None:
                self._transport.pause_reading()
        elif self._most_bytes is not None and self._size > self._most_bytes:
            self._fail(ExchangeError(f"the answer is larger than {self._most_bytes} bytes"))
            self.close()

    def on_message_complete(self) -> None:
        """End the answer; the connection is free where the server keeps it."""
        if not self._began:
            self._headers = {}
            return
        self._began, self._complete = False, True
        if not self._streams:
            self._answer(b"".join(self._pieces))
        self._tell()
        if not self._parser.should_keep_alive():
            self.close()

    # --- inside ----------------------------------------------------------------------------------------------

    async def _send(self, question: bytes, *, streams: bool) -> Answer:
        if self._transport is None or not self.is_open:
            raise self._error or ExchangeError("the server has closed the connection")
        self._headers, self._size, self._taken = {}, 0, 0
        self._pieces.clear()
        self._streams, self._began, self._complete = streams, False, False
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(question)
        return await self._answered

    def _take(self) -> bytes:
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._taken += len(piece)
        if self._size - self._taken <= _HELD_BYTES and self._transport is not None and not self._rests:
            self._transport.resume_reading()
        return piece

    def _rest(self, seconds: float) -> None:
        """Leave what comes to the transport for a while."""
        if self._transport is not None and self.is_open and not self._rests:
            self._rests = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._rests = False
        if self._transport is not None and self.is_open:
            self._transport.resume_reading()

    def _answer(self, body: bytes) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(Answer(self._parser.get_status_code(), self._headers, body))

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _fail(self, error: ExchangeError) -> None:
        self._error = self._error or error
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(self._error)
        self._tell()


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    *,
    server_name: str | None = None,
    most_bytes: int | None = None,
) -> Connection:
    """Return a new connection; raise OSError where nobody listens or the certificate does not hold."""
    name = (server_name or host) if tls is not None else None
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(most_bytes), host, port, ssl=tls, server_hostname=name
    )
    return connection
