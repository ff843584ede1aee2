"""One request between a client and its workers: send, forward, and go on elsewhere when a worker dies.

All of it is callbacks of the two connections, without a task. The life of an exchange:

    dispatch ─ no worker ──► wait (the router wakes it) ─ deadline ──► fail
       │
       ├─ connect / send ──► answered … answered ──► settle
       │                        │
       └──────── lost ◄─────────┘   (resumed behind the last forwarded byte, at most `max_attempts` times)
"""

import logging
from typing import Protocol

from headrace_api.frames import FrameError, Usage
from headrace_api.names import (
    HEADER_DECODE,
    HEADER_PREFILL,
    MEDIA_FRAMES,
    PREFILL_LOCAL,
)
from headrace_router.admin.metrics import Metrics
from headrace_router.discovery.registry import Member
from headrace_router.errors import ClientError
from headrace_router.openai.errors import error_event
from headrace_router.placement import Placement, Placer
from headrace_router.resilience.replay import Transcript
from headrace_router.server.answer import JSON, Answer
from headrace_router.server.call import Call
from headrace_router.server.pool import Pool
from headrace_router.server.upstream import Upstream
from headrace_router.settings import RouterSettings

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""Status under which a request is counted whose client left."""
REFUSED_RETRY_S = 0.5
"""Between two tries at workers that answer a replay with 503 (they drain, or still load)."""

_FRAMES = MEDIA_FRAMES.encode()
_EVENTS = b"text/event-stream"
_PREFILL = HEADER_PREFILL.encode()
_DECODE = HEADER_DECODE.encode()
_SSE = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"


class Hub(Protocol):
    """What all exchanges share."""

    settings: RouterSettings
    pool: Pool
    placer: Placer
    metrics: Metrics
    waiting: "set[Exchange]"
    """Exchanges without a worker; the router calls `wake` on them now and then."""

    def place(self, call: Call, avoid: set[Member] | None) -> Placement | None:
        """Choose workers for the call among those that can be chosen now."""

    def now_s(self) -> float:
        """Return a monotonic time."""


class Exchange:
    """One request, from its last byte read to the last byte of its answer written."""

    __slots__ = (
        "_answer",
        "_attempts",
        "_avoid",
        "_call",
        "_done",
        "_figures",
        "_first_byte",
        "_hub",
        "_last_s",
        "_mode",
        "_opened",
        "_paused",
        "_placement",
        "_retry_at_s",
        "_started_s",
        "_transcript",
        "_upstream",
        "_wait_until_s",
    )

    def __init__(self, hub: Hub, answer: Answer, call: Call) -> None:
        self._hub = hub
        self._answer = answer
        self._call = call
        self._transcript: Transcript | None = None
        self._placement: Placement | None = None
        self._upstream: Upstream | None = None
        self._avoid: set[Member] | None = None
        self._attempts = 0
        self._mode: str | None = None
        """`frames` or `plain`, once the current worker has answered."""
        self._opened = False
        self._paused = False
        self._done = False
        self._first_byte = False
        self._started_s = self._last_s = hub.now_s()
        self._wait_until_s: float | None = None
        self._retry_at_s = 0.0
        self._figures = hub.metrics.of(call.model)
        self._figures.inflight += 1

    # --- to a worker --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Choose a worker and send; wait for one where there is none."""
        try:
            self._start()
        except Exception:
            logger.exception("request %s failed in the router itself", self._call.request_id.decode())
            self._fault()

    def _start(self) -> None:
        placement = self._hub.place(self._call, self._avoid)
        if placement is None:
            self._wait()
            return
        self._placement = placement
        self._last_s = self._hub.now_s()
        upstream = self._hub.pool.take(placement.decode.worker)
        if upstream is None:
            self._hub.pool.connect(placement.decode.worker, self)
        else:
            self.connected(upstream)

    def connected(self, upstream: Upstream) -> None:
        """Send the request, or the replay of what was forwarded already."""
        placement = self._placement
        if self._done or placement is None:
            self._hub.pool.put(upstream)
            return
        transcript = self._resuming
        resume = None if transcript is None else transcript.resume(self._call.body)
        self._upstream = upstream
        self._mode = None
        upstream.send(self, self._call.message(placement, resume))
        if self._paused:
            upstream.pause()

    @property
    def _resuming(self) -> Transcript | None:
        """What was forwarded already, when something was."""
        transcript = self._transcript
        return transcript if transcript is not None and transcript.heads else None

    def unreachable(self, reason: str) -> None:
        """Leave the worker alone for a while and go to another. Nothing was sent, so it counts as no attempt."""
        if self._done or self._placement is None:
            return
        logger.info("request %s: %s", self._call.request_id.decode(), reason)
        self._placement.decode.breaker.failed(self._hub.now_s())
        self._leave()
        self.start()

    def lost(self, upstream: Upstream, reason: str) -> None:
        """Go on elsewhere: the worker died, or only a connection that had been idle for too long."""
        placement = self._placement
        if self._done or placement is None:
            return
        self._upstream = None
        if upstream.served > 1 and not upstream.touched:
            self._hub.pool.connect(placement.decode.worker, self)
            return
        placement.decode.breaker.failed(self._hub.now_s())
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        """Count an attempt whose worker failed after the request was sent, and start the next one."""
        logger.warning("request %s: %s", self._call.request_id.decode(), reason)
        self._leave()
        self._attempts += 1
        if self._transcript is not None:
            self._transcript.cut()
        error = ClientError(f"The answer was cut off: {reason}.", status=502, code="worker_lost")
        if self._attempts >= self._hub.settings.max_attempts or (self._mode == "plain" and self._answer.begun):
            self._fail(error)
            return
        self._mode = None
        self._opened = self._opened and self._answer.begun
        self._figures.replays += 1
        self.start()

    def _leave(self) -> None:
        """Take the request off the accounts of its worker."""
        placement, self._placement = self._placement, None
        self._upstream = None
        if placement is not None:
            self._hub.placer.end(placement)

    # --- waiting ------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        now_s = self._hub.now_s()
        if self._wait_until_s is None:
            self._wait_until_s = now_s + self._hub.settings.replay_deadline_s
        if now_s < self._wait_until_s:
            self._hub.waiting.add(self)
            return
        deadline_s = self._hub.settings.replay_deadline_s
        text = f"No worker of model {self._call.model!r} was ready within {deadline_s:g} s; try again later."
        self._fail(ClientError(text, status=503, code="no_worker", retry_after_s=5))

    def wake(self, now_s: float) -> None:
        """Try again to find a worker; called while the exchange is among those waiting."""
        if now_s >= self._retry_at_s or (self._wait_until_s is not None and now_s >= self._wait_until_s):
            self._hub.waiting.discard(self)
            self._avoid = None
            self.start()

    # --- the answer ---------------------------------------------------------------------------------------

    def answered(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        """Forward what a worker has said."""
        try:
            self._answered(upstream, body, complete=complete)
        except Exception:
            logger.exception("request %s failed in the router itself", self._call.request_id.decode())
            self._fault()

    def _fault(self) -> None:
        """End after a fault of this program: the client hears of it, and nobody waits for ever."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        error = ClientError("The router failed; its log says why.", status=500, code="internal_error")
        self._leave()
        if not self._done:
            self._fail(error)
        elif not self._answer.begun:
            self._answer.error(error)

    def _answered(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        if self._done or self._placement is None:
            return
        self._last_s = self._hub.now_s()
        if self._mode is None and not self._begin(upstream, complete=complete):
            return
        if self._mode == "frames":
            self._forward_frames(upstream, body, complete=complete)
        else:
            self._forward_plain(upstream, body, complete=complete)

    def _begin(self, upstream: Upstream, *, complete: bool) -> bool:
        """Look at the head of an answer; False when the request went elsewhere instead."""
        placement = self._placement
        assert placement is not None
        placement.decode.breaker.succeeded()
        if upstream.status == 503 and self._refused(placement, upstream, complete=complete):
            return False
        if upstream.status == 200 and upstream.content_type == _FRAMES:
            self._mode = "frames"
        elif self._resuming is not None:
            self._release(upstream, complete=complete)
            self._leave()
            text = f"The answer was cut off, and a worker refused to continue it (status {upstream.status})."
            self._fail(ClientError(text, status=502, code="replay_refused"))
            return False
        else:
            self._mode = "plain"
        self._wait_until_s = None
        return True

    def _refused(self, placement: Placement, upstream: Upstream, *, complete: bool) -> bool:
        """Take a draining or full worker's 503 elsewhere; False when the client should see it."""
        self._avoid = {placement.decode, *(self._avoid or ())}
        other = self._hub.place(self._call, self._avoid)
        if other is None and self._resuming is None:
            return False
        self._release(upstream, complete=complete)
        self._leave()
        if other is None:
            self._retry_at_s = self._hub.now_s() + REFUSED_RETRY_S
            self._wait()
            return True
        self._hub.placer.end(other)  # it was a question; `start` asks again and counts
        self.start()
        return True

    def _release(self, upstream: Upstream, *, complete: bool) -> None:
        self._upstream = None
        if not complete:
            upstream.detach()

    def _forward_frames(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        transcript = self._transcript
        if transcript is None:
            transcript = self._transcript = Transcript()
        try:
            payload = transcript.feed(body)
        except FrameError as error:
            self._upstream = None
            if not complete:
                upstream.abort()
            self._failed(f"the worker at {upstream.worker.url} sent a broken frame: {error}")
            return
        if transcript.heads and not self._first_byte:
            self._note_first_byte()
        final = transcript.final
        fields = b"" if self._opened else self._fields(upstream, transcript.prefill)
        if final is not None:
            self._release(upstream, complete=complete)
            self._settle(200, upstream.name_of(_PREFILL) or transcript.prefill, final.usage)
        self._write_payload(payload, fields, last=final is not None)
        if final is None and complete:
            self._failed(f"the worker at {upstream.worker.url} ended its answer without a final frame")

    def _write_payload(self, payload: bytes, fields: bytes, *, last: bool) -> None:
        """Give the client its bytes of some frames; an answer that is not streamed comes whole in the last one."""
        if not self._call.stream:
            if last:
                self._answer.whole(200, JSON + fields, payload)
            return
        if not self._opened and (payload or last):
            self._opened = True
            self._answer.open(200, _SSE + fields, None)
        if self._opened:
            self._answer.body(payload, last=last)

    def _forward_plain(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        if body and not self._first_byte:
            self._note_first_byte()
        status = upstream.status
        if complete:
            self._upstream = None
            self._settle(status, upstream.name_of(_PREFILL), None)
        if self._opened:
            self._answer.body(body, last=complete)
        elif body or complete:
            self._opened = True
            fields = b"".join(upstream.others) + self._fields(upstream, None)
            if complete and not upstream.content_type.startswith(_EVENTS):
                self._answer.whole(status, fields, body)
            else:
                self._answer.open(status, fields, upstream.length)
                self._answer.body(body, last=complete)

    def _fields(self, upstream: Upstream, prefill: str | None) -> bytes:
        """Return our own header lines of the answer."""
        return b"x-request-id: %b\r\nx-headrace-prefill: %b\r\nx-headrace-decode: %b\r\n" % (
            self._call.request_id,
            upstream.own.get(_PREFILL) or (prefill or PREFILL_LOCAL).encode("latin-1", "replace"),
            upstream.own.get(_DECODE) or upstream.worker.name.encode("latin-1", "replace"),
        )

    def _note_first_byte(self) -> None:
        assert self._placement is not None
        self._first_byte = True
        self._hub.placer.prefilled(self._placement)
        self._figures.ttft.observe(self._last_s - self._started_s)

    # --- ends ---------------------------------------------------------------------------------------------

    def _fail(self, error: ClientError) -> None:
        """End with an error: an answer of its own, or the last event of a stream that has begun."""
        self._settle(error.status, None, None)
        if not self._answer.begun:
            self._answer.error(error, b"x-request-id: %b\r\n" % self._call.request_id)
        elif self._call.stream:
            self._answer.cut(error_event(error))
        else:
            self._answer.cut()

    def _settle(self, status: int, prefill: str | None, usage: Usage | None) -> None:
        """Close all accounts; before the last byte goes out, since the client's next request may start with it."""
        hub, call, placement = self._hub, self._call, self._placement
        self._done = True
        now_s = hub.now_s()
        figures = self._figures
        figures.inflight -= 1
        figures.codes[status] += 1
        figures.duration.observe(now_s - self._started_s)
        hub.waiting.discard(self)
        if placement is not None:
            if status == 200:
                hub.placer.learn(placement, call.hashes, prefill, usage, now_s)
            self._leave()

    # --- from the client ----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let the answer wait in the worker until the client has caught up."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        self._last_s = self._hub.now_s()
        if self._upstream is not None:
            self._upstream.resume()

    def cancel(self) -> None:
        """The client has left: close the worker's connection, which is how the cancel reaches it."""
        upstream = self._upstream
        if self._done:
            return
        self._settle(CLIENT_LEFT, None, None)
        if upstream is not None:
            upstream.abort()

    def sweep(self, now_s: float) -> None:
        """Give up a worker that has been silent for too long."""
        upstream = self._upstream
        silence_s = self._hub.settings.silence_deadline_s
        if upstream is not None and not self._paused and now_s - self._last_s > silence_s:
            upstream.abort()
            assert self._placement is not None
            self._placement.decode.breaker.failed(now_s)
            self._failed(f"the worker at {upstream.worker.url} has been silent for {silence_s:g} s")
