"""Connections to one server, kept open between calls."""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from headrace_operator.http.connection import Answer, Connection, ExchangeError, connect

_IDLE_S: Final = 60.0
"""Servers close connections that rest for longer, and a call may meet the closing."""


class Pool:
    """Sends requests to one server, each on a connection of its own while it lasts.

    Args:
        server: its URL; a path there stands before every target.
        tls: None: not encrypted.
        server_name: to find in the certificate where it is not that of the URL.
        headers: of every request.
        most_bytes: of a whole answer; None: as many as come.
    """

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext | None = None,
        *,
        server_name: str | None = None,
        headers: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
    ) -> None:
        parts = urlsplit(server)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = tls
        self._server_name = server_name
        self._most_bytes = most_bytes
        self._fixed = _lines({"host": parts.netloc.rpartition("@")[2], **(headers or {})})
        self._free: list[tuple[Connection, float]] = []
        self._used: set[Connection] = set()
        self._is_closed = False

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        permit: Callable[[], object] | None = None,
    ) -> Answer:
        """Send a request and return the whole answer; the caller has the deadline.

        Args:
            method: of the request, as all before `permit`.
            target: its path and query.
            headers: beside those of every request.
            body: of the request.
            permit: called at the last moment before bytes go out; what it raises keeps them back.

        Raises:
            ExchangeError: there was no whole answer.
            OSError: nobody listens, or the server is not the one that its certificate should name.
        """
        connection = await self._take()
        try:
            question = self._question(method, target, headers, body)
            if permit is not None:
                permit()
            return await connection.ask(question)
        except BaseException:
            connection.close()
            raise
        finally:
            self._give(connection)

    @asynccontextmanager
    async def begin(
        self, method: str, target: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[Answer, Connection]]:
        """Send a request; yield the head of the answer and the connection whose `pieces` are its body."""
        connection = await self._take()
        try:
            yield await connection.begin(self._question(method, target, headers, None)), connection
        finally:
            # One that is left in the middle has a server that goes on sending: nothing polite is awaited.
            connection.close()
            self._give(connection)

    def close(self) -> None:
        """End all connections; no call is made after this."""
        self._is_closed = True
        for connection in [*self._used, *(connection for connection, _ in self._free)]:
            connection.close()
        self._free.clear()

    async def _take(self) -> Connection:
        """Return a connection for one call."""
        if self._is_closed:
            raise ExchangeError("the caller's own connections have been closed")
        connection = self._kept() or await connect(
            self._host, self._port, self._tls, server_name=self._server_name, most_bytes=self._most_bytes
        )
        self._used.add(connection)
        return connection

    def _give(self, connection: Connection) -> None:
        """Keep a connection for the next call, unless this one did not end well."""
        self._used.discard(connection)
        if connection.is_open:
            self._free.append((connection, time.monotonic()))
        else:
            connection.close()

    def _kept(self) -> Connection | None:
        """Return the connection that rested last; those that rested for too long are closed."""
        while self._free:
            connection, since = self._free.pop()
            if connection.is_open and time.monotonic() - since <= _IDLE_S:
                return connection
            connection.close()
        return None

    def _question(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        length = "" if body is None else f"content-length: {len(body)}\r\n"
        head = f"{method} {self._prefix}{target} HTTP/1.1\r\n{self._fixed}{length}{_lines(headers)}\r\n"
        return head.encode("latin-1") + (body or b"")


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
