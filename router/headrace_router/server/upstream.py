"""A connection to a worker: sends one request at a time and hands on the pieces of its answer."""

import asyncio
import time
from typing import Protocol, cast

import httptools

from headrace_router.discovery.worker import Worker
from headrace_router.server.http import HOP_BY_HOP, NOT_RETURNED

MAX_ANSWER_HEAD_BYTES = 64 * 1024
DETACHED_S = 5.0
"""How long the rest of an answer that nobody waits for may take before its connection is given up."""


_HEARD = HOP_BY_HOP | {b"content-length", b"retry-after"}
"""What the router itself reads in the head of an endpoint's answer."""
_RETURNED = frozenset((b"cache-control", b"content-encoding", b"content-type"))
"""What clients see of it: cookies, limits and names of our account there are not theirs."""


class Receiver(Protocol):
    """Who waits for the answer on a connection."""

    def connected(self, upstream: "Upstream") -> None:
        """The connection asked for stands."""

    def unreachable(self, reason: str) -> None:
        """It could not be made."""

    def answered(self, upstream: "Upstream", body: bytes, *, complete: bool) -> None:
        """More of the answer is there: at first its head, then all body bytes of one read together."""

    def lost(self, upstream: "Upstream", reason: str) -> None:
        """The connection ended within the answer."""


class Home(Protocol):
    """Where idle connections live."""

    def put(self, upstream: "Upstream") -> None:
        """Take back a connection that may serve another request."""

    def remove(self, upstream: "Upstream") -> None:
        """The connection has closed."""


class Upstream(asyncio.Protocol):
    """One keep-alive connection to a worker."""

    def __init__(self, home: Home, worker: Worker) -> None:
        self.worker = worker
        self._home = home
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._paused = False
        self.served = 0
        """Requests sent so far."""
        self.since_s = time.monotonic()
        """Since when it has been idle or detached."""
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.own: dict[bytes, bytes] = {}
        """Headers of this hop and about this request (`NOT_RETURNED`), by lower-case name."""
        self.others: list[bytes] = []
        """Header lines that go on to the client."""
        self.length: int | None = None
        """Of the answer's body; None where its head does not say."""
        self.content_type = b""
        self.touched = False
        """Whether any byte of an answer to this request has come."""
        self._head_bytes = 0
        self._head_done = False
        self._complete = False
        self._keep = False
        self._pieces: list[bytes] = []

    # --- requests -----------------------------------------------------------------------------------------

    def send(self, receiver: Receiver, message: bytes) -> None:
        """Send a whole request; what comes back goes to `receiver`."""
        assert self._receiver is None
        self._reset()
        self._receiver = receiver
        self.served += 1
        self._transport.write(message)

    def detach(self) -> None:
        """Nobody waits for the rest of this answer: read it to its end, then serve again."""
        self._receiver = None
        self.since_s = time.monotonic()
        self.resume()

    def abort(self) -> None:
        """Close now, which tells the worker to stop; the receiver hears nothing more."""
        self._receiver = None
        self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the answer waits in the worker."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def name_of(self, header: bytes) -> str | None:
        """Return the worker's name in one of our headers of the answer, if it is there."""
        value = self.own.get(header)
        return None if value is None else value.decode("latin-1")

    @property
    def closing(self) -> bool:
        """Whether the connection is of no more use."""
        return self._transport.is_closing()

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for the answer; the waiting one keeps the deadline."""
        return self._receiver is not None

    @property
    def idle(self) -> bool:
        """Whether no answer is expected."""
        return self.served == 0 or self._complete

    # --- transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's, they only behave so.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits; an answer without a length ends here, any other is cut off."""
        self._home.remove(self)
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if self._head_done and b"transfer-encoding" not in self.own and self.length is None and exc is None:
            receiver.answered(self, b"", complete=True)
        else:
            receiver.lost(self, f"the worker at {self.worker.url} closed the connection ({exc or 'end of stream'})")

    def data_received(self, data: bytes) -> None:
        """Parse one read and hand on everything in it at once."""
        if self._receiver is None and self.idle:
            self.abort()  # bytes that nobody asked for
            return
        self.touched = True
        reason = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            reason = f"the worker at {self.worker.url} answered with invalid HTTP: {error}"
        if reason is not None and not self._complete:
            receiver = self._receiver
            self.abort()
            if receiver is not None:
                receiver.lost(self, reason)
        elif self._head_done:
            self._hand_on(keep=self._keep and reason is None)

    def _hand_on(self, *, keep: bool) -> None:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        receiver = self._receiver
        if self._complete:
            # First the connection is free again, then the receiver hears of the end: it may want to send at once.
            self._receiver = None
            self.resume()
            if keep:
                self.since_s = time.monotonic()
                self._home.put(self)
            else:
                self._transport.close()
        if receiver is not None:
            receiver.answered(self, body, complete=self._complete)

    # --- parser -------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped, and a second answer to one request is refused."""
        if self._complete:
            raise ValueError("more than one answer")
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_ANSWER_HEAD_BYTES:
            raise ValueError(f"a head of more than {MAX_ANSWER_HEAD_BYTES} bytes")
        if self._head_done:
            return
        name = name.lower()
        external = self.worker.external
        if name in (_HEARD if external else NOT_RETURNED):
            self.own[name] = value
            return
        if external and name not in _RETURNED:
            return
        self.others.append(b"%b: %b\r\n" % (name, value))
        if name == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        """Take the head, unless it is an interim one."""
        if self._complete:
            raise ValueError("more than one answer")
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._head_done = True
            length = self.own.get(b"content-length")
            self.length = None if length is None else int(length)
        else:
            self.own, self.others = {}, []

    def on_body(self, body: bytes) -> None:
        """Keep a piece until the end of this read."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer (an interim one is none)."""
        if self._head_done:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
