"""One request between a client and its workers: send, forward, and go on elsewhere when a worker dies.

All of it is callbacks of the two connections, without a task. The life of an exchange:

    dispatch ─ no worker ──► hold (the router wakes it) ─ deadline ──► fail
       │
       ├─ connect / send ──► answered … answered ──► settle
       │                        │
       └──────── lost ◄─────────┘   (resumed behind the last forwarded byte, at most `max_attempts` times)
"""

import logging
from typing import Protocol

from headrace_api.frames import FrameError, Usage
from headrace_api.names import HEADER_REFUSED, REFUSED_OVERLOADED
from headrace_router.admin.metrics import Metrics
from headrace_router.cost.bill import Footer
from headrace_router.cost.books import Books
from headrace_router.discovery.registry import Member
from headrace_router.errors import ClientError
from headrace_router.placement import Placement, Placer
from headrace_router.server.answer import Answer
from headrace_router.server.call import Call
from headrace_router.server.delivery import Delivery
from headrace_router.server.hold import Hold
from headrace_router.server.pool import Pool
from headrace_router.server.upstream import Upstream
from headrace_router.settings import RouterSettings

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""Status under which a request is counted whose client left."""
RETRY_AFTER_S = 5
"""What a client is told that finds no worker, or no room to wait for one."""
REFUSED_RETRY_S = 0.5
"""Between two tries at workers that answer a replay with 503 because they are full."""

_REFUSED = HEADER_REFUSED.encode()
_OVERLOADED = REFUSED_OVERLOADED.encode()


class Hub(Protocol):
    """What all exchanges share."""

    settings: RouterSettings
    pool: Pool
    placer: Placer
    metrics: Metrics
    hold: Hold
    """Exchanges without a worker; the router wakes them now and then, and at once when workers come."""

    def place(self, call: Call, avoid: set[Member] | None) -> Placement | None:
        """Choose workers for the call among those that can be chosen now."""

    def now_s(self) -> float:
        """Return a monotonic time."""


class Exchange:
    """One request, from its last byte read to the last byte of its answer written."""

    __slots__ = (
        "_attempts",
        "_avoid",
        "_books",
        "_call",
        "_delivery",
        "_done",
        "_figures",
        "_first_byte",
        "_hub",
        "_last_s",
        "_paused",
        "_placement",
        "_retry_at_s",
        "_started_s",
        "_upstream",
        "_wait_until_s",
    )

    def __init__(self, hub: Hub, answer: Answer, call: Call, books: Books | None) -> None:
        self._hub = hub
        self._call = call
        self._books = books
        self._delivery = Delivery(answer, call, books)
        self._placement: Placement | None = None
        self._upstream: Upstream | None = None
        self._avoid: set[Member] | None = None
        self._attempts = 0
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
        hub, model = self._hub, self._call.model
        if hub.hold.waits(model):
            hub.hold.wake(model, hub.now_s())  # who came before goes first
        placement = hub.place(self._call, self._avoid)
        if placement is None:
            self._wait()
        else:
            self._dispatch(placement)

    def _dispatch(self, placement: Placement) -> None:
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
        transcript = self._delivery.resuming
        resume = None if transcript is None else transcript.resume(self._call.body)
        self._upstream = upstream
        self._delivery.mode = None
        upstream.send(self, self._call.message(placement, resume))
        if self._paused:
            upstream.pause()

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
        self._delivery.cut()
        error = ClientError(f"The answer was cut off: {reason}.", status=502, code="worker_lost")
        # An endpoint may have done, and will bill, what it did not say.
        final = self._call.endpoint is not None or self._delivery.stuck
        if final or self._attempts >= self._hub.settings.max_attempts:
            self._fail(error)
            return
        self._delivery.restart()
        self._figures.replays += 1
        self.start()

    def _leave(self) -> None:
        """Take the request off the accounts of its worker."""
        placement, self._placement = self._placement, None
        self._upstream = None
        if placement is not None:
            self._hub.placer.end(placement)

    # --- waiting ------------------------------------------------------------------------------------------

    @property
    def _fresh(self) -> bool:
        """Whether no worker has begun with it."""
        return self._attempts == 0 and self._delivery.resuming is None

    def _wait(self) -> None:
        """Queue for a worker, which for a new request may mean that one is started; no byte goes out meanwhile."""
        hub, call, now_s = self._hub, self._call, self._hub.now_s()
        if call.endpoint is not None:
            self._fail(call.endpoint.away())  # nobody starts another one
            return
        if self._wait_until_s is None:
            self._wait_until_s = now_s + self._patience_s
        if now_s >= self._wait_until_s:
            self._give_up()
        elif not hub.hold.add(call.model, self, bounded=self._fresh):
            limit = hub.settings.hold_requests
            text = (
                f"Model {call.model!r} has no worker now, and {limit} requests wait for one already; try again later."
            )
            self._fail(ClientError(text, status=503, code="queue_full", retry_after_s=RETRY_AFTER_S))

    @property
    def _patience_s(self) -> float:
        settings = self._hub.settings
        return settings.hold_deadline_s if self._fresh else settings.replay_deadline_s

    def _give_up(self) -> None:
        text = f"No worker of model {self._call.model!r} was ready within {self._patience_s:g} s; try again later."
        self._fail(ClientError(text, status=503, code="no_worker", retry_after_s=RETRY_AFTER_S))

    def wake(self, now_s: float) -> None:
        """Try again to find a worker; called while the exchange is held."""
        try:
            self._wake(now_s)
        except Exception:
            logger.exception("request %s failed in the router itself", self._call.request_id.decode())
            self._fault()

    def _wake(self, now_s: float) -> None:
        assert self._wait_until_s is not None
        late = now_s >= self._wait_until_s
        if now_s < self._retry_at_s and not late:
            return
        self._avoid = None
        placement = self._hub.place(self._call, None)
        if placement is not None:
            self._hub.hold.discard(self._call.model, self)
            self._dispatch(placement)
        elif late:
            self._give_up()

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
        elif not self._delivery.begun:
            self._delivery.fail(error)

    def _answered(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        if self._done or self._placement is None:
            return
        self._last_s = self._hub.now_s()
        if self._delivery.mode is None and not self._begin(upstream, complete=complete):
            return
        if self._delivery.mode == "frames":
            self._forward_frames(upstream, body, complete=complete)
        else:
            self._forward_plain(upstream, body, complete=complete)

    def _begin(self, upstream: Upstream, *, complete: bool) -> bool:
        """Look at the head of an answer; False when the request went elsewhere instead."""
        placement = self._placement
        assert placement is not None
        endpoint = self._call.endpoint
        if endpoint is not None:
            error = endpoint.refusal(upstream.status, upstream.own.get(b"retry-after"))
            if error is not None:
                self._turned_away(placement, upstream, error, complete=complete)
                return False
        elif upstream.status == 503 and self._refused(placement, upstream, complete=complete):
            return False
        placement.decode.breaker.succeeded()
        if not self._delivery.accept(upstream):
            self._release(upstream, complete=complete)
            self._leave()
            text = f"The answer was cut off, and a worker refused to continue it (status {upstream.status})."
            self._fail(ClientError(text, status=502, code="replay_refused"))
            return False
        self._wait_until_s = None
        return True

    def _turned_away(self, placement: Placement, upstream: Upstream, error: ClientError, *, complete: bool) -> None:
        """End with what an endpoint's refusal means, and leave the endpoint alone for a while."""
        logger.warning("request %s: %s", self._call.request_id.decode(), error)
        placement.decode.breaker.failed(self._hub.now_s())
        self._release(upstream, complete=complete)
        self._leave()
        self._fail(error)

    def _refused(self, placement: Placement, upstream: Upstream, *, complete: bool) -> bool:
        """Take a worker's 503 elsewhere; False when the client should see it.

        Too much to do is for the client to know, when all workers say so. A worker that ends, or cannot work yet, says
        nothing about the request: it waits for another worker, and others need not ask this one.
        """
        reason = upstream.own.get(_REFUSED)
        leaving = reason is not None and reason != _OVERLOADED
        if leaving:
            placement.decode.breaker.failed(self._hub.now_s())
        self._avoid = {placement.decode, *(self._avoid or ())}
        other = self._hub.place(self._call, self._avoid)
        if other is None and not leaving and self._delivery.resuming is None:
            return False
        self._release(upstream, complete=complete)
        self._leave()
        if other is None:
            self._retry_at_s = 0.0 if leaving else self._hub.now_s() + REFUSED_RETRY_S
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
        delivery = self._delivery
        try:
            payload = delivery.feed(body)
        except FrameError as error:
            self._upstream = None
            if not complete:
                upstream.abort()
            self._failed(f"the worker at {upstream.worker.url} sent a broken frame: {error}")
            return
        if delivery.resuming is not None and not self._first_byte:
            self._note_first_byte()
        final = delivery.final
        if final is not None:
            self._release(upstream, complete=complete)
            self._finish(upstream, 200, payload, final.usage)
        else:
            delivery.write_payload(payload, delivery.fields(upstream), last=False)
            if self._done:
                return  # given up over what these bytes say
            if self._books is not None and self._books.refusal is not None:
                if not complete:
                    upstream.abort()
                self._fail(self._books.refusal)
            elif complete:
                self._failed(f"the worker at {upstream.worker.url} ended its answer without a final frame")

    def _forward_plain(self, upstream: Upstream, body: bytes, *, complete: bool) -> None:
        if body and not self._first_byte:
            self._note_first_byte()
        body = self._delivery.listen(body, complete=complete)
        if complete:
            self._upstream = None
            self._finish(upstream, upstream.status, body, None)
            return
        self._delivery.write_plain(self._delivery.head(upstream), body, complete=False)
        if not self._done and self._books is not None and self._books.refusal is not None:
            upstream.abort()
            self._fail(self._books.refusal)

    def _finish(self, upstream: Upstream, status: int, last: bytes, usage: Usage | None) -> None:
        """End a whole answer with its last bytes; with a ledger they wait until its line there is safe.

        So whatever a client has seen the end of is in the ledger, even if this process is killed the moment after.
        """
        # By the time the line is safe the connection may serve another request: all of it is read now.
        if status == 200 and self._placement is not None:
            hub, prefill = self._hub, self._delivery.prefill(upstream)
            hub.placer.learn(self._placement, self._call.hashes, prefill, usage, hub.now_s())
        plain = self._delivery.head(upstream) if self._delivery.mode == "plain" else None
        fields = self._delivery.fields(upstream) if plain is None else b""

        self._leave()

        def told(footer: Footer) -> None:
            if self._done:
                return  # the client left while the line was written
            self._settle(status)
            if plain is not None:
                self._delivery.write_plain(plain, last, complete=True, footer=footer)
            else:
                self._delivery.write_payload(last, fields, last=True, footer=footer)

        if self._books is None:
            told(Footer())
        else:
            self._books.close(status, told)

    def _note_first_byte(self) -> None:
        assert self._placement is not None
        self._first_byte = True
        self._hub.placer.prefilled(self._placement)
        self._figures.ttft.observe(self._last_s - self._started_s)

    # --- ends ---------------------------------------------------------------------------------------------

    def _fail(self, error: ClientError) -> None:
        """End with an error."""
        self._settle(error.status)
        self._delivery.fail(error)

    def _settle(self, status: int) -> None:
        """Close all accounts; before the last byte goes out, since the client's next request may start with it."""
        self._done = True
        if self._books is not None and not self._books.closed:
            self._books.close(status, _forget)
        figures = self._figures
        figures.inflight -= 1
        figures.codes[status] += 1
        figures.duration.observe(self._hub.now_s() - self._started_s)
        self._hub.hold.discard(self._call.model, self)
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
        self._settle(CLIENT_LEFT)
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


def _forget(footer: Footer) -> None:
    """Nobody is left to be told what it cost."""
