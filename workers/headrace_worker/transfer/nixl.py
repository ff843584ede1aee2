"""The NIXL transport: UCX picks shared memory, TCP, RDMA or NVLink between two workers.

Talks to NIXL's bindings and not to its Python agent, because that agent fixes the progress thread's delay at zero, and
the thread then spins on one whole processor for as long as the worker lives. With a delay it sleeps on UCX's events.

No data passes through shared memory segments here: host memory is written by the kernel's cross-memory attach, so a
killed process leaves nothing behind.
"""

import importlib
import ipaddress
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import numpy as np

from headrace_api.handoff import Layout
from headrace_worker.errors import TransferError
from headrace_worker.transfer.linger import Watcher
from headrace_worker.transfer.transport import Notification, Span, Transport, Write

logger = logging.getLogger(__name__)
_BACKEND = "UCX"
_PROGRESS_DELAY_US = 100_000
"""How long the progress thread sleeps when no event wakes it."""
_LOOK_S = 0.1


@dataclass(slots=True)
class _Posted:
    handle: int
    peer: str
    error: str | None = None
    """Why it failed; it is reported only once the handle could be released."""


class NixlTransport(Transport):
    """One NIXL agent, named after the worker's incarnation.

    Args:
        incarnation: ours.
        host: the worker's address; a loopback one keeps UCX off all other interfaces, where it would listen too.
    """

    name: ClassVar[str] = "nixl"

    def __init__(self, *, incarnation: str, host: str) -> None:
        self._incarnation = incarnation
        self._host = host
        self._bindings: Any = None
        self._agent: Any = None
        self._backends: list[int] = []
        self._registered: Any = None
        self._base = 0
        self._device = 0
        self._segment: Any = None
        self._peers: dict[str, Layout] = {}
        self._posted: dict[Write, _Posted] = {}
        self._numbers = count(1)
        self._errors: tuple[type[Exception], ...] = ()
        self._watcher = None if _is_loopback(host) else Watcher()
        """Of UCX's connections; over the loopback there is no network that could be cut."""
        self._look_s = 0.0

    def register(self, address: int, size: int, device: int | None) -> None:
        """Start the agent on this thread and register the memory with it."""
        self._bindings = _load(self._host)
        self._errors = _exceptions(self._bindings)
        with self._translated("NIXL could not be started"):
            self._agent = self._make_agent()
            self._segment = self._bindings.DRAM_SEG if device is None else self._bindings.VRAM_SEG
            self._device = device or 0
            self._base = address
            regions = self._bindings.nixlRegDList(self._segment, [(address, size, self._device, "")])
            self._agent.registerMem(regions, self._backends)
            self._registered = regions

    def metadata(self) -> bytes:
        """Return the agent's own metadata: connection information and the keys of the registered memory."""
        with self._translated("NIXL has no metadata"):
            return bytes(self._agent.getLocalMD())

    def connect(self, incarnation: str, metadata: bytes, layout: Layout) -> None:
        """Load a peer's metadata and start to connect, so that the first write does not wait for it."""
        if incarnation in self._peers:
            return
        with self._translated(f"NIXL could not connect to peer {incarnation!r}"):
            loaded = self._agent.loadRemoteMD(metadata)
            name = loaded.decode() if isinstance(loaded, bytes) else str(loaded)
            if name != incarnation:
                self._agent.invalidateRemoteMD(name)
                raise TransferError(f"the peer calls itself {incarnation!r} but its NIXL metadata is of {name!r}")
            self._peers[incarnation] = layout
            self._agent.makeConnection(incarnation, self._backends)

    def disconnect(self, incarnation: str) -> None:
        """Invalidate a peer's metadata, which also closes the connection."""
        if self._peers.pop(incarnation, None) is None:
            return
        for posted in self._posted.values():
            if posted.peer == incarnation and posted.error is None:
                posted.error = f"peer {incarnation!r} was disconnected"
        try:
            self._agent.invalidateRemoteMD(incarnation)
        except self._errors as error:
            logger.warning("NIXL could not forget a peer", extra={"peer": incarnation, "error": str(error)})

    def write(self, incarnation: str, spans: Sequence[Span]) -> Write:
        """Post one transfer of all spans; over shared memory the copy happens in this call, without the GIL."""
        layout = self._layout(incarnation)
        local = self._descriptors([(self._base + span.local, span.size, self._device) for span in spans])
        remote = self._descriptors([(layout.base + span.remote, span.size, layout.device) for span in spans])
        with self._translated(f"a write to peer {incarnation!r} could not be prepared"):
            handle = self._agent.createXferReq(
                self._bindings.NIXL_WRITE, local, remote, incarnation, b"", self._backends
            )
        write = Write(next(self._numbers))
        posted = self._posted[write] = _Posted(handle, incarnation)
        self._look()
        self._attend(posted, lambda: self._agent.postXferReq(handle, b""))
        return write

    def done(self, write: Write) -> bool:
        """Ask NIXL for the state; a failed transfer counts as ended only when NIXL lets go of it."""
        posted = self._posted[write]
        completed = posted.error is None and self._attend(posted, lambda: self._agent.getXferStatus(posted.handle))
        if not completed and posted.error is None:
            return False
        try:
            self._agent.releaseXferReq(posted.handle)
        except self._errors:
            # A handle that NIXL cannot cancel may still write: it stays in flight.
            return False
        del self._posted[write]
        self._look()
        if posted.error is not None:
            raise TransferError(posted.error)
        return True

    def notify(self, incarnation: str, payload: bytes) -> None:
        """Send a NIXL notification."""
        self._layout(incarnation)
        with self._translated(f"peer {incarnation!r} could not be notified"):
            self._agent.genNotif(incarnation, payload)

    def notifications(self) -> list[Notification]:
        """Return notifications of all agents."""
        with self._translated("NIXL could not be asked for notifications"):
            arrived = self._agent.getNotifs({}, self._backends)
        return [Notification(_text(sender), bytes(payload)) for sender in arrived for payload in arrived[sender]]

    def close(self) -> None:
        """Release transfers, peers and memory, then the agent, whose end stops its thread."""
        if self._agent is None:
            return
        for posted in self._posted.values():
            self._quietly(lambda handle=posted.handle: self._agent.releaseXferReq(handle))
        self._posted.clear()
        for incarnation in list(self._peers):
            self.disconnect(incarnation)
        if self._registered is not None:
            self._quietly(lambda: self._agent.deregisterMem(self._registered, self._backends))
        self._agent = self._registered = None

    def _look(self) -> None:
        """Have connections that UCX has made meanwhile end with this process: before a write and after it.

        UCX connects when a peer says hello, long before its first write, so a look now and then finds them in time.
        """
        now = time.monotonic()
        if self._watcher is not None and now >= self._look_s:
            self._look_s = now + _LOOK_S
            self._watcher.look()

    def _make_agent(self) -> Any:
        settings = self._bindings.nixlAgentConfig()
        settings.useProgThread = True
        settings.pthrDelay = _PROGRESS_DELAY_US
        settings.useListenThread = False
        settings.syncMode = self._bindings.NIXL_THREAD_SYNC_NONE
        agent = self._bindings.nixlAgent(self._incarnation, settings)
        parameters, _ = agent.getPluginParams(_BACKEND)
        self._backends = [agent.createBackend(_BACKEND, parameters)]
        return agent

    def _attend(self, posted: _Posted, ask: Any) -> bool:
        """Return whether `ask` says completed; a failure is kept in `posted`."""
        try:
            status = ask()
        except self._errors as error:
            posted.error = f"a write to peer {posted.peer!r} failed: {error}"
            return False
        if status not in (self._bindings.NIXL_SUCCESS, self._bindings.NIXL_IN_PROG):
            posted.error = f"a write to peer {posted.peer!r} failed with NIXL status {status}"
        return bool(status == self._bindings.NIXL_SUCCESS)

    def _descriptors(self, rows: Sequence[tuple[int, int, int]]) -> Any:
        """Return NIXL's list of (address, size, device); an array is its fast way in."""
        return self._bindings.nixlXferDList(self._segment, np.array(rows, dtype=np.uint64))

    def _layout(self, incarnation: str) -> Layout:
        layout = self._peers.get(incarnation)
        if layout is None:
            raise TransferError(f"peer {incarnation!r} is not connected; it must say hello first")
        return layout

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise TransferError(f"{what}: {error}") from error

    def _quietly(self, release: Any) -> None:
        try:
            release()
        except self._errors as error:
            logger.debug("NIXL release failed at close", extra={"error": str(error)})


def _exceptions(bindings: Any) -> tuple[type[Exception], ...]:
    """Return NIXL's exceptions, which share no base class; RuntimeError is what its bindings raise otherwise."""
    kinds = (kind for kind in vars(bindings).values() if isinstance(kind, type))
    return (RuntimeError, *(kind for kind in kinds if issubclass(kind, Exception)))


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _load(host: str) -> Any:
    """Import exactly one of NIXL's builds: the meta package takes the one that fits torch's CUDA."""
    if _is_loopback(host):
        os.environ.setdefault("UCX_NET_DEVICES", "lo")
    try:
        bindings = importlib.import_module("nixl._bindings")
    except ImportError as error:
        raise TransferError(f"the package 'nixl' cannot be loaded here: {error}; reinstall it") from error
    chatter = logging.getLogger("nixl")
    chatter.handlers.clear()
    chatter.propagate = True
    chatter.setLevel(logging.WARNING)
    return bindings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
