"""HTTP exchanges with the backend's own children: one on a connection of its own, or several on one.

A client library with a pool was tried and left sockets open when a question was cancelled in mid-connect, which is how
every watch over a child ends. Here a connection lives in one coroutine and is closed by it.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from headrace_operator.http.connection import Answer, ExchangeError
from headrace_operator.http.pool import Pool

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class Conversation:
    """Exchanges whose connections are kept until the end; use as a context.

    Args:
        headers: of every request.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = headers
        self._pools: dict[str, Pool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pool in self._pools.values():
            pool.close()

    async def exchange(
        self, url: str, *, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send GET, or POST where there is a body (as JSON), and return the answer.

        Raises:
            ExchangeError: nothing listens, no whole answer within the deadline, or it is malformed or too large.
        """
        try:
            parts = urlsplit(url)
            pool = self._pool(f"{parts.scheme}://{parts.netloc}")
            own = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
            async with asyncio.timeout(deadline_s):
                return await pool.ask("GET" if body is None else "POST", parts.path or "/", own, body)
        except TimeoutError as error:
            raise ExchangeError(f"no answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:
            raise ExchangeError(str(error) or type(error).__name__) from error

    def _pool(self, server: str) -> Pool:
        if server not in self._pools:
            self._pools[server] = Pool(server, headers=self._headers, most_bytes=MAX_ANSWER_BYTES)
        return self._pools[server]


async def exchange(
    url: str, *, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Have one exchange on a connection of its own; see `Conversation.exchange`."""
    with Conversation({"connection": "close"}) as conversation:
        return await conversation.exchange(url, deadline_s=deadline_s, body=body, headers=headers)
