"""One HTTP exchange per connection, for questions to the backend's own children.

A client library with a pool was tried and left sockets open when a question was cancelled in mid-connect, which is how
every watch over a child ends. Here a connection lives in one coroutine and is closed by it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from headrace_operator.http.connection import Answer, ExchangeError
from headrace_operator.http.pool import Pool

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


async def exchange(
    url: str, *, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send GET, or POST where there is a body (as JSON), and return the answer.

    Raises:
        ExchangeError: nothing listens, no whole answer within the deadline, or it is malformed or too large.
    """
    parts = urlsplit(url)
    own = {"connection": "close", **({} if body is None else {"content-type": "application/json"})}
    method = "GET" if body is None else "POST"
    try:
        pool = Pool(f"{parts.scheme}://{parts.netloc}", headers=own, most_bytes=MAX_ANSWER_BYTES)
        try:
            async with asyncio.timeout(deadline_s):
                return await pool.ask(method, parts.path or "/", headers or {}, body)
        finally:
            pool.close()
    except TimeoutError as error:
        raise ExchangeError(f"no answer within {deadline_s:g} s") from error
    except (OSError, ValueError) as error:
        raise ExchangeError(str(error) or type(error).__name__) from error
