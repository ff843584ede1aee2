"""The connection of a client: reads requests strictly, answers them in order, one at a time.

llhttp (below httptools) refuses what could be read in two ways: both lengths, repeated or odd lengths, folded
headers, bad chunk sizes, bare line feeds. What it lets pass and a proxy must not (other transfer codings, missing
hosts, upgrades in front of a body) is refused here.
"""

import asyncio
import time
from collections import deque
from typing import Protocol, cast

import httptools

from headrace_router.errors import ClientError
from headrace_router.server.answer import Answer
from headrace_router.server.http import CONTINUE, NOT_FORWARDED, Headers, Request, split_target
from headrace_router.settings import RouterSettings

MAX_PIPELINED = 16
"""Whole requests read ahead on one connection; with more the client's reading pauses."""
MAX_PIPELINED_BYTES = 1024 * 1024
LINGER_S = 2.0
"""After refusing a request in the middle: closing at once would reset the connection and lose the refusal."""


class Running(Protocol):
    """A request that is being answered, as its connection sees it."""

    def pause(self) -> None:
        """The client reads slower than the answer comes."""

    def resume(self) -> None:
        """The client has caught up."""

    def cancel(self) -> None:
        """The client has left."""

    def sweep(self, now_s: float) -> None:
        """Check deadlines."""


class Service(Protocol):
    """What answers requests."""

    draining: bool

    def serve(self, answer: Answer) -> Running | None:
        """Begin to answer; None when the answer is complete already."""

    def joined(self, client: "Client") -> None:
        """A connection was opened."""

    def left(self, client: "Client") -> None:
        """A connection was closed."""


