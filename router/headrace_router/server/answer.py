"""The answer to one request: turns what an exchange has to say into correctly framed bytes."""

from typing import Protocol

from headrace_router.errors import ClientError
from headrace_router.openai.errors import error_body
from headrace_router.server.http import LAST_CHUNK, Request, chunk, status_line

JSON = b"content-type: application/json\r\n"


class Sink(Protocol):
    """The connection that an answer goes to."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""

    def finish(self, *, keep: bool) -> None:
        """The answer is complete; `keep` says whether the connection may serve another."""

    def cut(self) -> None:
        """The answer ends in the middle: close once everything written has been sent."""


class Answer:
    """Writes one answer; each call becomes one write, with the head held back until there is something behind it.

    That the head waits lets an exchange go to another worker as long as no byte has reached the client.
    """

    __slots__ = ("_chunked", "_head", "begun", "keep", "request", "sink", "status")

    def __init__(self, sink: Sink, request: Request, *, keep: bool) -> None:
        self._head = b""
        self._chunked = False
        self.sink = sink
        self.keep = keep
        """Whether the connection may serve another request after this one."""
        self.request = request
        self.status = 0
        self.begun = False
        """Whether any byte went to the client."""

    def whole(self, status: int, fields: bytes, body: bytes) -> None:
        """Answer at once and completely; `fields` are header lines, each with its line end."""
        self.begun = True
        self.status = status
        head = b"%b%bcontent-length: %d\r\n%b\r\n" % (status_line(status), fields, len(body), self._connection())
        self.sink.write(head if self.request.method == b"HEAD" else head + body)
        self.sink.finish(keep=self.keep)

    def error(self, error: ClientError, fields: bytes = b"") -> None:
        """Answer with an OpenAI-shaped error."""
        if error.retry_after_s is not None:
            fields += b"retry-after: %d\r\n" % error.retry_after_s
        self.whole(error.status, JSON + fields, error_body(error))

    def open(self, status: int, fields: bytes, length: int | None) -> None:
        """Begin an answer whose body follows in pieces; without a length it is chunked (HTTP/1.0: until close)."""
        self.status = status
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.request.http10:
            framing = b""
            self.keep = False
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._chunked = True
        self._head = b"%b%b%b%b\r\n" % (status_line(status), fields, framing, self._connection())

    def body(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of the body, and its end where it is the last one."""
        if self._chunked:
            data = chunk(data)
            if last:
                data += LAST_CHUNK
        if self._head and (data or last):
            data = self._head + data
            self._head = b""
        if data:
            self.begun = True
            self.sink.write(data)
        if last:
            self.sink.finish(keep=self.keep)

    def cut(self, event: bytes = b"") -> None:
        """End a begun answer in the middle, after a last event; the missing end of the framing tells the client."""
        if event:
            self.sink.write(self._head + (chunk(event) if self._chunked else event))
        self.sink.cut()

    def _connection(self) -> bytes:
        if not self.keep:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.request.http10 else b""
