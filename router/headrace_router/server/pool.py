"""Keep-alive connections to workers, the most recently used first."""

import asyncio
import logging
import socket
import ssl
from collections import deque

from headrace_router.discovery.worker import Worker
from headrace_router.server.upstream import DETACHED_S, Receiver, Upstream
from headrace_router.settings import RouterSettings

logger = logging.getLogger(__name__)

MAX_IDLE = 512
"""Idle connections kept for one worker."""
_QUIET_S, _PROBES = 5, 3
"""After so long without a packet a peer is asked whether it is there, as often, as many times."""


class Pool:
    """Opens, keeps and closes connections to workers."""

    def __init__(self, settings: RouterSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._idle: dict[Worker, list[Upstream]] = {}
        self._open: set[Upstream] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._wanting: dict[Worker, deque[Receiver]] = {}
        self._trust: ssl.SSLContext | None = None

    def take(self, worker: Worker) -> Upstream | None:
        """Return an idle connection, or None when a new one must be made."""
        idle = self._idle.get(worker)
        while idle:
            upstream = idle.pop()
            if not upstream.closing:
                return upstream
        return None

    def connect(self, worker: Worker, receiver: Receiver) -> None:
        """Make a connection and tell the receiver, in a task: the only one on the data path, once per connection.

        Connections are equal: the first that stands goes to who has waited longest for one to this worker.
        """
        self._wanting.setdefault(worker, deque()).append(receiver)
        task = self._loop.create_task(self._connect(worker))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _first(self, worker: Worker) -> Receiver:
        wanting = self._wanting[worker]
        receiver = wanting.popleft()
        if not wanting:
            del self._wanting[worker]
        return receiver

    async def _connect(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_deadline_s):
                transport, upstream = await self._loop.create_connection(
                    lambda: Upstream(self, worker), worker.host, worker.port, ssl=self._context(worker)
                )
                _notice_its_end(transport)
        except TimeoutError:
            self._first(worker).unreachable(
                f"{worker.url} took longer than {self._settings.connect_deadline_s} s to connect"
            )
        except OSError as error:
            self._first(worker).unreachable(f"{worker.url} cannot be reached: {error}")
        else:
            self._open.add(upstream)
            self._first(worker).connected(upstream)

    def _context(self, worker: Worker) -> ssl.SSLContext | None:
        """Return how a connection is secured; reading the authorities blocks for some milliseconds, once."""
        if worker.tls and self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust if worker.tls else None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        idle = self._idle.setdefault(upstream.worker, [])
        if len(idle) < MAX_IDLE:
            idle.append(upstream)
        else:
            upstream.abort()

    def remove(self, upstream: Upstream) -> None:
        """Forget a connection that has closed."""
        self._open.discard(upstream)
        idle = self._idle.get(upstream.worker)
        if idle is not None and upstream in idle:
            idle.remove(upstream)

    def drop(self, worker: Worker) -> None:
        """Close the idle connections to a worker that is not listed any more; busy ones go on to their end."""
        for upstream in self._idle.pop(worker, []):
            upstream.abort()

    def sweep(self, now_s: float) -> None:
        """Close what has been idle, or detached, for too long."""
        for upstream in list(self._open):
            limit_s = self._settings.idle_deadline_s if upstream.idle else DETACHED_S
            if not upstream.waited_for and now_s - upstream.since_s > limit_s:
                upstream.abort()

    async def close(self) -> None:
        """Close everything."""
        for upstream in list(self._open):
            upstream.abort()
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)


def _notice_its_end(transport: asyncio.BaseTransport) -> None:
    """Have the kernel tell when a peer has vanished: a machine that is off, or a network that is cut, says nothing.

    An answer may be silent for minutes while a long prompt is computed, so that silence alone tells nothing; see
    tcp(7) for the options.
    """
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _QUIET_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _QUIET_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (1 + _PROBES) * _QUIET_S * 1000)
