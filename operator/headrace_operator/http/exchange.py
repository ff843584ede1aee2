"""One HTTP exchange per connection, for questions to the backend's own children.

A client library with a pool was tried and left sockets open when a question was cancelled in mid-connect, which is how
every watch over a child ends. Here a connection lives in one coroutine and is closed by it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024


class ExchangeError(Exception):
    """No answer came in time, or it is no HTTP; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(
    url: str, *, deadline_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send GET, or POST where there is a body (as JSON), and return the answer.

    Raises:
        ExchangeError: nothing listens, no whole answer within the deadline, or it is malformed.
    """
    parts = urlsplit(url)
    request = _request(parts.path or "/", parts.netloc, body, headers or {})
    try:
        async with asyncio.timeout(deadline_s):
            return _parse(await _converse(parts.hostname or "", parts.port or 80, request))
    except TimeoutError as error:
        raise ExchangeError(f"no answer within {deadline_s:g} s") from error
    except (OSError, ValueError) as error:
        raise ExchangeError(str(error) or type(error).__name__) from error


async def _converse(host: str, port: int, request: bytes) -> bytes:
    """Return all bytes that the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        await writer.drain()
        answer = bytearray()
        while piece := await reader.read(65536):
            answer += piece
            if len(answer) > MAX_ANSWER_BYTES:
                raise ValueError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        return bytes(answer)
    finally:
        writer.close()


def _request(path: str, host: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"host: {host}", "connection: close"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _parse(data: bytes) -> Answer:
    """Return the answer in `data`; raise ValueError where it is none or was cut off."""
    head, mark, body = data.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not mark or not version.startswith(b"HTTP/1."):
        raise ValueError(f"the answer is no HTTP or was cut off after {len(data)} bytes")
    first, *lines = rest.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _join_chunks(body)
    elif len(body) < int(headers.get("content-length", len(body))):
        raise ValueError(f"the answer was cut off after {len(body)} bytes of its body")
    return Answer(int(first.partition(" ")[0]), headers, body)


def _join_chunks(data: bytes) -> bytes:
    """Return the body in a chunked transfer; raise ValueError where it is cut off."""
    body = bytearray()
    while True:
        line, mark, data = data.partition(b"\r\n")
        if not mark:
            raise ValueError("the answer was cut off between its chunks")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return bytes(body)
        if len(data) < size + 2:
            raise ValueError("the answer was cut off within a chunk")
        body += data[:size]
        data = data[size + 2 :]
