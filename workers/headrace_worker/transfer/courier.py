"""The courier: one thread that owns the transport and the control sockets, so that compute never waits for a peer.

The core calls it from its own thread; every call only leaves a note and returns. What happened comes back as events,
taken with `poll`. Over shared memory a write copies in the thread that posts it, which is this one, while the core's
computes the next layer.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from headrace_api.frames import Token
from headrace_api.handoff import Attempt, Dead, Grant, Layout, Rank, Renew
from headrace_worker.errors import TransferError
from headrace_worker.messages import PrefillPeer
from headrace_worker.parallel.pipe import Pipe
from headrace_worker.transfer import secrecy
from headrace_worker.transfer.bell import Bell
from headrace_worker.transfer.branch import FromBranch, Places
from headrace_worker.transfer.decode import DecodeSide
from headrace_worker.transfer.device import use_device
from headrace_worker.transfer.events import Down, Event
from headrace_worker.transfer.identity import Identity
from headrace_worker.transfer.prefill import PrefillSide
from headrace_worker.transfer.transport import Transport
from headrace_worker.transfer.writing import Computed, Ready

logger = logging.getLogger(__name__)
_START_S = 60.0
"""Bound on starting the transport: RDMA registers memory by the page."""
_STOP_S = 10.0
_BUSY_POLL_MS = 1
_WAITING_POLL_MS = 5
_EAGER_TURNS = 10
_ACTIVE_POLL_MS = 100
_IDLE_POLL_MS = 1000


class Courier:
    """One thread, one transport, one bound control socket, one connected control socket for each prefill worker asked.

    Args:
        worker: our name, stable over restarts.
        incarnation: ours, unique for this start.
        kv_hash: compatibility hash, compared before a peer's metadata is decoded.
        secret: shared by the deployment; empty leaves the control sockets open to anybody.
        host: address to bind.
        advertise: address that peers are told; default: the bound one.
        port: to bind; 0 takes a free one.
        transport: not yet registered.
        kv_address: where the KV memory begins.
        layout: of the KV memory.
        device: CUDA ordinal of the KV memory, None for host memory.
        silence_s: how long a handshake may take.
        wake: called on the courier's thread when events are waiting.
        trace: takes a record for each hand-off that has settled here.
        branches: pipes to the couriers of this worker's other ranks.

    Raises:
        TransferError: the transport or the control socket could not be started.
    """

    def __init__(  # noqa: PLR0913 - each argument is one fact of the handshake or one seam, named at the call
        self,
        *,
        worker: str,
        incarnation: str,
        kv_hash: str,
        secret: str,
        host: str,
        port: int,
        transport: Transport,
        kv_address: int,
        layout: Layout,
        device: int | None = None,
        silence_s: float,
        wake: Callable[[], None],
        advertise: str | None = None,
        trace: Callable[[dict[str, Any]], None] | None = None,
        branches: Sequence[Pipe[FromBranch]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._branches = branches
        self.address = ""
        self._who = (worker, incarnation, kv_hash)
        self._secret = secret
        self._endpoint = _endpoint(host)
        self._advertise = advertise or host
        self._port = port
        self._transport = transport
        self._memory = (kv_address, layout.num_layers * layout.num_blocks * layout.block_bytes, device)
        self._layout = layout
        self._silence_s = silence_s
        self._wake_core = wake
        self._trace = trace
        self._clock = clock
        self._notes: deque[Callable[[], None]] = deque()
        self._events: deque[Event] = deque()
        self._emitted = False
        self._asleep = False
        self._eager = 0
        """Turns for which an admission is looked for often: its hint has come over the control socket."""
        self._closing = False
        self._bell = Bell()
        self._prefill: PrefillSide
        self._decode: DecodeSide
        self._error: Exception | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kv-courier", daemon=True)
        self._thread.start()
        self._await_start()

    def _await_start(self) -> None:
        in_time = self._started.wait(_START_S)
        if in_time and self._error is None:
            return
        self.close()
        if isinstance(self._error, TransferError):
            raise self._error
        reason = f"it did not start within {_START_S:g} s" if self._error is None else str(self._error)
        raise TransferError(f"hand-offs cannot be served: {reason}") from self._error

    # --- a decode worker's core --------------------------------------------------------------------------------------

    def ask(self, peer: PrefillPeer, attempt: Attempt) -> None:
        """Ask a prefill worker; answered by Started or Refused, and by Lost when the connection breaks."""
        self._note(lambda: self._decode.ask(peer, attempt))

    def grant(self, incarnation: str, grant: Grant) -> None:
        """Let that incarnation write these blocks; answered by Admitted or Refused."""
        self._note(lambda: self._decode.grant(incarnation, grant))

    def renew(self, incarnation: str, renew: Renew) -> None:
        """Extend a lease."""
        self._note(lambda: self._decode.renew(incarnation, renew))

    def abort(self, incarnation: str, attempt: str) -> None:
        """Give an attempt up; it is repeated until Aborted, Refused or Returned answers it."""
        self._note(lambda: self._decode.abort(incarnation, attempt))

    # --- a prefill worker's core -------------------------------------------------------------------------------------

    def open(self, attempt: str) -> None:
        """The attempt was taken: the decode worker hears at once that somebody lives here."""
        self._note(lambda: self._prefill.open(attempt))

    def starting(self, attempt: str) -> None:
        """The attempt's first chunk is about to be computed: have the decode worker grant blocks."""
        self._note(lambda: self._prefill.start(attempt))

    def ready_blocks(self, attempt: str, first: int, blocks: Sequence[int]) -> None:
        """Blocks [first, first + len(blocks)) of the sequence lie in our `blocks`, in all layers (a cache hit)."""
        now, layers = self._clock(), range(self._layout.num_layers)
        self._note(lambda: self._prefill.hit(Computed(attempt, layers, first, blocks, now)))

    def layers_done(
        self, attempt: str, layers: range, first: int, blocks: Sequence[int], event: Ready | None = None
    ) -> None:
        """These layers of these blocks are computed, or will be once `event` has come. Costs microseconds."""
        now = self._clock()
        self._note(lambda: self._prefill.ready(Computed(attempt, layers, first, blocks, now), event))

    def finish(self, attempt: str, first_token: Token, cached_tokens: int, spent_s: float = 0.0) -> None:
        """Compute is over; the first token, and the GPU-seconds it took, travel with the admission."""
        self._note(lambda: self._prefill.finish(attempt, first_token, cached_tokens, spent_s))

    def refuse(self, attempt: str, reason: str) -> None:
        """Do not serve the attempt, or fail it; Settled follows when its last write has ended."""
        self._note(lambda: self._prefill.refuse(attempt, reason))

    # --- both --------------------------------------------------------------------------------------------------------

    def dead(self, dead: Dead) -> None:
        """The backend vouches that these processes have ended: wait for nothing from them."""
        self._note(lambda: self._dead(dead))

    def poll(self) -> list[Event]:
        """Return the events since the last call."""
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def close(self) -> None:
        """End the thread, and with it the transport and all sockets."""
        self._closing = True
        self._bell.ring()
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self._bell.close()

    def _dead(self, dead: Dead) -> None:
        self._decode.dead(dead)
        self._prefill.dead(dead)

    def _note(self, note: Callable[[], None]) -> None:
        self._notes.append(note)
        if self._asleep:
            self._bell.ring()

    # --- the courier's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            router = self._open(context)
            self._started.set()
            while not self._closing:
                self._turn(router)
        except Exception as error:
            logger.exception("the KV courier has ended")
            self._error = error
            self._emit(Down(f"hand-offs have ended by an error: {error}"))
            self._tell_core()
        finally:
            self._shut(context)
            self._started.set()

    def _open(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        use_device(self._memory[2])
        self._transport.register(*self._memory)
        router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        router.linger = 0
        router.router_mandatory = True
        router.ipv6 = "[" in self._endpoint
        secrecy.guard_server(router, self._secret)
        endpoint = f"{self._endpoint}:{self._port or '*'}"
        try:
            router.bind(endpoint)
        except zmq.ZMQError as error:
            raise TransferError(
                f"the hand-off socket cannot be bound to {endpoint}: {error}; choose a free `handoff_port`"
            ) from error
        port = router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        self.address = f"{_endpoint(self._advertise)}:{port}"
        identity = self._introduce()
        self._prefill = PrefillSide(
            router,
            identity,
            self._transport,
            emit=self._emit,
            clock=self._clock,
            trace=self._trace,
            branches=self._branches,
        )
        self._decode = DecodeSide(
            context, identity, secret=self._secret, silence_s=self._silence_s, emit=self._emit, clock=self._clock
        )
        return router

    def _introduce(self) -> Identity:
        """Return who we are once every rank has said where its memory lies, and tell the ranks of each other."""
        ranks: list[Rank] = []
        for pipe in self._branches:
            said = pipe.receive(_START_S)
            assert isinstance(said, Rank), f"a rank began with {said}"
            ranks.append(said)
        metadata = self._transport.metadata()
        identity = Identity(*self._who, self._transport.name, self._layout, metadata, tuple(ranks))
        for pipe in self._branches:
            pipe.send(Places(tuple(identity.layouts)))
        return identity

    def _turn(self, router: zmq.Socket[bytes]) -> None:
        self._take_notes()
        self._sleep(router)
        self._take_notes()
        for route, data in _received(router):
            self._prefill.receive(route, data)
        self._prefill.watch()
        self._prefill.tick()
        self._eager = _EAGER_TURNS if self._decode.watch() else self._eager - 1
        self._decode.tick()
        for notification in self._transport.notifications():
            self._decode.notified(notification)
        self._tell_core()

    def _take_notes(self) -> None:
        while self._notes:
            self._notes.popleft()()

    def _sleep(self, router: zmq.Socket[bytes]) -> None:
        """Wait for messages, notes or the next deadline; never for long while a transfer can end."""
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        for pipe in self._branches:
            poller.register(pipe, zmq.POLLIN)
        for each in self._decode.sockets():
            poller.register(each, zmq.POLLIN)
        self._asleep = True
        # A note left before the flag was up rang no bell.
        poller.poll(0 if self._notes or self._emitted else self._pause_ms())
        self._asleep = False
        self._bell.hush()

    def _pause_ms(self) -> int:
        if self._prefill.busy or (self._decode.busy and self._eager > 0):
            return _BUSY_POLL_MS
        if self._decode.busy:
            return _WAITING_POLL_MS
        return _IDLE_POLL_MS if self._prefill.idle and self._decode.idle else _ACTIVE_POLL_MS

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._emitted = True

    def _tell_core(self) -> None:
        if self._emitted:
            self._emitted = False
            self._wake_core()

    def _shut(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        try:
            self._transport.close()
        except TransferError:
            logger.exception("the KV transport did not close cleanly")
        context.destroy(linger=0)


def _received(router: zmq.Socket[bytes]) -> list[tuple[bytes, bytes]]:
    received: list[tuple[bytes, bytes]] = []
    while True:
        try:
            parts = router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return received
        if len(parts) == 2:
            received.append((parts[0], parts[1]))


def _endpoint(host: str) -> str:
    return f"tcp://[{host}]" if ":" in host else f"tcp://{host}"
