"""What of an answer has reached the client, and the bytes that come next, over all workers that have a part in it."""

import msgspec

from headrace_api.frames import FrameHead
from headrace_api.names import HEADER_DECODE, HEADER_PREFILL, MEDIA_FRAMES, PREFILL_LOCAL
from headrace_router.cost.bill import Footer
from headrace_router.cost.books import Books
from headrace_router.cost.plain import Reading, stamped
from headrace_router.errors import ClientError
from headrace_router.openai.errors import error_event
from headrace_router.resilience.replay import Transcript
from headrace_router.server.answer import JSON, Answer
from headrace_router.server.call import Call
from headrace_router.server.upstream import Upstream

_FRAMES = MEDIA_FRAMES.encode()
_EVENTS = b"text/event-stream"
_PREFILL = HEADER_PREFILL.encode()
_DECODE = HEADER_DECODE.encode()
_SSE = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"


class Head(msgspec.Struct, frozen=True):
    """The head of a worker's plain answer, kept from its connection, which may serve others before the answer ends."""

    status: int
    fields: bytes
    """Header lines for the client; empty once they have been written."""
    whole: bool
    """Whether it may be answered in one piece, if it is complete."""
    length: int | None


class Delivery:
    """The client's side of one exchange.

    Args:
        answer: to the client.
        call: what it asked for.
        books: told of each frame, where somebody counts.
    """

    __slots__ = ("_answer", "_books", "_call", "_opened", "_reading", "_transcript", "mode")

    def __init__(self, answer: Answer, call: Call, books: Books | None) -> None:
        self._answer = answer
        self._call = call
        self._books = books
        self._reading: Reading | None = None
        self._opened = False
        self._transcript: Transcript | None = None
        self.mode: str | None = None
        """`frames` or `plain`, once the current worker has answered."""

    @property
    def begun(self) -> bool:
        """Whether any byte went to the client."""
        return self._answer.begun

    @property
    def resuming(self) -> Transcript | None:
        """What was forwarded already, when something was."""
        transcript = self._transcript
        return transcript if transcript is not None and transcript.heads else None

    @property
    def final(self) -> FrameHead | None:
        """The head of the last frame, once it was read."""
        return None if self._transcript is None else self._transcript.final

    @property
    def stuck(self) -> bool:
        """Whether no other worker can go on: bytes of a plain answer have gone out, and nobody knows what they say."""
        return self.mode == "plain" and self._answer.begun

    def accept(self, upstream: Upstream) -> bool:
        """Look at the head of a worker's answer; False where it cannot continue what was forwarded already."""
        framed = upstream.content_type == _FRAMES and self._call.endpoint is None
        self._reading = None
        if upstream.status == 200 and framed:
            self.mode = "frames"
        elif self.resuming is not None:
            return False
        else:
            self.mode = "plain"
            if self._books is not None and upstream.status == 200:
                events = upstream.content_type.startswith(_EVENTS)
                self._reading = Reading(events=events, quiet=self._call.quiet)
        return True

    def restart(self) -> None:
        """Another worker goes on, with a whole frame."""
        self.mode = None
        self._opened = self._opened and self._answer.begun

    def cut(self) -> None:
        """Drop the unfinished frame of a worker that has died."""
        if self._transcript is not None:
            self._transcript.cut()

    # --- bytes of a worker ----------------------------------------------------------------------------------

    def feed(self, body: bytes) -> bytes:
        """Return the client's bytes in the frames that `body` completes; raise FrameError where they are none."""
        if self._transcript is None:
            self._transcript = Transcript(self._books)
        return self._transcript.feed(body)

    def prefill(self, upstream: Upstream) -> str | None:
        """Return who prefilled, as the answer's head or its frames say."""
        told = upstream.name_of(_PREFILL)
        return told if told is not None or self._transcript is None else self._transcript.prefill

    def fields(self, upstream: Upstream) -> bytes:
        """Return our own header lines of the answer; nothing once they have been written."""
        if self._opened:
            return b""
        if self._call.endpoint is not None:
            return b"x-request-id: %b\r\n%b" % (self._call.request_id, self._call.told)
        told = None if self._transcript is None else self._transcript.prefill
        return b"x-request-id: %b\r\nx-headrace-prefill: %b\r\nx-headrace-decode: %b\r\n%b" % (
            self._call.request_id,
            upstream.own.get(_PREFILL) or (told or PREFILL_LOCAL).encode("latin-1", "replace"),
            upstream.own.get(_DECODE) or upstream.worker.name.encode("latin-1", "replace"),
            self._call.told,
        )

    def listen(self, body: bytes, *, complete: bool) -> bytes:
        """Count an answer that is not in frames by what it says; return those of its bytes that may go on now."""
        if self._books is None or self._reading is None:
            return body
        passed, heads = self._reading.feed(body)
        if complete:
            rest, more = self._reading.end()
            passed, heads = passed + rest, heads + more
        for head, said in heads:
            self._books.take(head, said)
        if complete and self._reading.usage is not None:
            self._books.meter.count(self._reading.usage)
        return passed

    def write_payload(self, payload: bytes, fields: bytes, *, last: bool, footer: Footer | None = None) -> None:
        """Give the client its bytes of some frames; an answer that is not streamed comes whole in the last one.

        Args:
            payload: the bytes.
            fields: header lines, where the answer was not opened yet.
            last: whether the answer ends here.
            footer: what the last bytes say of the answer.
        """
        if footer is not None:
            payload = footer.into(payload)
        if not self._call.stream:
            fields += b"" if footer is None else footer.header()
            if last:
                self._answer.whole(200, JSON + fields, payload)
            return
        if not self._opened and (payload or last):
            self._opened = True
            self._answer.open(200, _SSE + fields, None)
        if self._opened:
            self._answer.body(payload, last=last)

    def head(self, upstream: Upstream) -> Head:
        """Return what a worker's plain answer begins with."""
        fields = b"" if self._opened else b"".join(upstream.others) + self.fields(upstream)
        length = upstream.length if self._reading is None else None  # a bill, or a part left out, changes it
        return Head(upstream.status, fields, not upstream.content_type.startswith(_EVENTS), length)

    def write_plain(self, head: Head, body: bytes, *, complete: bool, footer: Footer | None = None) -> None:
        """Give the client bytes of an answer that is not in frames; the last ones come with a `footer`."""
        if footer is not None and self._reading is not None:
            body = stamped(body, footer, events=not head.whole)
        if self._opened:
            self._answer.body(body, last=complete)
        elif body or complete:
            self._opened = True
            if complete and head.whole:
                self._answer.whole(head.status, head.fields + (b"" if footer is None else footer.header()), body)
            else:
                self._answer.open(head.status, head.fields, head.length)
                self._answer.body(body, last=complete)

    def fail(self, error: ClientError) -> None:
        """End with an error: an answer of its own, or the last event of a stream that has begun."""
        if not self._answer.begun:
            self._answer.error(error, b"x-request-id: %b\r\n" % self._call.request_id)
        elif self._call.stream:
            self._answer.cut(error_event(error))
        else:
            self._answer.cut()
