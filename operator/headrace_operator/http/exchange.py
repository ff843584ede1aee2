"""One HTTP exchange per connection, for questions to the backend's own children.

A client library with a pool was tried and left sockets open when a question was cancelled in mid-connect, which is how
every watch over a child ends. Here a connection lives in one coroutine and is closed by it.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from headrace_operator.http.connection import Answer, ExchangeError, connect


async def exchange(
    url: str, *, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send GET, or POST where there is a body (as JSON), and return the answer.

    Raises:
        ExchangeError: nothing listens, no whole answer within the deadline, or it is malformed.
    """
    parts = urlsplit(url)
    question = _question(parts.path or "/", parts.netloc, body, headers or {})
    try:
        async with asyncio.timeout(deadline_s):
            connection = await connect(parts.hostname or "", parts.port or 80)
            try:
                return await connection.ask(question)
            finally:
                connection.close()
    except TimeoutError as error:
        raise ExchangeError(f"no answer within {deadline_s:g} s") from error
    except (OSError, ValueError) as error:
        raise ExchangeError(str(error) or type(error).__name__) from error


def _question(path: str, host: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"host: {host}", "connection: close"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