class Client(asyncio.Protocol):
    """One client connection, from accept to close."""

    def __init__(self, service: Service, settings: RouterSettings) -> None:
        self._service = service
        self._settings = settings
        self._max_header_bytes = settings.max_header_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request | ClientError] = deque()
        self._queued_bytes = 0
        self._active = False
        self._serving = False
        self._running: Running | None = None
        # of the request that is being read
        self._request: Request | None = None
        self._in_head = False
        self._head_bytes = 0
        self._target = b""
        self._own: dict[bytes, bytes] = {}
        self._others: Headers = []
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._continue_due = False
        # of the connection
        self._no_more = False
        self._reading_paused = False
        self._began_s = 0.0
        self._last_data_s = time.monotonic()
        self._write_paused_s: float | None = None
        self._linger_until_s: float | None = None

    # --- transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's, they only behave so.
        self._transport = cast("asyncio.Transport", transport)
        self._service.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is running."""
        del exc
        self._gone()
        self._service.left(self)

    def eof_received(self) -> bool:
        """Take the end of the client's stream as its leaving: a half-closed client cannot be told from a dead one."""
        self._gone()
        return False

    def data_received(self, data: bytes) -> None:
        """Parse, then serve what is whole."""
        if self._no_more:
            return
        self._last_data_s = time.monotonic()
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(ClientError("Upgrades are not supported; send plain HTTP/1.1.", code="upgrade_unsupported"))
        except httptools.HttpParserError as error:
            self._unparsable(error)
        if self._in_head and was_in_head:
            # A head that never ends: no header is reported, so its bytes are counted as they come.
            self._count_head(len(data))
        if self._queue or self._continue_due:
            self._serve()

    def pause_writing(self) -> None:
        """Stop reading from the worker: its answer waits there, not in this process."""
        self._write_paused_s = time.monotonic()
        if self._running is not None:
            self._running.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._write_paused_s = None
        if self._running is not None:
            self._running.resume()

    # --- parser -------------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """Begin a request with the first piece of its target, or take another piece."""
        if not self._in_head:
            if self._no_more:
                raise ClientError("Nothing may follow a request that closes the connection.")
            self._in_head = True
            self._target = b""
            self._own = {}
            self._others = []
            self._began_s = self._last_data_s
            self._head_bytes = self._body_bytes = 0
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer after the body: those are counted and dropped."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._max_header_bytes:
            raise self._head_too_large()
        if self._request is not None:
            return
        name = name.lower()
        if name not in NOT_FORWARDED:
            if not name.startswith(b"x-headrace-"):
                self._others.append((name, value))
        elif name not in self._own:
            self._own[name] = value
        elif name == b"host":
            raise ClientError("A request must have one Host header; this one has more.")
        else:
            self._own[name] += b"," + value

    def on_headers_complete(self) -> None:
        """Judge the head before a byte of the body is kept."""
        self._in_head = False
        parser, own = self._parser, self._own
        version = parser.get_http_version()
        if version != "1.1":
            self._check_old(version)
        elif b"host" not in own:
            raise ClientError("A request must have a Host header.")
        if b"transfer-encoding" in own and (
            version == "1.0" or own[b"transfer-encoding"].strip().lower() != b"chunked"
        ):
            raise ClientError("Transfer-Encoding must be 'chunked', in HTTP/1.1; nothing else is supported.")
        if int(own.get(b"content-length", 0)) > self._settings.max_body_bytes:
            raise self._body_too_large()
        if b"expect" in own:
            self._expect(version, own[b"expect"])
        path, query = split_target(self._target)
        self._request = Request(
            parser.get_method(), path, own, self._others, version == "1.0", parser.should_keep_alive(), query=query
        )

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, up to the limit."""
        self._body_bytes += len(body)
        if self._body_bytes > self._settings.max_body_bytes:
            raise self._body_too_large()
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Queue the request."""
        request = self._request
        assert request is not None
        if self._parser.should_upgrade():
            return  # HttpParserUpgrade follows
        request.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._request = None
        self._pieces = []
        self._continue_due = False
        self._queue.append(request)
        self._queued_bytes += len(request.body)
        if not request.keep_alive:
            self._no_more = True

    # --- judging ------------------------------------------------------------------------------------------

    def _check_old(self, version: str) -> None:
        if version != "1.0":
            raise ClientError(f"HTTP/{version} is not supported; send HTTP/1.1.", status=505)

    def _expect(self, version: str, value: bytes) -> None:
        if value.strip().lower() != b"100-continue":
            raise ClientError("Expect may only be '100-continue'.", status=417)
        self._continue_due = version == "1.1"

    def _head_too_large(self) -> ClientError:
        limit = self._settings.max_header_bytes
        return ClientError(f"The request's head is larger than {limit} bytes.", status=431, code="headers_too_large")

    def _body_too_large(self) -> ClientError:
        limit = self._settings.max_body_bytes
        return ClientError(f"The request's body is larger than {limit} bytes.", status=413, code="body_too_large")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > 2 * self._settings.max_header_bytes and not self._no_more:
            self._refuse(self._head_too_large())

    def _unparsable(self, error: httptools.HttpParserError) -> None:
        if self._no_more:
            return  # bytes behind a request that closes the connection
        cause = error.__context__
        if isinstance(cause, ClientError):
            self._refuse(cause)
        else:
            self._refuse(ClientError(f"This is not valid HTTP/1.1: {error}.", code="invalid_http"))

    def _refuse(self, error: ClientError) -> None:
        """Answer what cannot be read on with an error, after all requests before it; nothing is read after it."""
        self._no_more = True
        self._in_head = False
        self._request = None
        self._pieces = []
        self._continue_due = False
        self._queue.append(error)

    # --- serving ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        if self._serving:
            return  # an answer that was complete at once; the loop below goes on
        self._serving = True
        while self._queue and not self._active and not self._transport.is_closing():
            item = self._queue.popleft()
            self._active = True
            if isinstance(item, ClientError):
                self._linger_until_s = time.monotonic() + LINGER_S
                Answer(self, Request(b"", b"", {}, [], http10=False, keep_alive=False), keep=False).error(item)
                break
            self._queued_bytes -= len(item.body)
            running = self._service.serve(Answer(self, item, keep=item.keep_alive and not self._service.draining))
            if self._active and running is not None:
                self._running = running
                if self._write_paused_s is not None:
                    running.pause()
        self._serving = False
        if self._continue_due and not self._active and not self._queue:
            self._continue_due = False
            self._transport.write(CONTINUE)
        if self._queue or self._reading_paused:
            self._balance()

    def _balance(self) -> None:
        full = len(self._queue) >= MAX_PIPELINED or self._queued_bytes >= MAX_PIPELINED_BYTES
        if full != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._last_data_s = time.monotonic()
                self._transport.resume_reading()

    # --- the answer's sink --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; a client that has left gets none."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def finish(self, *, keep: bool) -> None:
        """Go on with the next request, or close once everything written has been sent."""
        self._active = False
        self._running = None
        self._last_data_s = time.monotonic()
        if keep and not self._service.draining:
            if self._queue or self._continue_due or self._reading_paused:
                self._serve()
        elif self._linger_until_s is None:
            self._transport.close()
        elif self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def cut(self) -> None:
        """Close with the answer incomplete."""
        self._active = False
        self._running = None
        self._transport.close()

    # --- ends ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is being answered or waits for its turn."""
        return self._active or bool(self._queue)

    def close_idle(self) -> None:
        """Close unless a request is being answered; that one closes when it ends."""
        if not self.busy:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def sweep(self, now_s: float) -> None:
        """Check all deadlines of this connection."""
        settings = self._settings
        if self._running is not None:
            self._running.sweep(now_s)
        if self._linger_until_s is not None:
            if now_s > self._linger_until_s:
                self._transport.abort()
        elif self._write_paused_s is not None:
            if now_s - self._write_paused_s > settings.stall_deadline_s:
                self._transport.abort()
        elif self._in_head or self._request is not None:
            since_s = self._began_s if self._in_head else self._last_data_s
            if now_s - since_s > settings.read_deadline_s and not self._reading_paused:
                self._refuse(ClientError("The request did not arrive in time.", status=408, code="read_timeout"))
                self._serve()
        elif not self.busy and now_s - self._last_data_s > settings.idle_deadline_s:
            self._transport.close()

    def _gone(self) -> None:
        running, self._running = self._running, None
        self._queue.clear()
        self._queued_bytes = 0
        self._no_more = True
        if running is not None:
            running.cancel()
